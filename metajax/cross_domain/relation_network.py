"""Relations between users and items, learned in one domain and mapped to another."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.cross_domain.domain_factors import blank_factors, domain_evidence, known_of, side_of
from metajax.gaussian import ridge_posterior
from metajax.networks.encoder import Tower
from metajax.networks.linen import init_params
from metajax.types import Evidence, Examples, Inputs, Params, Posterior, SupportModel

__all__ = ["Related", "RelationNetwork", "related_domains"]


class RelationNetwork(nn.Module):
    """Tells how a user and an item are related, and what the user then rates the item.

    The relation of user u and item v is `r = u * v + f(u, v, u * v)`, with hidden layers f that
    start at 0. In the source it goes straight to the head, in the target a linear map of relations
    comes first. The head, which both share, starts as the sum and the map as the identity, so
    that at first the score is the product of u and v.

    Parameters are named `relation/layer_i` and `correction` (f), `transfer` and `head`.

    Attributes:
        widths: Widths of the hidden layers of f.

    References:
        Sung et al., Learning to Compare: Relation Network for Few-Shot Learning, CVPR 2018,
        section 3, for a module that is learned to tell how two embeddings are related; Tay, Luu
        and Hui, Latent Relational Metric Learning via Memory-based Attention for Collaborative
        Ranking, WWW 2018, for a vector as the relation of a user and an item; Li, Yang and Xue,
        Can Movies and Books Collaborate? Cross-Domain Collaborative Filtering for Sparsity
        Reduction, IJCAI 2009, for carrying over how users and items of one domain are related to
        another. Differs: there the relation is a number in the first and one of clusters in the
        last, here it is a vector of a pair, which starts as the product and which a map of its
        own carries over.
    """

    widths: tuple[int, ...] = (32,)

    @nn.compact
    def __call__(self, user: jax.Array, item: jax.Array, side: jax.Array) -> jax.Array:
        """Scores items for a user.

        Args:
            user: `[F]` the user's place in the source.
            item: `[N, F]` embeddings of the items.
            side: `[N]` 0 for an item of the source, 1 for one of the target.

        Returns:
            `[N]` what the user adds to the items' biases.
        """
        width = item.shape[1]
        users = jnp.broadcast_to(user[None], item.shape)
        product = users * item
        pair = jnp.concatenate([users, item, product], axis=1)
        hidden = nn.relu(Tower(self.widths, name="relation")(pair))
        zeros = nn.initializers.zeros_init()
        relation = product + nn.Dense(width, kernel_init=zeros, name="correction")(hidden)
        transfer = nn.Dense(width, use_bias=False, kernel_init=_identity, name="transfer")
        relation = jnp.where(side[:, None] > 0, transfer(relation), relation)
        ones = nn.initializers.ones_init()
        return nn.Dense(1, use_bias=False, kernel_init=ones, name="head")(relation)[:, 0]


def _identity(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    del key
    return jnp.eye(*shape, dtype=dtype)


class Related(NamedTuple):
    """What is kept of a user."""

    source: jax.Array
    """`[F]` posterior mean in the source."""
    away: Posterior
    """In the target: how far the user is from what relations tell, in units of the spread."""


def related_domains(items: int, width: int, network: RelationNetwork | None = None) -> SupportModel:
    """Describes a model of users whose relations to items carry over from the source.

    A support holds rows of both domains. The user's place is the posterior mean given its rows of
    the source. What relations let expect in the target is corrected, with rows of the target, by
    the posterior of a second vector w, of which a learned spread says how large it may be along
    each direction: an item of the target scores `bias + head(transfer(r)) + embedding . w`.

    Args:
        items: I, the size of the catalogue of both domains.
        width: F, directions in which users of a domain differ.
        network: How relations are made and read; None means one hidden layer.

    Returns:
        The model. Its parameters are `factors`, a `DomainFactors` that `start_factors` fills and
        that no optimizer may move; `relations`, of the network; and `log_spread [F]`. `encode`
        returns a `Related`.

    Raises:
        ValueError: If `items` or `width` < 1.
    """
    for name, value in (("items", items), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    module = RelationNetwork() if network is None else network

    def related(params: Params, user: jax.Array, inputs: Inputs) -> Evidence:
        factors = params["factors"]
        found, side = domain_evidence(factors, inputs), side_of(factors, inputs)
        added: Any = module.apply({"params": params["relations"]}, user, found.design, side)
        # In the target alone the user may be another one than relations tell: of that, rows of the
        # source say nothing.
        own = found.design * (side[:, None] * jnp.exp(params["log_spread"])[None])
        return found._replace(expected=found.expected + added, design=own)

    def init(key: jax.Array, inputs: Any) -> Params:
        del inputs
        one = jnp.zeros(width), jnp.zeros((1, width)), jnp.zeros(1)
        return {
            "factors": blank_factors(items, width),
            "relations": init_params(module, key, *one),
            "log_spread": jnp.zeros(width),
        }

    def encode(params: Params, support: Examples) -> Related:
        source = known_of(params["factors"], support, 0).mean
        return Related(source, ridge_posterior(related(params, source, support.inputs), support))

    def decode(params: Params, state: Related, inputs: Inputs) -> jax.Array:
        found = related(params, state.source, inputs)
        return found.expected + found.design @ state.away.mean

    return SupportModel(init, encode, decode)
