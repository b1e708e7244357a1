"""Explanations of recommended items: the ratings, the experts and the facts behind them."""

from collections.abc import Sequence

import numpy as np

from metajax.data.labels import BEST, WORST
from metajax.runs.facts import CommonFact, common_facts
from metajax.runs.recommender import Recommender, Seen
from metajax.runs.scores import ROUNDING, check_finite, expert_parts, ranked_items, scored_at_once

__all__ = ["experts_of", "facts_of", "reasons_of"]

Named = tuple[tuple[str, float], ...]

REASONS = 3
"""Reasons of a recommendation, at most."""

# Users of so few ratings are scored one by one to explain a recommendation.
_FEW_ROWS = 16


def reasons_of(recommender: Recommender, seen: Seen, items: Sequence[int]) -> list[Named]:
    """Finds the ratings that raised scores most: scores with all of them, less those without each.

    Args:
        recommender: A trained method.
        seen: Of the user.
        items: n places in the catalogue.

    Returns:
        For each of the items titles of the user's items and the change by each, at most three, the
        largest first.

    Raises:
        ValueError: If a score is not finite.
    """
    if not len(seen.items):
        return [()] * len(items)
    rows, size = range(len(seen.items)), scored_at_once(len(recommender.catalogue.ids))
    blocks = []
    for start in range(0, len(rows), size):
        without = [
            seen._replace(items=np.delete(seen.items, n), labels=np.delete(seen.labels, n))
            for n in rows[start : start + size]
        ]
        # In one program with the whole: between two programs the last bits differ. Of few that is
        # the one that has recommended, because to compile another takes longer than they do.
        users = [seen, *without]
        calls = [users] if len(rows) > _FEW_ROWS else [[one] for one in users]
        allowed = np.ones(len(recommender.catalogue.ids), bool)
        ranked = [
            ranked_items(recommender, call, allowed, len(items), items, len(rows)) for call in calls
        ]
        found_scores = [
            np.asarray(one.asked)[: len(call)] for one, call in zip(ranked, calls, strict=True)
        ]
        scores = np.concatenate(found_scores)[:, : len(items)].astype(np.float64)
        check_finite(scores)
        noise = np.broadcast_to(ROUNDING * np.maximum(1, np.abs(scores[0])), scores.shape)
        if recommender.predicts_ratings:
            scores = recommender.labels.outside_on_device(scores)
            noise = noise * recommender.labels.unit
        change = scores[0] - scores[1:]
        blocks.append(np.where(np.abs(change) > noise[1:], change, 0.0))
    change = np.concatenate(blocks)
    # What raises a score lowers the figure where low ratings are good.
    downwards = recommender.scale is not None and recommender.scale[0] > recommender.scale[1]
    raised = -change if downwards else change
    reasons = []
    for gains, changes in zip(raised.T, change.T, strict=True):
        order = np.argsort(-gains, kind="stable")[:REASONS]
        titles = recommender.catalogue.titles[seen.items[order]]
        reasons.append(
            tuple(
                (str(title), float(changes[n]))
                for title, n in zip(titles, order, strict=True)
                if gains[n] > 0
            )
        )
    return reasons


def experts_of(recommender: Recommender, seen: Seen, items: Sequence[int]) -> list[Named]:
    """Splits scores into the parts of a blend's experts, less those of the mean item.

    Args:
        recommender: A trained method.
        seen: Of the user.
        items: n places in the catalogue.

    Returns:
        For each of the items each expert and its part, the largest first; empty of a method that
        blends none.
    """
    blend = recommender.blend
    if blend is None:
        return [()] * len(items)
    parts = expert_parts(recommender, seen, blend.parts)
    names = blend.names(recommender.params)
    lead = parts - np.delete(parts, seen.items, axis=0).mean(axis=0)
    # One that was dropped has no part in any item.
    speaking = set(np.nonzero(parts)[1].tolist())
    return [
        tuple(
            (names[e], float(lead[i, e]))
            for e in np.argsort(-lead[i], kind="stable").tolist()
            if e in speaking
        )
        for i in items
    ]


def facts_of(
    recommender: Recommender, seen: Seen, items: Sequence[int]
) -> list[tuple[CommonFact, ...]]:
    """Finds the facts that items share with those that the user likes.

    Args:
        recommender: A trained method.
        seen: Of the user; items above the middle of the scale are liked, and without ratings all.
        items: n places in the catalogue.

    Returns:
        For each of the items its facts, as of `common_facts`.
    """
    catalogue, liked = recommender.catalogue, seen.items
    if recommender.scale is not None:
        liked = liked[seen.labels > (WORST + BEST) / 2]
    return common_facts(
        items, liked.tolist(), catalogue.titles, catalogue.attributes, catalogue.facts
    )
