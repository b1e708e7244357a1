"""Proto-MAML: gradient steps from a head initialised by prototypes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation import Adjoint, Form, prototype_steps
from metajax.learners.outer import meta_learner
from metajax.networks import with_meta_params
from metajax.types import Choice, Loss, MetaLearner, Model, Optimizer, Params

__all__ = ["proto_maml"]


def proto_maml(
    model: Model,
    loss: Loss,
    *,
    embed: Callable[[Params, Any], jax.Array],
    levels: Sequence[float],
    inner: Optimizer,
    outer: optax.GradientTransformation,
    steps: int = 1,
    adapts: Choice = "*",
    inner_loss: Loss | None = None,
    adjoint: Adjoint | None = None,
    form: Form = "auto",
    microbatch: int | None = None,
) -> MetaLearner:
    """Proto-MAML: MAML with a head for each user that is initialised by prototypes of levels.

    All learned prototypes are initialised to 0: of an empty support the head then adds the mean of
    the levels to the network's scores.

    Args:
        model: The network, with its own scores.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        embed: `embed(network, inputs) -> [N, D]`; prototypes are means of these.
        levels: C changes of the network's score, ascending: for ratings 1 to 5 with a network
            that predicts them, for instance -2, -1, 0, 1, 2.
        inner: Optimizer of the inner steps.
        outer: Optax optimizer of the meta-parameters.
        steps: Number of inner steps, at least 1.
        adapts: Predicate on the path of a parameter of the network: does it adapt with the
            head?
        inner_loss: The loss of the support; None means `loss`.
        adjoint: Differentiation through the steps; None means `Reverse()`.
        form: Storage of a user's weights, see `gradient_steps`.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner with the parameters `{"network", "prototypes", "strength"}`.

    Raises:
        ValueError: As `prototype_steps`.

    References:
        See `prototype_steps`.
    """

    def blank(key: jax.Array, network: Params, inputs: Any) -> jax.Array:
        width = jax.eval_shape(embed, network, inputs).shape[1]
        return jnp.zeros((len(levels), width))

    adaptation = prototype_steps(
        embed,
        model.apply,
        inner_loss or loss,
        inner,
        steps,
        levels=levels,
        adapts=adapts,
        adjoint=adjoint,
        form=form,
    )
    extended = with_meta_params(
        model, prototypes=blank, strength=lambda key, network, inputs: jnp.zeros(())
    )
    return meta_learner(extended, adaptation, loss, outer, microbatch=microbatch)
