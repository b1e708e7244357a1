"""Features of a user that do not tell in which of two domains they were seen."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.cross_domain.domain_factors import BothSides, DomainFactors, start_factors, two_domains
from metajax.cross_domain.embedding_map import EmbeddingMap
from metajax.networks.encoder import Tower
from metajax.networks.linen import init_params
from metajax.types import Examples, Params, Posterior

__all__ = ["AdversarialModel", "adversarial_network", "start_adversarial"]


class AdversarialModel(NamedTuple):
    """A `SupportModel` of two domains, and the parts that its training asks for."""

    init: Callable[..., Params]
    """As in `SupportModel`."""
    encode: Callable[[Params, Examples], BothSides]
    """As in `SupportModel`."""
    decode: Callable[[Params, Any, Any], jax.Array]
    """As in `SupportModel`."""
    features: Callable[[Params, jax.Array, int], jax.Array]
    """`features(params, place [F], side) -> [F]` of a user known in the domain of that side."""
    expected: Callable[[Params, jax.Array], jax.Array]
    """`expected(params, features) -> [F]`: where such a user lies in the target."""
    logit: Callable[[Params, jax.Array], jax.Array]
    """`logit(params, features) -> []`: the discriminator's, of the target against the source."""


class _CommonFeatures(nn.Module):
    """A feature extractor of each domain and one head behind both."""

    width: int
    hidden: int

    def setup(self):
        self.source = EmbeddingMap(self.width, self.hidden)
        self.target = EmbeddingMap(self.width, self.hidden)
        self.head = EmbeddingMap(self.width, self.hidden)

    def features(self, place: jax.Array, side: int) -> jax.Array:
        return (self.source, self.target)[side](place)

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
    """Describes a model of two domains whose features a discriminator should not tell apart.

    Each domain has an extractor of a user's place there, and both extractors make the same kind of
    features, from which one head tells where the user lies in the target. A user of the source is
    served by way of them, as in `two_domains`; the discriminator serves training alone.

    Args:
        items: I, the size of the catalogue of both domains.
        width: F, the directions of each domain, and of the features.
        hidden: Width of the hidden layers of extractors, head and discriminator.

    Returns:
        The model. Its parameters are those of `two_domains`, the extractors and the head under
        `bridge`, and the `discriminator`.
    """
    module, judge = _CommonFeatures(width, hidden), _Discriminator(hidden)
    base = two_domains(items, width, module)

    def init(key: jax.Array, inputs: Any) -> Params:
        key, judge_key = jax.random.split(key)
        judge_params = init_params(judge, judge_key, jnp.zeros(width))
        return {**base.init(key, inputs), "discriminator": judge_params}

    def features(params: Params, place: jax.Array, side: int) -> jax.Array:
        return _of_array(module, params["bridge"], place, side, method="features")

    def expected(params: Params, features: jax.Array) -> jax.Array:
        return _of_array(module, params["bridge"], features, method="expected")

    def logit(params: Params, features: jax.Array) -> jax.Array:
        return _of_array(judge, params["discriminator"], features)

    return AdversarialModel(init, base.encode, base.decode, features, expected, logit)


def start_adversarial(params: Params, factors: DomainFactors, correlation: jax.Array) -> Params:
    """Starts from what is expected in the target, of users who are known in either domain.

    Args:
        params: Parameters of an `adversarial`.
        factors: In canonical coordinates, as in `start_maps`.
        correlation: `[F]` of those, in [0, 1).

    Returns:
        The parameters, changed.
    """
    bridge = dict(params["bridge"])
    same = jnp.ones_like(correlation)
    for name, along in (("source", correlation), ("target", same), ("head", same)):
        linear = {"kernel": jnp.diag(along), "bias": jnp.zeros_like(along)}
        bridge[name] = {**bridge[name], "linear": linear}
    spread = 0.5 * jnp.log1p(-jnp.square(correlation))
    return {**start_factors(params, factors), "bridge": bridge, "log_spread": spread}


def _of_array(module: nn.Module, params: Params, *given: Any, **options: Any) -> jax.Array:
    made: Any = module.apply({"params": params}, *given, **options)
    return made
