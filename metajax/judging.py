"""Judges a trained run beside every simple baseline, and reports it to a person."""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import jax

from metajax import comparisons, files, harness, report
from metajax.base import Params
from metajax.runs import Run

__all__ = ["headline", "judge_run", "stages", "write_report"]


def stages(run: Run) -> int:
    """Returns how often `judge_run` calls `on_stage`: for each method, and for the intervals."""
    return harness.stages([run.settings.learner]) + 1


def judge_run(
    run: Run, params: Params, *, on_stage: Callable[[str], None] = lambda stage: None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Judges a run and every simple baseline on the fold's cold users.

    Args:
        run: A trained run.
        params: The parameters that validated best.
        on_stage: Called with the name of each stage when it begins.

    Returns:
        Records as in `comparisons`, and a sentence for each baseline that was left out.
    """
    settings, users = run.settings, run.users
    method = harness.learned(settings, users, params)
    judged, left_out = harness.judge_all(users, [method], settings, on_stage=on_stage)
    on_stage("intervals")
    return harness.table(judged, protocol="P1", seeds=[settings.seed]), left_out


def headline(records: Sequence[Mapping[str, Any]]) -> str:
    """Says in one sentence where the run won, tied and lost."""
    return comparisons.headline(comparisons.compare_all(records, ("rmse", "ndcg@10")))


def write_report(
    run: Run, records: Sequence[Mapping[str, Any]], left_out: Sequence[str] = ()
) -> Path:
    """Writes `report.json` and `report.html` into the run's folder.

    Args:
        run: The run that was judged.
        records: What `judge_run` returned.
        left_out: Further notes for the page.

    Returns:
        The page's path.

    Raises:
        OSError: If they cannot be written.
    """
    fold = run.users.fold
    facts = {
        "data": run.dataset.name,
        "learner": run.settings.learner,
        "fold": f"{run.settings.fold} of 5, seed {run.settings.seed}",
        "users": f"{len(fold.train)} train, {len(fold.validation)} validate, {len(fold.test)} cold",
        "items": len(run.dataset.interactions.item_ids),
        "date": date.today().isoformat(),
        "machine": f"{jax.devices()[0].device_kind}, {platform.machine()}, jax {jax.__version__}",
    }
    notes = [
        "Each cold user's first interactions (none, 1, 3, 5, 10) are seen, all others are asked; "
        "what is asked is the same at every number. Relevant is what is rated three quarters up "
        "the scale or higher.",
        "Baselines and learner were tuned on validation users. What they are tuned among, and the "
        "defaults of train, were drawn up while looking at MovieLens-100K with seed 0: for users "
        "nobody has looked at, take another seed or other data.",
        "Differences are paired by user, against the best simple baseline on these very users; "
        "intervals are 95 % bootstrap intervals over users. One fold is a small sample.",
        *left_out,
    ]
    files.write(run.folder / "report.json", json.dumps(list(records), indent=1) + "\n")
    page = run.folder / "report.html"
    title = f"Cold users of {run.dataset.name}: {run.settings.learner} beside simple baselines"
    files.write(page, report.html(records, title=title, run_facts=facts, notes=notes))
    return page
