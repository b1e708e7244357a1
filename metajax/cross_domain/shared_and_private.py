"""The recipe that tells what users take along between domains from what stays in each."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation import amortised
from metajax.cross_domain.domain_factors import known_of, rating_at, side_of
from metajax.cross_domain.shared_and_private_network import SeparationModel
from metajax.learners.frozen import fixed
from metajax.learners.outer import learner_with
from metajax.losses import blanked
from metajax.types import MetaLearner, Params, SupportModel, Task

__all__ = ["difference_loss", "shared_and_private"]

_SIDES = (0, 1)


def shared_and_private(
    model: SeparationModel,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    own: float = 0.1,
    difference: float = 0.05,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns encoders of what both domains share and of what each has alone.

    The loss is that of the query's rows of the target, served by what the support tells of both
    domains; `own` times the mean of the losses of either domain's rows served by the user's own
    features there, shared and private, which have to hold all that counts; and `difference` times
    the `difference_loss` of the update's users in either domain. Tasks should ask for some of the
    source: `cross_domain.sample_cross_tasks(source_query=...)`.

    Args:
        model: For instance a `models.shared_and_private`.
        loss: `loss(scores, labels, *, where) -> []`, of one domain's part of the query.
        outer: Optax optimizer of the parameters; the factors among them stay as they are.
        own: Weight of a domain serving itself, >= 0.
        difference: Weight of the difference loss, >= 0.
        microbatch: Tasks that are in memory at once; None means all of an update. The difference
            loss always is of all.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If a weight is negative, or `microbatch` < 1.

    References:
        Bousmalis et al., Domain Separation Networks, NeurIPS 2016. Differs: what is encoded are
        places of users in closed form; the reconstruction is asked to serve ratings, not to give
        back the inputs; who is in both domains ties the shared features by their ratings, in the
        place of a similarity loss.
    """
    for name, value in (("own", own), ("difference", difference)):
        if not value >= 0:
            raise ValueError(f"{name} must be >= 0, got {value}.")
    adaptation = amortised(model.encode, model.decode)

    def alike(params: Params, tasks: Task) -> tuple[Params, jax.Array]:
        """What is computed once an update: how alike the two kinds of features are."""

        def of_user(task: Task, side: int) -> tuple[Any, jax.Array]:
            rows = jax.tree.map(
                lambda a, b: jnp.concatenate([a, b]), blanked(task.support), blanked(task.query)
            )
            place = known_of(params["factors"], rows, side).mean
            there = rows.mask & (side_of(params["factors"], rows.inputs) == side)
            return model.features(params, place, side), there.any()

        total = jnp.zeros(())
        for side in _SIDES:
            found, where = jax.vmap(of_user, in_axes=(0, None))(tasks, side)
            total += difference_loss(found.shared, found.private, where=where)
        return params, total

    def task_loss(given: Any, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        del step
        params, likeness = given
        support, query = blanked(task.support), blanked(task.query)
        factors = params["factors"]
        sides = side_of(factors, query.inputs)

        def rating_loss(scores: jax.Array, side: int) -> jax.Array:
            return loss(scores, query.labels, where=query.mask & (sides == side))

        def by_own(side: int) -> jax.Array:
            features = model.features(params, known_of(factors, support, side).mean, side)
            place = model.place(params, features, side)
            return rating_loss(rating_at(factors, place[None], query.inputs), side)

        adapted = adaptation.adapt(params, task.support, key)
        served = rating_loss(adaptation.predict(params, adapted, query.inputs), 1)
        return served + own * 0.5 * sum(map(by_own, _SIDES)) + difference * likeness

    plain = SupportModel(model.init, model.encode, model.decode)
    return learner_with(
        {0: task_loss},
        plain,
        adaptation,
        fixed(outer, "factors"),
        microbatch=microbatch,
        shared=alike,
    )


def difference_loss(
    shared: jax.Array, private: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Sums the squares of all covariances between shared and private features of users.

    Args:
        shared: `[T, C]`.
        private: `[T, P]`.
        where: `[T]` bool, or None to keep all.

    Returns:
        `[]`; 0 where features of the one kind tell nothing of the other, by a linear map.

    Example:
        >>> a = jnp.array([[1.0], [-1.0]])
        >>> float(difference_loss(a, 2 * a)), float(difference_loss(a, jnp.ones((2, 1))))
        (4.0, 0.0)

    References:
        Bousmalis et al., Domain Separation Networks, NeurIPS 2016, the difference loss; here of
        features less their means, and as a mean over users.
    """
    where = jnp.ones(len(shared), bool) if where is None else where
    count = jnp.maximum(jnp.sum(where), 1)

    def centred(features: jax.Array) -> jax.Array:
        kept = jnp.where(where[:, None], features, 0)
        mean = jnp.sum(kept, axis=0, keepdims=True) / count
        return jnp.where(where[:, None], kept - mean, 0)

    return jnp.sum(jnp.square(centred(shared).T @ centred(private) / count))
