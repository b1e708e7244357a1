"""Training on the facts of a graph: epochs, validation by rank, a stop where it goes wrong."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.knowledge.graph import KnowledgeGraph
from metajax.knowledge.link_prediction import LinkPredictor
from metajax.knowledge.negative_sampling import TrainingTriples, training_triples
from metajax.knowledge.ranking import filtered_ranks, ranking_metrics
from metajax.knowledge.splits import check_seen
from metajax.training import DivergedError, Progress, begin
from metajax.types import MetaState, Params

__all__ = [
    "Epoch",
    "begin_links",
    "train_links",
]


class Epoch(NamedTuple):
    """What happened in one epoch."""

    step: int
    """Updates made so far."""
    epoch: int
    """Epochs made so far."""
    loss: float
    """Mean loss of its facts."""
    largest: float
    """The largest number, by its size, of an entity's embedding."""
    validation: float | None
    """MRR of validation facts after it, where it was time to look."""


def begin_links(predictor: LinkPredictor, training: KnowledgeGraph, *, seed: int = 0) -> Progress:
    """Starts training on a graph from random embeddings, one for each entity and relation.

    Args:
        predictor: What to train.
        training: The graph; whatever it has names for gets an embedding.
        seed: Of the embeddings.

    Returns:
        The progress before the first epoch.
    """
    first, _ = jax.random.split(jax.random.key(seed))
    entities, relations = len(training.entities.names), len(training.relations.names)
    return begin(predictor.init(first, entities=entities, relations=relations))


def train_links(
    predictor: LinkPredictor,
    training: KnowledgeGraph,
    validation: KnowledgeGraph | None,
    progress: Progress | None = None,
    *,
    epochs: int,
    seed: int = 0,
    validate_every: int = 10,
    patience: int = 3,
    queries: int = 500,
    growth: float = 1e3,
) -> Iterator[tuple[Progress, Epoch]]:
    """Trains until `epochs` are made or validation facts have not ranked better for a while.

    What an epoch does depends on the seed and its number alone, so a run resumed from any yielded
    progress continues to the same bits. Stop iterating to stop training.

    Args:
        predictor: What to train.
        training: The facts to learn from. Names without a fact are drawn and ranked like all
            others; `drop_unused` leaves them out.
        validation: Facts of the same names, from `split_triples`; None: never look, make all
            epochs.
        progress: Where to go on; None: `begin_links`.
        epochs: Epochs in all.
        seed: Of first embeddings, the order of facts, what is false, and validation.
        validate_every: Epochs between validations.
        patience: Validations without improvement before training stops.
        queries: At most so many validation facts, drawn once, are ranked; among all entities.
        growth: An embedding is lost if one of its numbers is larger, by so many times, than the
            first ones could be.

    Yields:
        After each epoch the progress, whose `best` ranked validation facts best and whose
        `best_loss` is 1 - MRR, and what happened.

    Raises:
        ValueError: If a number is out of its range, or validation has other names or asks for what
            training lacks.
        DivergedError: If the loss or an embedding is not finite, or an embedding is too large;
            the last progress that was yielded is still good.

    Example:
        >>> import optax
        >>> from metajax.knowledge import graph_from_names, link_predictor
        >>> ring = graph_from_names([(str(n), "next", str((n + 1) % 5)) for n in range(5)])
        >>> predictor = link_predictor("RotatE", optax.adam(0.05), width=4, batch=4, chunk=4)
        >>> rows = [row for _, row in train_links(predictor, ring, None, epochs=3)]
        >>> [(row.epoch, row.step) for row in rows], rows[2].loss < rows[0].loss
        ([(1, 2), (2, 4), (3, 6)], True)
    """
    for name, value in {
        "epochs": epochs,
        "validate_every": validate_every,
        "patience": patience,
        "queries": queries,
    }.items():
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    if not growth >= 1:
        raise ValueError(f"growth must be >= 1, got {growth:g}.")
    if validation is not None:
        # Indices mean the same only then.
        for what in ("entities", "relations"):
            if getattr(validation, what).names != getattr(training, what).names:
                raise ValueError(
                    f"validation must have the {what} of training in the same order, got others."
                )
        check_seen(training, validation)
    progress = begin_links(predictor, training, seed=seed) if progress is None else progress
    entities, relations = len(training.entities.names), len(training.relations.names)
    given = training_triples(training.triples, entities=entities, relations=relations)
    mrr_of = None if validation is None else _judge(predictor, training, validation, seed, queries)
    _, key = jax.random.split(jax.random.key(seed))
    limit = growth * predictor.bound
    updates = -(-training.count // predictor.batch)
    epoch = int(progress.state.step) // updates

    def is_patient() -> bool:
        return epoch - int(progress.best_step) // updates < patience * validate_every

    while epoch < epochs and is_patient():
        state, loss, largest = _epoch(
            progress.state, given, jax.random.fold_in(key, epoch), predictor=predictor
        )
        epoch += 1
        step = epoch * updates
        if not np.isfinite(loss):
            raise DivergedError(step, float(loss), "loss")
        if not largest <= limit:
            what = f"largest number of an embedding (at most {limit:.3g} is sound)"
            raise DivergedError(step, float(largest), what)
        progress, mrr = progress._replace(state=state), None
        if mrr_of is None:
            progress = progress._replace(best=state.params, best_step=state.step)
        elif epoch % validate_every == 0 or epoch == epochs:
            mrr = mrr_of(state.params)
            if 1 - mrr < progress.best_loss:
                progress = progress._replace(
                    best=state.params, best_loss=jnp.array(1 - mrr), best_step=state.step
                )
        yield progress, Epoch(step, epoch, float(loss), float(largest), mrr)


@partial(jax.jit, static_argnames=("predictor",))
def _epoch(
    state: MetaState, given: TrainingTriples, key: jax.Array, *, predictor: LinkPredictor
) -> tuple[MetaState, jax.Array, jax.Array]:
    state, metrics = predictor.epoch(state, given, key)
    return state, metrics["loss"], _largest(state.params)


def _largest(params: Params) -> jax.Array:
    """Finds the largest number of an entity; NaN where any parameter is not finite."""
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()
    sizes = [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(params["entity"])]
    return jnp.where(finite, jnp.max(jnp.stack(sizes)), jnp.nan)


def _judge(
    predictor: LinkPredictor,
    training: KnowledgeGraph,
    validation: KnowledgeGraph,
    seed: int,
    queries: int,
) -> Callable[[Params], float]:
    """Returns what ranks a sample of the validation facts, always the same."""
    order = np.random.default_rng(seed).permutation(validation.count)
    asked = validation.triples[np.sort(order[:queries])]
    known = np.concatenate([training.triples, validation.triples])

    def mrr_of(params: Params) -> float:
        ranks = filtered_ranks(
            predictor.score,
            params,
            asked,
            entities=len(training.entities.names),
            relations=len(training.relations.names),
            known=known,
        )
        return ranking_metrics(ranks)["mrr"]

    return mrr_of
