"""ANIL and BOIL: MAML whose inner loop adapts the last layer alone, or all others."""

from typing import Unpack

from metajax.adaptation import choosing
from metajax.learners.maml import Options, maml
from metajax.types import Choice, Loss, MetaLearner, Model, Optimizer

__all__ = ["anil", "boil"]


def anil(
    model: Model,
    loss: Loss,
    *,
    inner: Optimizer,
    head: Choice,
    **options: Unpack[Options],
) -> MetaLearner:
    """ANIL: MAML in which the head alone adapts.

    The body learns features that serve every user; a user's own weights are those of the head,
    which has few rows and columns: in the factored form it is mostly kept in full.

    Args:
        model: The network.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        inner: Optimizer of the inner steps.
        head: The parameters of the last layer: patterns of paths or a predicate.
        **options: As in `maml`.

    Returns:
        A meta-learner.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from metajax import adaptation, losses, types
        >>> two = types.Model(
        ...     init=lambda key, x: {"body": jnp.array(2.0), "head": jnp.array(1.0)},
        ...     apply=lambda w, x: w["head"] * w["body"] * x,
        ... )
        >>> seen = types.Examples(jnp.array([1.0]), jnp.array([3.0]), jnp.array([True]))
        >>> learner = anil(
        ...     two, losses.squared_error, inner=optax.sgd(0.25), outer=optax.sgd(0.1),
        ...     head=adaptation.matching("head"),
        ... )
        >>> params = two.init(None, None)
        >>> learner.adapt(params, seen)["head"].item()  # 1 - 0.25 * 2 * (1 * 2 - 3) * 2
        2.0

    References:
        Raghu, Raghu, Bengio and Vinyals, Rapid Learning or Feature Reuse? Towards Understanding
        the Effectiveness of MAML, ICLR 2020, section 4.
    """
    return maml(model, loss, inner=inner, adapts=head, **options)


def boil(
    model: Model,
    loss: Loss,
    *,
    inner: Optimizer,
    head: Choice,
    **options: Unpack[Options],
) -> MetaLearner:
    """BOIL: MAML in which all parameters but the head adapt.

    The head is still learned by the outer update. While it is zero the body has no gradient and
    there is no adaptation: initialise it otherwise, or train longer.

    Args and Returns: as in `anil`.

    References:
        Oh, Yoo, Kim and Yun, BOIL: Towards Representation Change for Few-shot Learning, ICLR
        2021, section 3.
    """
    of_head = choosing(head)
    return maml(model, loss, inner=inner, adapts=lambda path: not of_head(path), **options)
