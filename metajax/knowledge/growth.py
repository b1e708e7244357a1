"""New entities without retraining: closed-form placement and elastic weight consolidation.

Three steps of rising cost: a new entity is placed by its triples in closed form; its row alone is
trained, which changes no old score; then old rows are trained too, under elastic weight
consolidation.

Tables have spare rows. What changes with each arrival is a value and not a shape, so that nothing
is recompiled until a table is full.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax.knowledge.link_prediction import LinkPredictor
from metajax.knowledge.negative_sampling import TrainingTriples
from metajax.knowledge.scores import Score
from metajax.learners.elastic_weights import ewc_penalty
from metajax.types import MetaState, Params

__all__ = [
    "EwcAnchor",
    "ewc_optimizer",
    "grow_tables",
    "new_rows",
    "normalised_fisher",
    "place_entities",
]


class EwcAnchor(NamedTuple):
    """Elastic weight consolidation: the old parameters and their importance."""

    params: Params
    """The old parameters."""
    fisher: Params
    """Their Fisher information, from a link predictor's `fisher`; 0 for new rows."""
    weight: jax.Array | float
    """Weight of the penalty, >= 0."""


def place_entities(
    score: Score, params: Params, data: TrainingTriples, new: jax.Array, *, rounds: int = 2
) -> Params:
    """Places new entities in closed form.

    Each triple gives a point for its new entity, the neighbour transformed by the relation; the
    entity becomes the mean of these points, the least-squares solution. A new entity whose
    neighbours are all new is placed one round after one of them; an unreached one keeps its initial
    embedding.

    Args:
        score: A distance: RotatE or TransE.
        params: `entity` and `relation`, with initial rows for new entities.
        data: Triples of the new entities; others make no difference.
        new: `[N]` bool, True for new entities.
        rounds: Greatest number of hops from an old entity, >= 1.

    Returns:
        The parameters with new rows.

    Raises:
        ValueError: If the score is no distance, or `rounds` < 1.

    References:
        Dai et al., Inductively Representing Out-of-Knowledge-Graph Entities by Optimal Estimation
        Under Translational Assumptions, arXiv:2009.12765, section 3.
    """
    if not score.is_distance:
        raise ValueError("score must be a distance, as RotatE and TransE are, got another.")
    if rounds < 1:
        raise ValueError(f"rounds must be >= 1, got {rounds}.")
    head, relation, tail = data.triples.T
    ids = jnp.concatenate([tail, head])
    shown = jnp.arange(len(data.triples)) < data.count
    operator = _rows(score.operator(params["relation"]), relation)

    def one_round(entity: Any, rest: jax.Array) -> tuple[Any, jax.Array]:
        # Points for tails from their heads, and for heads from their tails.
        points = jax.tree.map(
            lambda *both: jnp.concatenate(both),
            score.tail_query(_rows(entity, head), operator),
            score.head_query(operator, _rows(entity, tail)),
        )
        known = jnp.concatenate([shown & ~rest[head], shown & ~rest[tail]])
        count = jax.ops.segment_sum(known.astype(jnp.float32), ids, len(new))
        reached = rest & (count > 0)

        def mean(old: jax.Array, points: jax.Array) -> jax.Array:
            total = jax.ops.segment_sum(jnp.where(known[:, None], points, 0), ids, len(new))
            return jnp.where(reached[:, None], total / jnp.maximum(count, 1)[:, None], old)

        return jax.tree.map(mean, entity, points), rest & ~reached

    entity, rest = params["entity"], new
    for _ in range(rounds):
        entity, rest = one_round(entity, rest)
    return {**params, "entity": entity}


