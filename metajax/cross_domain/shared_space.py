"""Shared space: linear maps of two domains into one space of users and items."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from metajax.adaptation import amortised
from metajax.cross_domain.domain_factors import (
    CanonicalFactors,
    FactorOptions,
    domain_evidence,
    domain_of,
    from_canonical_factors,
    initial_factors,
    zero_factors,
)
from metajax.cross_domain.domains import SOURCE, TARGET
from metajax.cross_domain.tasks import cross_tasks_of_both
from metajax.data.dataset import Shapes
from metajax.fields import Range, bounded
from metajax.gaussian import ridge_posterior
from metajax.learners import fixed, learner_with
from metajax.losses import blanked, with_mask
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
    Task,
)

__all__ = [
    "SharedSpaceOptions",
    "initial_shared_space",
    "methods",
    "shared_space",
    "shared_space_network",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedSpaceOptions(FactorOptions):
    """Options of the method `shared_space`."""

    width: int = bounded(32, least=1)
    """Width of the predictor's hidden layer."""
    source_share: float = bounded(0.2, least=0, most=1, search=Range(0.0, 0.8))
    """Weight of the source's loss; the target's has the rest."""


class _Correction(nn.Module):
    """Hidden layers on a user and an item, whose output is initially 0."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, user: jax.Array, item: jax.Array) -> jax.Array:
        """Maps `[S]` and `[N, S]` to `[N]`."""
        joined = jnp.concatenate([item, item * user[None]], axis=1)
        hidden = nn.relu(Tower(self.widths, name="hidden")(joined))
        zeros = nn.initializers.zeros_init()
        return nn.Dense(1, use_bias=False, kernel_init=zeros, name="score")(hidden)[:, 0]


def shared_space_network(items: int, width: int, widths: tuple[int, ...] = ()) -> SupportModel:
    """Network of users and items of two domains in one space.

    Each domain has item embeddings x in closed form, and ratings of a user there have a precision P
    and an information h in the domain's directions. A linear map M of each domain takes both to the
    shared space: an item is at `M x`, and a user with a standard normal prior there has

        covariance = (I + sum_d M_d P_d M_d')^-1,    u = covariance sum_d M_d h_d .

    The score is `bias + u . M x`, plus hidden layers that are the same for all items.

    Args:
        items: I, the size of the catalogue of both domains.
        width: F, the directions of each domain; the shared space has S = 2 F.
        widths: Widths of the hidden layers; none means the inner product alone.

    Returns:
        The network. Its parameters are `factors`, not trained, the `maps [2, F, S]` and the
        predictor's. `encode` returns a `Posterior` of S directions.

    References:
        Singh and Gordon, Relational Learning via Collective Matrix Factorization, KDD 2008: users
        share their factors between relations, which are fitted to the weighted sum of both losses.
        Differs: items keep embeddings of their own domain and are mapped; users are posterior
        means and not parameters, so that new ones can be scored.
    """
    correction = _Correction(widths)

    def init(key: jax.Array, inputs: Any) -> Params:
        del inputs
        space = 2 * width
        # Initially without transfer: each domain has half of the space.
        params = {
            "factors": zero_factors(items, width),
            "maps": jnp.eye(space).reshape(2, width, space),
        }
        if widths:
            one = jnp.zeros(space), jnp.zeros((1, space))
            params["predictor"] = init_params(correction, key, *one)
        return params

    def mapped(params: Params, inputs: Inputs) -> Evidence:
        found = domain_evidence(params["factors"], inputs)
        both = jnp.einsum("nf,dfs->dns", found.design, params["maps"])
        in_target = domain_of(params["factors"], inputs)[:, None]
        return found._replace(design=(1 - in_target) * both[SOURCE] + in_target * both[TARGET])

    def encode(params: Params, support: Examples) -> Posterior:
        return ridge_posterior(mapped(params, support.inputs), support)

    def decode(params: Params, state: Posterior, inputs: Inputs) -> jax.Array:
        found = mapped(params, inputs)
        scores = found.expected + found.design @ state.mean
        if widths:
            predictor = {"params": params["predictor"]}
            added: Any = correction.apply(predictor, state.mean, found.design)
            scores += added
        return scores

    return SupportModel(init, encode, decode)


def initial_shared_space(params: Params, found: CanonicalFactors) -> Params:
    """Initialises the maps so that users of both domains are jointly normal.

    The first F directions are those of the source. A target direction shares its canonical
    correlation with the source's; the rest of its variance is among the other F.

    Args:
        params: Parameters of a `shared_space_network`.
        found: Factors of both domains.

    Returns:
        The parameters, changed.
    """
    c = found.correlation
    source = jnp.concatenate([jnp.diag(jnp.ones_like(c)), jnp.diag(0 * c)], 1)
    target = jnp.concatenate([jnp.diag(c), jnp.diag(jnp.sqrt(1 - c**2))], 1)
    return {**initial_factors(params, found.factors), "maps": jnp.stack([source, target])}


def shared_space(
    model: SupportModel,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    source_share: float = 0.2,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns maps of both domains into one space by the ratings of both.

    The loss of a task is `a L_source + (1 - a) L_target` with each domain's part of the query.
    Queries should have rows of the source: `sample_cross_tasks(source_query=...)`.

    Args:
        model: Its parameters hold `factors`, for instance a `shared_space_network`.
        loss: `loss(scores, labels, *, where) -> []`, of one domain's part of the query,
            or elementwise as in `losses.with_mask`.
        outer: Optax optimizer of the parameters; the factors among them stay as they are.
        source_share: a, in [0, 1].
        microbatch: Tasks in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If the share is out of range, or `microbatch` < 1.

    References:
        As `shared_space_network`, section 2.
    """
    if not 0 <= source_share <= 1:
        raise ValueError(f"source_share must be in [0, 1], got {source_share}.")
    masked_loss, adaptation = with_mask(loss), amortised(model.encode, model.decode)

    def task_loss(params: Params, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        del step
        adapted = adaptation.adapt(params, task.support, key)
        inputs, labels, mask = blanked(task.query)
        scores = adaptation.predict(params, adapted, inputs)
        domain = domain_of(params["factors"], inputs)
        source, target = (
            masked_loss(scores, labels, where=mask & (domain == side)) for side in (SOURCE, TARGET)
        )
        return source_share * source + (1 - source_share) * target

    return learner_with(
        {0: task_loss}, model, adaptation, fixed(outer, "factors"), microbatch=microbatch
    )


def _network(settings: Settings, shapes: Shapes) -> SupportModel:
    options = settings.options
    return shared_space_network(shapes.items, options.rank + 1, (options.width,))


methods: tuple[Method, ...] = (
    Method(
        "shared_space",
        by_one_pass(
            shared_space, options=lambda settings: {"source_share": settings.options.source_share}
        ),
        _network,
        from_canonical_factors(initial_shared_space),
        cross_tasks_of_both,
        options=SharedSpaceOptions,
        settings={"weight_decay": 0.0, "support": 5, "updates": 200, "validate_every": 20},
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        needs_ratings=True,
        two_domains=True,
    ),
)
