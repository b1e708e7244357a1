"""How much the facts depend on each number of an embedding."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metajax.knowledge.negatives import Corrupted
from metajax.knowledge.objective import embedded, places
from metajax.types import Params

__all__ = ["added_squares", "normalised_fisher"]


def added_squares(
    total: Params,
    params: Params,
    given: Corrupted,
    loss: Callable[[Params, Corrupted], jax.Array],
) -> Params:
    """Adds the squared gradient of each fact, with its own false triples, to a total.

    A gradient is of the few rows that a fact reads, so the cost does not depend on the size of
    the tables. A row that is read twice has the sum of both gradients, squared once.

    Args:
        total: Tables, as of the parameters.
        params: `entity` and `relation`.
        given: Chunks of one fact each.
        loss: `loss(read, given) -> [C, 1]` of rows as `embedded` reads them from parameters.

    Returns:
        The tables, larger.
    """

    def of_one(read: Any, one: Corrupted) -> jax.Array:
        read, one = jax.tree.map(lambda leaf: leaf[None], (read, one))
        return loss(read, one)[0, 0]

    gradients = jax.vmap(jax.grad(of_one))(embedded(params, given), given)
    added = dict(total)
    for name, ids in places(given).items():
        same = ids[:, :, None] == ids[:, None, :]
        first = ~jnp.any(jnp.tril(same, -1), axis=2) & given.mask
        both = same.astype(jnp.float32)

        def add(table: jax.Array, gradient: jax.Array, ids=ids, first=first, both=both) -> Any:
            summed = jnp.matmul(both, gradient, precision="highest")
            squares = jnp.where(first[:, :, None], jnp.square(summed), 0)
            return table.at[ids].add(squares, mode="drop")

        added[name] = jax.tree.map(add, total[name], gradients[name])
    return added


def normalised_fisher(fisher: Params, *, entities: int, relations: int) -> Params:
    """Divides by the mean over all numbers of known rows: weights of 1 to 10 then make sense.

    Without it a number's information is about the share of facts that its entity is in, times how
    unsure they are, from 1e-6 to 1e-3 in graphs of 1e5 facts, and larger in smaller graphs.

    Args:
        fisher: From a link predictor's `fisher`.
        entities: Number of entities.
        relations: Number of relations.

    Returns:
        The same, with mean 1; all 0 if it was.
    """
    leaves = [leaf[:entities] for leaf in jax.tree.leaves(fisher["entity"])]
    leaves += [leaf[:relations] for leaf in jax.tree.leaves(fisher["relation"])]
    mean = sum(jnp.sum(leaf) for leaf in leaves) / sum(leaf.size for leaf in leaves)
    return jax.tree.map(lambda leaf: leaf / jnp.where(mean > 0, mean, 1), fisher)
