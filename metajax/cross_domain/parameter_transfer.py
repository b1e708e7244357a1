"""Parameter transfer: user factors and layers of the source, fine-tuned in the target."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.adaptation import amortised
from metajax.baselines.eb_fold_in import standardised
from metajax.baselines.factors import (
    Factors,
    Layout,
    fit_factors,
    layouts,
    segment_moments,
    user_posteriors,
)
from metajax.cross_domain.domain_factors import (
    DomainFactors,
    check_sizes,
    domain_evidence,
    domain_of,
    initial_factors,
    zero_factors,
)
from metajax.cross_domain.domains import SOURCE, TARGET, check_domains, domain_logs
from metajax.cross_domain.tasks import CrossDomainOptions, cross_tasks_of_both
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.interactions import Interactions
from metajax.fields import Range, bounded
from metajax.gaussian import (
    Population,
    Statistics,
    em_step,
    posterior,
    ridge_posterior,
    second_moments,
)
from metajax.learners import fixed, frozen, learner_with, query_loss
from metajax.learners.outer import TaskLoss
from metajax.methods import Method, Settings, by_one_pass
from metajax.networks.encoder import Tower
from metajax.networks.linen import init_params
from metajax.types import Examples, Inputs, Loss, MetaLearner, Params, Posterior, SupportModel, Task

__all__ = [
    "ParameterTransferOptions",
    "RatingMLP",
    "fit_transferred_factors",
    "methods",
    "parameter_transfer",
    "shared_user_mlp",
    "source_updates",
]

# Ratings of a source item from which on its factors are reliable enough for the items' prior.
_RELIABLE = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParameterTransferOptions(CrossDomainOptions):
    """Options of the method `parameter_transfer`."""

    rank: int = bounded(8, least=1, search=Range(2, 16))
    """Factors of items besides their biases."""
    width: int = bounded(32, least=1)
    """Width of the two hidden layers."""
    source_part: float = bounded(0.5, least=0, most=1, search=Range(0.1, 0.9))
    """Part of the updates that are made in the source."""


class RatingMLP(nn.Module):
    """Hidden layers on a user, items and their product, whose output is initially 0.

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


def shared_user_mlp(items: int, width: int, widths: tuple[int, ...] = (32,)) -> SupportModel:
    """Network of two domains with one latent vector of a user for both.

    A user's vector z is the posterior mean given the rows of either domain; an item scores
    `bias + embedding . z + f(z, embedding)`, with one MLP f for both domains.

    Args:
        items: I, the size of the catalogue of both domains.
        width: F.
        widths: Widths of the hidden layers of f.

    Returns:
        The network. Its parameters are `factors`, a `DomainFactors` in which the items of both
        domains are for the same users, that `initial_factors` fills and that is not trained; and
        `predictor`, of a `RatingMLP`. `encode` returns a `Posterior`.

    Raises:
        ValueError: If `items` or `width` < 1.
    """
    check_sizes(items=items, width=width)
    module = RatingMLP(widths)

    def init(key: jax.Array, inputs: Any) -> Params:
        del inputs
        one = jnp.zeros(width), jnp.zeros((1, width))
        return {"factors": zero_factors(items, width), "predictor": init_params(module, key, *one)}

    def encode(params: Params, support: Examples) -> Posterior:
        return ridge_posterior(domain_evidence(params["factors"], support.inputs), support)

    def decode(params: Params, state: Posterior, inputs: Inputs) -> jax.Array:
        found = domain_evidence(params["factors"], inputs)
        added: Any = module.apply({"params": params["predictor"]}, state.mean, found.design)
        return found.expected + found.design @ state.mean + added

    return SupportModel(init, encode, decode)


