"""Shared and private features: separation of transferable from domain-specific features."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from metajax.adaptation import amortised
from metajax.cross_domain.domain_factors import (
    CanonicalFactors,
    FactorOptions,
    UserState,
    domain_of,
    domain_posterior,
    from_canonical_factors,
    initial_bridge,
    rating_at,
    two_domain_network,
)
from metajax.cross_domain.domains import SOURCE, TARGET
from metajax.cross_domain.embedding_map import EmbeddingMap
from metajax.cross_domain.tasks import cross_tasks_of_both
from metajax.data.dataset import Shapes
from metajax.fields import Range, bounded
from metajax.learners import fixed, learner_with
from metajax.losses import blanked, with_mask
from metajax.methods import Method, Settings, by_one_pass
from metajax.types import Examples, Loss, MetaLearner, Params, Posterior, SupportModel, Task

__all__ = [
    "SeparatedFeatures",
    "SeparationModel",
    "SeparationOptions",
    "difference_loss",
    "initial_separation",
    "methods",
    "shared_and_private",
    "shared_and_private_network",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeparationOptions(FactorOptions):
    """Options of the method `shared_and_private`."""

    rank: int = bounded(8, least=2, search=Range(2, 16))
    """Factors of each domain besides the user's bias; 2 or more for a private feature."""
    width: int = bounded(32, least=1)
    """Width of the hidden layers of encoders and heads."""
    own_weight: float = bounded(0.1, least=0, search=Range(0.01, 1.0, log=True))
    """Weight of the loss of each domain by its own features."""
    difference_weight: float = bounded(0.05, least=0, search=Range(0.005, 0.5, log=True))
    """Weight of the difference loss."""


class SeparatedFeatures(NamedTuple):
    """Features of a user in one domain; C + P = F."""

    shared: jax.Array
    """`[C]` features common to both domains."""
    private: jax.Array
    """`[P]` features of this domain alone."""


class SeparationModel(NamedTuple):
    """A `SupportModel` of two domains, with the parts of the separation loss."""

    init: Callable[..., Params]
    """As in `SupportModel`."""
    encode: Callable[[Params, Examples], UserState]
    """As in `SupportModel`."""
    decode: Callable[[Params, Any, Any], jax.Array]
    """As in `SupportModel`."""
    features: Callable[[Params, jax.Array, int], SeparatedFeatures]
    """`features(params, latents [F], domain)` of a user of that domain."""
    latents: Callable[[Params, SeparatedFeatures, int], jax.Array]
    """`latents(params, features, domain) -> [F]`: the latent vector in a domain."""


class _SeparationBridge(nn.Module):
    """A shared encoder, a private encoder of each domain, and a head of each domain."""

    width: int
    hidden: int

    def setup(self):
        private = self.width // 3
        self.shared = EmbeddingMap(self.width - private, self.hidden)
        self.private_source = EmbeddingMap(private, self.hidden)
        self.private_target = EmbeddingMap(private, self.hidden)
        self.head_source = EmbeddingMap(self.width, self.hidden)
        self.head_target = EmbeddingMap(self.width, self.hidden)
        ones = nn.initializers.ones_init()
        self.carried = self.param("carried", ones, (self.width - private,))

    def features(self, latents: jax.Array, domain: int) -> SeparatedFeatures:
        private = (self.private_source, self.private_target)[domain]
        return SeparatedFeatures(self.shared(latents), private(latents))

    def latents(self, features: SeparatedFeatures, domain: int) -> jax.Array:
        head = (self.head_source, self.head_target)[domain]
        return head(jnp.concatenate(features))

    def __call__(self, source: Posterior) -> jax.Array:
        known = self.features(source.mean, SOURCE)
        if self.is_initializing():
            self.latents(known, SOURCE)
            self.features(source.mean, TARGET)
        # The private features of the target are unknown: their mean is 0.
        unknown = jnp.zeros_like(known.private)
        return self.latents(SeparatedFeatures(self.carried * known.shared, unknown), TARGET)


def shared_and_private_network(items: int, width: int, hidden: int) -> SeparationModel:
    """Network of two domains with shared and private features of users.

    A shared encoder and a private one of each domain map a user's latent vector in the domain to
    features; a head of each domain maps features of both kinds back. The bridge of the
    `two_domain_network` are the shared features, each times a learned factor `carried`. A third of
    the features is private.

    Args:
        items: I, the size of the catalogue of both domains.
        width: F, the directions of each domain, >= 3.
        hidden: Width of the hidden layers.

    Returns:
        The network. Its parameters are those of `two_domain_network`, with encoders and heads
        under `bridge`.

    Raises:
        ValueError: If there are too few directions for a private one.
    """
    if width < 3:
        raise ValueError(f"width must be >= 3 for a private feature, got {width}.")
    bridge = _SeparationBridge(width, hidden)
    base = two_domain_network(items, width, bridge)

    def features(params: Params, latents: jax.Array, domain: int) -> SeparatedFeatures:
        made: Any = bridge.apply({"params": params["bridge"]}, latents, domain, method="features")
        return made

    def latents(params: Params, features: SeparatedFeatures, domain: int) -> jax.Array:
        made: Any = bridge.apply({"params": params["bridge"]}, features, domain, method="latents")
        return made

    return SeparationModel(base.init, base.encode, base.decode, features, latents)


