"""Rating prediction of unrated films with and without a graph. Part of `cold_items.py`.

Protocol P2, five draws: a fifth of the users and of the films are cold. A Gaussian model of ratings
predicts a cold film from its attributes (`baselines.attribute_factors`): those of the log, alone or
with the graph's features of this or of a random film. The hybrid engine is given the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cold_item_data import Described

from metajax.baselines import eb_fold_in, fit_factors
from metajax.baselines.attribute_factors import with_attributes
from metajax.baselines.eb_fold_in import fold_in_of
from metajax.data.splits import Split
from metajax.evaluation import prepare
from metajax.evaluation.intervals import resampled_sums
from metajax.evaluation.tuning import FittedMethod, judge
from metajax.hybrid import hybrid

__all__ = ["ratings"]

DRAWS, RESAMPLES = 5, 2000
PANELS = {"warm_user_cold_item": "known users", "cold_user_cold_item": "new users"}


def ratings(
    about: Described, method: str = "factors", draws: Sequence[int] = range(DRAWS)
) -> list[dict[str, Any]]:
    """Returns records of the RMSE of unrated films, and of its differences.

    Args:
        about: The films.
        method: "factors" or "hybrid".
        draws: Folds of P2.
    """
    graph = about.vectors["graph"]
    errors: dict[tuple[str, str], list[np.ndarray]] = {}
    for draw in draws:
        split = prepare("P2", about.dataset, fold=draw, seed=0)
        added = {
            "attributes": None,
            "attributes, graph": graph,
            "attributes, random graph": graph[about.shuffled(draw)],
        }
        for name, vectors in added.items():
            extended = split if vectors is None else _with(split, vectors)
            fitted = _FITS[method](extended)
            for panel in PANELS:
                errors.setdefault((name, panel), []).append(_squared(fitted, extended, panel))
    return [
        record
        for name in dict.fromkeys(name for name, _ in errors)
        for reference in (None, "attributes")
        if reference != name
        for record in _records(errors, method, name, reference)
    ]


def _with(split: Split, vectors: np.ndarray) -> Split:
    """Appends vectors to the attributes, scaled to the same mean length."""
    own = split.training.item_features
    length = np.sqrt(np.mean(np.sum(own**2, axis=1)))
    features = np.concatenate([own, length * vectors], axis=1).astype(np.float32)
    training, final = (
        part._replace(item_features=features) for part in (split.training, split.final)
    )
    return split._replace(training=training, final=final)


def _factors(split: Split) -> FittedMethod:
    factors, _ = with_attributes(fit_factors(split.final.interactions), split.final)
    adaptation, params = eb_fold_in.adaptation, fold_in_of(factors)
    return FittedMethod("factors", "baseline", adaptation, params, True, False, {})


def _engine(split: Split) -> FittedMethod:
    method = hybrid()
    params = method.fit(split.final)
    return FittedMethod("hybrid", "learned", method.adaptation, params, True, False, {})


_FITS: dict[str, Callable[[Split], FittedMethod]] = {"factors": _factors, "hybrid": _engine}


def _squared(method: FittedMethod, split: Split, panel: str) -> np.ndarray:
    """Returns `[3, T]` users, their summed squared errors and numbers of ratings."""
    found = judge(method, split, panel).per_user
    # The longest support.
    return np.stack([found.user, found.values["mse"][-1], found.count[-1]])


def _records(
    errors: dict[tuple[str, str], list[np.ndarray]], method: str, name: str, reference: str | None
) -> list[dict[str, Any]]:
    records = []
    for panel, label in PANELS.items():
        user, own, count = np.concatenate(errors[name, panel], axis=1)
        other = np.zeros_like(own)
        if reference:
            other = np.concatenate(errors[reference, panel], axis=1)[1]
        terms = [rows[None] for rows in (own, other, count)]
        drawn = resampled_sums(terms, user, RESAMPLES, 0)
        values = np.sqrt(drawn[0] / drawn[2]) - np.sqrt(drawn[1] / drawn[2])
        low, high = np.quantile(values, [0.025, 0.975])
        mean = np.sqrt(own.sum() / count.sum()) - np.sqrt(other.sum() / count.sum())
        records.append(
            {
                "dataset": "ml-100k",
                "method": f"{method}: {name}",
                "against": f"{method}: {reference}" if reference else None,
                "metric": f"RMSE of unrated films, {label}",
                "mean": round(float(mean), 4),
                "low": round(float(low), 4),
                "high": round(float(high), 4),
                "seeds": len(errors[name, panel]),
            }
        )
    return records
