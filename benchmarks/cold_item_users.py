"""Ranking for new users with and without a graph. Part of `cold_items.py`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from cold_item_data import Described

from metajax import baselines
from metajax.evaluation import prepare
from metajax.evaluation.tuning import judge, tuned
from metajax.knowledge import entities_as_users

__all__ = ["new_users"]


def new_users(
    about: Described, seeds: Sequence[int], intervals: Callable[..., tuple[float, float, float]]
) -> list[dict[str, Any]]:
    """Measures how EASE serves new users without a graph, with it, and with a random one."""
    entity = about.graph.entity
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    users: list[np.ndarray] = []
    for seed in seeds:
        split = prepare("P1", about.dataset, fold=seed % 5, seed=0)
        panel = "random"
        variants: dict[str, np.ndarray | None] = {
            "EASE": None,
            "EASE, entities": entity,
            "EASE, random entities": entity[about.shuffled(seed)],
        }
        for name, of_item in variants.items():
            extended: Any = split
            if of_item is not None:
                with_graph = partial(entities_as_users, graph=about.graph.graph, entity=of_item)
                extended = extended._replace(
                    training=with_graph(split.training), final=with_graph(split.final)
                )
            judged = judge(tuned(baselines.ease, extended)[panel], extended, panel)
            if of_item is None:
                users.append(judged.per_user.user)
            for k in (1, 5):
                at = judged.ks.index(k)
                rows, values = judged.per_user, judged.per_user.values["ndcg@10"]
                ndcg = np.where(rows.has_relevant[at], values[at], np.nan)
                found.setdefault((name, k), []).append(ndcg)
    user, records = np.concatenate(users), []
    for (name, k), values in found.items():
        for reference in (None, "EASE", "EASE, random entities"):
            if reference == name:
                continue
            own = np.concatenate(values)
            if reference:
                own = own - np.concatenate(found[reference, k])
            kept = ~np.isnan(own)
            mean, low, high = (round(v, 4) for v in intervals(own[kept], user[kept]))
            records.append(
                {
                    "dataset": "ml-100k",
                    "method": name,
                    "against": reference,
                    "metric": f"NDCG@10 of new users, K = {k}",
                    "mean": mean,
                    "low": low,
                    "high": high,
                    "seeds": len(seeds),
                }
            )
    return records
