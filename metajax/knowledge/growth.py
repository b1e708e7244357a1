"""New entities without training anew: where they lie, and how they learn without others forgetting.

Three steps, each better and dearer than the one before: a new entity is put where its facts say,
in closed form; its row alone is trained, which can make no old fact worse but by competition; and
then old rows too, held back the more, the more the old facts depend on them.

A table has rows for entities to come. What changes from one arrival to the next is a value and not
a shape, so that nothing is compiled anew until the table is full.
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
    """What the old facts want kept."""

    params: Params
    """The parameters that served them."""
    fisher: Params
    """How much they depend on each number, from a link predictor's `fisher`; 0 of new rows."""
    weight: jax.Array | float
    """What that counts, >= 0."""


def place_entities(
    score: Score, params: Params, facts: TrainingTriples, new: jax.Array, *, rounds: int = 2
) -> Params:
    """Puts new entities where their facts say, in closed form.

    A fact looks for its entity at a point, the neighbour turned by the relation; the mean of these
    points is nearest to all of them in the sum of squared distances. A new entity whose neighbours
    are all new has to wait for one of them to be placed, a round; who is not reached stays.

    Args:
        score: Whose match is a distance: RotatE or TransE.
        params: `entity` and `relation`, with first values in the rows of new entities.
        facts: Those of the new entities; others make no difference.
        new: `[N]` bool, who is new.
        rounds: How many neighbours away an old entity may be, >= 1.

    Returns:
        The parameters with new rows.

    Raises:
        ValueError: If the score is no distance, or `rounds` < 1.

    References:
        Dai et al., Inductively Representing Out-of-Knowledge-Graph Entities by Optimal
        Estimation Under Translational Assumptions, arXiv 2009.12765, section 3.
    """
    if not score.is_distance:
        raise ValueError("score must be a distance, as RotatE and TransE are, got another.")
    if rounds < 1:
        raise ValueError(f"rounds must be >= 1, got {rounds}.")
    head, relation, tail = facts.triples.T
    ids = jnp.concatenate([tail, head])
    shown = jnp.arange(len(facts.triples)) < facts.count
    operator = _rows(score.operator(params["relation"]), relation)

    def one_round(entity: Any, rest: jax.Array) -> tuple[Any, jax.Array]:
        # Points for tails from their heads, and for heads from their tails.
        points = jax.tree.map(
            lambda *both: jnp.concatenate(both),
            score.tail_query(_rows(entity, head), operator),
            score.head_query(operator, _rows(entity, tail)),
        )
        told = jnp.concatenate([shown & ~rest[head], shown & ~rest[tail]])
        count = jax.ops.segment_sum(told.astype(jnp.float32), ids, len(new))
        reached = rest & (count > 0)

        def mean(old: jax.Array, points: jax.Array) -> jax.Array:
            total = jax.ops.segment_sum(jnp.where(told[:, None], points, 0), ids, len(new))
            return jnp.where(reached[:, None], total / jnp.maximum(count, 1)[:, None], old)

        return jax.tree.map(mean, entity, points), rest & ~reached

    entity, rest = params["entity"], new
    for _ in range(rounds):
        entity, rest = one_round(entity, rest)
    return {**params, "entity": entity}


def grow_tables(
    predictor: LinkPredictor, state: MetaState, key: jax.Array, *, entities: int, relations: int
) -> MetaState:
    """Makes room for more entities or relations; ask for twice as many when a table is full.

    Args:
        predictor: Whose state it is.
        state: What was learned; old rows and the optimizer's memory of them stay as they are.
        key: Of the first values of new rows.
        entities: Rows of the larger table, no fewer than before.
        relations: As well.

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
    """Says which rows are new: what `trainable` of an `ewc_optimizer` optimizer takes.

    Args:
        params: `entity` and `relation`.
        entities: So many entities, the first, are old.
        relations: So many relations, the first, are old.

    Returns:
        `entity [N]` and `relation [M]` bool, True from there on.
    """
    counts = {"entity": entities, "relation": relations}
    return {
        name: jnp.arange(len(jax.tree.leaves(params[name])[0])) >= count
        for name, count in counts.items()
    }


def ewc_optimizer(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Lets each call of a link predictor's `update` or `epoch` say what may move, and how far.

    They take two more arguments: `trainable`, which rows of `entity` and `relation` are trained, as
    from `new_rows`; and `anchor`, what the others are held back by: the loss then has
    `ewc_penalty` added. Without them all rows are free.

    Args:
        optimizer: What moves the embeddings. Adam's steps do not get smaller with the gradient: a
            row that is held back still trembles by its learning rate.

    Returns:
        The optimizer to give to `link_predictor`.
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
        # Before as well: momentum of a row that rests would move it later.
        updates, state = inner.update(_only(updates, trainable), state, params, **extra)
        return _only(updates, trainable), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


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
