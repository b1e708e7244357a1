"""Factors of two domains in closed form, and networks that transfer users between them.

Each domain has its own item embeddings and biases, under which a user of the domain has a standard
normal latent vector, whose posterior given ratings is exact. Networks built on them differ in the
bridge: the map from the posterior in the source to the expected latent vector in the target.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from metajax.cross_domain.domains import SOURCE, TARGET
from metajax.cross_domain.joint_fold_in import fit_joint_factors
from metajax.cross_domain.tasks import CrossDomainOptions
from metajax.data.dataset import TrainingSet
from metajax.fields import Range, bounded
from metajax.gaussian import ridge_posterior
from metajax.methods.settings import Settings
from metajax.networks.linen import init_params
from metajax.types import Evidence, Examples, Inputs, Params, Posterior, SupportModel

__all__ = [
    "CanonicalFactors",
    "DomainFactors",
    "FactorOptions",
    "UserState",
    "canonical_factors",
    "check_sizes",
    "domain_evidence",
    "domain_of",
    "domain_posterior",
    "from_canonical_factors",
    "initial_bridge",
    "initial_factors",
    "rating_at",
    "two_domain_network",
    "zero_factors",
]

# A penalty, in users, that leaves no weight to attributes: the networks here do not read them.
_NO_ATTRIBUTES = 1e9


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactorOptions(CrossDomainOptions):
    """Options of methods on canonical factors of two domains."""

    rank: int = bounded(8, least=1, search=Range(2, 16))
    """Factors of each domain besides the user's bias."""
    correlation: float = bounded(0.8, least=0, search=Range(0.3, 0.95))
    """Prior correlation of a user's mean rating in the two domains, < 1."""
    noise_scale: float = bounded(1.5, above=0, search=Range(0.7, 3.0))
    """Factor on the fitted noise: ratings of new users are further from their expectation than
    those that the factors were fitted to."""


class DomainFactors(NamedTuple):
    """Items of two domains in closed form, each for users with a standard normal prior.

    Not trained. All leaves are floats, so that parameters which hold them can be differentiated. F
    is the number of directions in which users of a domain differ.
    """

    domain: jax.Array
    """`[I]` 0 for items of the source, 1 for items of the target."""
    embedding: jax.Array
    """`[I, F]` item embeddings, in the directions of the item's domain."""
    bias: jax.Array
    """`[I]` rating by a user whose latent vector is 0."""
    noise: jax.Array
    """`[2]` variance of a rating in the source and in the target."""


class CanonicalFactors(NamedTuple):
    """Factors of two domains in canonical coordinates.

    A user's latent vector is standard normal in either domain, and its direction k in one domain
    correlates with direction k of the other alone.
    """

    factors: DomainFactors
    """Of the items of both domains."""
    correlation: jax.Array
    """`[F]` canonical correlations, in [0, 1), in descending order."""

    def log_spread(self) -> jax.Array:
        """Returns `[F]` log standard deviations in the target, given the source."""
        return 0.5 * jnp.log1p(-jnp.square(self.correlation))


class UserState(NamedTuple):
    """Adapted state of a user of two domains."""

    source: jax.Array
    """`[F]` posterior mean in the source."""
    target: Posterior
    """Posterior in the target, whose prior mean is the bridge's."""


