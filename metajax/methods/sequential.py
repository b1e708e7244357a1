"""Sequence encoder of a user's history, with inner steps on its last layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax import learners
from metajax.data.dataset import Shapes
from metajax.fields import Range, bounded
from metajax.methods.item_encoder import EncoderOptions, encoder_of, initial_values, reference_label
from metajax.methods.method import Method
from metajax.methods.objective import by_gradient_steps
from metajax.methods.settings import Settings
from metajax.networks.encoder import Tower
from metajax.networks.linen import from_linen
from metajax.types import Examples, InHistory, Model, Params

__all__ = [
    "SequenceNetwork",
    "SequenceOptions",
    "from_history_module",
    "methods",
]


class SequenceNetwork(nn.Module):
    """Reads a history with an LSTM, attends to its states from a candidate, predicts the score.

    The states are those before the first interaction, which are learned, and after each. An
    input attends to the states that come before it, so one pass scores each interaction of a
    history by what led to it.

    Parameters are named `encoder`, `lstm`, `attention`, `predictor/layer_i`, `score` and so on.

    Attributes:
        encoder: Maps inputs to `Encoded`.
        width: Width of the LSTM and of the attention.
        heads: Attention heads.
        predictor_widths: Hidden widths of the predictor.
        reference: Reference of labels. None: the item's bias, as is right where scores
            predict labels. A number: a learned one that starts there, for losses of an order.

    References:
        The encoder of Zheng et al., Cold-start Sequential Recommendation via Meta Learner, AAAI
        2021, used for users; attention to recurrent states as in Li et al., Neural Attentive
        Session-based Recommendation, CIKM 2017.
    """

    encoder: nn.Module
    width: int = 32
    heads: int = 2
    predictor_widths: Sequence[int] = (64, 64)
    reference: float | None = None

    @nn.compact
    def __call__(self, inputs: InHistory) -> jax.Array:
        """Scores N inputs: `[N]`.

        Raises:
            ValueError: If the heads do not divide the width.
        """
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads ({self.heads}), got {self.width}.")
        history, seen, now = inputs
        past, present = self.encoder(history.inputs), self.encoder(now)
        reference = past.bias
        if self.reference is not None:
            reference = self.param("reference", nn.initializers.constant(self.reference), ())
        residual = (history.labels - reference)[:, None]  # [S, 1]
        # The product is given, as a layer cannot multiply.
        events = jnp.concatenate([past.item, residual, past.item * residual], axis=-1)
        events = nn.Dense(self.width, name="event")(events)
        states: Any = nn.RNN(nn.OptimizedLSTMCell(self.width, name="lstm"))(events)  # [S, width]
        first = self.param("first_state", nn.initializers.zeros_init(), (1, self.width))
        states = jnp.concatenate([first, states])  # [1 + S, width]

        slot = jnp.arange(states.shape[0])
        real = jnp.concatenate([jnp.ones(1, bool), history.mask])
        visible = real[None] & (slot[None] <= seen[:, None])  # [N, 1 + S]
        about = jnp.concatenate([present.user, present.item], axis=-1)
        query = nn.Dense(self.width, name="query")(about)
        attention = nn.MultiHeadDotProductAttention(
            self.heads, qkv_features=self.width, name="attention"
        )
        found: Any = attention(query, states, mask=visible[None])  # [N, width]
        joined = jnp.concatenate([about, found], axis=-1)
        hidden = nn.relu(Tower(self.predictor_widths, name="predictor")(joined))
        zeros = nn.initializers.zeros_init()
        return present.bias + nn.Dense(1, kernel_init=zeros, name="score")(hidden)[:, 0]


def from_history_module(module: nn.Module) -> Model:
    """Wraps a Linen module that maps `InHistory` to scores `[N]`.

    Args:
        module: Has parameters alone.

    Returns:
        The pair `init`, `apply`. As other models it is initialised by `init(key, inputs)`.

    Raises:
        ValueError: From `init`, as `from_linen`.
    """
    model = from_linen(module)

    def init(key: jax.Array, inputs: Any) -> Params:
        rows = jax.tree.leaves(inputs)[0].shape[0]
        history = Examples(inputs, jnp.zeros(rows), jnp.ones(rows, bool))
        return model.init(key, InHistory(history, jnp.arange(rows), inputs))

    return Model(init, model.apply)


@dataclass(frozen=True, kw_only=True)
class SequenceOptions(EncoderOptions):
    """Options of the sequence encoder."""

    steps: int = bounded(5, least=1, search=Range(1, 10))
    """Inner steps on a user's support."""
    inner_rate: float = bounded(0.01, above=0, search=Range(0.001, 0.1, log=True))
    """Learning rate of the inner steps."""
    adapts: tuple[str, ...] = ("score/*",)
    """Patterns of the parameters that adapt to a user; the others are shared."""
    heads: int = bounded(2, least=1)
    """Attention heads; one where `embedding` is no multiple of them."""


def _network(settings: Settings, shapes: Shapes) -> Any:
    options: SequenceOptions = settings.options
    return from_history_module(
        SequenceNetwork(
            encoder_of(settings, shapes),
            options.embedding,
            heads=options.heads if options.embedding % options.heads == 0 else 1,
            predictor_widths=(options.width, options.width),
            reference=reference_label(settings, shapes),
        )
    )


methods: tuple[Method, ...] = (
    Method(
        "sequential",
        learner=by_gradient_steps(learners.sequential),
        network=_network,
        initial=initial_values,
        options=SequenceOptions,
        grid=({}, {"inner_rate": 0.003}, {"inner_rate": 0.02}, {"steps": 2}),
    ),
)
