"""Content features of items, and a random-effects model of users' tastes for them.

Where no user rated in both domains, factors of one domain do not predict the other. Content
features (mean rating and popularity within an item's own domain, and its attributes) have the same
meaning in both, and so have a user's tastes for them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.attribute_factors import predicted_by_attributes
from metajax.baselines.baseline import check_positive
from metajax.data.dataset import TrainingSet
from metajax.gaussian import Population, Statistics, em_step, second_moments
from metajax.types import Evidence, Inputs, Posterior

__all__ = ["Content", "content_evidence", "fit_content", "widths_of_content"]

TRAITS, _GROUPS = 3, 3

# Most main axes of attributes along which users differ, as `attribute_axes` of the ridge methods.
# Half as many: beside the content features they make 28 latents, of whose covariance a user's state
# is the square, and fits of every user are in memory at once.
_ATTRIBUTE_AXES = 16


class Content(NamedTuple):
    """A Gaussian model of ratings on content features that are shared by both domains.

    The rating of item i by a user of attributes a is `expected[i] + x_i . z` plus noise, with
    `x_i = encoder' [traits_i, attributes_i]`, and z is drawn from N(user_map' a, I).
    """

    expected: jax.Array
    """`[I]` expected rating by a user whose latents are 0."""
    traits: jax.Array
    """`[I, V]` content features, and again in columns of the item's group alone."""
    encoder: jax.Array
    """`[V + Di, L]` from content features and encoded attributes of an item to the effect of a
    unit of each latent."""
    user_map: jax.Array
    """`[Du, L]` from encoded attributes of a user to the prior mean of their latents."""
    noise: jax.Array
    """`[]` variance of a rating given the latents."""


def fit_content(
    training: TrainingSet,
    *,
    taste: float = 0.05,
    item_ridge: float = 5.0,
    user_ridge: float = 50.0,
    steps: int = 8,
) -> Content:
    """Fits random effects of users for content features and attributes of items.

    A user's taste for a feature is shared by all groups of items (`content_groups`), with a
    deviation in each. The covariances of both come from expectation maximisation over all users,
    those of one domain included: the deviations between the halves of the source estimate those
    between two domains. The prior of tastes for attributes is a setting.

    Args:
        training: One domain or two. In two, users may be in one of them alone.
        taste: Variance that tastes for attributes explain of an average item's rating, before
            anything is known of the user, > 0.
        item_ridge: As many ratings as expected are added to each item's, > 0.
        user_ridge: Penalty of the map of users' attributes, in users, > 0.
        steps: EM steps, >= 1.

    Returns:
        The model, float32.

    Raises:
        ValueError: If a setting is out of range, or there is no rating.

    References:
        Laird and Ware, Random-Effects Models for Longitudinal Data, Biometrics 1982, whose steps
        these are, with users as the subjects. Differs: effects of items are ridge estimates.
    """
    check_positive(taste=taste, item_ridge=item_ridge, user_ridge=user_ridge)
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}.")
    log, domain = training.interactions, item_domains(training)
    if not len(log.item):
        raise ValueError("training must hold at least one rating, got none.")
    traits, group = content_features(training, item_ridge=item_ridge), content_groups(training)
    width, items = TRAITS, len(domain)
    by_group = [traits * (group == n)[:, None] for n in range(_GROUPS)]
    described = np.concatenate([traits, *by_group], axis=1)  # [I, V]
    tastes = taste_map(training, 1.0, share=taste, most=_ATTRIBUTE_AXES)
    design = np.concatenate([described, training.item_features @ tastes], axis=1)  # [I, L]
    first, *places = (slice(width * n, width * (n + 1)) for n in range(1 + _GROUPS))

    users = _users_of(training, design)
    visited = [users.moment[:, place.start, place.start] > 0 for place in places]
    target = log.rating - domain_levels(training)[domain[log.item]]
    count = log.item_counts
    bias = np.bincount(log.item, target, items) / (count + item_ridge)
    means, noise = np.zeros((2, width)), float(np.var(target))
    zero, prior = np.zeros(design.shape[1]), np.eye(design.shape[1])
    # The level differs more between users than their tastes do, and carries well.
    prior[first, first] *= np.diag(noise * np.array([0.15, *[0.03] * (width - 1)]))
    for place in places:
        prior[place, place] *= 0.01 * noise
    for _ in range(steps):
        expected = bias + np.sum(traits * means[domain], axis=1)
        statistics = _statistics(users, log.item, design, target - expected[log.item])
        found, fitted = em_step(statistics, Population(zero, prior, noise))
        noise, second = fitted.noise, second_moments(found)
        for side in np.unique(users.side):
            means[side] += np.mean(found.mean[users.side == side, first], axis=0)
        prior[first, first] = np.mean(second[:, first, first], axis=0)
        deviation = sum(
            np.sum(second[here][:, place, place], axis=0)
            for here, place in zip(visited, places, strict=True)
        )
        for place in places:
            prior[place, place] = deviation / np.sum(visited)
        average = np.sum(traits * means[domain], axis=1)
        own = np.sum(design[log.item] * found.mean[users.row], axis=1)
        rest = target - average[log.item] - own
        bias = np.bincount(log.item, rest, items) / (count + item_ridge)
    # Biases of items without ratings are predicted from attributes.
    unrated = predicted_by_attributes(training.item_features, bias[:, None], count).values[:, 0]
    expected = np.where(count, bias, unrated) + np.sum(traits * means[domain], axis=1)
    statistics = _statistics(users, log.item, design, target - expected[log.item])
    found, _ = em_step(statistics, Population(zero, prior, noise))
    centre, weights = _user_map(training.user_features[users.user], found, prior, user_ridge)

    root = np.linalg.cholesky(prior)
    expected += domain_levels(training)[domain] - design @ (centre @ weights)
    # Traits enter as they are, attributes by the map of tastes.
    encoder = np.concatenate([root[: described.shape[1]], tastes @ root[described.shape[1] :]])
    fitted = (expected, described, encoder, np.linalg.solve(root, weights.T).T, noise)
    return Content(*(jnp.asarray(leaf, jnp.float32) for leaf in fitted))


