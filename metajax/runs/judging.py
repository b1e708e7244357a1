"""Evaluation of a trained run against every baseline, and its report."""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metajax import evaluation, report
from metajax.data.dataset import Dataset
from metajax.evaluation import Compared
from metajax.evaluation.records import Record, compare_all, negative_transfer, to_json
from metajax.evaluation.records import headline as sentence
from metajax.registry import closed_form_of
from metajax.runs.folder import write_report as write_files
from metajax.runs.run import Run
from metajax.types import Params

__all__ = ["headline", "judge_run", "stages", "write_comparison", "write_report"]


_PROTOCOL = (
    "Of each cold user the first 0, 1, 3, 5 or 10 interactions are shown and those after the tenth "
    "are queried, the same for every number of shots; those of the ten that are not shown are no "
    "candidates of a ranking, but under P1-natural, where they are queried as well."
)
_QUADRANTS = (
    "P2: 20 % of users and of items are cold; of a cold user up to 5 ratings of warm items are "
    "shown, of a warm user 10 or (K = 1000) all; a method trained on supports of 10 uses 10 of "
    "them."
)
_PROTOCOL_ACROSS = (
    "Of each cold user the history in the source domain and the first 0, 1, 3 or 5 interactions in "
    "the target are shown; later ones in the target are queried, the same for every number of "
    "shots. Without users in both domains there is no history in the source."
)


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


def stages(run: Run) -> int:
    """Returns how often `judge_run` calls `on_stage`: for each method, and for the intervals."""
    return evaluation.stages(run.users, [run.settings.method]) + 1


def judge_run(
    run: Run,
    params: Params,
    *,
    trials: int | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> tuple[list[Record], list[str]]:
    """Evaluates a run and every simple baseline on the fold's cold users.

    Args:
        run: A trained run.
        params: The parameters that validated best.
        trials: Number of settings of its grid that each baseline tries; None means all.
        on_stage: Called with the name of each stage when it begins.

    Returns:
        Records (`evaluation.records`), and a sentence for each baseline that was left out and for
        each negative transfer.
    """
    settings, users = run.settings, run.users
    closed_form = closed_form_of(settings)
    if closed_form is None:
        method = evaluation.learned(settings, users, params)
    else:
        # The method of the run is what its report compares with the baselines.
        method = evaluation.fitted(closed_form, params)._replace(kind="learned")
    judged, left_out = evaluation.judge_all(
        users, [method], settings, trials=trials, on_stage=on_stage
    )
    on_stage("intervals")
    protocol = "P1" if run.pair is None else "transfer"
    records = evaluation.table(judged, protocol=protocol, seeds=[settings.seed])
    return records, left_out + negative_transfer(records)


def headline(records: Sequence[Record]) -> str:
    """Sums the records up in one sentence."""
    return sentence(compare_all(records, ("rmse", "ndcg@10")))


def write_report(run: Run, records: Sequence[Record], left_out: Sequence[str] = ()) -> Path:
    """Writes `report.json` and `report.html` into the run's folder.

    Args:
        run: The run that was judged.
        records: The records of `judge_run`.
        left_out: Further notes for the page.

    Returns:
        The page's path.

    Raises:
        OSError: If they cannot be written.
    """
    fold = run.users.fold
    facts = {
        "data": run.dataset.name,
        "method": run.settings.method,
        "fold": f"{run.settings.fold} of 5, seed {run.settings.seed}",
        "users": f"{len(fold.train)} train, {len(fold.validation)} validate, {len(fold.test)} cold",
        "items": len(run.dataset.interactions.item_ids),
        **_domains(run),
        **_machine(),
    }
    notes = [
        f"{_PROTOCOL} {_relevance(run.dataset)}" if run.pair is None else _PROTOCOL_ACROSS,
        "Baselines and method were tuned on validation users. Their grids, and the defaults of "
        "train, were chosen on MovieLens-100K with seed 0: for an untouched test take another "
        "seed or other data.",
        "Differences are paired by user, against the best simple baseline on these very users; "
        "intervals are 95 % bootstrap intervals over users. One fold is a small sample.",
        *left_out,
    ]
    who = "Cold users of" if run.pair is None else "Users new to the target,"
    title = f"{who} {run.dataset.name}: {run.settings.method} and simple baselines"
    return _write(run.folder, records, title, facts, notes)


def write_comparison(folder: Path, dataset: Dataset, found: Compared, *, seeds: int) -> Path:
    """Writes `report.json` and `report.html` of a comparison into its folder.

    Args:
        folder: Folder of the comparison.
        dataset: The data.
        found: The result of `evaluation.compare`.
        seeds: The number of repetitions.

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
        "Every method chose among its settings on validation users, with the same number of "
        "trials where one was given, and was fitted again with those users before the test.",
        "P1: of a cold user the first 0, 1, 3, 5 or 10 interactions are shown and those after the "
        "tenth are queried, the same for every number of shots; those of the ten that are not "
        "shown are no candidates of a ranking, but under P1-natural, where they are queried as "
        f"well. {_relevance(dataset)}",
        *([_QUADRANTS] if any(r.protocol.startswith("P2") for r in found.records) else ()),
        "Differences are paired by user, against the best tuned simple baseline on these very "
        "users; intervals are 95 % bootstrap intervals over users.",
        *found.notes,
    ]
    tables = ["rmse", "mae", "ndcg@10", "hr@1", "within@50", "within@90"]
    tables += [record.metric for record in found.records if record.better is not None]
    title = f"Cold start on {dataset.name}"
    return _write(folder, found.records, title, facts, notes, tables=tables)


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
        "date": date.today().isoformat(),
        "machine": f"{jax.devices()[0].device_kind}, {platform.machine()}, jax {jax.__version__}",
    }


def _write(
    folder: Path,
    records: Sequence[Record],
    title: str,
    facts: Mapping[str, Any],
    notes: Sequence[str],
    tables: Sequence[str] | None = None,
) -> Path:
    figures = json.dumps(to_json(records), indent=1) + "\n"
    # First, because the page takes seconds.
    write_files(folder, {"report.json": figures})
    page = report.html(records, title=title, run_facts=facts, notes=notes, tables=tables)
    write_files(folder, {"report.json": figures, "report.html": page})
    return folder / "report.html"
