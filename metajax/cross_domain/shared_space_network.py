"""One space for users and items of two domains, and one predictor in it."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.cross_domain.domain_factors import (
    DomainFactors,
    blank_factors,
    domain_evidence,
    side_of,
    start_factors,
)
from metajax.gaussian import ridge_posterior
from metajax.networks.encoder import Tower
from metajax.networks.linen import init_params
from metajax.types import Evidence, Examples, Inputs, Params, Posterior, SupportModel

__all__ = ["shared_space_network", "start_maps"]


class _Correction(nn.Module):
    """What hidden layers add to the inner product of a user and an item; it starts at 0."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, user: jax.Array, item: jax.Array) -> jax.Array:
        """Maps `[S]` and `[N, S]` to `[N]`."""
        joined = jnp.concatenate([item, item * user[None]], axis=1)
        hidden = nn.relu(Tower(self.widths, name="hidden")(joined))
        zeros = nn.initializers.zeros_init()
        return nn.Dense(1, use_bias=False, kernel_init=zeros, name="score")(hidden)[:, 0]


def shared_space_network(items: int, width: int, widths: tuple[int, ...] = ()) -> SupportModel:
    """Describes users and items of two domains in a space that both share.

    Each domain has embeddings of its own, of items in closed form, of a user what their ratings
    there tell: a precision P and an information h along the domain's directions. A linear map M of
    each domain takes both to the shared space: an item x lies at `M x`, and a user with a standard
    normal prior there is, after both domains have spoken,

        covariance = (I + sum_d M_d P_d M_d')^-1,    u = covariance sum_d M_d h_d .

    The predictor is the same for all items, `bias + u . M x`, and what hidden layers add to it.

    Args:
        items: I, the size of the catalogue of both domains.
        width: F, the directions of each domain; the shared space has S = 2 F.
        widths: Of the predictor's hidden layers; none means the inner product alone.

    Returns:
        The model. Its parameters are `factors`, which no optimizer may move, the `maps [2, F, S]`
        and the predictor's. `encode` returns a `Posterior` of S directions.

    References:
        Singh and Gordon, Relational Learning via Collective Matrix Factorization, KDD 2008: users
        share their factors between relations, which are fitted to the weighted sum of both losses.
        Differs: items keep embeddings of their own domain and are mapped, users are posterior
        means and not parameters, so that new ones are served.
    """
    module = _Correction(widths)

    def init(key: jax.Array, inputs: Any) -> Params:
        del inputs
        space = 2 * width
        # Where both domains start as strangers: each has half of the space.
        return {
            "factors": blank_factors(items, width),
            "maps": jnp.eye(space).reshape(2, width, space),
            **(
                {"predictor": init_params(module, key, jnp.zeros(space), jnp.zeros((1, space)))}
                if widths
                else {}
            ),
        }

    def placed(params: Params, inputs: Inputs) -> Evidence:
        found = domain_evidence(params["factors"], inputs)
        both = jnp.einsum("nf,dfs->dns", found.design, params["maps"])
        of_target = side_of(params["factors"], inputs)[:, None]
        return found._replace(design=(1 - of_target) * both[0] + of_target * both[1])

    def encode(params: Params, support: Examples) -> Posterior:
        return ridge_posterior(placed(params, support.inputs), support)

    def decode(params: Params, state: Posterior, inputs: Inputs) -> jax.Array:
        found = placed(params, inputs)
        scores = found.expected + found.design @ state.mean
        if widths:
            given = {"params": params["predictor"]}, state.mean, found.design
            correction: Any = module.apply(*given)
            scores += correction
        return scores

    return SupportModel(init, encode, decode)


def start_maps(params: Params, factors: DomainFactors, correlation: jax.Array) -> Params:
    """Starts where users of both domains are jointly normal.

    The first F directions are those of the source, of which a target's direction shares its
    correlation; what is left of its variance is among the others.

    Args:
        params: Parameters of a `shared_space`.
        factors: In canonical coordinates: direction k of one domain has to do with direction k of
            the other alone.
        correlation: `[F]` of those, in [0, 1).

    Returns:
        The parameters, changed.
    """
    shared = jnp.concatenate([jnp.diag(jnp.ones_like(correlation)), jnp.diag(0 * correlation)], 1)
    own = jnp.concatenate([jnp.diag(correlation), jnp.diag(jnp.sqrt(1 - correlation**2))], 1)
    return {**start_factors(params, factors), "maps": jnp.stack([shared, own])}
