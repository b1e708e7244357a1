"""Residual attention: the zero-shot score plus attention to the residuals of the support."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.losses import blanked
from metajax.types import Adaptation, Examples, Matched, Params, returning

__all__ = ["Memory", "residual_attention"]


class Memory(NamedTuple):
    """Keys and residuals of a user's support."""

    key: jax.Array
    """`[S, H, D]` attention keys; 0 in padding."""
    residual: jax.Array
    """`[S]` `gain * (label - expected)` of each example; 0 in padding."""
    mask: jax.Array
    """`[S]` bool, False in padding."""


def residual_attention(match: Callable[[Params, Any], Matched]) -> Adaptation:
    """Stores the support and predicts by attention to its residuals.

    A head h gives candidate i the weights a_h = softmax(prior_hi, q_hi . k_h1 / sqrt(D), ..) over
    the examples and an empty slot. Averaged over the heads,

        score_i = zero_shot_i + sum_j a_ij * worth_j * (label_j - expected_j) .

    With expected = zero_shot = c and gain = 1 this is the attention-weighted mean of the labels,
    of which the empty slot has c. An empty support leaves the zero-shot score, and with few
    examples scores stay near it.

    Args:
        match: `match(params, inputs) -> Matched`.

    Returns:
        An adaptation whose adapted state is a `Memory`.

    References:
        Vinyals et al., Matching Networks for One Shot Learning, NeurIPS 2016, equation 1; heads
        and scaling by Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.2.
        Differs: labels are ratings and not classes, and enter by their residuals; an empty
        slot; each example is embedded by itself and not in the context of the others.
    """
    match = returning(match, Matched)

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Memory:
        del key
        inputs, labels, mask = blanked(support)
        seen = match(params, inputs)
        residual = jnp.where(mask, seen.gain * (labels - seen.expected), 0)
        return Memory(jnp.where(mask[:, None, None], seen.key, 0), residual, mask)

    def predict(params: Params, adapted: Memory, inputs: Any) -> jax.Array:
        candidate = match(params, inputs)
        scale = jnp.sqrt(float(candidate.query.shape[-1]))
        logits = jnp.einsum("nhd,shd->nhs", candidate.query, adapted.key) / scale
        logits = jnp.where(adapted.mask[None, None], logits, -jnp.inf)
        logits = jnp.concatenate([candidate.prior[..., None], logits], axis=-1)  # [N, H, 1 + S]
        weights = jnp.mean(jax.nn.softmax(logits, axis=-1), axis=1)[:, 1:]  # [N, S]
        return candidate.score + weights @ adapted.residual

    return Adaptation(adapt, predict)
