"""Judges a trained run beside every simple baseline, and reports it to a person."""

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import jax

from metajax import harness, report, runs
from metajax.assembly import adaptation_of
from metajax.baselines import registry
from metajax.data.splits import Order
from metajax.evaluation import Evaluation
from metajax.runs import Run

__all__ = ["STAGES", "judge_run", "terminal", "write_report"]

# The run, the simple baselines, the two two-tower rows.
STAGES = len(registry) + 3


def judge_run(
    run: Run, *, on_stage: Callable[[str], None] = lambda stage: None
) -> list[dict[str, Any]]:
    """Judges a run's best parameters and every simple baseline on the fold's cold users.

    Args:
        run: A trained run.
        on_stage: Called with the name of each of the `STAGES` when it begins.

    Returns:
        Records as in `comparisons`.

    Raises:
        CheckpointError: If the run has no good checkpoint.
    """
    settings, users = run.settings, run.users
    judged: list[tuple[str, Mapping[Order, Evaluation]]] = []

    def judge(method: harness.Method) -> None:
        results = {order: harness.judge(method, users, order) for order in users.test}
        judged.append((method.kind, results))

    on_stage(settings.learner)
    adaptation = adaptation_of(settings, len(users.training.item_features))
    best = runs.resumed(run).best
    judge(harness.Method(settings.learner, "learned", adaptation, best, True, True, {}))
    for baseline in registry:
        on_stage(baseline.name)
        results = {
            order: harness.judge(harness.tuned(baseline, users, order), users, order)
            for order in users.test
        }
        judged.append(("baseline", results))
    on_stage("two_tower")
    for method in harness.two_towers_of(settings, users):
        judge(method)
    on_stage("intervals")
    return harness.table(judged, protocol="P1", seeds=[settings.seed])


def terminal(records: Sequence[Mapping[str, Any]]) -> Any:
    """Returns the table as a terminal shows it (a Rich renderable)."""
    return report.terminal_table(records)


def write_report(run: Run, records: Sequence[Mapping[str, Any]]) -> Path:
    """Writes `report.json` and `report.html` into the run's folder.

    Args:
        run: The run that was judged.
        records: What `judge_run` returned.

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
        "what is asked is the same at every number. Settings were chosen on validation users, the "
        "cold users were looked at once.",
        "Differences are paired by user, against the best simple baseline on these very users; "
        "intervals are 95 % bootstrap intervals over users. One fold is a small sample.",
    ]
    runs.write(run.folder / "report.json", json.dumps(list(records), indent=1) + "\n")
    page = run.folder / "report.html"
    title = f"Cold users of {run.dataset.name}: {run.settings.learner} beside simple baselines"
    runs.write(page, report.html(records, title=title, run_facts=facts, notes=notes))
    return page
