"""Link prediction: embeddings of entities and relations that score triples above negatives.

The loss is self-adversarial negative sampling over heads, relations and tails. The diagonal of
the empirical Fisher information, for elastic weight consolidation, is of the same loss.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax.knowledge.negative_sampling import SLOTS, Negatives, TrainingTriples, sample_negatives
from metajax.knowledge.relation_clusters import cluster_loss
from metajax.knowledge.scores import Score, score_of
from metajax.losses import masked_mean
from metajax.types import MetaState, Params

__all__ = [
    "LinkPredictor",
    "add_squared_gradients",
    "gather_embeddings",
    "gathered_ids",
    "link_predictor",
    "self_adversarial",
    "triple_losses",
]

# Rows of a table that is small.
_FEW = 64


def self_adversarial(scores: jax.Array, *, where: jax.Array, temperature: float = 1.0) -> jax.Array:
    """Mean of `-log sigmoid(-score)` over negatives, weighted towards the hardest.

    Args:
        scores: `[.., K]` scores, margin included.
        where: `[.., K]` bool, False for replacements that are no negatives.
        temperature: Weights are the softmax of `temperature * score`, without gradient.

    Returns:
        `[..]` the weighted mean; 0 where nothing is kept.

    Example:
        >>> import math
        >>> loss = self_adversarial(jnp.zeros(4), where=jnp.arange(4) < 2)
        >>> abs(float(loss) - math.log(2)) < 1e-6
        True
    """
    # Low but finite: a softmax over -inf alone would be NaN.
    logits = jnp.where(where, temperature * jax.lax.stop_gradient(scores), -1e9)
    weights = jnp.where(where, jax.nn.softmax(logits), 0)
    return jnp.sum(weights * jax.nn.softplus(scores), axis=-1)


def gathered_ids(given: Negatives) -> dict[str, jax.Array]:
    """Ids of the embeddings that a loss reads, so that each table is gathered once.

    Args:
        given: C chunks of B triples, with K replacements for each slot.

    Returns:
        Ids of entities `[C, 2 B + ..]`, heads, tails and their replacements, and of relations
        `[C, B + ..]`.
    """
    head, relation, tail = (given.triples[:, :, place] for place in range(3))
    entity = [head, tail]
    entity += [given.replacement[slot] for slot in ("head", "tail") if slot in given.replacement]
    relations = [relation]
    if "relation" in given.replacement:
        relations.append(given.replacement["relation"])
    return {"entity": jnp.concatenate(entity, 1), "relation": jnp.concatenate(relations, 1)}


def gather_embeddings(tables: dict[str, Any], given: Negatives) -> dict[str, Any]:
    """Gathers rows of the tables `entity` and `relation` by `gathered_ids`."""
    return {
        name: jax.tree.map(partial(_rows, ids=ids), tables[name])
        for name, ids in gathered_ids(given).items()
    }


def triple_losses(
    score: Score,
    read: dict[str, Any],
    given: Negatives,
    *,
    margin: float,
    temperature: float = 1.0,
    joint: bool = False,
) -> jax.Array:
    """Half the loss of each triple plus half that of its negatives.

    Args:
        score: The score.
        read: From `gather_embeddings`; of relations, their operators.
        given: Triples and negatives.
        margin: Added to each score.
        temperature: As in `self_adversarial`.
        joint: Weight the negatives of all slots together, else slot by slot.

    Returns:
        `[C, B]` losses.

    References:
        Sun et al., ICLR 2019, arXiv:1902.10197, equation 6, halved as in their program.
    """
    size = given.triples.shape[1]
    at = {"head": 2 * size, "relation": size, "tail": 2 * size}
    if "head" in given.replacement:
        at["tail"] += given.replacement["head"].shape[1]

    def rows(table: str, start: int, count: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[:, start : start + count], read[table])

    def replaced(slot: str) -> Any:
        table = "relation" if slot == "relation" else "entity"
        other = rows(table, at[slot], given.replacement[slot].shape[1])
        return jax.tree.map(lambda leaf: leaf[:, None], other)

    def apart(embeddings: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[:, :, None], embeddings)

    head, tail, relation = (
        rows("entity", 0, size),
        rows("entity", size, size),
        rows("relation", 0, size),
    )
    tail_query = score.tail_query(head, relation)
    scored = {
        "head": lambda: score.match(apart(score.head_query(relation, tail)), replaced("head")),
        "relation": lambda: score.match(
            score.tail_query(apart(head), replaced("relation")), apart(tail)
        ),
        "tail": lambda: score.match(apart(tail_query), replaced("tail")),
    }
    scores = [margin + scored[slot]() for slot in given.replacement]
    false = list(given.is_negative.values())
    if joint:
        scores, false = [jnp.concatenate(scores, -1)], [jnp.concatenate(false, -1)]
    against = sum(
        self_adversarial(s, where=f, temperature=temperature)
        for s, f in zip(scores, false, strict=True)
    )
    true = jax.nn.softplus(-margin - score.match(tail_query, tail))
    return (true + against / len(scores)) / 2


def _rows(table: jax.Array, ids: jax.Array) -> jax.Array:
    # Gradients of few rows collide where they are added up, for which some versions of XLA take
    # hundreds of times longer on a GPU (jax#38806); as a product it costs a CPU the same.
    if len(table) <= _FEW:
        return jnp.matmul(jax.nn.one_hot(ids, len(table)), table, precision="highest")
    # Clipping only avoids a check: `training_triples` refuses ids out of range.
    return jnp.take(table, ids, axis=0, mode="clip")


class LinkPredictor(NamedTuple):
    """Pure functions that initialise and train embeddings; the caller jits.

    Parameters are `{"entity": e, "relation": r}`, tables with a row for each.
    """

    init: Callable[..., MetaState]
    """`init(key, *, entities, relations) -> state`, with tables of so many rows."""
    update: Callable[..., tuple[MetaState, dict[str, jax.Array]]]
    """`update(state, data, rows [B], key, **extra) -> (state, metrics)`: an optimizer step on these
    triples; `extra` goes to the optimizer, see `ewc_optimizer`."""
    epoch: Callable[..., tuple[MetaState, dict[str, jax.Array]]]
    """`epoch(state, data, key, **extra) -> (state, metrics)`: updates over all triples once."""
    fisher: Callable[..., Params]
    """`fisher(params, data, key) -> tables`: the diagonal of the empirical Fisher information, the
    mean over triples of the squared gradient of each triple and its negatives."""
    score: Score
    """The score."""
    batch: int
    """Triples of an update."""
    bound: float
    """Initial entity embeddings are in [-bound, bound]."""


def link_predictor(
    score: str,
    optimizer: optax.GradientTransformation,
    *,
    width: int = 64,
    margin: float = 9.0,
    temperature: float = 1.0,
    negatives: int = 16,
    slots: Sequence[str] = SLOTS,
    joint: bool = False,
    batch: int = 256,
    chunk: int = 32,
    clusters: int = 0,
    cluster_weight: float = 0.3,
) -> LinkPredictor:
    """Embeddings trained by self-adversarial negative sampling.

    Heads, relations and tails of each triple are replaced, equally many of each. Negatives are
    weighted by their present scores, slot by slot, because relation negatives share both entities
    with the triple, are hardest, and would take all the weight.

    Args:
        score: RotatE, TransE, DistMult or ComplEx.
        optimizer: Optimizer of the embeddings, for instance `optax.adam(0.01)`.
        width: Embedding dimension, complex where the score is.
        margin: The score is `margin + match`. Entities are initialised in
            [-(margin + 2) / width, (margin + 2) / width].
        temperature: Inverse temperature of the self-adversarial weights; 0 weights all alike.
        negatives: Replacements for each slot.
        slots: The slots that are replaced.
        joint: Weight the negatives of all slots together.
        batch: Triples of an update.
        chunk: Triples that share replacements; a divisor of `batch`.
        clusters: Number of relation clusters that a linear head classifies, from labels in the
            training triples. 0: no such term.
        cluster_weight: Weight of that term.

    Returns:
        The functions. `update` and `epoch` report `loss`, without the cluster term; `epoch` its
        mean.

    Raises:
        ValueError: If a number is out of its range or a name unknown.

    References:
        Sun et al., RotatE: Knowledge Graph Embedding by Relational Rotation in Complex Space,
        ICLR 2019, arXiv:1902.10197, section 3.2 and equation 6, without weights by frequency.
        Relation negatives: Chen et al., Relation Prediction as an Auxiliary Training Objective,
        AKBC 2021, arXiv:2110.02834, there by a softmax over all.
    """
    kind = score_of(score)
    _check(width=width, negatives=negatives, batch=batch, chunk=chunk)
    if batch % chunk:
        raise ValueError(f"chunk must divide batch, got {chunk} and {batch}.")
    if not slots or set(slots) - set(SLOTS):
        raise ValueError(f"slots must be of {', '.join(SLOTS)}, got {', '.join(slots) or 'none'}.")
    if not (margin >= 0 and temperature >= 0):
        raise ValueError(
            f"margin and temperature must be >= 0, got {margin:g} and {temperature:g}."
        )
    if clusters < 0 or not cluster_weight >= 0:
        raise ValueError(
            f"clusters and cluster_weight must be >= 0, got {clusters} and {cluster_weight:g}."
        )
    bound = (margin + 2) / width
    moves = optax.with_extra_args_support(optimizer)

    def init(key: jax.Array, *, entities: int, relations: int) -> MetaState:
        first, second = jax.random.split(key)
        params = {
            "entity": kind.entities(first, entities, width, bound),
            "relation": kind.relations(second, relations, width, bound),
        }
        if clusters:
            features = kind.features(kind.operator(params["relation"])).shape[1]
            params["cluster"] = {
                "kernel": jnp.zeros((features, clusters)),
                "bias": jnp.zeros(clusters),
            }
        return MetaState(params, optimizer.init(params), jnp.zeros((), jnp.int32))

    losses_of = partial(triple_losses, kind, margin=margin, temperature=temperature, joint=joint)
    draw = partial(sample_negatives, negatives=negatives, slots=slots)

    def loss(
        params: Params, data: TrainingTriples, given: Negatives
    ) -> tuple[jax.Array, jax.Array]:
        tables = {**params, "relation": kind.operator(params["relation"])}
        value = masked_mean(losses_of(gather_embeddings(tables, given), given), given.mask)
        if not clusters:
            return value, value
        if data.cluster is None:
            raise ValueError("data must have a cluster of each relation, got none.")
        term = cluster_loss(params["cluster"], kind.features(tables["relation"]), data.cluster)
        return value + cluster_weight * term, value

    def update(
        state: MetaState, data: TrainingTriples, rows: jax.Array, key: jax.Array, **extra: Any
    ) -> tuple[MetaState, dict[str, jax.Array]]:
        given = draw(data, rows, key, chunk=chunk)
        gradient, value = jax.grad(loss, has_aux=True)(state.params, data, given)
        updates, opt_state = moves.update(gradient, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        return MetaState(params, opt_state, state.step + 1), {"loss": value}

    def epoch(
        state: MetaState, data: TrainingTriples, key: jax.Array, **extra: Any
    ) -> tuple[MetaState, dict[str, jax.Array]]:
        shuffling, drawing = jax.random.split(key)
        rows = _shuffled(data, batch, shuffling)

        def step(at: jax.Array, carry: tuple[MetaState, jax.Array]) -> tuple[MetaState, jax.Array]:
            state, total = carry
            some = jax.lax.dynamic_slice(rows, (at * batch,), (batch,))
            state, metrics = update(state, data, some, jax.random.fold_in(drawing, at), **extra)
            return state, total + metrics["loss"] * jnp.sum(some < data.count)

        # A dynamic number of updates: padding costs none.
        updates = (data.count + batch - 1) // batch
        state, total = jax.lax.fori_loop(0, updates, step, (state, jnp.zeros(())))
        return state, {"loss": total / data.count}

    def fisher(params: Params, data: TrainingTriples, key: jax.Array) -> Params:
        def of_read(read: Params, given: Negatives) -> jax.Array:
            return losses_of({**read, "relation": kind.operator(read["relation"])}, given)

        def step(at: jax.Array, total: Params) -> Params:
            rows = at * batch + jnp.arange(batch)
            given = draw(data, rows, jax.random.fold_in(key, at), chunk=1)
            return add_squared_gradients(total, params, given, of_read)

        blocks = (data.count + batch - 1) // batch
        total = jax.lax.fori_loop(0, blocks, step, jax.tree.map(jnp.zeros_like, params))
        return jax.tree.map(lambda leaf: leaf / data.count, total)

    return LinkPredictor(init, update, epoch, fisher, kind, batch, bound)


def add_squared_gradients(
    total: Params,
    params: Params,
    given: Negatives,
    loss: Callable[[Params, Negatives], jax.Array],
) -> Params:
    """Adds the squared gradient of each triple, with its own negatives, to a total.

    A gradient has only the few rows that a triple reads, so the cost does not depend on the size of
    the tables. A row that is read twice has the sum of both gradients, squared once.

    Args:
        total: Tables, as of the parameters.
        params: `entity` and `relation`.
        given: Chunks of one triple each.
        loss: `loss(read, given) -> [C, 1]` of rows that `gather_embeddings` reads.

    Returns:
        The new total.
    """

    def of_one(read: Any, one: Negatives) -> jax.Array:
        read, one = jax.tree.map(lambda leaf: leaf[None], (read, one))
        return loss(read, one)[0, 0]

    gradients = jax.vmap(jax.grad(of_one))(gather_embeddings(params, given), given)
    added = dict(total)
    for name, ids in gathered_ids(given).items():
        same = ids[:, :, None] == ids[:, None, :]
        first = ~jnp.any(jnp.tril(same, -1), axis=2) & given.mask
        both = same.astype(jnp.float32)

        def add(table: jax.Array, gradient: jax.Array, ids=ids, first=first, both=both) -> Any:
            summed = jnp.matmul(both, gradient, precision="highest")
            squares = jnp.where(first[:, :, None], jnp.square(summed), 0)
            return table.at[ids].add(squares, mode="drop")

        added[name] = jax.tree.map(add, total[name], gradients[name])
    return added


def _shuffled(data: TrainingTriples, batch: int, key: jax.Array) -> jax.Array:
    """Rows of triples in random order, then those of padding, in whole batches."""
    rows = len(data.triples)
    where = jnp.arange(rows) < data.count
    order = jnp.argsort(jnp.where(where, jax.random.uniform(key, (rows,)), jnp.inf))
    return jnp.pad(order, (0, -rows % batch), constant_values=rows)


def _check(**least_one: int) -> None:
    for name, value in least_one.items():
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
