"""Evaluation of a trained run against every baseline, and its report."""

import contextlib
import functools
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from metajax import evaluation, locks, registry, report, storage
from metajax.baselines import WeightTable
from metajax.data.dataset import Dataset
from metajax.data.splits import Split
from metajax.evaluation import Compared, Evaluation
from metajax.evaluation.records import (
    Record,
    compare_all,
    distinct,
    negative_transfer,
    reference,
    select,
    to_json,
)
from metajax.evaluation.records import headline as sentence
from metajax.registry import closed_form_of, predicts_ratings
from metajax.runs.catalogue import titles_of
from metajax.runs.folder import last_written, read_metrics
from metajax.runs.folder import write_report as write_files
from metajax.runs.run import Run
from metajax.types import Params

__all__ = [
    "Example",
    "Judgement",
    "Scope",
    "headline",
    "judge_run",
    "stages",
    "write_comparison",
    "write_report",
]


_PROTOCOL = (
    "Of each cold user the first 0, 1, 3, 5 or 10 interactions are shown and those after the tenth "
    "are queried, the same for every number of shots; those of the ten that are not shown are no "
    "candidates of a ranking, but under P1-natural, where they are queried as well."
)
_QUADRANTS = (
    "P2: 20 % of users and of items are cold; of a cold user up to 5 interactions with warm items "
    "are shown, of a warm user 10 or (K = 1000) all; a method trained on supports of 10 uses 10 of "
    "them. Ratings are judged by their errors; of a log without them cold items are ranked among "
    "the cold ones, warm items among the warm."
)
_PROTOCOL_ACROSS = (
    "Of each cold user the history in the source domain and the first 0, 1, 3 or 5 interactions in "
    "the target are shown; later ones in the target are queried, the same for every number of "
    "shots. Without users in both domains there is no history in the source."
)
_LISTS_ACROSS = (
    "Items of the target are ranked, but for those of the first five that are not shown; under "
    "transfer-natural these are queried as well."
)


def _protocol(run: Run) -> str:
    """Says what is shown, asked for and relevant."""
    if run.pair is None:
        return f"{_PROTOCOL} {_relevance(run.dataset)}"
    if not run.dataset.implicit:
        return _PROTOCOL_ACROSS
    return f"{_PROTOCOL_ACROSS} {_LISTS_ACROSS} {_relevance(run.dataset)}"


def _relevance(dataset: Dataset) -> str:
    """Says what is relevant."""
    if not dataset.implicit:
        return f"An item is relevant if its rating is at least {dataset.threshold:g}."
    if dataset.relevant is None:
        return "The log has no ratings: every item that a user met is relevant."
    return (
        "The log has no ratings: an item is relevant if the strength of the interaction is at "
        f"least {dataset.relevant:g}."
    )


class Scope(NamedTuple):
    """The part of an evaluation that is run; by default all of it."""

    baselines: tuple[str, ...] | None = None
    """Names of the baselines to compare with; None means all."""
    users: int = 2048
    """Most cold users, drawn by the run's seed."""
    trials: int | None = None
    """Number of settings of its grid that each baseline tries; None means all."""


class Example(NamedTuple):
    """A cold user, the list that the method recommends, and what the user liked later."""

    user: str
    """Id in the data."""
    shown: list[str]
    """Titles that the method saw, with the ratings where there are any."""
    recommended: list[tuple[str, bool]]
    """Titles, best first; True where the user liked it later."""
    liked: list[str]
    """Further titles that the user liked later."""


class Judgement(NamedTuple):
    """Figures of a run, and sentences about them."""

    records: list[Record]
    """`evaluation.records`, in which the run's method is the learned one, of a closed form too."""
    notes: list[str]
    """A sentence for each method that was left out and for each negative transfer."""
    advice: Sequence[str] = ()
    """`evaluation.advice`."""
    examples: Sequence[Example] = ()
    """Three cold users; none where the method does not order the items."""
    weights: WeightTable = MappingProxyType({})
    """Of the run's method, where it blends experts: `Blend.weights`."""


def stages(run: Run, scope: Scope = Scope()) -> int:  # noqa: B008
    """Returns how often `judge_run` calls `on_stage`: for each method, and for the intervals.

    Raises:
        ValueError: If there is no such baseline.
    """
    return evaluation.stages(run.users, [run.settings.method], scope.baselines) + 1