def canonical_factors(
    training: TrainingSet,
    *,
    rank: int = 8,
    seed: int = 0,
    correlation: float = 0.8,
    noise_scale: float = 1.5,
) -> CanonicalFactors:
    """Fits joint factors of both domains, and rotates each domain to canonical coordinates.

    Args:
        training: Both domains.
        rank: As in `fit_joint_factors`; F is `rank + 1`.
        seed: As there.
        correlation: As there.
        noise_scale: Factor on the fitted noise, > 0.

    Returns:
        The factors.

    Raises:
        ValueError: If there is a single domain, one of them has no rating, or an argument is out
            of range.

    References:
        Bach and Jordan, A Probabilistic Interpretation of Canonical Correlation Analysis, 2005;
        here both views are observed through ratings alone.
    """
    if rank < 1:
        raise ValueError(f"rank must be >= 1 where there are two domains, got {rank}.")
    if not noise_scale > 0:
        raise ValueError(f"noise_scale must be > 0, got {noise_scale}.")
    joint = fit_joint_factors(
        training, rank=rank, seed=seed, correlation=correlation, attribute_ridge=_NO_ATTRIBUTES
    )
    expected, design, noise, mean, _, covariance = (np.asarray(leaf, np.float64) for leaf in joint)
    domain, width = np.asarray(training.item_domain), rank + 1
    halves = slice(width), slice(width, None)
    roots = [np.linalg.cholesky(covariance[half, half]) for half in halves]
    across = np.linalg.solve(roots[1], covariance[halves[1], halves[0]])
    target, found, source = np.linalg.svd(np.linalg.solve(roots[0], across.T).T)
    embedding, noises = np.zeros((len(domain), width)), np.ones(2)
    for side, turn in enumerate((roots[0] @ source.T, roots[1] @ target)):
        own = domain == side
        embedding[own] = design[own, halves[side]] @ turn
        noises[side] = noise_scale * noise[own][0]
    leaves = domain, embedding, expected + design @ mean, noises
    # Below 1, for a standard deviation of 0 would leave ratings of the target without effect.
    shared = np.minimum(found, 0.999)
    return CanonicalFactors(
        DomainFactors(*(jnp.asarray(leaf, jnp.float32) for leaf in leaves)),
        jnp.asarray(shared, jnp.float32),
    )


