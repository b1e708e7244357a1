"""Neural processes, conditional and attentive: a distribution over functions given examples.

Both are deterministic given the support: each example becomes a vector, the vectors are summed
up for a candidate, a decoder predicts the mean and the variance of its label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax import learners
from metajax.data.dataset import Shapes
from metajax.fields import bounded
from metajax.methods.identities import item_tables
from metajax.methods.item_encoder import (
    EncoderOptions,
    encoder_of,
    initial_popularity,
    reference_label,
)
from metajax.methods.method import Method
from metajax.methods.objective import RATES, objectives, outer_optimizer
from metajax.methods.settings import Settings
from metajax.networks import from_support_module
from metajax.networks.encoder import Encoded, Tower
from metajax.types import Examples, Gaussian, Inputs, MetaLearner

__all__ = [
    "Attended",
    "AttentiveOptions",
    "AttentiveProcess",
    "ConditionalProcess",
    "methods",
]


class ConditionalProcess(nn.Module):
    """Encodes a support as one vector, the mean of its examples' vectors and of a prior's.

    Attributes:
        encoder: Maps inputs to `Encoded`.
        width: Width of an example's vector and of the hidden layers, R.
        reference: Reference of labels. None: the item's bias, as is right where scores
            predict labels. A number: a learned one that starts there, for losses of an order.
        prior_weight: Initial weight of the prior vector, in examples.
        least_deviation: Smallest standard deviation of a label.

    References:
        Garnelo et al., Conditional Neural Processes, ICML 2018, equations 1 to 3; the form of the
        deviation is theirs. Differs: the prior vector, so that the support may be empty and few
        examples count little; the mean starts at the item's bias.
    """

    encoder: nn.Module
    width: int = 64
    reference: float | None = None
    prior_weight: float = 3.0
    least_deviation: float = 0.1

    def setup(self):
        """Builds the layers."""
        self.examples = _Examples(self.width, self.reference)
        self.prior = self.param("prior", nn.initializers.zeros_init(), (self.width,))
        self.weight = self.param("weight", nn.initializers.constant(jnp.log(self.prior_weight)), ())
        self.decoder = _Decoder((self.width, self.width), self.least_deviation)

    def encode(self, support: Examples) -> jax.Array:
        """Encodes a support: `[R]`."""
        vectors = self.examples(self.encoder(support.inputs), support.labels)
        total = jnp.sum(jnp.where(support.mask[:, None], vectors, 0), axis=0)
        weight = jnp.exp(self.weight)
        return (weight * self.prior + total) / (weight + jnp.sum(support.mask))

    def decode(self, state: jax.Array, inputs: Inputs) -> Gaussian:
        """Predicts the labels of N inputs."""
        encoded = self.encoder(inputs)
        shape = (encoded.bias.shape[0], self.width)
        return self.decoder(encoded, jnp.broadcast_to(state, shape))

    def __call__(self, support: Examples, inputs: Inputs) -> Gaussian:
        """Encodes, then decodes."""
        return self.decode(self.encode(support), inputs)


class Attended(NamedTuple):
    """Keys and values of a support, after an empty slot, for an `AttentiveProcess`."""

    key: jax.Array
    """`[1 + S, H, R // H]` attention keys of its items."""
    value: jax.Array
    """`[1 + S, H, R // H]` attention values of its examples."""
    mask: jax.Array
    """`[1 + S]` bool, True for the slot."""


class AttentiveProcess(nn.Module):
    """Encodes a support for each candidate, by attention from its item to theirs.

    Attributes: as in `ConditionalProcess`, and
        heads: Attention heads, H, of width R // H each.

    Raises:
        ValueError: When it is called, if there are more heads than `width`, or none.

    References:
        Kim et al., Attentive Neural Processes, ICLR 2019, section 3, its deterministic path with
        cross-attention. Differs: no latent path and no self-attention in the support; a learned
        slot among the examples, so that the support may be empty.
    """

    encoder: nn.Module
    width: int = 64
    heads: int = 4
    reference: float | None = None
    least_deviation: float = 0.1

    def setup(self):
        """Builds the layers."""
        if not 1 <= self.heads <= self.width:
            raise ValueError(f"heads must be in [1, {self.width}] (the width), got {self.heads}.")
        self.examples = _Examples(self.width, self.reference)
        shape = (self.heads, self.width // self.heads)
        self.query, self.key, self.value = (nn.DenseGeneral(shape) for _ in range(3))
        zeros = nn.initializers.zeros_init()
        self.prior_key = self.param("prior_key", zeros, (1, *shape))
        self.prior = self.param("prior", zeros, (1, *shape))
        self.joined = nn.DenseGeneral(self.width, axis=(-2, -1))
        self.decoder = _Decoder((self.width, self.width), self.least_deviation)

    def encode(self, support: Examples) -> Attended:
        """Embeds a support."""
        encoded = self.encoder(support.inputs)
        vectors = self.examples(encoded, support.labels)
        return Attended(
            jnp.concatenate([self.prior_key, self.key(encoded.item)]),
            jnp.concatenate([self.prior, self.value(vectors)]),
            jnp.concatenate([jnp.ones(1, bool), support.mask]),
        )

    def decode(self, state: Attended, inputs: Inputs) -> Gaussian:
        """Predicts the labels of N inputs."""
        encoded = self.encoder(inputs)
        # Not Linen's module of attention: it projects keys anew for each prediction.
        summed = nn.dot_product_attention(
            self.query(encoded.item), state.key, state.value, mask=state.mask[None, None]
        )
        return self.decoder(encoded, self.joined(summed))

    def __call__(self, support: Examples, inputs: Inputs) -> Gaussian:
        """Encodes, then decodes."""
        return self.decode(self.encode(support), inputs)


class _Examples(nn.Module):
    """Examples as vectors: `[N, width]`."""

    width: int
    reference: float | None

    @nn.compact
    def __call__(self, encoded: Encoded, labels: jax.Array) -> jax.Array:
        reference = encoded.bias
        if self.reference is not None:
            reference = self.param("reference", nn.initializers.constant(self.reference), ())
        residual = (labels - reference)[:, None]
        # The product is given, as a network of few layers cannot multiply.
        seen = jnp.concatenate([encoded.item, residual, encoded.item * residual], axis=-1)
        return Tower((self.width, self.width), name="tower")(seen)


class _Decoder(nn.Module):
    """A normal distribution of each label."""

    widths: Sequence[int]
    least_deviation: float

    @nn.compact
    def __call__(self, encoded: Encoded, summed: jax.Array) -> Gaussian:
        joined = jnp.concatenate([encoded.user, encoded.item, summed], axis=-1)
        hidden = nn.relu(Tower(self.widths, name="tower")(joined))
        zeros = nn.initializers.zeros_init()
        raw = nn.Dense(2, kernel_init=zeros, name="moments")(hidden)
        least = self.least_deviation
        deviation = least + (1 - least) * nn.softplus(raw[:, 1])
        return Gaussian(encoded.bias + raw[:, 0], jnp.square(deviation))


@dataclass(frozen=True, kw_only=True)
class AttentiveOptions(EncoderOptions):
    """Options of the attentive neural process."""

    heads: int = bounded(4, least=1)
    """Most attention heads; no more than `width`."""


def _conditional_process(settings: Settings, shapes: Shapes) -> Any:
    encoder, reference = encoder_of(settings, shapes), reference_label(settings, shapes)
    return from_support_module(ConditionalProcess(encoder, settings.options.width, reference))


def _attentive_process(settings: Settings, shapes: Shapes) -> Any:
    options: AttentiveOptions = settings.options
    encoder, reference = encoder_of(settings, shapes), reference_label(settings, shapes)
    heads = min(options.heads, options.width)
    return from_support_module(AttentiveProcess(encoder, options.width, heads, reference))


def _neural_process(settings: Settings, network: Any) -> MetaLearner:
    # By its likelihood where scores are ratings.
    objective = objectives[settings.objective]
    return learners.neural_process(
        network,
        None if objective.rating else objective.loss,
        outer=outer_optimizer(settings),
        microbatch=settings.microbatch,
    )


methods: tuple[Method, ...] = (
    Method(
        "conditional_process",
        learner=_neural_process,
        network=_conditional_process,
        tables=item_tables,
        initial=initial_popularity,
        options=EncoderOptions,
        grid=RATES,
    ),
    Method(
        "attentive_process",
        learner=_neural_process,
        network=_attentive_process,
        tables=item_tables,
        initial=initial_popularity,
        options=AttentiveOptions,
        grid=RATES,
    ),
)