def grow_tables(
    predictor: LinkPredictor, state: MetaState, key: jax.Array, *, entities: int, relations: int
) -> MetaState:
    """Enlarges the tables; double them when they are full, so that growth seldom recompiles.

    Args:
        predictor: The link predictor.
        state: Its state; old rows and their optimizer state are kept.
        key: Random key of the new rows.
        entities: Rows of the larger entity table.
        relations: Rows of the larger relation table.

    Returns:
        The larger state.

    Raises:
        ValueError: If there would be fewer rows.
    """
    for name, rows in (("entities", entities), ("relations", relations)):
        table = "entity" if name == "entities" else "relation"
        before = len(jax.tree.leaves(state.params[table])[0])
        if rows < before:
            raise ValueError(f"{name} must be >= {before}, the rows there are, got {rows}.")
    fresh = predictor.init(key, entities=entities, relations=relations)

    def kept(new: jax.Array, old: jax.Array) -> jax.Array:
        return old if new.shape == old.shape else new.at[: len(old)].set(old)

    return jax.tree.map(kept, fresh, state)._replace(step=state.step)


def new_rows(params: Params, *, entities: Any, relations: Any) -> dict[str, jax.Array]:
    """Masks of the new rows, for the argument `trainable` of an `ewc_optimizer`.

    Args:
        params: `entity` and `relation`.
        entities: Number of old entities, which come first.
        relations: Number of old relations, which come first.

    Returns:
        `entity [N]` and `relation [M]` bool, True from there on.
    """
    counts = {"entity": entities, "relation": relations}
    return {
        name: jnp.arange(len(jax.tree.leaves(params[name])[0])) >= count
        for name, count in counts.items()
    }


def ewc_optimizer(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Adds frozen rows and elastic weight consolidation to an optimizer.

    `update` and `epoch` of a link predictor then take two more arguments: `trainable`, masks of the
    rows of `entity` and `relation` that are trained, as from `new_rows`; and `anchor`, whose
    `ewc_penalty` is added to the loss. Without them all rows are trained freely.

    Args:
        optimizer: The inner optimizer. Steps of Adam do not shrink with the gradient: an anchored
            row still moves by about its learning rate.

    Returns:
        The optimizer for `link_predictor`.
    """
    inner = optax.with_extra_args_support(optimizer)

    def update(
        updates: Any,
        state: Any,
        params: Params | None = None,
        *,
        trainable: dict[str, jax.Array] | None = None,
        anchor: EwcAnchor | None = None,
        **extra: Any,
    ) -> tuple[Any, Any]:
        if anchor is not None:
            pull = jax.grad(ewc_penalty)(params, *anchor)
            updates = jax.tree.map(jnp.add, updates, pull)
        # Before as well: momentum of a frozen row would move it later.
        updates, state = inner.update(_only(updates, trainable), state, params, **extra)
        return _only(updates, trainable), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def normalised_fisher(fisher: Params, *, entities: int, relations: int) -> Params:
    """Divides Fisher information by its mean over known rows; weights of 1 to 10 then make sense.

    Unnormalised values are about the share of triples that an entity is in, times their
    uncertainty: 1e-6 to 1e-3 in graphs of 1e5 triples, and larger in smaller graphs.

    Args:
        fisher: From a link predictor's `fisher`.
        entities: Number of entities.
        relations: Number of relations.

    Returns:
        The same with mean 1; 0 if all are 0.
    """
    leaves = [leaf[:entities] for leaf in jax.tree.leaves(fisher["entity"])]
    leaves += [leaf[:relations] for leaf in jax.tree.leaves(fisher["relation"])]
    mean = sum(jnp.sum(leaf) for leaf in leaves) / sum(leaf.size for leaf in leaves)
    return jax.tree.map(lambda leaf: leaf / jnp.where(mean > 0, mean, 1), fisher)


def _only(updates: Any, trainable: dict[str, jax.Array] | None) -> Any:
    if trainable is None:
        return updates
    chosen = {
        name: jax.tree.map(lambda leaf, rows=rows: jnp.where(rows[:, None], leaf, 0), updates[name])
        for name, rows in trainable.items()
    }
    return {**updates, **chosen}


def _rows(table: Any, ids: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: jnp.take(leaf, ids, axis=0, mode="clip"), table)
