"""The recipe whose features should not tell in which domain a user was seen."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation import amortised
from metajax.cross_domain.adversarial_network import AdversarialModel
from metajax.cross_domain.domain_factors import known_of, rating_at, side_of
from metajax.cross_domain.gradient_reversal import reverse_gradient
from metajax.learners.frozen import fixed
from metajax.learners.outer import learner_with
from metajax.losses import blanked
from metajax.types import MetaLearner, Params, SupportModel, Task

__all__ = ["adversarial"]

_SOURCE, _TARGET = 0, 1


def adversarial(
    model: AdversarialModel,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    strength: Callable[[jax.Array], jax.Array],
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns features that serve the target and that a discriminator cannot tell the domain by.

    A task's loss is that of the query's rows of the target, served once by way of the source and
    once by the user's own rows of the target, and the discriminator's cross-entropy on the features
    of two users: whose rows of the target, and whose rows of the source, are asked. These may be
    two people, so that domains without common users have features in common:
    `cross_domain.with_strangers`. The gradient of the cross-entropy reaches the extractors turned
    around.

    Args:
        model: For instance a `models.adversarial`.
        loss: `loss(scores, labels, *, where) -> []`, of the target's part of the query.
        outer: Optax optimizer of the parameters; the factors among them stay as they are.
        strength: `strength(step) -> []` of the reversal, for instance a
            `models.reversal_schedule`.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    References:
        Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17, 2016; for
        recommendation Wang, Niepert and Li, RecSys-DAN: Discriminative Adversarial Networks for
        Cross-Domain Recommender Systems, IEEE TNNLS, 2020 (arXiv 1903.10794). Differs: what
        is extracted from are places of users in closed form, not texts or ratings; each domain has
        an extractor of its own, as the asymmetric variant has; and users of both domains are
        labelled pairs where there are any.
    """
    adaptation = amortised(model.encode, model.decode)

    def task_loss(params: Params, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        factors, query = params["factors"], blanked(task.query)
        asked = query.mask & (side_of(factors, query.inputs) == _TARGET)

        def rating_loss(scores: jax.Array) -> jax.Array:
            return loss(scores, query.labels, where=asked)

        adapted = adaptation.adapt(params, task.support, key)
        by_source = rating_loss(adaptation.predict(params, adapted, query.inputs))
        own = known_of(factors, blanked(task.support), _TARGET).mean
        place = model.expected(params, model.features(params, own, _TARGET))
        by_target = rating_loss(rating_at(factors, place[None], query.inputs))

        def mistaken(side: int) -> jax.Array:
            features = model.features(params, known_of(factors, query, side).mean, side)
            logit = model.logit(params, reverse_gradient(features, strength(step)))
            there = query.mask & (side_of(factors, query.inputs) == side)
            wrong = jax.nn.softplus(-logit if side == _TARGET else logit)
            return jnp.where(there.any(), wrong, 0)

        told_apart = 0.5 * (mistaken(_SOURCE) + mistaken(_TARGET))
        return 0.5 * (by_source + by_target) + told_apart

    plain = SupportModel(model.init, model.encode, model.decode)
    return learner_with(
        {0: task_loss}, plain, adaptation, fixed(outer, "factors"), microbatch=microbatch
    )