class _Users(NamedTuple):
    """The S users of a log, and the owner of each row."""

    user: np.ndarray
    """`[S]` who."""
    start: np.ndarray
    """`[S]` the first row of each."""
    row: np.ndarray
    """`[R]` whose each row is, in [0, S)."""
    side: np.ndarray
    """`[S]` 0 or 1, the domain of most of their rows."""
    moment: np.ndarray
    """`[S, L, L]` sum of x x' over their rows."""


def _users_of(training: TrainingSet, design: np.ndarray) -> _Users:
    log = training.interactions
    user = log.users
    ends = log.offsets[user + 1]
    start = log.offsets[user]
    rows = [design[log.item[a:b]] for a, b in zip(start, ends, strict=True)]
    target = np.add.reduceat(1.0 * item_domains(training)[log.item], start)
    return _Users(
        user,
        start,
        np.repeat(np.arange(len(user)), ends - start),
        (2 * target > ends - start).astype(np.int64),
        np.stack([x.T @ x for x in rows]),
    )


def _statistics(
    users: _Users, item: np.ndarray, design: np.ndarray, residual: np.ndarray
) -> Statistics:
    cross = np.add.reduceat(design[item] * residual[:, None], users.start)
    return Statistics(users.moment, cross, float(np.sum(residual**2)), len(residual))