def judge_run(
    run: Run,
    params: Params,
    scope: Scope = Scope(),  # noqa: B008
    *,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Judgement:
    """Evaluates a run and the baselines on the fold's cold users.

    Finished methods are kept in the run's folder, verified, so that a judging that was stopped
    continues.

    Args:
        run: A trained run.
        params: The parameters that validated best.
        scope: The baselines and the users.
        on_stage: Called with the name of each stage when it begins.

    Returns:
        The figures.

    Raises:
        ValueError: If there is no such baseline, or nothing could be judged.
        LockedError: If another process judges the run.
        OSError: If the run's folder cannot be written.
    """
    settings, users = run.settings, _judged_users(run, scope)
    closed_form = closed_form_of(settings)
    if closed_form is None:
        method = evaluation.learned(settings, users, params)
    else:
        # The method of the run is what its report compares with the baselines.
        method = evaluation.fitted(closed_form, users, params)._replace(kind="learned")
    with _finished(run) as folder:
        judged, left_out = evaluation.judge_all(
            users,
            [method],
            settings,
            baselines=scope.baselines,
            trials=scope.trials,
            folder=folder,
            conditions={
                "metajax": _version(),
                "settings": registry.to_json(settings),
                "params": _digest(params),
                "users": scope.users,
            },
            on_stage=on_stage,
        )
    if not judged:
        raise ValueError(f"nothing could be judged. {' '.join(left_out)}")
    on_stage("intervals")
    protocol = "P1" if run.pair is None else "transfer"
    records = evaluation.table(judged, protocol=protocol, seeds=[settings.seed])
    own = [by_order for kind, by_order in judged if kind == "learned"]
    return Judgement(
        records,
        left_out + negative_transfer(records),
        evaluation.advice(judged),
        _examples(run, users, own[0]) if own else [],
        registry.weights_of(settings.method, params),
    )


_EXAMPLES, _SHOWN, _LISTED, _LIKED = 3, 5, 5, 8


def _examples(run: Run, split: Split, judged: Mapping[str, Evaluation]) -> list[Example]:
    """Draws cold users who liked something later."""
    panel = "time" if "time" in judged else next(iter(judged))
    tasks, found = split.test[panel], judged[panel]
    k = min(found.ks, key=lambda k: abs(k - _SHOWN))
    lists = found.per_user.top_items[found.ks.index(k)]
    relevant = tasks.query_rating >= split.training.threshold
    owner = np.repeat(np.arange(len(tasks.user)), np.diff(tasks.query_offsets))
    whole = tasks.support_mask[:, : tasks.given + k].sum(axis=1) >= min(k, 1)
    fitting = np.intersect1d(owner[relevant], np.flatnonzero(whole & (lists[:, 0] >= 0)))
    rng = np.random.default_rng(run.settings.seed)
    drawn = rng.choice(fitting, min(_EXAMPLES, len(fitting)), replace=False)
    titles = titles_of(run.dataset.items, split.training.item_domain)
    log = run.dataset.interactions
    examples = []
    for t in sorted(drawn.tolist()):
        user = int(tasks.user[t])
        shown = slice(tasks.given, tasks.given + k)
        items = tasks.support_item[t, shown][tasks.support_mask[t, shown]].tolist()
        rows = np.flatnonzero(log.user == user)
        ratings = dict(zip(log.item[rows].tolist(), log.rating[rows].tolist(), strict=True))
        rated = "" if run.dataset.implicit else ": {:g}"
        shown_titles = [f"{titles[i]}{rated.format(ratings[i])}" for i in items]
        if history := int(tasks.support_mask[t, : tasks.given].sum()):
            shown_titles.append(f"{history} of the source")
        query = tasks.query_item[(owner == t) & relevant].tolist()
        listed = [i for i in lists[t].tolist() if i >= 0][:_LISTED]
        liked = sorted((i for i in query if i not in listed), key=lambda i: -ratings.get(i, 0))
        examples.append(
            Example(
                str(log.user_ids[user]),
                shown_titles,
                [(str(titles[i]), i in query) for i in listed],
                [str(titles[i]) for i in liked[:_LIKED]],
            )
        )
    return examples


def _learning(run: Run) -> list[tuple[int, float]]:
    """Reads the validation loss by update; empty of a closed form."""
    if closed_form_of(run.settings) is not None:
        return []
    rows = read_metrics(run.folder)
    return [(row["step"], row["validation"]) for row in rows if row["validation"] is not None]


def _judged_users(run: Run, scope: Scope) -> Split:
    return evaluation.with_test_users(run.users, scope.users, seed=run.settings.seed)


def _digest(params: Params) -> str:
    leaves = (np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))
    return storage.digest_of(b"".join(leaves)).sha256


