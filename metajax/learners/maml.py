"""Model-agnostic meta-learning: first-order, implicit, and on a network that reads a sequence."""

from typing import Required, TypedDict, Unpack

import optax

from metajax.adaptation import Adjoint, FirstOrder, Form, Implicit, gradient_steps, sequence_steps
from metajax.learners.outer import meta_learner
from metajax.losses import on_examples
from metajax.types import Choice, Loss, MetaLearner, Model, Optimizer

__all__ = [
    "Options",
    "fomaml",
    "imaml",
    "maml",
    "sequential",
]


class Options(TypedDict, total=False):
    """Options that variants of MAML hand on to `maml`, with its documentation and defaults.

    A variant replaces one part of `maml`: the parameters that adapt, the inner optimizer, the
    adjoint or the inner loss. Its signature names that part.
    """

    outer: Required[optax.GradientTransformation]
    """Optax optimizer of the meta-parameters."""
    steps: int
    """Number of inner steps, at least 1."""
    inner_loss: Loss | None
    """The loss of the support; None means that of the query."""
    adjoint: Adjoint | None
    """Differentiation through the steps."""
    form: Form
    """Storage of a user's weights, see `gradient_steps`."""
    microbatch: int | None
    """Tasks that are in memory at once."""


def maml(
    model: Model,
    loss: Loss,
    *,
    inner: Optimizer,
    outer: optax.GradientTransformation,
    steps: int = 1,
    adapts: Choice = "*",
    inner_loss: Loss | None = None,
    adjoint: Adjoint | None = None,
    form: Form = "auto",
    microbatch: int | None = None,
) -> MetaLearner:
    """Model-agnostic meta-learning: parameters from which a few optimizer steps fit a new user.

    Args:
        model: The network.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        inner: Optax optimizer of the inner steps, or a function of the parameters that returns
            one.
        outer: Optax optimizer of the meta-parameters.
        steps: Number of inner steps, at least 1.
        adapts: The parameters that adapt: patterns of paths or a predicate. The others are shared.
        inner_loss: The loss of the support; None means `loss`.
        adjoint: Differentiation through the steps; None means `Reverse()`.
        form: Storage of a user's weights, see `gradient_steps`.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from metajax import losses, types
        >>> line = types.Model(init=lambda key, x: jnp.zeros(()), apply=lambda w, x: w * x)
        >>> learner = maml(line, losses.squared_error, inner=optax.sgd(0.5), outer=optax.sgd(0.1))
        >>> seen = types.Examples(jnp.array([1.0]), jnp.array([3.0]), jnp.array([True]))
        >>> float(learner.adapt(jnp.array(2.0), seen))  # 2 - 0.5 * 2 * (2 - 3)
        3.0

    References:
        Finn, Abbeel and Levine, Model-Agnostic Meta-Learning for Fast Adaptation of Deep
        Networks, ICML 2017. For recommendation: Lee et al., MeLU, KDD 2019, which adapts the
        predictor alone (`adapts=matching("predictor/*")`).
    """
    adaptation = gradient_steps(
        on_examples(model.apply, inner_loss or loss),
        inner,
        steps,
        predict=model.apply,
        adapts=adapts,
        adjoint=adjoint,
        form=form,
    )
    return meta_learner(model, adaptation, loss, outer, microbatch=microbatch)


def fomaml(
    model: Model,
    loss: Loss,
    *,
    inner: Optimizer,
    adapts: Choice = "*",
    **options: Unpack[Options],
) -> MetaLearner:
    """First-order MAML: without second derivatives, cheaper, with a biased meta-gradient.

    Args and Returns: as in `maml`.

    References:
        Finn, Abbeel and Levine, Model-Agnostic Meta-Learning, ICML 2017, section 5.2.
    """
    return maml(model, loss, inner=inner, adapts=adapts, adjoint=FirstOrder(), **options)


def imaml(
    model: Model,
    loss: Loss,
    *,
    inner: Optimizer,
    proximal: float = 1.0,
    iterations: int = 5,
    damping: float = 0.0,
    adapts: Choice = "*",
    **options: Unpack[Options],
) -> MetaLearner:
    """Implicit MAML, whose inner problem is `argmin_w L(w) + (proximal / 2) |w - params|^2`.

    The meta-gradient costs a few products with the Hessian, and its memory does not grow with the
    number of steps. It is exact once steps and iterations have converged. The weights of a user
    are always kept in full.

    Args:
        model: The network.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        inner: Optimizer of the inner steps; its steps are differentiated at no point.
        proximal: Weight of the pull to the meta-parameters, > 0.
        iterations: Of conjugate gradients, at least 1.
        damping: Added to `proximal` in the linear system, where the loss is not convex.
        adapts: The parameters that adapt: patterns of paths or a predicate.
        **options: As in `maml`.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If `proximal`, `iterations` or `damping` is out of range.

    References:
        Rajeswaran, Finn, Kakade and Levine, Meta-Learning with Implicit Gradients, NeurIPS 2019,
        algorithms 1 and 2. Differs: parameters that do not adapt have their gradient, too.
    """
    adjoint = Implicit(proximal, iterations, damping)
    return maml(model, loss, inner=inner, adapts=adapts, adjoint=adjoint, **options)


def sequential(
    model: Model,
    loss: Loss,
    *,
    inner: Optimizer,
    outer: optax.GradientTransformation,
    steps: int = 1,
    adapts: Choice = "*",
    inner_loss: Loss | None = None,
    adjoint: Adjoint | None = None,
    form: Form = "auto",
    microbatch: int | None = None,
) -> MetaLearner:
    """MAML of a network that reads a user's history in order.

    The rows of a support are in order of time: `sample_tasks(order="time")` draws such supports.

    Args and Returns: as in `maml`, except that `model.apply` scores `InHistory`, for instance of
    a `methods.sequential.SequenceNetwork`, and that the inner loss is of each interaction given
    those before it.

    References:
        After Zheng et al., Cold-start Sequential Recommendation via Meta Learner, AAAI 2021.
        Differs: users are cold and not items (for those see `mecos`); inner steps adapt the
        predictor.
    """
    adaptation = sequence_steps(
        model.apply,
        inner_loss or loss,
        inner,
        steps,
        adapts=adapts,
        adjoint=adjoint,
        form=form,
    )
    return meta_learner(model, adaptation, loss, outer, microbatch=microbatch)