def _user_map(
    features: np.ndarray, found: Posterior, prior: np.ndarray, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Regresses each latent on `[S, Du]` attributes; users weigh by how well their rows fix it.

    Returns `[Du]` the mean of the attributes and `[Du, L]` weights.
    """
    features = np.asarray(features, np.float64)
    centre = np.mean(features, axis=0)
    x = features - centre
    left = np.diagonal(found.covariance, axis1=1, axis2=2) / np.diag(prior)
    weights = np.zeros((x.shape[1], len(prior)))
    for n, reliability in enumerate(np.maximum(1 - left, 0).T):
        # A posterior mean is the estimate from the rows times its reliability.
        gram = (x * reliability[:, None]).T @ x + ridge * np.eye(x.shape[1])
        weights[:, n] = np.linalg.solve(gram, x.T @ found.mean[:, n])
    return centre, weights


def widths_of_content(item_width: int) -> tuple[int, int]:
    """Returns V and L of a `Content`, given the number of encoded attributes of items."""
    traits = TRAITS * (1 + _GROUPS)
    return traits, traits + min(item_width, _ATTRIBUTE_AXES)


def content_evidence(params: Content, inputs: Inputs) -> Evidence:
    """Returns expected ratings, regressors and noise of interactions under the prior."""
    content = jnp.concatenate([params.traits[inputs.item], inputs.item_features], axis=1)
    design = content @ params.encoder
    by_user = jnp.sum((inputs.user_features @ params.user_map) * design, axis=1)
    noise = jnp.broadcast_to(params.noise, inputs.item.shape)
    return Evidence(params.expected[inputs.item] + by_user, design, noise)


def content_features(training: TrainingSet, *, item_ridge: float = 5.0) -> np.ndarray:
    """Returns mean rating and popularity of items, standardised within their own domain.

    Args:
        training: The log; without `item_domain` there is one domain.
        item_ridge: As many ratings at the domain's mean are added to each item's, > 0.

    Returns:
        `[I, 3]`: 1, the shrunk mean rating, and the logarithm of the number of ratings. The last
        two have mean 0 and variance 1 over the ratings of each domain.

    Raises:
        ValueError: If the ridge is not positive.
    """
    check_positive(item_ridge=item_ridge)
    log, domain = training.interactions, item_domains(training)
    items = len(domain)
    count = log.item_counts
    rest = log.rating - domain_levels(training)[domain[log.item]]
    liked = np.bincount(log.item, rest, items) / (count + item_ridge)
    traits = np.stack([np.ones(items), liked, np.log1p(count)], axis=1)
    for side in np.unique(domain[log.item]):
        here = domain == side
        share = count[here] / np.sum(count[here])
        centred = traits[here, 1:] - share @ traits[here, 1:]
        spread = np.sqrt(share @ centred**2)
        # Rounding makes the spread of equals tiny and not zero.
        traits[here, 1:] = centred / np.where(spread > 1e-6, spread, 1)
    traits[count == 0, 1:] = 0
    return traits


def content_groups(training: TrainingSet) -> np.ndarray:
    """Groups items: the target is one group, the source two, by their attributes.

    The halves lie on the two sides of the median along the main axis of the attributes, or about.
    Deviations of tastes between them estimate those between the domains.

    Args:
        training: The log and the attributes; without `item_domain` all is source.

    Returns:
        `[I]` int64: 0 and 1 in the source, 2 in the target. Without attributes, or where all are
        alike, 0 and 2.
    """
    domain = item_domains(training)
    count = training.interactions.item_counts * (domain == 0)
    if not np.sum(count):
        return 2 * domain
    share = count / np.sum(count)
    features = np.asarray(training.item_features, np.float64)
    features = features - share @ features
    if not np.sum(features**2 * share[:, None]) > 1e-9:
        return 2 * domain
    _, axes = np.linalg.eigh((features * share[:, None]).T @ features)
    # The sign of an axis is an accident of the solver: its largest entry shall be positive.
    axis = axes[:, -1] * np.sign(axes[np.argmax(np.abs(axes[:, -1])), -1])
    along = features @ axis
    # Of attributes of few values the median may be the largest: the cut nearest to it is not.
    values, place = np.unique(np.round(along[share > 0], 6), return_inverse=True)
    below = np.cumsum(np.bincount(place, share[share > 0]))[:-1]
    cut = values[np.argmin(np.abs(below - 0.5))]
    return np.where(domain == 1, 2, np.round(along, 6) > cut).astype(np.int64)


def domain_levels(training: TrainingSet) -> np.ndarray:
    """Returns `[2]` the mean rating of each domain; 0 without ratings."""
    rating = training.interactions.rating.astype(np.float64)
    side = item_domains(training)[training.interactions.item]
    return np.bincount(side, rating, 2) / np.maximum(np.bincount(side, minlength=2), 1)


def item_domains(training: TrainingSet) -> np.ndarray:
    """Returns `[I]` int64, the domain of each item; one domain is the source."""
    if training.item_domain is None:
        return np.zeros(len(training.item_features), np.int64)
    return np.asarray(training.item_domain, np.int64)


def taste_map(training: TrainingSet, noise: float, *, share: float, most: int) -> np.ndarray:
    """Maps attributes to their main axes, scaled so that users' tastes have a unit prior.

    Args:
        training: Items with features.
        noise: Variance of a rating.
        share: Variance that tastes explain of an average item's rating, as a share of the noise,
            > 0.
        most: Number of axes that are kept, at most, >= 0.

    Returns:
        `[Di, min(Di, most)]`, the main axes of the features of rated items first.
    """
    rated = np.unique(training.interactions.item)
    features = np.asarray(training.item_features, np.float64)[rated]
    moment = features.T @ features / len(rated)
    _, axes = np.linalg.eigh(moment)
    scale = np.sqrt(share * noise / max(np.trace(moment), 1e-9))
    return scale * axes[:, ::-1][:, :most]
