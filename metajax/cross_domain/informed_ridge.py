"""Informed ridge: a Bayesian ridge head whose prior mean depends on implicit feedback.

The items that a user chose in the source, before any rating is read, and the user's attributes set
the prior mean of the latent vector, which the ratings of both domains correct.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import learners
from metajax.baselines.baseline import check_positive
from metajax.baselines.factors import Factors, fit_factors, user_statistics
from metajax.cross_domain.domains import SOURCE, check_domains
from metajax.cross_domain.tasks import CrossDomainOptions
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.interactions import Interactions, select_rows
from metajax.fields import Range, bounded
from metajax.gaussian import Population, em_step
from metajax.methods import Method, Settings, by_one_pass
from metajax.methods.bayesian_ridge import (
    fixed_parameters,
    initial_from_factors,
    preference_directions,
)
from metajax.networks import RidgeNetwork, from_linen
from metajax.types import Evidence, Examples, Inputs, MetaLearner, Model, Params

__all__ = [
    "ImplicitFeedbackPrior",
    "InformedRidgeModel",
    "InformedRidgeOptions",
    "PriorTable",
    "fit_implicit_feedback_prior",
    "informed_ridge_network",
    "initial_informed_ridge",
    "methods",
]

# Most users and items of the principal components: evenly spaced users, the most popular items.
_MOST = 2000


@dataclasses.dataclass(frozen=True, kw_only=True)
class InformedRidgeOptions(CrossDomainOptions):
    """Options of the method `informed_ridge`."""

    rank: int = bounded(4, least=1, search=Range(2, 16))
    """Factors of items besides their biases."""
    ridge_per_rank: float = bounded(15.0, least=0, search=Range(3.0, 75.0, log=True))
    """Penalty of the item factors, in users, divided by the rank; small, for the items of one
    domain are few."""
    components: int = bounded(12, least=1)
    """Principal components of the implicit feedback."""
    feedback_ridge: float = bounded(60.0, above=0, search=Range(6.0, 600.0, log=True))
    """Penalty of the regression on implicit feedback and attributes, in users."""
    attribute_axes: int = bounded(32, least=0)
    """Most main axes of item attributes along which users differ; memory of a user is the square of
    all directions."""
    taste_share: float = bounded(0.07, above=0, search=Range(0.01, 0.5, log=True))
    """Variance that tastes for attributes explain of an average item's rating before anything is
    known of the user, as a share of the noise."""
    source_power: float = bounded(0.7, above=0, search=Range(0.3, 1.2))
    """Initial weight of a source rating against a target rating: ratings of one domain are
    correlated evidence of tastes in the other."""


class ImplicitFeedbackPrior(NamedTuple):
    """Prior of a user's latents w `[d + 1]`, by the n chosen items and the attributes x.

    The prior mean is `x @ of_user` plus, where n > 0, `level + sum(of_item[chosen]) / sqrt(n)`,
    else `unknown`.
    """

    level: np.ndarray
    """`[d + 1]`."""
    of_item: np.ndarray
    """`[I, d + 1]`, 0 for items without implicit feedback."""
    of_user: np.ndarray
    """`[Du, d + 1]`."""
    unknown: np.ndarray
    """`[d + 1]`, for users without implicit feedback."""
    covariance: np.ndarray
    """`[d + 1, d + 1]` of the latents given implicit feedback and attributes."""


class PriorTable(NamedTuple):
    """An `ImplicitFeedbackPrior` among the parameters, for F standard normal directions.

    Not trained. All leaves are floats, so that parameters which hold them can be differentiated.
    """

    has_feedback: jax.Array
    """`[I]` 1 for items whose choice is implicit feedback, those of the source; 0 for others."""
    of_item: jax.Array
    """`[I, F]`, summed over the n chosen items and divided by the root of n."""
    level: jax.Array
    """`[F]` added where n > 0."""
    unknown: jax.Array
    """`[F]` added where n is 0."""


class InformedRidgeModel(NamedTuple):
    """A ridge network, and the prior mean of a user."""

    init: Callable[..., Params]
    """`init(key, inputs) -> params`."""
    apply: Callable[[Params, Any], Evidence]
    """`apply(params, inputs) -> Evidence`."""
    prior: Callable[[Params, Examples], jax.Array]
    """`prior(params, support) -> mean [F]`; it does not depend on labels."""


def fit_implicit_feedback_prior(
    training: TrainingSet,
    factors: Factors,
    has_feedback: np.ndarray,
    *,
    components: int = 12,
    ridge: float = 60.0,
    steps: int = 3,
) -> ImplicitFeedbackPrior:
    """Fits the prior by expectation maximisation, with the item factors fixed.

    The choices of a user, as a vector of length 1, are described by their principal components, so
    that the regression has no more than `components` regressors and the attributes.

    Args:
        training: The training users.
        factors: Fitted to them.
        has_feedback: `[I]` bool, the items whose choice by a new user is known.
        components: Number of principal components, >= 1.
        ridge: Penalty of each regressor of unit variance, in users, > 0.
        steps: EM steps, >= 1.

    Returns:
        The prior.

    Raises:
        ValueError: If a number is out of range.

    References:
        Koren, Factorization Meets the Neighborhood, KDD 2008, section 4, of implicit feedback;
        here a regressor, as attributes are in Agarwal and Chen, Regression-based Latent Factor
        Models, KDD 2009.
    """
    check_positive(ridge=ridge)
    for name, value in (("components", components), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    users, statistics = user_statistics(factors, training.interactions)
    log = select_rows(training.interactions, has_feedback[training.interactions.item])
    axes = _principal_axes(log, components)
    chosen, some = _coordinates(log, axes, users)
    middle, spread = _moments(chosen[some])
    chosen = np.where(some[:, None], (chosen - middle) / spread, 0)
    attributes = np.asarray(training.user_features, np.float64)[users]
    usual, scale = _moments(attributes)
    regressors = np.concatenate(
        [some[:, None], ~some[:, None], chosen, (attributes - usual) / scale], axis=1
    )
    penalty = np.diag([1e-6, 1e-6, *np.full(regressors.shape[1] - 2, ridge)])

    regression = np.linalg.solve(regressors.T @ regressors + penalty, regressors.T)
    mean, covariance = (
        np.asarray(leaf, np.float64) for leaf in (factors.prior_mean, factors.prior_covariance)
    )
    prior, weights = Population(mean, covariance, float(factors.noise)), np.zeros(0)
    for _ in range(steps):
        latents, fitted = em_step(statistics, prior, lambda mean: regressors @ (regression @ mean))
        prior = fitted._replace(noise=prior.noise)
        weights = regression @ latents.mean
    of_axis, of_user = np.split(weights[2:], [axes.shape[1]])
    of_axis, of_user = of_axis / spread[:, None], of_user / scale[:, None]
    known, unknown = weights[:2] - usual @ of_user
    if some.all():
        unknown = known
    return ImplicitFeedbackPrior(
        known - middle @ of_axis, axes @ of_axis, of_user, unknown, prior.covariance
    )


def _principal_axes(log: Interactions, components: int) -> np.ndarray:
    """Returns the principal axes `[I, A]` of the users' choices, each user's of length 1."""
    counts = log.user_counts
    users = log.users
    users = users[np.linspace(0, len(users) - 1, min(len(users), _MOST)).astype(int)]
    popular = np.argsort(-log.item_counts, kind="stable")
    popular = popular[:_MOST]
    place = np.full(len(log.item_ids), -1)
    place[popular] = np.arange(len(popular))
    row = np.full(len(counts), -1)
    row[users] = np.arange(len(users))
    user = log.user
    kept = (row[user] >= 0) & (place[log.item] >= 0)
    chosen = np.zeros((len(users), len(popular)))
    chosen[row[user[kept]], place[log.item[kept]]] = 1 / np.sqrt(counts[user[kept]])
    chosen -= chosen.sum(axis=0) / max(len(users), 1)
    _, vectors = np.linalg.eigh(chosen.T @ chosen)
    axes = np.zeros((len(log.item_ids), min(components, len(popular))))
    axes[popular] = vectors[:, ::-1][:, :components]
    return axes


def _coordinates(
    log: Interactions, axes: np.ndarray, users: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[S, A]` coordinates of users, and `[S]` whether they have implicit feedback."""
    counts = log.user_counts
    user = log.user
    sums = [np.bincount(user, axis[log.item], len(counts)) for axis in axes.T]
    root = np.sqrt(np.maximum(counts[users], 1))
    return np.stack(sums, axis=1)[users] / root[:, None], counts[users] > 0


