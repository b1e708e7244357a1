"""Two generated data sets in files with a known Bayes-optimal predictor.

A generated world (`data.synthetic`) is written as two logs, one a domain, in RecBole's atomic
format, and read back like any data set. The gain of the Bayes-optimal predictor over methods of
the target alone is the possible gain, of which a method recovers a share.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metajax import cross_domain, data, registry
from metajax.cross_domain.domains import Domains
from metajax.data import Dataset, Table
from metajax.data.synthetic import World
from metajax.evaluation.evaluate import Evaluation, concatenate, evaluate
from metajax.evaluation.intervals import summarise

__all__ = ["add_recovered", "best_possible", "read_domains", "write_domains"]

SIDES = ("source", "target")
_TYPES = {"numeric": "float", "categorical": "token", "tokens": "token_seq", "text": "token_seq"}


def write_domains(folder: Path, dataset: Dataset, item_domain: np.ndarray) -> list[Path]:
    """Writes two domains as atomic files, users and items under the names they have.

    Args:
        folder: Where; one folder a domain.
        dataset: Both domains.
        item_domain: `[I]` 0 for an item of the source, 1 of the target.

    Returns:
        The two folders.
    """
    log = dataset.interactions
    user, folders = log.user_ids[log.user], []
    for n, side in enumerate(SIDES):
        rows, items = item_domain[log.item] == n, item_domain == n
        path = folder / side
        path.mkdir(parents=True, exist_ok=True)
        columns = {
            "user_id:token": user[rows],
            "item_id:token": log.item_ids[log.item[rows]],
            # As many digits as bring the same float32 back.
            "rating:float": [repr(float(r)) for r in log.rating[rows]],
            "timestamp:float": log.time[rows],
        }
        _write(path / f"{side}.inter", columns)
        everyone = np.ones(len(dataset.users.ids), bool)
        _write(path / f"{side}.user", _described("user_id", dataset.users, everyone))
        _write(path / f"{side}.item", _described("item_id", dataset.items, items))
        folders.append(path)
    return folders


def read_domains(folders: Sequence[Path], *, scale: tuple[float, float] | None) -> Domains:
    """Reads what `write_domains` wrote; equal user ids are one user."""
    return cross_domain.join_domains(*(data.load(path, scale=scale) for path in folders))


def best_possible(
    world: World, domains: Domains, splits: Sequence[data.Split], panel: str
) -> Evaluation:
    """Evaluates the Bayes-optimal predictor on the tasks of the methods.

    Args:
        world: What generated the data.
        domains: The same data, read from files.
        splits: The folds.
        panel: Whose test tasks.

    Returns:
        The measurements, of all folds.
    """
    names = domains.dataset.items.ids.tolist()
    known = {f"{SIDES[d]}:{i}": n for n, (i, d) in enumerate(
        zip(world.dataset.items.ids.tolist(), world.item_domain.tolist(), strict=True)
    )}  # fmt: skip
    item = np.array([known[name] for name in names])
    user = np.searchsorted(world.dataset.users.ids, domains.dataset.users.ids)
    params = world.bayes_params
    params = params._replace(item_bias=params.item_bias[item], regressors=params.regressors[item])
    # Of each user there are two names.
    features = np.tile(world.user_features[user], (2, 1))
    return concatenate(
        [
            evaluate(
                world.bayes,
                params,
                _in_unit_of_log(split, panel),
                features,
                world.item_features[item],
                scale=domains.dataset.scale,
                ks=split.ks[panel],
                ranking=False,
            )
            for split in splits
        ]
    )


def _in_unit_of_log(split: data.Split, panel: str) -> data.ColdTasks:
    """Returns test tasks whose labels are as the world generated them, not standardised."""
    tasks = split.test[panel]
    support, query = map(split.labels.outside, (tasks.support_rating, tasks.query_rating))
    return tasks._replace(
        support_rating=support.astype(np.float32), query_rating=query.astype(np.float32)
    )


def add_recovered(
    records: Sequence[dict[str, Any]],
    best: Evaluation,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Adds to records of RMSE the best possible one, and the recovered share of the gain.

    Args:
        records: Of one protocol, those without transfer included; changed.
        best: The Bayes-optimal predictor's.
        tell: Called with a line for each method.

    Raises:
        ValueError: If no method without transfer was judged.
    """
    errors = [record for record in records if record["metric"] == "rmse"]
    possible = dict(zip(best.ks, summarise(best)["rmse"].tolist(), strict=True))
    local = [b.name for b in registry.all_baselines() if b.target_alone and b.predicts_ratings]
    shares: dict[str, list[str]] = {}
    for k in best.ks:
        of_k = [record for record in errors if record["k"] == k]
        found = [record["mean"] for record in of_k if record["method"] in local]
        if not found:
            raise ValueError(f"methods must include one of {', '.join(local)}, to gain on.")
        for record in of_k:
            record["best_possible"] = possible[k]
            gained = min(found) - record["mean"]
            # Not -0.0 where nothing was gained.
            record["recovered"] = gained / (min(found) - possible[k]) + 0.0
            shares.setdefault(record["method"], []).append(f"{100 * record['recovered']:4.0f} %")
    tell(f"best possible RMSE at K = {best.ks}: {', '.join(f'{r:.4f}' for r in possible.values())}")
    for method, share in shares.items():
        tell(f"{method:<24} recovers {' '.join(share)} of the possible gain")


def _described(ids: str, table: Table, rows: np.ndarray) -> dict[str, Any]:
    columns = {f"{ids}:token": table.ids[rows]}
    return columns | {
        f"{name}:{_TYPES[table.kinds[name]]}": column[rows]
        for name, column in table.columns.items()
    }


def _write(path: Path, columns: dict[str, Any]) -> None:
    rows = zip(*columns.values(), strict=True)
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