def initial_separation(params: Params, found: CanonicalFactors) -> Params:
    """Initialises the directions of the highest canonical correlation as shared, others as private.

    Args:
        params: Parameters of a `shared_and_private_network`.
        found: Factors of both domains.

    Returns:
        The parameters, changed.
    """
    width = len(found.correlation)
    shared = width - width // 3
    identity = jnp.eye(width)
    kernels = {
        "shared": identity[:, :shared],
        "private_source": identity[:, shared:],
        "private_target": identity[:, shared:],
        "head_source": identity,
        "head_target": identity,
    }
    # Private directions do not transfer.
    transferred = jnp.where(jnp.arange(width) < shared, found.correlation, 0)
    found = found._replace(correlation=transferred)
    return initial_bridge(params, found, kernels, carried=transferred[:shared])


def shared_and_private(
    model: SeparationModel,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    own: float = 0.1,
    difference: float = 0.05,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns encoders of shared features of both domains, and of private features of each.

    The loss is the target's rating loss of the adapted user; `own` times the mean over the domains
    of the rating loss by the user's own features there, shared and private; and `difference` times
    the `difference_loss` of the update's users in either domain. Queries should have rows of the
    source: `sample_cross_tasks(source_query=...)`.

    Args:
        model: For instance a `shared_and_private_network`.
        loss: `loss(scores, labels, *, where) -> []`, of one domain's part of the query,
            or elementwise as in `losses.with_mask`.
        outer: Optax optimizer of the parameters; the factors among them stay as they are.
        own: Weight of the loss of each domain by its own features, >= 0.
        difference: Weight of the difference loss, >= 0.
        microbatch: Tasks in memory at once; None means all of an update. The difference loss
            always is of all.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If a weight is negative, or `microbatch` < 1.

    References:
        Bousmalis et al., Domain Separation Networks, NeurIPS 2016. Differs: encoders read latent
        vectors in closed form; the reconstruction predicts ratings, not the inputs; common users
        align the shared features by their ratings, instead of a similarity loss.
    """
    for name, value in (("own", own), ("difference", difference)):
        if not value >= 0:
            raise ValueError(f"{name} must be >= 0, got {value}.")
    masked_loss, adaptation = with_mask(loss), amortised(model.encode, model.decode)

    def with_difference(params: Params, tasks: Task) -> tuple[Params, jax.Array]:
        """Returns the parameters, and the difference loss of all users of the update."""

        def of_user(task: Task, side: int) -> tuple[Any, jax.Array]:
            rows = jax.tree.map(
                lambda a, b: jnp.concatenate([a, b]), blanked(task.support), blanked(task.query)
            )
            latents = domain_posterior(params["factors"], rows, side).mean
            present = rows.mask & (domain_of(params["factors"], rows.inputs) == side)
            return model.features(params, latents, side), present.any()

        total = jnp.zeros(())
        for side in (SOURCE, TARGET):
            found, where = jax.vmap(of_user, in_axes=(0, None))(tasks, side)
            total += difference_loss(found.shared, found.private, where=where)
        return params, total

    def task_loss(given: Any, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        del step
        params, total_difference = given
        support, query = blanked(task.support), blanked(task.query)
        factors = params["factors"]
        domain = domain_of(factors, query.inputs)

        def rating_loss(scores: jax.Array, side: int) -> jax.Array:
            return masked_loss(scores, query.labels, where=query.mask & (domain == side))

        def by_own_features(side: int) -> jax.Array:
            latents = domain_posterior(factors, support, side).mean
            latents = model.latents(params, model.features(params, latents, side), side)
            return rating_loss(rating_at(factors, latents[None], query.inputs), side)

        adapted = adaptation.adapt(params, task.support, key)
        transfer = rating_loss(adaptation.predict(params, adapted, query.inputs), TARGET)
        by_own = 0.5 * sum(map(by_own_features, (SOURCE, TARGET)))
        return transfer + own * by_own + difference * total_difference

    plain = SupportModel(model.init, model.encode, model.decode)
    return learner_with(
        {0: task_loss},
        plain,
        adaptation,
        fixed(outer, "factors"),
        microbatch=microbatch,
        shared=with_difference,
    )


def difference_loss(
    shared: jax.Array, private: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Sum of the squared covariances between shared and private features of users.

    Args:
        shared: `[T, C]`.
        private: `[T, P]`.
        where: `[T]` bool, or None to keep all.

    Returns:
        `[]`; 0 where the two kinds of features are linearly uncorrelated.

    Example:
        >>> a = jnp.array([[1.0], [-1.0]])
        >>> float(difference_loss(a, 2 * a)), float(difference_loss(a, jnp.ones((2, 1))))
        (4.0, 0.0)

    References:
        Bousmalis et al., Domain Separation Networks, NeurIPS 2016, the difference loss; here of
        centred features, and as a mean over users.
    """
    where = jnp.ones(len(shared), bool) if where is None else where
    count = jnp.maximum(jnp.sum(where), 1)

    def centred(features: jax.Array) -> jax.Array:
        kept = jnp.where(where[:, None], features, 0)
        mean = jnp.sum(kept, axis=0, keepdims=True) / count
        return jnp.where(where[:, None], kept - mean, 0)

    return jnp.sum(jnp.square(centred(shared).T @ centred(private) / count))


def _network(settings: Settings, shapes: Shapes) -> SeparationModel:
    options = settings.options
    return shared_and_private_network(shapes.items, options.rank + 1, options.width)


def _weights(settings: Settings) -> dict[str, float]:
    options = settings.options
    return {"own": options.own_weight, "difference": options.difference_weight}


methods: tuple[Method, ...] = (
    Method(
        "shared_and_private",
        by_one_pass(shared_and_private, options=_weights),
        _network,
        from_canonical_factors(initial_separation),
        cross_tasks_of_both,
        options=SeparationOptions,
        settings={"weight_decay": 0.0, "support": 5, "updates": 200, "validate_every": 20},
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        needs_ratings=True,
        two_domains=True,
    ),
)
