"""The method to take in each situation, in a sentence each, from the figures of one table."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metajax.evaluation.evaluate import Evaluation
from metajax.evaluation.intervals import metrics_of, paired_difference, summarise
from metajax.evaluation.metrics import badness, named, title_of
from metajax.evaluation.records import Kind
from metajax.fields import rounded

__all__ = ["advice"]


class _Situation(NamedTuple):
    text: str
    panels: tuple[str, ...]
    """Panels that it is about; the first that there is counts: users arrive with what they did
    first."""
    least: int
    """Range of support sizes."""
    most: int


_USERS = ("time", "random", "target")
_SITUATIONS = (
    _Situation("A new user without interactions", _USERS, 0, 0),
    _Situation("A new user with 1 to 5 interactions", _USERS, 1, 5),
    _Situation("A new user with 10 interactions", _USERS, 10, 10),
    _Situation("A new item, for known users", ("warm_user_cold_item",), 0, 10**6),
    _Situation("A new item, for new users", ("cold_user_cold_item",), 0, 10**6),
)
_TASKS = {"rmse": "predicted ratings", "ndcg@10": "lists"}


def advice(judged: Sequence[tuple[Kind, Mapping[str, Evaluation]]]) -> list[str]:
    """Names the method with the best figure in each situation, and its lead.

    Args:
        judged: Of each method its kind and its measurements by panel, of one protocol.

    Returns:
        A sentence for each situation that the panels have: for ratings and for lists the method
        with the best figure, averaged over the support sizes of the situation, and whether the
        95 % interval of its paired difference to the next baseline excludes 0.
    """
    sentences = []
    for situation in _SITUATIONS:
        known = [p for p in situation.panels if all(p in by_panel for _, by_panel in judged)]
        if not known:
            continue
        found = [(kind, by_panel[known[0]]) for kind, by_panel in judged]
        ks = [k for k in found[0][1].ks if situation.least <= k <= situation.most]
        clauses = [_clause(found, metric, ks) for metric in _TASKS] if ks else []
        if any(clauses):
            sentences.append(f"{situation.text}: {'; '.join(filter(None, clauses))}.")
    return sentences


def _clause(found: Sequence[tuple[Kind, Evaluation]], metric: str, ks: Sequence[int]) -> str:
    """Names the best method for one metric; empty where nothing has it."""
    entry = named(metric)
    able = [(kind, e) for kind, e in found if metric in [m.name for m in metrics_of(e)] and e.ks]
    figures = [summarise(e)[metric][[e.ks.index(k) for k in ks]] for _, e in able]
    if not able:
        return ""
    order = np.argsort([badness(entry, values).mean() for values in figures], kind="stable")
    best = able[order[0]][1]
    shown = " to ".join(dict.fromkeys(rounded(figures[order[0]][at], entry.form) for at in (0, -1)))
    text = f"for {_TASKS[metric]} {best.method} ({title_of(entry)} {shown}"
    others = [able[n][1] for n in order[1:] if able[n][0] == "baseline"]
    if not others:
        return f"{text})"
    return f"{text}, {_lead(best, others[0], metric, ks)})"


def _lead(best: Evaluation, other: Evaluation, metric: str, ks: Sequence[int]) -> str:
    """Tells at which support sizes the lead over another method is beyond chance."""
    paired = paired_difference(best, other, metric)
    sign = 1 if named(metric).better == "lower" else -1
    clear = [
        k for k in ks if max(sign * end[best.ks.index(k)] for end in (paired.low, paired.high)) < 0
    ]
    if not clear:
        return f"no clear lead over {other.method}"
    if len(clear) == len(ks):
        return f"a clear lead over {other.method}"
    return f"a clear lead over {other.method} at K = {', '.join(map(str, clear))} alone"