@contextlib.contextmanager
def _finished(run: Run) -> Iterator[Path]:
    """Makes the folder of finished methods, and locks it."""
    folder = run.folder / "judged"
    storage.make_folder(folder)
    with locks.locked(folder):
        storage.remove_leftovers(folder)
        yield folder


def headline(records: Sequence[Record]) -> str:
    """Sums the records up in one sentence."""
    return sentence(compare_all(records, ("rmse", "ndcg@10")))


def write_report(
    run: Run,
    found: Judgement,
    scope: Scope = Scope(),  # noqa: B008
    *,
    times: Mapping[str, float] = MappingProxyType({}),
) -> Path:
    """Writes `report.json` and `report.html` into the run's folder.

    Args:
        run: The run that was judged.
        found: What `judge_run` returned.
        scope: As in `judge_run`.
        times: Seconds by the name of what took them.

    Returns:
        The page's path.

    Raises:
        OSError: If they cannot be written.
    """
    records, fold, judged = found.records, run.users.fold, _judged_users(run, scope).fold.test
    cold = f"{len(fold.test)} cold"
    if len(judged) < len(fold.test):
        cold += f", {len(judged)} of them judged"
    facts = {
        "data": run.dataset.name,
        "method": run.settings.method,
        "fold": f"{run.settings.fold} of 5, seed {run.settings.seed}",
        "users": f"{len(fold.train)} train, {len(fold.validation)} validate, {cold}",
        "items": len(run.dataset.interactions.item_ids),
        **_domains(run),
        **{name: f"{seconds:,.0f} s" for name, seconds in times.items()},
        "last checkpoint": _at(last_written(run.folder)),
        **_machine(),
    }
    notes = [
        _protocol(run),
        *_tuning(run, records, scope),
        *_sample(run, judged),
        f"Differences are paired by user, against {reference(records)} on these very users; "
        "intervals are 95 % bootstrap intervals over users. One fold is a small sample.",
        *found.notes,
    ]
    who = "Cold users of" if run.pair is None else "Users new to the target,"
    names = distinct(select(records, kind="baseline"), "method")
    others = names[0] if len(names) == 1 else f"{len(names)} baselines"
    title = f"{who} {run.dataset.name}: {run.settings.method} and {others}"
    learning = _learning(run)
    measure = "RMSE" if predicts_ratings(run.settings) else "1 - NDCG@10"
    return _write(
        run.folder,
        records,
        title,
        facts,
        notes,
        subject="method of this run",
        advice=found.advice,
        learning=(measure, learning) if learning else None,
        examples=[example._asdict() for example in found.examples],
        weights=found.weights,
    )


def _tuning(run: Run, records: Sequence[Record], scope: Scope) -> list[str]:
    """Says how the settings of each kind of method were chosen."""
    found, method = [], run.settings.method
    closed_form = closed_form_of(run.settings)
    if closed_form is None:
        found.append(
            f"{method} has the settings of this run; the number of its updates was chosen on the "
            "validation users (early stopping), and it was not fitted again with them."
        )
    elif len(closed_form.grid) > 1:
        found.append(
            f"{method} chose among the {len(closed_form.grid)} settings of its grid on the "
            "validation users, one for all orders of the support, and was fitted again with them."
        )
    else:
        found.append(f"{method} has one setting, and was fitted to training and validation users.")
    names = distinct(select(records, kind="baseline"), "method")
    plain = [name for name in names if name in registry.names()]
    if len(names) > len(plain):
        few = "" if scope.trials is None else f" the first {scope.trials} of"
        found.append(
            f"Each baseline chose among{few} the settings of its grid on the validation users, for "
            "each order of the support by itself, and was fitted again with them."
            if scope.trials != 1
            else "Each baseline has the first setting of its grid, and was fitted to training and "
            "validation users."
        )
    if plain:
        found.append(
            f"{' and '.join(plain)}, trained without meta-learning with the shared settings of "
            "this run, chose among theirs on the validation users and were not fitted again."
        )
    if run.dataset.name == "ml-100k" and run.settings.seed == 0:
        found.append(
            "The grids, and the defaults of train, were chosen on these data with seed 0: for an "
            "untouched test take another seed or other data."
        )
    return found