def from_canonical_factors(
    initial: Callable[[Params, CanonicalFactors], Params],
) -> Callable[[Settings, TrainingSet], Callable[[Params], Params]]:
    """Returns a `Method.initial` that fits canonical factors.

    Args:
        initial: `initial(params, found)` sets the parameters by the factors.

    Returns:
        For methods whose options are `FactorOptions`.
    """

    def fitted(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
        found = canonical_factors(
            training,
            rank=settings.options.rank,
            seed=settings.seed,
            correlation=settings.options.correlation,
            noise_scale=settings.options.noise_scale,
        )
        return lambda params: initial(params, found)

    return fitted


def two_domain_network(items: int, width: int, bridge: nn.Module) -> SupportModel:
    """Network of users of two domains, joined by a bridge.

    A support holds rows of both domains in any order. The bridge maps the posterior given the rows
    of the source to an expected latent vector in the target, from which the true one deviates with
    a learned standard deviation in each direction; rows of the target correct it to z, and an item
    scores `bias + embedding . z`. Items of the source are scored by the posterior there.

    Args:
        items: I, the size of the catalogue of both domains.
        width: F.
        bridge: A Linen module, `bridge(source: Posterior) -> [F]`, for instance a
            `PosteriorMeanMap`.

    Returns:
        The network. Its parameters are `factors`, a `DomainFactors` that `initial_factors` fills
        and that is not trained; `bridge`; and `log_spread [F]`. `encode` returns a `UserState`.

    Raises:
        ValueError: If `items` or `width` < 1.
    """
    check_sizes(items=items, width=width)

    def init(key: jax.Array, inputs: Any) -> Params:
        del inputs
        prior = Posterior(jnp.zeros(width), jnp.eye(width))
        return {
            "factors": zero_factors(items, width),
            "bridge": init_params(bridge, key, prior),
            "log_spread": jnp.zeros(width),
        }

    def encode(params: Params, support: Examples) -> UserState:
        source = domain_posterior(params["factors"], support, SOURCE)
        mean: Any = bridge.apply({"params": params["bridge"]}, source)
        spread = jnp.exp(params["log_spread"])
        target = domain_posterior(params["factors"], support, TARGET, mean=mean, spread=spread)
        return UserState(source.mean, target)

    def decode(params: Params, state: UserState, inputs: Inputs) -> jax.Array:
        domain = domain_of(params["factors"], inputs)[:, None]
        latents = (1 - domain) * state.source[None] + domain * state.target.mean[None]
        return rating_at(params["factors"], latents, inputs)

    return SupportModel(init, encode, decode)


def rating_at(factors: DomainFactors, latents: jax.Array, inputs: Inputs) -> jax.Array:
    """Returns expected ratings `[N]` by latent vectors in each item's domain.

    Args:
        factors: The items.
        latents: `[N, F]`, or `[1, F]` for one user.
        inputs: N items.
    """
    found = domain_evidence(factors, inputs)
    return found.expected + jnp.sum(found.design * latents, axis=1)


def domain_of(factors: DomainFactors, inputs: Inputs) -> jax.Array:
    """Returns the domain of each item, `[N]` floats: 0 for the source, 1 for the target."""
    return jax.lax.stop_gradient(factors.domain)[inputs.item]


def domain_evidence(factors: DomainFactors, inputs: Inputs) -> Evidence:
    """Describes interactions of either domain, in the directions of the item's own."""
    factors = jax.lax.stop_gradient(factors)
    item = inputs.item
    noise = factors.noise[domain_of(factors, inputs).astype(jnp.int32)]
    return Evidence(factors.bias[item], factors.embedding[item], noise)


def domain_posterior(
    factors: DomainFactors,
    support: Examples,
    domain: int,
    *,
    mean: jax.Array | None = None,
    spread: jax.Array | None = None,
) -> Posterior:
    """Posterior of a user's latent vector in one domain, given the rows of that domain.

    Args:
        factors: The items.
        support: Rows of both domains; those of the other are ignored.
        domain: 0 for the source, 1 for the target.
        mean: `[F]` prior mean; None means 0.
        spread: `[F]` prior standard deviations, > 0; None means 1.

    Returns:
        Mean `[F]` and covariance `[F, F]`; the prior without rows.
    """
    found = domain_evidence(factors, support.inputs)
    own = support._replace(mask=support.mask & (domain_of(factors, support.inputs) == domain))
    # With latents = mean + spread * e, e is standard normal.
    if mean is not None:
        found = found._replace(expected=found.expected + found.design @ mean)
    if spread is not None:
        found = found._replace(design=found.design * spread[None])
    e = ridge_posterior(found, own)
    if spread is not None:
        e = Posterior(spread * e.mean, spread[:, None] * e.covariance * spread[None])
    return e if mean is None else e._replace(mean=mean + e.mean)


def check_sizes(**sizes: int) -> None:
    """Refuses sizes < 1, with a ValueError that names them."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")


def zero_factors(items: int, width: int) -> DomainFactors:
    """Returns factors of zeros, in which all items are of the target."""
    return DomainFactors(jnp.ones(items), jnp.zeros((items, width)), jnp.zeros(items), jnp.ones(2))


def initial_factors(params: Params, factors: DomainFactors) -> Params:
    """Sets the factors among parameters.

    Args:
        params: Parameters with `factors`.
        factors: Of the same shapes.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a shape does not match.
    """
    for name, leaf, like in zip(factors._fields, factors, params["factors"], strict=True):
        if jnp.shape(leaf) != like.shape:
            raise ValueError(f"{name} must have the shape {like.shape}, got {jnp.shape(leaf)}.")
    return {**params, "factors": DomainFactors(*(jnp.asarray(x, jnp.float32) for x in factors))}


def initial_bridge(
    params: Params,
    found: CanonicalFactors,
    kernels: Mapping[str, jax.Array],
    **others: jax.Array,
) -> Params:
    """Sets factors, spread and the linear maps of a bridge, from canonical factors.

    Args:
        params: Parameters of a `two_domain_network`.
        found: The factors.
        kernels: `[F, G]` by the names of `EmbeddingMap`s in the bridge; their offsets become 0.
        **others: Other parameters of the bridge.

    Returns:
        The parameters, changed.
    """
    maps = {
        name: {
            **params["bridge"][name],
            "linear": {"kernel": kernel, "bias": jnp.zeros(kernel.shape[1])},
        }
        for name, kernel in kernels.items()
    }
    return {
        **initial_factors(params, found.factors),
        "bridge": {**params["bridge"], **maps, **others},
        "log_spread": found.log_spread(),
    }
