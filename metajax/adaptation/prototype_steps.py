"""Proto-MAML: gradient steps from a head that is initialised by prototypes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax.adaptation.adjoints import Adjoint
from metajax.adaptation.factored.plan import Form
from metajax.adaptation.gradient_steps import gradient_steps
from metajax.adaptation.partition import within
from metajax.losses import blanked, check_shapes, on_examples
from metajax.types import Adaptation, Apply, Choice, Examples, Loss, Optimizer, Params

__all__ = ["membership", "prototype_steps"]


def membership(values: jax.Array, levels: jax.Array) -> jax.Array:
    """Linear interpolation weights of values between adjacent levels.

    Args:
        values: `[N]`; beyond the first or last level they belong to that one.
        levels: `[C]`, ascending.

    Returns:
        `[N, C]` shares, each row adds up to 1.

    Example:
        >>> membership(jnp.array([1.0, 2.25, 9.0]), jnp.array([1.0, 2.0, 3.0])).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.75, 0.25], [0.0, 0.0, 1.0]]
    """
    place = jnp.interp(values, levels, jnp.arange(len(levels), dtype=levels.dtype))
    return jnp.maximum(0, 1 - jnp.abs(place[:, None] - jnp.arange(len(levels))[None]))


def prototype_steps(
    embed: Callable[[Params, Any], jax.Array],
    apply: Apply,
    loss: Loss,
    optimizer: Optimizer,
    steps: int,
    *,
    levels: Sequence[float],
    adapts: Choice = "*",
    adjoint: Adjoint | None = None,
    form: Form = "auto",
) -> Adaptation:
    r"""Adapts a classifier of C levels, whose expectation is added to the network's own score.

    With h the embedding of an input and p a level's prototype, the logit -|h - p|^2 is linear but
    for a part that all levels share: 2 p.h - |p|^2. So a linear head starts as the classifier by
    the nearest prototype, and gradient steps go on from there. The score is

        apply(network, x) + sum_c levels_c softmax_c(h . kernel_c + bias_c).

    A user of a few ratings has not used every level. So a prototype is a mean that shrinks to one
    that is learned, m_c, as if `exp(strength)` embeddings had been there:

        p_c = (exp(strength) m_c + sum_i share_ic h_i) / (exp(strength) + sum_i share_ic),

    where `share` is the interpolation weight of level c for the residual of rating i. With
    an empty support the prototypes are the learned ones: zero-shot.

    Args:
        embed: `embed(network, inputs) -> [N, D]`.
        apply: `apply(network, inputs) -> scores [N]`.
        loss: `loss(scores, labels, *, where) -> []`, of the support.
        optimizer: Any Optax optimizer, or a function of the parameters.
        steps: Number of inner steps, at least 1.
        levels: C changes of the score, ascending, at least two.
        adapts: Predicate on the path of a parameter of the network: does it adapt, too? The head
            always does; `matching()` chooses nothing else.
        adjoint: As in `gradient_steps`; through the start of the head every one is exact.
        form: Storage of the network's adapted weights, see `gradient_steps`. The head is a
            user's own from the start, and kept in full.

    Returns:
        An adaptation of the parameters `{"network": ..., "prototypes": [C, D], "strength": []}`,
        whose adapted state is `{"network": ..., "head": {"kernel": [D, C], "bias": [C]}}`.

    Raises:
        ValueError: If `levels` are fewer than two or do not ascend, or as `gradient_steps`.

    References:
        Triantafillou et al., Meta-Dataset, ICLR 2020, section 3 (Proto-MAML). Differs: levels are
        ordered, and a score is their expectation, so that any loss of scores will do; prototypes
        shrink to learned ones, as there the classes are those of the support; a rating between
        two levels counts for both.
    """
    values = np.asarray(levels, float)
    if values.ndim != 1 or len(values) < 2 or not (np.diff(values) > 0).all():
        raise ValueError(f"levels must be two or more, ascending, got {levels}.")

    def score(params: Params, inputs: Any) -> jax.Array:
        network, head = params["network"], params["head"]
        logits = embed(network, inputs) @ head["kernel"] + head["bias"][None]  # [N, C]
        return apply(network, inputs) + jax.nn.softmax(logits) @ jnp.asarray(values, logits.dtype)

    of_network = within("network", adapts)
    descent = gradient_steps(
        on_examples(score, loss),
        optimizer,
        steps,
        predict=score,
        adapts=lambda path: path.startswith("head/") or of_network(path),
        adjoint=adjoint,
        form=form,
    )

    def start(params: Params, support: Examples) -> Params:
        inputs, labels, mask = blanked(support)
        h = embed(params["network"], inputs)  # [N, D]
        scores = apply(params["network"], inputs)
        check_shapes(labels=labels, scores=scores)
        share = membership(labels - scores, jnp.asarray(values, h.dtype)) * mask[:, None]  # [N, C]
        prior = jnp.exp(params["strength"])
        seen = jnp.sum(share, axis=0)[:, None]
        prototypes = (prior * params["prototypes"] + share.T @ h) / (prior + seen)  # [C, D]
        return {"kernel": 2 * prototypes.T, "bias": -jnp.sum(prototypes**2, axis=1)}

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Any:
        begun = {"network": params["network"], "head": start(params, support)}
        return descent.adapt(begun, support, key)

    def predict(params: Params, adapted: Any, inputs: Any) -> jax.Array:
        shared = {"network": params["network"], "head": adapted["head"]}
        return descent.predict(shared, adapted, inputs)

    return Adaptation(adapt, predict)
