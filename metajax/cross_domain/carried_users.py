"""One place of a user in both domains, and a rating network that was learned in the first."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.cross_domain.domain_factors import blank_factors, domain_evidence
from metajax.gaussian import ridge_posterior
from metajax.networks.encoder import Tower
from metajax.networks.linen import init_params
from metajax.types import Examples, Inputs, Params, Posterior, SupportModel

__all__ = ["PairScore", "carried_users"]


class PairScore(nn.Module):
    """Scores a user and items by hidden layers of both and their product; 0 at first.

    Parameters are named `hidden/layer_i` and `out`.

    Attributes:
        widths: Widths of the hidden layers.
    """

    widths: tuple[int, ...] = (32,)

    @nn.compact
    def __call__(self, user: jax.Array, item: jax.Array) -> jax.Array:
        """Scores items `[N, F]` for a user `[F]`, `[N]`."""
        users = jnp.broadcast_to(user[None], item.shape)
        pair = jnp.concatenate([users, item, users * item], axis=1)
        hidden = nn.relu(Tower(self.widths, name="hidden")(pair))
        zeros = nn.initializers.zeros_init()
        return nn.Dense(1, use_bias=False, kernel_init=zeros, name="out")(hidden)[:, 0]


def carried_users(items: int, width: int, widths: tuple[int, ...] = (32,)) -> SupportModel:
    """Describes a model in which what is known of a user in one domain holds in the other.

    A user has one place z for both domains, the posterior mean given the rows of either, and rates
    an item `bias + embedding . z + f(z, embedding)`, with one rating network f for both.

    Args:
        items: I, the size of the catalogue of both domains.
        width: F.
        widths: Widths of the hidden layers of f.

    Returns:
        The model. Its parameters are `factors`, a `DomainFactors` in which both domains' items are
        for the same users, that `start_factors` fills and that no optimizer may move; and
        `predictor`, of a `PairScore`. `encode` returns a `Posterior`.

    Raises:
        ValueError: If `items` or `width` < 1.
    """
    for name, value in (("items", items), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    module = PairScore(widths)

    def init(key: jax.Array, inputs: Any) -> Params:
        del inputs
        one = jnp.zeros(width), jnp.zeros((1, width))
        return {
            "factors": blank_factors(items, width),
            "predictor": init_params(module, key, *one),
        }

    def encode(params: Params, support: Examples) -> Posterior:
        return ridge_posterior(domain_evidence(params["factors"], support.inputs), support)

    def decode(params: Params, state: Posterior, inputs: Inputs) -> jax.Array:
        found = domain_evidence(params["factors"], inputs)
        learned: Any = module.apply({"params": params["predictor"]}, state.mean, found.design)
        return found.expected + found.design @ state.mean + learned

    return SupportModel(init, encode, decode)