def _moments(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns means and standard deviations of columns; 1 for constants, 0 and 1 without rows."""
    if not len(columns):
        return np.zeros(columns.shape[1]), np.ones(columns.shape[1])
    spread = columns.std(axis=0)
    return columns.mean(axis=0), np.where(spread > 1e-6, spread, 1.0)


def informed_ridge_network(items: int, width: int, tastes: int = 0) -> InformedRidgeModel:
    """Network of the informed ridge: a `RidgeNetwork`, a prior mean, and powers of labels.

    The prior mean is that of the table times a learned gain of each direction; tastes for
    attributes follow the mean attributes of the chosen items, by a linear map that is initially 0.
    Labels of items with and without implicit feedback have learned powers, for a user's many
    ratings in one domain are correlated evidence of tastes in the other.

    Args:
        items: I, the size of the catalogue.
        width: Directions of item factors in which users differ.
        tastes: Directions of attributes in which users differ.

    Returns:
        The network. Its parameters are `network`, `table` (a `PriorTable`, not trained), `gain`,
        `taste_map` and `log_power`.
    """
    network = from_linen(RidgeNetwork(items, width, tastes))
    directions = width + tastes

    def init(key: jax.Array, inputs: Inputs) -> Params:
        return {
            "network": network.init(key, inputs),
            "table": PriorTable(
                has_feedback=jnp.zeros(items),
                of_item=jnp.zeros((items, directions)),
                level=jnp.zeros(directions),
                unknown=jnp.zeros(directions),
            ),
            "gain": jnp.ones(directions),
            "taste_map": jnp.zeros((inputs.item_features.shape[1], tastes)),
            "log_power": jnp.zeros(2),
        }

    def apply(params: Params, inputs: Inputs) -> Evidence:
        has_feedback = jax.lax.stop_gradient(params["table"].has_feedback)[inputs.item]
        log_power = params["log_power"]
        log_power = log_power[0] + has_feedback * (log_power[1] - log_power[0])
        return network.apply(params["network"], inputs)._replace(power=jnp.exp(log_power))

    def prior(params: Params, support: Examples) -> jax.Array:
        table = jax.lax.stop_gradient(params["table"])
        item, features = support.inputs.item, support.inputs.item_features
        chosen = support.mask * table.has_feedback[item]  # [N]
        n = jnp.sum(chosen)
        mean = table.level + chosen @ table.of_item[item] / jnp.sqrt(jnp.maximum(n, 1))
        mean = params["gain"] * jnp.where(n > 0, mean, table.unknown)
        taste = chosen @ features / jnp.maximum(n, 1) @ params["taste_map"]
        return mean.at[width:].add(taste)

    return InformedRidgeModel(init, apply, prior)


def initial_informed_ridge(params: Params, table: PriorTable, power: jax.Array) -> Params:
    """Sets the table and the powers of labels.

    Args:
        params: Parameters of an `informed_ridge_network`.
        table: Of the directions of item factors; those of tastes, which follow, become 0.
        power: `[2]` of labels of items without and with implicit feedback, > 0.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a shape does not match.
    """
    zero = params["table"]
    missing = zero.level.shape[0] - table.level.shape[0]

    def padded(name: str, value: jax.Array, like: jax.Array) -> jax.Array:
        if name != "has_feedback":
            value = jnp.pad(value, ((0, 0),) * (value.ndim - 1) + ((0, max(missing, 0)),))
        if value.shape != like.shape:
            raise ValueError(f"{name} must have the shape {like.shape}, got {value.shape}.")
        return jnp.asarray(value, jnp.float32)

    leaves = (padded(*leaf) for leaf in zip(table._fields, table, zero, strict=True))
    log_power = jnp.log(jnp.asarray(power, jnp.float32))
    return {**params, "table": PriorTable(*leaves), "log_power": log_power}


def _network(settings: Settings, shapes: Shapes) -> InformedRidgeModel:
    return informed_ridge_network(
        shapes.items, settings.options.rank + 1, preference_directions(settings, shapes)
    )


def _initial(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises by factors of all items, and the prior by the choices in the source."""
    options = settings.options
    has_feedback = check_domains(training) == SOURCE
    factors = fit_factors(
        training.interactions,
        rank=options.rank,
        item_ridge=options.ridge_per_rank * options.rank,
        seed=settings.seed,
    )
    prior = fit_implicit_feedback_prior(
        training,
        factors,
        has_feedback,
        components=options.components,
        ridge=options.feedback_ridge,
    )
    covariance = jnp.asarray(prior.covariance, jnp.float32)
    factors = factors._replace(prior_covariance=covariance)
    # To coordinates in which the latents are standard normal around the prior mean.
    whitening = np.linalg.inv(np.linalg.cholesky(prior.covariance)).T  # [d + 1, d + 1]
    usual = np.asarray(factors.prior_mean, np.float64)
    table = PriorTable(
        has_feedback=jnp.asarray(has_feedback, jnp.float32),
        of_item=jnp.asarray(prior.of_item @ whitening),
        level=jnp.asarray((prior.level - usual) @ whitening),
        unknown=jnp.asarray((prior.unknown - usual) @ whitening),
    )
    with_factors = initial_from_factors(settings, factors, training)
    of_user = jnp.asarray(prior.of_user @ whitening, jnp.float32)

    def initial(params: Params) -> Params:
        network = with_factors(params["network"])
        if of_user.size:
            network = {**network, "user_map": {"kernel": of_user}}
        power = jnp.array([1.0, options.source_power])
        return initial_informed_ridge({**params, "network": network}, table, power)

    return initial


def _learner(settings: Settings, network: InformedRidgeModel) -> MetaLearner:
    tables = (f"network/{name}" for name in fixed_parameters)
    ridge = partial(learners.bayesian_ridge, prior=network.prior)
    learner = by_one_pass(ridge, "table", *tables)
    return learner(settings, Model(network.init, network.apply))


methods: tuple[Method, ...] = (
    Method(
        "informed_ridge",
        _learner,
        _network,
        _initial,
        options=InformedRidgeOptions,
        settings={"weight_decay": 0.0, "rate": 3e-4, "updates": 200, "validate_every": 20},
        grid=({}, {"rank": 8}),
        any_support=True,
        needs_ratings=True,
        two_domains=True,
    ),
)