def _sample(run: Run, judged: Sequence[int] | np.ndarray) -> list[str]:
    whole = len(run.users.fold.test)
    if len(judged) == whole:
        return []
    return [f"{len(judged)} of {whole} cold users were judged, drawn by seed {run.settings.seed}."]


def write_comparison(
    folder: Path, dataset: Dataset, found: Compared, *, seeds: int, cross_fit: bool = False
) -> Path:
    """Writes `report.json` and `report.html` of a comparison into its folder.

    Args:
        folder: Folder of the comparison.
        dataset: The data.
        found: The result of `evaluation.compare`.
        seeds: The number of repetitions.
        cross_fit: True if settings were chosen by cross-fitting.

    Returns:
        The page's path.

    Raises:
        ValueError: If there is no figure to report.
        OSError: If they cannot be written.
    """
    if not found.records:
        raise ValueError(f"nothing could be judged. {' '.join(found.notes)}")
    log = dataset.interactions
    facts = {
        "data": dataset.name,
        "users": len(log.user_ids),
        "items": len(log.item_ids),
        "repetitions": seeds,
        **_machine(),
    }
    notes = [
        "Every method chose among its settings "
        + (
            "by cross-fitting over training and validation users (each setting was fitted without "
            "each fifth of them and judged on it), with the same number of trials where one was "
            "given, and was fitted to all of them before the test."
            if cross_fit
            else "on validation users, with the same number of trials where one was given, and was "
            "fitted again with those users before the test."
        ),
        "P1: of a cold user the first 0, 1, 3, 5 or 10 interactions are shown and those after the "
        "tenth are queried, the same for every number of shots; those of the ten that are not "
        "shown are no candidates of a ranking, but under P1-natural, where they are queried as "
        f"well. {_relevance(dataset)}",
        *([_QUADRANTS] if any(r.protocol.startswith("P2") for r in found.records) else ()),
        f"Differences are paired by user, against {reference(found.records)} on these very users; "
        "intervals are 95 % bootstrap intervals over users.",
        *found.notes,
    ]
    tables = ["rmse", "mae", "ndcg@10", "hr@1", "within@50", "within@90"]
    tables += [record.metric for record in found.records if record.better is not None]
    title = f"Cold start on {dataset.name}"
    return _write(folder, found.records, title, facts, notes, tables=tables, advice=found.advice)


def _domains(run: Run) -> dict[str, Any]:
    domain = run.users.training.item_domain
    if run.pair is None or domain is None:
        return {}
    named = {name: getattr(run.pair, name) for name in ("source", "target", "column")}
    named["matched by"] = run.pair.overlap_list
    named = {name: value for name, value in named.items() if value is not None}
    return {**named, "items of source, target": ", ".join(map(str, np.bincount(domain)))}


def _machine() -> dict[str, str]:
    return {
        "judged": _at(datetime.now(UTC)),
        "metajax": _version(),
        "machine": f"{jax.devices()[0].device_kind}, {platform.machine()}, jax {jax.__version__}",
    }


def _at(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


@functools.cache
def _version() -> str:
    """Names the version, and the commit where the package is a clone."""
    number, root = importlib.metadata.version("metajax"), Path(__file__).parents[2]
    if not (root / ".git").exists():
        return number
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return number
    return f"{number}, commit {found.stdout.strip()}"


def _write(
    folder: Path,
    records: Sequence[Record],
    title: str,
    facts: Mapping[str, Any],
    notes: Sequence[str],
    **more: Any,
) -> Path:
    figures = json.dumps(to_json(records), indent=1) + "\n"
    # First, because the page takes seconds.
    write_files(folder, {"report.json": figures})
    about = {name: registry.description_of(name) for name in distinct(records, "method")}
    page = report.html(records, title=title, run_facts=facts, notes=notes, about=about, **more)
    write_files(folder, {"report.json": figures, "report.html": page})
    return folder / "report.html"
