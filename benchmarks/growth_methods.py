"""Methods that update the embeddings of a knowledge graph as entities arrive."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from arrivals import Snapshots

from metajax.knowledge import (
    EwcAnchor,
    LinkPredictor,
    TrainingTriples,
    ewc_optimizer,
    link_predictor,
    new_rows,
    normalised_fisher,
    place_entities,
    training_triples,
)
from metajax.types import MetaState

__all__ = ["METHODS", "Epochs", "Held", "Programs", "arrival", "programs"]

WEIGHT, NORMALISED_WEIGHT = 1e4, 3.0
METHODS = (
    "retraining",
    "fine-tuning",
    "replay",
    "closed form",
    "new rows",
    "elastic weights",
    "elastic weights, normalised",
)


class Held(NamedTuple):
    """State of a method between snapshots."""

    params: Any
    fisher: Any
    """Mean over all triples so far; None where it is not used."""


class Epochs(NamedTuple):
    """Epochs of training."""

    retraining: int
    arrival: int
    """On new triples, with some rows or all."""


class Programs(NamedTuple):
    """Compiled functions, once for each number of triples to the power of two."""

    learner: LinkPredictor
    train: Callable[..., Any]
    """`train(params, facts, key, epochs, trainable, anchor) -> params`."""
    fisher: Callable[..., Any]
    place: Callable[..., Any]


def programs(batch: int) -> Programs:
    optimizer = ewc_optimizer(optax.adam(0.01))
    learner = link_predictor("RotatE", optimizer, width=64, margin=9.0, batch=batch)

    def train(
        params: Any,
        given: TrainingTriples,
        key: jax.Array,
        epochs: Any,
        trainable: Any,
        anchor: Any,
    ) -> Any:
        state = MetaState(params, optimizer.init(params), jnp.zeros((), jnp.int32))

        def epoch(at: jax.Array, state: MetaState) -> MetaState:
            once = jax.random.fold_in(key, at)
            return learner.epoch(state, given, once, trainable=trainable, anchor=anchor)[0]

        return jax.lax.fori_loop(0, epochs, epoch, state).params

    place = jax.jit(partial(place_entities, learner.score))
    return Programs(learner, jax.jit(train), jax.jit(learner.fisher), place)


def arrival(
    method: str,
    run: Programs,
    graph: Snapshots,
    now: int,
    held: Held,
    first: Any,
    key: jax.Array,
    epochs: Epochs,
) -> Held:
    """Follows the arrival of a snapshot; at snapshot 0 all methods do the same."""
    before, old = held
    seen = np.concatenate(graph.train[: now + 1])
    shared = {"entities": graph.sizes[now], "relations": graph.relations, "known": seen}
    everything = new_rows(before, entities=0, relations=0)
    fresh = training_triples(graph.train[now], **shared)
    if method == "retraining" or not now:
        given = training_triples(seen, **shared)
        params = run.train(first, given, key, epochs.retraining, everything, None)
    elif method in ("fine-tuning", "replay"):
        given = fresh
        if method == "replay":
            earlier = np.concatenate(graph.train[:now])
            rng = np.random.default_rng(now)
            some = rng.choice(len(earlier), len(earlier) // 10, replace=False)
            given = training_triples(np.concatenate([graph.train[now], earlier[some]]), **shared)
        params = run.train(before, given, key, epochs.arrival, everything, None)
    else:
        new = new_rows(before, entities=graph.sizes[now - 1], relations=graph.relations)
        params = run.place(before, fresh, new["entity"])
        if method != "closed form":
            params = run.train(params, fresh, key, epochs.arrival, new, None)
        if method.startswith("elastic"):
            weight, fisher = WEIGHT, old
            if method.endswith("normalised"):
                sizes = {"entities": graph.sizes[now - 1], "relations": graph.relations}
                weight, fisher = NORMALISED_WEIGHT, normalised_fisher(old, **sizes)
            anchor = EwcAnchor(params, fisher, weight)
            params = run.train(params, fresh, key, epochs.arrival, everything, anchor)
    fisher = None
    if method.startswith("elastic"):
        fisher = run.fisher(params, fresh, jax.random.fold_in(key, 1))
        if now:
            share = len(graph.train[now]) / len(seen)
            fisher = jax.tree.map(lambda a, b: (1 - share) * a + share * b, old, fisher)
    return Held(*jax.block_until_ready((params, fisher)))
