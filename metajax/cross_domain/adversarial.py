"""Domain-adversarial training: user features that are invariant to the domain."""

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
from metajax.cross_domain.tasks import cross_tasks, source_table
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.sampler import TaskTable, distinct, rows_of_user
from metajax.fields import Range, bounded
from metajax.learners import fixed, learner_with
from metajax.losses import blanked, with_mask
from metajax.methods import Method, Settings, by_one_pass
from metajax.methods.tasks import Sampler
from metajax.networks.encoder import Tower
from metajax.networks.linen import init_params
from metajax.types import Examples, Loss, MetaLearner, Params, Posterior, SupportModel, Task

__all__ = [
    "AdversarialModel",
    "AdversarialOptions",
    "adversarial",
    "adversarial_network",
    "initial_adversarial",
    "methods",
    "reversal_schedule",
    "reverse_gradient",
    "with_unmatched_source_users",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialOptions(FactorOptions):
    """Options of the method `adversarial`."""

    width: int = bounded(32, least=1)
    """Width of the hidden layers of extractors, head and discriminator."""
    reversal: float = bounded(0.1, least=0, search=Range(0.01, 1.0, log=True))
    """Final strength of the gradient reversal: small, for ratings come before invariance."""


class AdversarialModel(NamedTuple):
    """A `SupportModel` of two domains, with the parts of the adversarial loss."""

    init: Callable[..., Params]
    """As in `SupportModel`."""
    encode: Callable[[Params, Examples], UserState]
    """As in `SupportModel`."""
    decode: Callable[[Params, Any, Any], jax.Array]
    """As in `SupportModel`."""
    features: Callable[[Params, jax.Array, int], jax.Array]
    """`features(params, latents [F], domain) -> [F]` of a user of that domain."""
    expected: Callable[[Params, jax.Array], jax.Array]
    """`expected(params, features) -> [F]` latent vector in the target."""
    logit: Callable[[Params, jax.Array], jax.Array]
    """`logit(params, features) -> []` of the discriminator, for the target against the source."""


class _FeatureBridge(nn.Module):
    """A feature extractor for each domain, and one head on the features of both."""

    width: int
    hidden: int

    def setup(self):
        self.source = EmbeddingMap(self.width, self.hidden)
        self.target = EmbeddingMap(self.width, self.hidden)
        self.head = EmbeddingMap(self.width, self.hidden)

    def features(self, latents: jax.Array, domain: int) -> jax.Array:
        return (self.source, self.target)[domain](latents)

    def expected(self, features: jax.Array) -> jax.Array:
        return self.head(features)

    def __call__(self, source: Posterior) -> jax.Array:
        if self.is_initializing():
            self.target(source.mean)
        return self.head(self.source(source.mean))


class _Discriminator(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        return Tower((self.hidden, 1))(features)[..., 0]


def adversarial_network(items: int, width: int, hidden: int) -> AdversarialModel:
    """Network of two domains with features for a discriminator.

    Each domain has an extractor of features from a user's latent vector; one head maps features of
    either domain to the latent vector in the target. Extractor of the source and head are the
    bridge of a `two_domain_network`; the discriminator is used in training alone.

    Args:
        items: I, the size of the catalogue of both domains.
        width: F, the directions of each domain, and of the features.
        hidden: Width of the hidden layers of extractors, head and discriminator.

    Returns:
        The network. Its parameters are those of `two_domain_network`, extractors and head under
        `bridge`, and the `discriminator`.
    """
    bridge, discriminator = _FeatureBridge(width, hidden), _Discriminator(hidden)
    base = two_domain_network(items, width, bridge)

    def init(key: jax.Array, inputs: Any) -> Params:
        key, discriminator_key = jax.random.split(key)
        initial = init_params(discriminator, discriminator_key, jnp.zeros(width))
        return {**base.init(key, inputs), "discriminator": initial}

    def features(params: Params, latents: jax.Array, domain: int) -> jax.Array:
        return _apply(bridge, params["bridge"], latents, domain, method="features")

    def expected(params: Params, features: jax.Array) -> jax.Array:
        return _apply(bridge, params["bridge"], features, method="expected")

    def logit(params: Params, features: jax.Array) -> jax.Array:
        return _apply(discriminator, params["discriminator"], features)

    return AdversarialModel(init, base.encode, base.decode, features, expected, logit)


def initial_adversarial(params: Params, found: CanonicalFactors) -> Params:
    """Initialises extractors and head so that users are mapped by their canonical correlations.

    Args:
        params: Parameters of an `adversarial_network`.
        found: Factors of both domains.

    Returns:
        The parameters, changed.
    """
    identity = jnp.eye(len(found.correlation))
    kernels = {"source": jnp.diag(found.correlation), "target": identity, "head": identity}
    return initial_bridge(params, found, kernels)


@jax.custom_vjp
def reverse_gradient(x: jax.Array, strength: jax.Array | float) -> jax.Array:
    """Gradient reversal layer: the identity, whose gradient is `-strength` times the incoming one.

    In one descent, layers after it minimise a loss that layers before it maximise.

    Args:
        x: Features, of any shape.
        strength: `[]` factor on the reversed gradient; 0 stops it. It has no gradient itself.

    Returns:
        `x`.

    Example:
        >>> float(jax.grad(lambda x: reverse_gradient(x, 0.5) ** 2)(3.0))
        -3.0

    References:
        Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17, 2016.
    """
    del strength
    return x


def _forward(x: jax.Array, strength: jax.Array | float) -> tuple[jax.Array, jax.Array | float]:
    return x, strength


def _backward(strength: jax.Array | float, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return -strength * gradient, jnp.zeros_like(strength)


reverse_gradient.defvjp(_forward, _backward)


def reversal_schedule(updates: int, *, peak: float = 1.0) -> Callable[[jax.Array], jax.Array]:
    """Schedule of the reversal's strength, from 0: an untrained discriminator is uninformative.

    Args:
        updates: Updates of the whole training, >= 1.
        peak: Limit of the strength, >= 0.

    Returns:
        `strength(step) -> []`, at the fraction p of the updates `peak (2 / (1 + exp(-10 p)) - 1)`.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Ganin et al., JMLR 17, 2016, with peak 1. The hyperbolic tangent of 5 p is the same.
    """
    for name, value, least in (("updates", updates, 1), ("peak", peak, 0)):
        if not value >= least:
            raise ValueError(f"{name} must be >= {least}, got {value}.")
    return lambda step: peak * jnp.tanh(5 * step / updates)


def adversarial(
    model: AdversarialModel,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    strength: Callable[[jax.Array], jax.Array],
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns features that predict ratings of the target and do not reveal the domain.

    The loss of a task is the mean of the target's rating loss, once by the adapted user and once
    by features of the user's own rows of the target, plus the discriminator's cross-entropy on the
    features of the query's rows of either domain, through a gradient reversal. Source and target
    rows of a query may be of different users, `with_unmatched_source_users`, so that domains
    without common users are aligned too.

    Args:
        model: For instance an `adversarial_network`.
        loss: `loss(scores, labels, *, where) -> []`, of the target's part of the query,
            or elementwise as in `losses.with_mask`.
        outer: Optax optimizer of the parameters; the factors among them stay as they are.
        strength: `strength(step) -> []` of the reversal, for instance a `reversal_schedule`.
        microbatch: Tasks in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    References:
        Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17, 2016; for
        recommendation Wang, Niepert and Li, RecSys-DAN: Discriminative Adversarial Networks for
        Cross-Domain Recommender Systems, IEEE TNNLS, 2020 (arXiv 1903.10794). Differs: features
        are extracted from latent vectors in closed form, not from texts or ratings; each domain
        has its own extractor, as in the asymmetric variant; and users of both domains are labelled
        pairs where there are any.
    """
    masked_loss, adaptation = with_mask(loss), amortised(model.encode, model.decode)

    def task_loss(params: Params, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        factors, query = params["factors"], blanked(task.query)
        domain = domain_of(factors, query.inputs)

        def rating_loss(scores: jax.Array) -> jax.Array:
            return masked_loss(scores, query.labels, where=query.mask & (domain == TARGET))

        adapted = adaptation.adapt(params, task.support, key)
        by_source = rating_loss(adaptation.predict(params, adapted, query.inputs))
        own = domain_posterior(factors, blanked(task.support), TARGET).mean
        latents = model.expected(params, model.features(params, own, TARGET))
        by_target = rating_loss(rating_at(factors, latents[None], query.inputs))

        def cross_entropy(side: int) -> jax.Array:
            latents = domain_posterior(factors, query, side).mean
            features = model.features(params, latents, side)
            logit = model.logit(params, reverse_gradient(features, strength(step)))
            present = (query.mask & (domain == side)).any()
            return jnp.where(present, jax.nn.softplus(-logit if side == TARGET else logit), 0)

        discrimination = 0.5 * (cross_entropy(SOURCE) + cross_entropy(TARGET))
        return 0.5 * (by_source + by_target) + discrimination

    plain = SupportModel(model.init, model.encode, model.decode)
    return learner_with(
        {0: task_loss}, plain, adaptation, fixed(outer, "factors"), microbatch=microbatch
    )


def with_unmatched_source_users(
    tasks: Task, source: TaskTable, key: jax.Array, *, rows: int
) -> Task:
    """Appends to each query rows of a random user of the source.

    Args:
        tasks: As from `sample_cross_tasks`; leaves lead with `[T, Q]` in the query.
        source: As from `source_table`.
        key: A PRNG key.
        rows: Most rows of the user, drawn at random, >= 1.

    Returns:
        The tasks; leaves lead with `[T, Q + rows]` in the query.

    Raises:
        ValueError: If `rows` < 1.
    """
    if rows < 1:
        raise ValueError(f"rows must be >= 1, got {rows}.")

    def one(key: jax.Array) -> Examples:
        user_key, row_key = jax.random.split(key)
        user = jax.random.randint(user_key, (), 0, source.users)
        count = source.count[user]
        drawn = distinct(row_key, count, rows)
        return rows_of_user(source, user, drawn, jnp.arange(rows) < count)

    drawn = jax.vmap(one)(jax.random.split(key, len(tasks.query.labels)))
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), tasks.query, drawn)
    return tasks._replace(query=joined)


def _sampler(settings: Settings, shapes: Shapes) -> Sampler:
    base = cross_tasks(settings, shapes)

    def sample(tables: tuple[Any, TaskTable], key: jax.Array) -> Task:
        key, source_key = jax.random.split(key)
        tasks = base.sample(tables[0], key)
        return with_unmatched_source_users(tasks, tables[1], source_key, rows=settings.query)

    def table(training: TrainingSet, *, seed: int) -> tuple[Any, TaskTable]:
        return base.table(training, seed=seed), source_table(training, seed=seed)

    return Sampler(sample, table)


def _network(settings: Settings, shapes: Shapes) -> AdversarialModel:
    return adversarial_network(shapes.items, settings.options.rank + 1, settings.options.width)


def _strength(settings: Settings) -> dict[str, Any]:
    return {"strength": reversal_schedule(settings.updates, peak=settings.options.reversal)}


def _apply(module: nn.Module, params: Params, *inputs: Any, **options: Any) -> jax.Array:
    output: Any = module.apply({"params": params}, *inputs, **options)
    return output


methods: tuple[Method, ...] = (
    Method(
        "adversarial",
        by_one_pass(adversarial, options=_strength),
        _network,
        from_canonical_factors(initial_adversarial),
        _sampler,
        options=AdversarialOptions,
        settings={"weight_decay": 0.0, "support": 5, "updates": 200, "validate_every": 20},
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        needs_ratings=True,
        two_domains=True,
    ),
)
