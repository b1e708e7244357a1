"""MeCos: cold items by matching the sequences that end in them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from metajax.adaptation import amortised
from metajax.learners.outer import meta_learner
from metajax.networks.encoder import Tower
from metajax.types import (
    Examples,
    Loss,
    MetaLearner,
    Sequences,
    SupportModel,
    check_model,
)

__all__ = [
    "PairNetwork",
    "mecos",
]


class PairNetwork(nn.Module):
    """Encodes pairs of a sequence and a candidate item, and matches query to support pairs.

    A sequence is read by an LSTM, whose last state attends to all states. Joined with the item's
    attributes, which may be none, it is a pair. A support is the mean of its pairs and a prior;
    a query's pair is refined by a few steps of an LSTM cell that sees the support, and scored by
    its product with it.

    Attributes:
        items: Number of items with an embedding, those of sequences.
        embedding: Width of that.
        width: Width of states, pairs and supports, R.
        steps: Steps of matching.
        prior_weight: Initial weight of the prior, in sequences.

    References:
        Zheng, Liu, Li and Wu, Cold-start Sequential Recommendation via Meta Learner, AAAI 2021:
        sequence pair encoder, mean over the support, matching network. The steps are those of
        Xiong et al., One-Shot Relational Learning for Knowledge Graphs, EMNLP 2018, section 4.2,
        but for the support, which there is a part of the cell's state and here of its input.
        Differs: the prior, so that the support may be empty; the item's attributes; an item is
        trained against sequences that end in others, not a sequence against other items.
    """

    items: int
    embedding: int = 16
    width: int = 32
    steps: int = 2
    prior_weight: float = 1.0

    def setup(self):
        """Builds the layers."""
        self.item_embedding = nn.Embed(self.items, self.embedding)
        self.lstm = nn.RNN(nn.OptimizedLSTMCell(self.width))
        self.pair = Tower((self.width, self.width))
        self.prior = self.param("prior", nn.initializers.normal(0.1), (self.width,))
        self.weight = self.param("weight", nn.initializers.constant(jnp.log(self.prior_weight)), ())
        self.cell = nn.OptimizedLSTMCell(self.width)
        self.zero_shot = nn.Dense(1)

    def encode(self, support: Examples) -> jax.Array:
        """Encodes the sequences of one item as their mean: `[R]`."""
        total = jnp.sum(jnp.where(support.mask[:, None], self._pairs(support.inputs), 0), axis=0)
        weight = jnp.exp(self.weight)
        return (weight * self.prior + total) / (weight + jnp.sum(support.mask))

    def decode(self, state: jax.Array, inputs: Sequences) -> jax.Array:
        """Scores how well the item fits N sequences: `[N]`."""
        pairs = self._pairs(inputs)  # [N, R]
        support = jnp.broadcast_to(state, pairs.shape)
        seen = jnp.concatenate([pairs, support], axis=-1)
        carry = jnp.zeros_like(pairs), jnp.zeros_like(pairs)
        for _ in range(self.steps):
            (memory, refined), _ = self.cell(carry, seen)
            carry = memory, refined + pairs
        score = jnp.sum(carry[1] * support, axis=-1) / jnp.sqrt(float(self.width))
        return score + self.zero_shot(pairs)[:, 0]

    def __call__(self, support: Examples, inputs: Sequences) -> jax.Array:
        """Encodes, then decodes."""
        return self.decode(self.encode(support), inputs)

    def _pairs(self, inputs: Sequences) -> jax.Array:
        """Encodes pairs: `[N, R]`."""
        states: Any = self.lstm(self.item_embedding(inputs.item))  # [N, L, width]
        length = states.shape[1]
        at = jnp.clip(inputs.length - 1, 0, length - 1)
        last = jnp.take_along_axis(states, at[:, None, None], axis=1)  # [N, 1, width]
        real = jnp.arange(length)[None] < inputs.length[:, None]
        found = nn.dot_product_attention(
            last[:, :, None], states[:, :, None], states[:, :, None], mask=real[:, None, None]
        )
        parts = [last[:, 0], found[:, 0, 0], inputs.target_features]
        return self.pair(jnp.concatenate(parts, axis=-1))


def mecos(
    model: SupportModel,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """MeCos: next-item prediction of a new item from a few sequences that end in it.

    It adapts to an item: the support are sequences that end in it, the query are sequences that end
    in it or not, from `data.sample_item_tasks`. To recommend new items for one sequence, adapt to
    each of them and compare their scores (`cold_items.score_cold_items`).

    Args:
        model: The network, for instance a `PairNetwork`.
        loss: `loss(scores, labels, *, where) -> []`, of the query; labels are 1 and 0. A loss of
            each score by itself, such as `losses.sigmoid_cross_entropy`, makes items comparable;
            one of an order compares sequences of one item alone.
        outer: Optax optimizer of the parameters.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    References:
        Zheng, Liu, Li and Wu, Cold-start Sequential Recommendation via Meta Learner, AAAI 2021.
        Differences are documented in `PairNetwork` and `data.sample_item_tasks`.
    """
    check_model(model, SupportModel)
    adaptation = amortised(model.encode, model.decode)
    return meta_learner(model, adaptation, loss, outer, microbatch=microbatch)