def fit_transferred_factors(
    training: TrainingSet, *, rank: int = 8, steps: int = 10, seed: int = 0
) -> DomainFactors:
    """Fits factors to the source, then items of the target to the users of the source.

    In the target users and items are Gaussian vectors, each updated given the other. The prior of
    a user is the posterior given the source ratings, or standard normal without any. The prior of
    an item's bias and embedding is initially the distribution of the source's items, then of the
    target's own. Each step updates users, items, the items' prior, and the noise. So both domains
    have one space of users, without common users too: then the distribution of items aligns them.

    Args:
        training: Both domains.
        rank: As in `fit_factors`; F is `rank + 1`.
        steps: Steps in the target, >= 1. Stopping early keeps it close to the source.
        seed: As in `fit_factors`.

    Returns:
        The items of both domains, for users with one standard normal vector.

    Raises:
        ValueError: If there is a single domain, one of them has no rating, or an option is out of
            range.

    References:
        Lim and Teh, Variational Bayesian Approach to Movie Rating Prediction, KDD Cup and Workshop
        2007, section 3, the updates. Differs: priors of users come from the other domain, and
        items have one covariance that is learned.
    """
    domain = check_domains(training)
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}.")
    source, target = domain_logs(training)
    if not len(target.rating):
        raise ValueError("training must have a rating in each domain, got none in the target.")
    factors = fit_factors(source, rank=rank, seed=seed)
    mean, bias, vectors, user_mean, user_covariance, _ = (
        np.asarray(leaf, np.float64) for leaf in factors
    )
    design = np.insert(vectors, 0, 1.0, axis=1)
    bias, embedding, root = standardised(mean + bias, design, user_mean, user_covariance)
    table = np.insert(embedding, 0, bias, axis=1)  # [I, 1 + F]
    count = source.item_counts
    reliable = table[count >= min(_RELIABLE, count.max())]

    by_user, by_item = layouts(target)
    rating = target.rating.astype(np.float64)
    from_source = _users_of_target(factors, root, source, by_user.present)
    center = np.append(np.mean(rating), reliable[:, 1:].mean(axis=0))
    # One item alone does not vary.
    spread = np.cov(reliable.T, ddof=min(1, len(reliable) - 1)) + 1e-3 * np.eye(len(center))
    prior = Population(center, spread, float(factors.noise))
    items = _items_by_mean(prior, by_item, rating)
    for _ in range(steps):
        users = _users_given(from_source, items, by_item, by_user, rating, prior.noise)
        seen = _with_constant(users)
        moments = segment_moments(by_item, second_moments(seen), seen.mean, rating)
        statistics = Statistics(*moments, float(np.sum(rating**2)), len(rating))
        items, prior = em_step(statistics, prior)
    table[domain == TARGET] = prior.mean
    table[by_item.present] = items.mean
    noise = np.array([float(factors.noise), prior.noise])
    leaves = domain, table[:, 1:], table[:, 0], noise
    return DomainFactors(*(jnp.asarray(leaf, jnp.float32) for leaf in leaves))


def parameter_transfer(
    model: SupportModel,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    pretraining: int,
    kept: tuple[str, ...] = ("predictor/hidden/*",),
    microbatch: int | None = None,
) -> MetaLearner:
    """Trains a rating network in the source and fine-tunes a part of it in the target.

    The first updates train all layers by the source's part of the query. Then those of `kept` are
    frozen, and the target's part trains the others. Users are transferred by the model's factors;
    to copy rows of other tables see `copy_rows`.

    Args:
        model: Its parameters hold `factors`, for instance a `shared_user_mlp`.
        loss: `loss(scores, labels, *, where) -> []`, of one domain's part of the query. Queries
            must have rows of the source: `sample_cross_tasks(source_query=...)`.
        outer: Optax optimizer of the parameters; the factors among them stay as they are.
        pretraining: Number of updates in the source, >= 1.
        kept: Patterns of the parameters that are frozen in the target.
        microbatch: Tasks in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If `pretraining` < 1 or nothing is kept.

    References:
        Yosinski et al., How Transferable Are Features in Deep Neural Networks?, NeurIPS 2014, for
        layers that are copied and frozen or fine-tuned; Pan, Xiang, Liu and Yang, Transfer
        Learning in Collaborative Filtering for Sparsity Reduction, AAAI 2010, for factors learned
        elsewhere that regularise those of the target. Differs from the latter: the posterior of a
        user is transferred, a new user's too.
    """
    if pretraining < 1:
        raise ValueError(f"pretraining must be >= 1, got {pretraining}.")
    adaptation = amortised(model.encode, model.decode)
    loss_of_query = query_loss(adaptation, loss)

    def loss_in(side: int) -> TaskLoss:
        def task_loss(
            params: Params, task: Task, key: jax.Array | None, step: jax.Array
        ) -> jax.Array:
            query = task.query
            own = query.mask & (domain_of(params["factors"], query.inputs) == side)
            task = task._replace(query=query._replace(mask=own))
            return loss_of_query(params, task, key, step)

        return task_loss

    return learner_with(
        {0: loss_in(SOURCE), pretraining: loss_in(TARGET)},
        model,
        adaptation,
        fixed(frozen(outer, *kept, after=pretraining), "factors"),
        microbatch=microbatch,
    )


