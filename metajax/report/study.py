"""The page of a search: losses of its trials, importances of settings, the best trials."""

from typing import Any

import numpy as np

from metajax.fields import rounded
from metajax.report import plots
from metajax.report.templates import rendered
from metajax.search.study import Study, Tried, best_of

__all__ = ["study_page"]

_BEST = 10  # trials in the table
_LOSS = ".4f"


def study_page(study: Study) -> str:
    """Writes one self-contained page about a search.

    Args:
        study: A study with a finished trial.

    Returns:
        The text of an HTML file. It loads nothing and runs no script.

    Raises:
        ValueError: If no trial has a loss.
        ImportError: If the extra `cli` is not installed.
    """
    facts, best = study.facts, best_of(study)
    by_state = {
        state: [t for t in study.trials if t.state == state]
        for state in ("finished", "pruned", "failed")
    }
    finished = sorted(by_state["finished"], key=lambda t: t.loss)
    first = study.trials[0]
    counts = [f"{len(trials)} {state}" for state, trials in by_state.items() if trials]
    seconds = sum(t.seconds for t in study.trials)
    return rendered(
        "study.html.j2",
        title=f"Search for settings of {facts['method']}",
        headline=(
            f"Trial {best.index} is best: {facts['measure']} {rounded(best.loss, _LOSS)}"
            + (f", with the defaults {rounded(first.loss, _LOSS)}" if _has_defaults(first) else "")
        ),
        history=_history(study, str(facts["measure"])),
        importances=_importances(study) if study.importances else "",
        names=list(facts["space"]),
        rows=[_row(trial, list(facts["space"])) for trial in finished[:_BEST]],
        failures=sorted({t.failure for t in by_state["failed"]}),
        facts={
            "data": facts["data"],
            "protocol": f"{facts['protocol']}, fold {facts['fold']}, seed {facts['seed']}",
            "trials": ", ".join(counts),
            "time of all trials": f"{seconds:,.0f} s",
            **{f"searched: {name}": values for name, values in facts["space"].items()},
            "metajax": facts["version"],
        },
        colours=plots.COLOURS,
    )


def _has_defaults(trial: Tried) -> bool:
    return trial.index == 0 and trial.state == "finished"


def _row(trial: Tried, names: list[str]) -> dict[str, Any]:
    return {
        "index": trial.index,
        "loss": rounded(trial.loss, _LOSS),
        "values": [_shown(trial.chosen[name]) for name in names],
        "seconds": f"{trial.seconds:.1f} s",
    }


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _history(study: Study, measure: str) -> str:
    """Draws the loss of each trial, and the lowest so far."""
    finished = [t for t in study.trials if t.state == "finished"]
    pruned = [t for t in study.trials if t.state == "pruned" and np.isfinite(t.loss)]
    indices, losses = [t.index for t in finished], [t.loss for t in finished]
    best = best_of(study)
    description = f"Lowest, {best.loss:.4f}, in trial {best.index} of {len(study.trials)}."
    with plots.canvas(440, 330, constrained=True) as figure:
        axes = figure.subplots()
        colour = plots.LIGHT["learned-0"]
        axes.plot(indices, losses, "o", color=colour, ms=5)
        axes.plot(indices, np.minimum.accumulate(losses), color=colour, lw=2)
        # Far worse ones would flatten the rest.
        spread = np.median(losses) - best.loss
        top = max(np.median(losses) + 3 * spread, best.loss * (1 + 1e-3), best.loss + 1e-6)
        axes.set_ylim(best.loss - 0.15 * (top - best.loss), top)
        axes.plot(
            [t.index for t in pruned], [t.loss for t in pruned], "o",
            mfc="none", mec=plots.LIGHT["ink"], ms=4, alpha=0.6,
        )  # fmt: skip
        axes.ticklabel_format(useOffset=False)
        axes.set_xlabel(f"trial; {measure}", labelpad=7)
        plots.style(axes, "y")
        return plots.inline(figure, "history", "Loss by trial", description)


def _importances(study: Study) -> str:
    """Draws the share of each setting in the differences between losses."""
    names, shares = list(study.importances), list(study.importances.values())
    said = ", ".join(f"{n} {share:.0%}" for n, share in zip(names, shares, strict=True))
    with plots.canvas(440, 110 + 26 * len(names), constrained=True) as figure:
        axes = figure.subplots()
        at = np.arange(len(names))[::-1]
        axes.barh(at, shares, color=plots.LIGHT["learned-0"], height=0.6)
        axes.set_yticks(at, names)
        for y, share in zip(at, shares, strict=True):
            axes.annotate(
                f"{share:.0%}", (share, y), (4, 0),
                textcoords="offset points", va="center", color=plots.LIGHT["ink"],
            )  # fmt: skip
        axes.margins(x=0.15)
        axes.set_xlabel("share in the differences between losses", labelpad=7)
        plots.style(axes, "x")
        return plots.inline(figure, "importances", "Importance of settings", said)
