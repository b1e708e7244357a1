"""What a user takes along from one domain to another, told apart from what stays in each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.cross_domain.domain_factors import BothSides, DomainFactors, start_factors, two_domains
from metajax.cross_domain.embedding_map import EmbeddingMap
from metajax.types import Examples, Params, Posterior

__all__ = ["Separated", "SeparationModel", "shared_and_private_network", "start_separated"]


class Separated(NamedTuple):
    """Features of a user who is known in one domain; C + P = F."""

    shared: jax.Array
    """`[C]` what holds in either domain."""
    private: jax.Array
    """`[P]` what holds in this one alone."""


class SeparationModel(NamedTuple):
    """A `SupportModel` of two domains, and the parts that its training asks for."""

    init: Callable[..., Params]
    """As in `SupportModel`."""
    encode: Callable[[Params, Examples], BothSides]
    """As in `SupportModel`."""
    decode: Callable[[Params, Any, Any], jax.Array]
    """As in `SupportModel`."""
    features: Callable[[Params, jax.Array, int], Separated]
    """`features(params, place [F], side)` of a user known in the domain of that side."""
    place: Callable[[Params, Separated, int], jax.Array]
    """`place(params, features, side) -> [F]`: where a user of such features lies in a domain."""


class _Encoders(nn.Module):
    """One encoder for both domains, one for each alone, and a head of each on what both say."""

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

    def features(self, place: jax.Array, side: int) -> Separated:
        private = (self.private_source, self.private_target)[side]
        return Separated(self.shared(place), private(place))

    def place(self, features: Separated, side: int) -> jax.Array:
        head = (self.head_source, self.head_target)[side]
        return head(jnp.concatenate(features))

    def __call__(self, source: Posterior) -> jax.Array:
        known = self.features(source.mean, 0)
        if self.is_initializing():
            self.place(known, 0)
            self.features(source.mean, 1)
        # What is private to the target nobody has seen: its mean is 0.
        blank = jnp.zeros_like(known.private)
        return self.place(Separated(self.carried * known.shared, blank), 1)


def shared_and_private_network(items: int, width: int, hidden: int) -> SeparationModel:
    """Describes a model of two domains with features that both share and features of each alone.

    An encoder that both domains have in common and one of each domain read a user's place there;
    a head of each domain tells from both kinds of features where the user lies in it. A user of the
    source takes their shared features along, each by as much as it is `carried`, and is served as
    in `two_domains`; a third of the features is private.

    Args:
        items: I, the size of the catalogue of both domains.
        width: F, the directions of each domain, >= 3.
        hidden: Width of the hidden layers.

    Returns:
        The model. Its parameters are those of `two_domains`, with encoders and heads under
        `bridge`.

    Raises:
        ValueError: If there are too few directions for a private one.
    """
    if width < 3:
        raise ValueError(f"width must be >= 3 for a private feature, got {width}.")
    module = _Encoders(width, hidden)
    base = two_domains(items, width, module)

    def features(params: Params, place: jax.Array, side: int) -> Separated:
        made: Any = module.apply({"params": params["bridge"]}, place, side, method="features")
        return made

    def place(params: Params, features: Separated, side: int) -> jax.Array:
        made: Any = module.apply({"params": params["bridge"]}, features, side, method="place")
        return made

    return SeparationModel(base.init, base.encode, base.decode, features, place)


def start_separated(params: Params, factors: DomainFactors, correlation: jax.Array) -> Params:
    """Starts with what the domains have most in common as shared, and the rest as private.

    Args:
        params: Parameters of a `shared_and_private`.
        factors: In canonical coordinates, as in `start_maps`.
        correlation: `[F]` of those, in [0, 1), from the highest down.

    Returns:
        The parameters, changed.
    """
    width = len(correlation)
    shared = width - width // 3
    every = jnp.eye(width)
    kernels = {
        "shared": every[:, :shared],
        "private_source": every[:, shared:],
        "private_target": every[:, shared:],
        "head_source": every,
        "head_target": every,
    }
    bridge = dict(params["bridge"])
    for name, kernel in kernels.items():
        linear = {"kernel": kernel, "bias": jnp.zeros(kernel.shape[1])}
        bridge[name] = {**bridge[name], "linear": linear}
    bridge["carried"] = correlation[:shared]
    known = jnp.where(jnp.arange(width) < shared, correlation, 0)
    spread = 0.5 * jnp.log1p(-jnp.square(known))
    return {**start_factors(params, factors), "bridge": bridge, "log_spread": spread}
