"""How well a user's first interactions are told from any of theirs.

    python benchmarks/support_kind.py [--data NAME|PATH] [--folds N] [--json FILE]

One hybrid engine serves supports of both kinds, and weighs its experts by the probability that the
interactions are somebody's first. Cross-fitted over the training users of P1, five parts of each
fold: the share of supports whose kind is told right, and the log loss, of the engine's logistic
regression on twenty statistics, and of randomised trees on these and on every time between two
interactions and every item's place in the histories of others, in order. No test user is seen.
"""

import argparse
import json
import platform
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from metajax import evaluation
from metajax.baselines.baseline import observed
from metajax.cli import console
from metajax.data import load
from metajax.data.cold_users import padded
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import select_users
from metajax.data.splits import cold_user_tasks
from metajax.hybrid.arrival import KNOTS, arrived, fit_arrival
from metajax.hybrid.experts import Shared
from metajax.hybrid.support import PACE, Tables, fit_tables, summarised
from metajax.types import Examples

__all__ = ["main"]

PARTS, POOL = 5, max(KNOTS)
ORDERS = ("random", "time")
Supports = tuple[np.ndarray, np.ndarray, np.ndarray]
"""`[T]` sizes, `[T, V]` statistics of the engine, `[T, W]` further ones."""


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", default="ml-100k", help="name or path of the data, with times")
    parser.add_argument("--folds", type=int, default=2, help="folds of cold users")
    parser.add_argument("--trees", type=int, default=500, help="of each forest; 0 for none")
    parser.add_argument("--json", type=Path, help="where to write the records")
    given = parser.parse_args()

    dataset = load(given.data)
    told: dict[tuple[str, int, int], list[np.ndarray]] = defaultdict(list)
    with console.stages("Telling the kinds apart", given.folds * PARTS) as begin:
        for fold in range(given.folds):
            training = evaluation.prepare("P1", dataset, fold=fold, seed=0).final
            users = np.random.default_rng(fold).permutation(training.interactions.users)
            for part in range(PARTS):
                begin(f"fold {fold}, part {part}")
                held = np.sort(users[part::PARTS])
                for key, probability in probabilities(training, held, given.trees).items():
                    told[key].append(probability)
    records = [record(*key, np.concatenate(found)) for key, found in told.items()]
    table = Table("", "kind", *(f"K={k}" for k in KNOTS[1:]))
    for method in dict.fromkeys(row["method"] for row in records):
        for order in ORDERS:
            rows = [r for r in records if (r["method"], r["order"]) == (method, order)]
            table.add_row(method, order, *(f"{r['right']:.3f} ({r['log_loss']:.3f})" for r in rows))
    Console(width=100).print(table)
    print(f"{date.today()}, {jax.devices()[0].device_kind} ({platform.machine()}).")
    if given.json:
        given.json.write_text(json.dumps(records, indent=1) + "\n")


def record(method: str, first: int, count: int, probability: np.ndarray) -> dict[str, Any]:
    """Returns what is known of the supports of one kind, by their probability of being first."""
    of_truth = np.clip(probability if first else 1 - probability, 1e-6, 1)
    return {
        "method": method,
        "order": ORDERS[first],
        "k": count,
        "supports": len(of_truth),
        "right": float(np.mean(of_truth > 0.5)),
        "log_loss": float(-np.mean(np.log(of_truth))),
    }


def probabilities(
    training: TrainingSet, held: np.ndarray, trees: int
) -> dict[tuple[str, int, int], np.ndarray]:
    """Fits to the users that are not held out, and asks of those that are.

    Returns:
        By method, kind and size: `[T]` probabilities of being first.
    """
    log = training.interactions
    rest = np.setdiff1d(log.users, held)
    tables = fit_tables(Shared(training._replace(interactions=select_users(log, rest))))
    seen = [supports(training, tables, rest, order) for order in ORDERS]
    asked = [supports(training, tables, held, order) for order in ORDERS]
    regression = fit_arrival([s[0] for s in seen], [s[1] for s in seen], PACE)
    known = jnp.ones((), bool)
    found: dict[tuple[str, int, int], np.ndarray] = {}
    for count in KNOTS[1:]:
        trained = [np.hstack(s[1:])[s[0] == count] for s in seen]
        forest = forest_of(trained, trees) if trees else None
        for first, (size, statistics, further) in enumerate(asked):
            rows = size == count
            regress = jax.vmap(lambda v, k=count: arrived(regression, v, jnp.float32(k), known))
            found["logistic regression", first, count] = np.asarray(regress(statistics[rows]))
            if forest is not None:
                both = np.hstack([statistics, further])[rows]
                found["trees", first, count] = forest.predict_proba(both)[:, 1]
    return found


def forest_of(kinds: Sequence[np.ndarray], trees: int) -> Any:
    """Fits randomised trees to `[T, F]` statistics of each kind."""
    from sklearn.ensemble import ExtraTreesClassifier  # pyrefly: ignore[missing-import]

    target = np.repeat([0, 1], [len(rows) for rows in kinds])
    forest = ExtraTreesClassifier(trees, min_samples_leaf=3, random_state=0)
    return forest.fit(np.concatenate(kinds), target)


def supports(training: TrainingSet, tables: Tables, users: np.ndarray, order: Any) -> Supports:
    """Draws supports of every size of some users, and describes them."""
    tasks = cold_user_tasks(training.interactions, users, pool=POOL, order=order, seed=0)
    support = padded(tasks, training, query=1).support
    assert training.scale is not None
    low, high = map(jnp.float32, training.scale)

    @jax.jit
    def described(support: Examples, count: jax.Array) -> tuple[jax.Array, jax.Array]:
        def one(own: Examples) -> tuple[jax.Array, jax.Array]:
            own = own._replace(mask=own.mask & (jnp.arange(POOL) < count))
            item, label, present = observed(own)
            summary = summarised(tables, own, item, label, present, (low, high))
            return summary.moments, sequence(tables, item, present, own.inputs.time)

        return jax.vmap(one)(support)

    parts = [described(support, count) for count in KNOTS[1:]]
    sizes = np.minimum(np.asarray(support.mask).sum(axis=1)[None], np.array(KNOTS[1:])[:, None])
    statistics, further = (np.concatenate([np.asarray(p[n]) for p in parts]) for n in (0, 1))
    return sizes.ravel(), statistics, further


def sequence(tables: Tables, item: jax.Array, present: jax.Array, time: Any) -> jax.Array:
    """Returns `[5 P - 2]` times and places of the items of a support, by time and by size."""
    late = jnp.where(present > 0, time, jnp.inf)
    order = jnp.argsort(late)
    there = present[order] > 0
    gap = jnp.where(there[1:], jnp.log1p(jnp.diff(jnp.where(there, late[order], 0))), -1)
    turn = jnp.where(there, tables.turn[item][order], -1)
    opening = jnp.where(there, tables.opening[item][order], -9)
    return jnp.concatenate([gap, jnp.sort(gap), turn, jnp.sort(turn), jnp.sort(opening)])


if __name__ == "__main__":
    main()