def source_updates(settings: Settings) -> dict[str, int]:
    """Returns the argument `pretraining`, by the option `source_part`."""
    return {"pretraining": max(int(settings.options.source_part * settings.updates), 1)}


def _users_of_target(
    factors: Factors, root: np.ndarray, source: Interactions, users: np.ndarray
) -> Posterior:
    """Returns the posteriors of target users given the source, as standard normal vectors."""
    present, found = user_posteriors(factors, source)
    inverse = np.linalg.inv(root)
    width = len(root)
    mean, covariance = np.zeros((len(users), width)), np.tile(np.eye(width), (len(users), 1, 1))
    _, there, here = np.intersect1d(present, users, return_indices=True)
    mean[here] = (found.mean[there] - np.asarray(factors.prior_mean, np.float64)) @ inverse.T
    covariance[here] = inverse @ found.covariance[there] @ inverse.T
    return Posterior(mean, covariance)


def _items_by_mean(prior: Population, by_item: Layout, rating: np.ndarray) -> Posterior:
    """Returns the posteriors of items given their mean ratings by unknown users.

    A regression of items on unknown users would shrink their embeddings to 0.
    """
    center, spread = prior.mean, prior.covariance
    count = np.diff(by_item.offsets)
    sums = np.add.reduceat(rating[by_item.order], by_item.offsets[:-1])
    gram, cross = np.zeros((len(count), *spread.shape)), np.zeros((len(count), len(center)))
    # An unknown user adds the variance of embedding . z to the noise.
    noise = prior.noise + center[1:] @ center[1:] + np.trace(spread[1:, 1:])
    gram[:, 0, 0], cross[:, 0] = count / noise, sums / noise
    return posterior(gram, cross, center, spread)


def _users_given(
    prior: Posterior,
    items: Posterior,
    by_item: Layout,
    by_user: Layout,
    rating: np.ndarray,
    noise: float,
) -> Posterior:
    """Returns the posteriors of users given ratings of items that are uncertain themselves."""
    at_item = by_user._replace(other=np.searchsorted(by_item.present, by_user.other))
    gram, cross = segment_moments(at_item, second_moments(items), items.mean, rating)
    # The first entry of an item is its bias, which has no part in the user's vector.
    rest = cross[:, 1:] - gram[:, 1:, 0]
    return posterior(gram[:, 1:, 1:] / noise, rest / noise, prior.mean, prior.covariance)


def _with_constant(users: Posterior) -> Posterior:
    """Returns the posteriors of [1, z], for vectors z."""
    count, width = users.mean.shape
    covariance = np.zeros((count, width + 1, width + 1))
    covariance[:, 1:, 1:] = users.covariance
    return Posterior(np.insert(users.mean, 0, 1.0, axis=1), covariance)


def _network(settings: Settings, shapes: Shapes) -> SupportModel:
    options = settings.options
    return shared_user_mlp(shapes.items, options.rank + 1, (options.width, options.width))


def _initial(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    found = fit_transferred_factors(training, rank=settings.options.rank, seed=settings.seed)
    return lambda params: initial_factors(params, found)


methods: tuple[Method, ...] = (
    Method(
        "parameter_transfer",
        by_one_pass(parameter_transfer, options=source_updates),
        _network,
        _initial,
        cross_tasks_of_both,
        options=ParameterTransferOptions,
        settings={"weight_decay": 0.0, "support": 5, "updates": 100, "validate_every": 20},
        grid=({}, {"rate": 3e-3}),
        any_support=True,
        needs_ratings=True,
        two_domains=True,
    ),
)
