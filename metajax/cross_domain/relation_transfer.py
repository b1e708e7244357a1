"""Relation transfer: relations between users and items, learned in the source and mapped."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from metajax.cross_domain.domain_factors import (
    CanonicalFactors,
    FactorOptions,
    check_sizes,
    domain_evidence,
    domain_of,
    domain_posterior,
    from_canonical_factors,
    initial_factors,
    zero_factors,
)
from metajax.cross_domain.domains import SOURCE
from metajax.cross_domain.parameter_transfer import parameter_transfer, source_updates
from metajax.cross_domain.tasks import cross_tasks_of_both
from metajax.data.dataset import Shapes
from metajax.fields import Range, bounded
from metajax.gaussian import ridge_posterior
from metajax.methods import Method, Settings, by_one_pass
from metajax.networks.encoder import Tower
from metajax.networks.linen import init_params
from metajax.types import (
    Evidence,
    Examples,
    Inputs,
    Loss,
    MetaLearner,
    Params,
    Posterior,
    SupportModel,
)

__all__ = [
    "RelationNetwork",
    "RelationState",
    "RelationTransferOptions",
    "methods",
    "relation_transfer",
    "relation_transfer_network",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelationTransferOptions(FactorOptions):
    """Options of the method `relation_transfer`."""

    width: int = bounded(32, least=1)
    """Width of the hidden layer."""
    source_part: float = bounded(0.5, least=0, most=1, search=Range(0.1, 0.9))
    """Part of the updates that are made in the source."""


class RelationNetwork(nn.Module):
    """Relation vector of a user and an item, and the score by it.

    The relation of user u and item v is `r = u * v + f(u, v, u * v)`, with hidden layers f whose
    output is initially 0. The score is `head(r)` in the source and `head(transfer(r))` in the
    target, with linear maps of which `head` is initially the sum and `transfer` the identity, so
    that the initial score is the product of u and v.

    Parameters are named `relation/layer_i` and `correction` (f), `transfer` and `head`.

    Attributes:
        widths: Widths of the hidden layers of f.

    References:
        Sung et al., Learning to Compare: Relation Network for Few-Shot Learning, CVPR 2018,
        section 3, for a learned relation of two embeddings; Tay, Luu and Hui, Latent Relational
        Metric Learning via Memory-based Attention for Collaborative Ranking, WWW 2018, for a
        vector as the relation of a user and an item; Li, Yang and Xue, Can Movies and Books
        Collaborate? Cross-Domain Collaborative Filtering for Sparsity Reduction, IJCAI 2009, for
        transferring relations of users and items between domains. Differs: there the relation is a
        number in the first and one of clusters in the last, here it is a vector of a pair,
        initially the product, which a linear map transfers.
    """

    widths: tuple[int, ...] = (32,)

    @nn.compact
    def __call__(self, user: jax.Array, item: jax.Array, domain: jax.Array) -> jax.Array:
        """Scores items for a user.

        Args:
            user: `[F]` the user's latent vector in the source.
            item: `[N, F]` embeddings of the items.
            domain: `[N]` 0 for items of the source, 1 for items of the target.

        Returns:
            `[N]` scores, without the items' biases.
        """
        width = item.shape[1]
        users = jnp.broadcast_to(user[None], item.shape)
        product = users * item
        pair = jnp.concatenate([users, item, product], axis=1)
        hidden = nn.relu(Tower(self.widths, name="relation")(pair))
        zeros = nn.initializers.zeros_init()
        relation = product + nn.Dense(width, kernel_init=zeros, name="correction")(hidden)
        transfer = nn.Dense(width, use_bias=False, kernel_init=_identity, name="transfer")
        relation = jnp.where(domain[:, None] > 0, transfer(relation), relation)
        ones = nn.initializers.ones_init()
        return nn.Dense(1, use_bias=False, kernel_init=ones, name="head")(relation)[:, 0]


def _identity(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    del key
    return jnp.eye(*shape, dtype=dtype)


class RelationState(NamedTuple):
    """Adapted state of a user."""

    source: jax.Array
    """`[F]` posterior mean in the source."""
    deviation: Posterior
    """Deviation from the transferred relations in the target, in units of the spread."""


def relation_transfer_network(
    items: int, width: int, network: RelationNetwork | None = None
) -> SupportModel:
    """Network of users whose relations to items transfer from the source.

    A support holds rows of both domains. The user's vector is the posterior mean given the rows of
    the source. A second vector w corrects the transferred relations by rows of the target; its
    prior standard deviation in each direction is learned. An item of the target scores
    `bias + head(transfer(r)) + embedding . w`.

    Args:
        items: I, the size of the catalogue of both domains.
        width: F, directions in which users of a domain differ.
        network: The relations and their head; None means one hidden layer.

    Returns:
        The network. Its parameters are `factors`, a `DomainFactors` that `initial_factors` fills
        and that is not trained; `relations`, of the relation network; and `log_spread [F]`.
        `encode` returns a `RelationState`.

    Raises:
        ValueError: If `items` or `width` < 1.
    """
    check_sizes(items=items, width=width)
    module = RelationNetwork() if network is None else network

    def related(params: Params, user: jax.Array, inputs: Inputs) -> Evidence:
        factors = params["factors"]
        found, domain = domain_evidence(factors, inputs), domain_of(factors, inputs)
        score: Any = module.apply({"params": params["relations"]}, user, found.design, domain)
        # Rows of the source are uninformative of the deviation in the target.
        own = found.design * (domain[:, None] * jnp.exp(params["log_spread"])[None])
        return found._replace(expected=found.expected + score, design=own)

    def init(key: jax.Array, inputs: Any) -> Params:
        del inputs
        one = jnp.zeros(width), jnp.zeros((1, width)), jnp.zeros(1)
        return {
            "factors": zero_factors(items, width),
            "relations": init_params(module, key, *one),
            "log_spread": jnp.zeros(width),
        }

    def encode(params: Params, support: Examples) -> RelationState:
        source = domain_posterior(params["factors"], support, SOURCE).mean
        found = related(params, source, support.inputs)
        return RelationState(source, ridge_posterior(found, support))

    def decode(params: Params, state: RelationState, inputs: Inputs) -> jax.Array:
        found = related(params, state.source, inputs)
        return found.expected + found.design @ state.deviation.mean

    return SupportModel(init, encode, decode)


def relation_transfer(
    model: SupportModel,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    pretraining: int,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns relations of users and items in the source, and their map to the target.

    The first updates train the relations and their head by the source's part of the query. Then
    both are frozen, and the target's part trains the map of relations, and the spread of users
    around it.

    Args:
        model: A `relation_transfer_network`.
        loss: As in `parameter_transfer`.
        outer: Optax optimizer of the parameters; the factors among them stay as they are.
        pretraining: Number of updates in the source, >= 1.
        microbatch: Tasks in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If `pretraining` < 1.

    References:
        As `RelationNetwork`.
    """
    kept = ("relations/relation/*", "relations/correction/*", "relations/head/*")
    return parameter_transfer(
        model, loss, outer=outer, pretraining=pretraining, kept=kept, microbatch=microbatch
    )


def _network(settings: Settings, shapes: Shapes) -> SupportModel:
    relations = RelationNetwork((settings.options.width,))
    return relation_transfer_network(shapes.items, settings.options.rank + 1, relations)


def _initial(params: Params, found: CanonicalFactors) -> Params:
    """Initialises the map by the canonical correlations: a linear map between users."""
    transfer = {"kernel": jnp.diag(found.correlation)}
    return {
        **initial_factors(params, found.factors),
        "relations": {**params["relations"], "transfer": transfer},
        "log_spread": found.log_spread(),
    }


methods: tuple[Method, ...] = (
    Method(
        "relation_transfer",
        by_one_pass(relation_transfer, options=source_updates),
        _network,
        from_canonical_factors(_initial),
        cross_tasks_of_both,
        options=RelationTransferOptions,
        settings={"weight_decay": 0.0, "support": 5, "updates": 100, "validate_every": 20},
        grid=({}, {"rate": 3e-3}),
        any_support=True,
        needs_ratings=True,
        two_domains=True,
    ),
)
