"""Adaptation by a few steps of an optimizer on the user's support."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation.adjoints import Adjoint, first_order, reverse
from metajax.adaptation.partition import combine, everything, partition
from metajax.base import Adaptation, Examples, Params

__all__ = ["gradient_steps"]

# A scan of tiny steps costs more in control flow than its unrolled form in compile time.
_MOST_UNROLLED = 10


def gradient_steps(
    loss_fn: Callable[[Params, Examples], jax.Array],
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    predict: Callable[[Params, Any], jax.Array],
    adapts: Callable[[str], bool] = everything,
    adjoint: Adjoint = reverse,
) -> Adaptation:
    """Adapts by `steps` optimizer steps on the support loss, from the meta-parameters.

    An empty support has loss 0 and gradient 0: an optimizer that stands still at zero gradient
    (SGD, momentum, Adam; not one with weight decay) then gives the zero-shot answer.

    Args:
        loss_fn: `loss_fn(params, examples) -> []`, the inner loss of one task. It must ignore
            masked examples.
        optimizer: Any Optax optimizer; its state starts anew for every task.
        steps: Number of inner steps, at least 1.
        predict: `predict(params, inputs) -> scores [N]`.
        adapts: Predicate on the path of a parameter (`predictor/layer_0/kernel`): does it adapt?
            The others are shared and never get a task axis.
        adjoint: How the meta-gradient passes through the steps, see `adjoints`.

    Returns:
        An adaptation whose adapted state is the tree of the adapted parameters, None elsewhere.

    Raises:
        ValueError: If `steps` < 1, or if the optimizer cannot be differentiated at zero gradient
            and the adjoint does so.

    References:
        Finn, Abbeel and Levine, Model-Agnostic Meta-Learning, ICML 2017, algorithm 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}.")
    if adjoint is not first_order:
        _check_differentiable_at_zero(optimizer)

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Params:
        del key
        fast, slow = partition(params, adapts)

        def inner_loss(fast: Params, slow: Params, support: Examples) -> jax.Array:
            return loss_fn(combine(fast, slow), support)

        gradient = adjoint(jax.grad(inner_loss))

        def step(carry: tuple[Params, optax.OptState], _: None) -> tuple[Any, None]:
            fast, opt_state = carry
            updates, opt_state = optimizer.update(gradient(fast, slow, support), opt_state, fast)
            return (optax.apply_updates(fast, updates), opt_state), None

        carry: tuple[Params, optax.OptState] = fast, optimizer.init(fast)
        if steps > _MOST_UNROLLED:
            carry, _ = jax.lax.scan(step, carry, length=steps)
        else:
            for _ in range(steps):
                carry, _ = step(carry, None)
        return carry[0]

    def predict_adapted(params: Params, adapted: Params, inputs: Any) -> jax.Array:
        _, slow = partition(params, adapts)
        return predict(combine(adapted, slow), inputs)

    return Adaptation(adapt, predict_adapted)


def _check_differentiable_at_zero(optimizer: optax.GradientTransformation) -> None:
    """Refuses an optimizer whose update has no finite derivative where the gradient is zero.

    Adam divides by the root of a second moment, and the root's slope at 0 is infinite: one
    empty support, or one dead unit, would turn the whole meta-gradient to NaN.
    """

    def update(gradient: jax.Array) -> jax.Array:
        weight = jnp.zeros(())
        change: Any = optimizer.update(gradient, optimizer.init(weight), weight)[0]
        return change

    # Evaluated at once, also where the caller is being traced.
    with jax.ensure_compile_time_eval():
        try:
            slope = jax.grad(update)(jnp.zeros(()))
        except ValueError:
            # It knows the parameters by name (multi_transform, masked) and refuses a lone weight.
            return
    # A learning rate that is traced (learned, or swept by vmap) has no value to look at.
    if not isinstance(slope, jax.core.Tracer) and not math.isfinite(slope):
        raise ValueError(
            "optimizer must have a finite derivative at zero gradient, got "
            f"{float(slope)}; for Adam set eps_root, for instance optax.adam(1e-2, eps_root=1e-8)."
        )
