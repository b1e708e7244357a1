"""Beliefs about rewards: from a linear model, from counts, from content features; their updates.

Every update is a pure function in closed form, and equal to a fit of all rewards at once. A reward
is measured in one unit throughout: noise and variances are in squares of it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import gaussian, losses
from metajax.exploration.slates import Beliefs
from metajax.types import Adaptation, Params, Posterior

__all__ = [
    "BetaCounts",
    "Levels",
    "beta_beliefs",
    "beta_from_moments",
    "content_prior",
    "fit_levels",
    "linear_beliefs",
    "model_beliefs",
    "update_counts",
    "update_items",
    "update_linear",
]


class BetaCounts(NamedTuple):
    """Beta posteriors of the mean rewards of N items, where a reward is in [0, 1]."""

    successes: jax.Array
    """`[N]` sum of rewards, and the first parameter of the prior, > 0."""
    failures: jax.Array
    """`[N]` sum of 1 - reward, and the second parameter of the prior, > 0."""


def beta_beliefs(counts: BetaCounts) -> Beliefs:
    """Returns mean, variance and count of Beta posteriors.

    Args:
        counts: Of N items.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> found = beta_beliefs(BetaCounts(jnp.array([3.]), jnp.array([1.])))
        >>> [float(x[0]) for x in (found.mean, found.variance, found.count)]
        [0.75, 0.03750000149011612, 4.0]
    """
    losses.check_list(successes=counts.successes, failures=counts.failures)
    total = counts.successes + counts.failures
    mean = counts.successes / total
    return Beliefs(mean, variance=mean * (1 - mean) / (total + 1), count=total)


def beta_from_moments(mean: jax.Array, variance: jax.Array) -> BetaCounts:
    """Returns the Beta distributions with these moments, for instance those of `content_prior`.

    Args:
        mean: `[N]`; clipped to [.001, .999].
        variance: `[N]` > 0; at most that of the uniform distribution of the same mean counts, as a
            wider one would have no mode inside.

    Raises:
        ValueError: If the shapes differ.
    """
    losses.check_list(mean=mean, variance=variance)
    mean = jnp.clip(mean, 0.001, 0.999)
    # Parameters sum to m (1 - m) / v - 1; the smaller is 1 where v is at its limit.
    least = 1 / jnp.minimum(mean, 1 - mean)
    total = jnp.maximum(mean * (1 - mean) / variance - 1, least)
    return BetaCounts(mean * total, (1 - mean) * total)


def update_counts(counts: BetaCounts, items: jax.Array, rewards: jax.Array) -> BetaCounts:
    """Adds the rewards of a list.

    Args:
        counts: Of N items.
        items: `[K]` that were shown, -1 where none was.
        rewards: `[K]` in [0, 1].

    Returns:
        The posteriors after the rewards.

    Raises:
        ValueError: If the shapes differ or, outside of a transformation of JAX, a reward is off the
            scale.
    """
    losses.check_list(items=items, rewards=rewards)
    if not isinstance(rewards, jax.core.Tracer) and not isinstance(items, jax.core.Tracer):
        wrong = (np.asarray(items) >= 0) & ~(
            (np.asarray(rewards) >= 0) & (np.asarray(rewards) <= 1)
        )
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(f"rewards must be in [0, 1], got {float(rewards[at])} at {at}.")
    n = len(counts.successes)
    place = jnp.where(jnp.asarray(items) >= 0, items, n)
    return BetaCounts(
        counts.successes.at[place].add(rewards, mode="drop"),
        counts.failures.at[place].add(1 - jnp.asarray(rewards), mode="drop"),
    )


def linear_beliefs(
    posterior: Posterior, vectors: jax.Array, expected: jax.Array | None = None
) -> Beliefs:
    """Returns the beliefs of a linear model, `reward = expected + vector . coefficients`.

    Args:
        posterior: Of one user's F coefficients.
        vectors: `[N, F]` of the items.
        expected: `[N]` reward without the coefficients; None means 0.

    Returns:
        Beliefs whose draws are joint.

    Raises:
        ValueError: If the shapes do not match.
    """
    width = jnp.shape(posterior.mean)
    if jnp.shape(vectors)[1:] != width or jnp.shape(posterior.covariance) != 2 * width:
        got = [jnp.shape(leaf) for leaf in (vectors, *posterior)]
        raise ValueError(f"vectors must be [N, F], mean [F], covariance [F, F], got {got}.")
    mean = vectors @ posterior.mean
    losses.check_shapes(mean=mean, expected=expected)
    root = vectors @ gaussian.covariance_root(posterior.covariance)
    variance = jnp.sum(root * root, axis=-1)
    return Beliefs(mean if expected is None else mean + expected, variance, root)


def model_beliefs(adaptation: Adaptation, params: Params, adapted: Any, inputs: Any) -> Beliefs:
    """Returns the beliefs of a fitted method about one user's expected labels.

    The variance is that of the expectation given the user, without the noise of a single label,
    which `Adaptation.predict_variance` includes.

    Args:
        adaptation: Of a method with `expectation`: the engine, `eb_fold_in`, `bayesian_ridge`.
        params: Its parameters.
        adapted: The user's adapted state.
        inputs: N candidates.

    Returns:
        Beliefs whose draws are joint, in the unit of the labels.

    Raises:
        ValueError: If the method has no such posterior.

    Example:
        >>> import numpy as np
        >>> from metajax.baselines import eb_fold_in
        >>> from metajax.data.synthetic import world
        >>> from metajax.data import cold_users
        >>> from metajax.types import Examples, Inputs
        >>> training = cold_users(world(users=30, items=9, interactions=9).dataset).training
        >>> fold_in, params = eb_fold_in.adaptation, eb_fold_in.fit(training, rank=2)
        >>> def inputs(*items):
        ...     rows = np.array(items)
        ...     return Inputs(training.user_features[rows * 0], training.item_features[rows], rows)
        >>> person = fold_in.adapt(params, Examples(inputs(4), jnp.array([5.]), jnp.ones(1, bool)))
        >>> beliefs = model_beliefs(fold_in, params, person, inputs(4, 5))
        >>> noisy = fold_in.predict_variance(params, person, inputs(4, 5))
        >>> beliefs.root.shape, bool((beliefs.variance < noisy).all())
        ((2, 3), True)
    """
    if adaptation.expectation is None:
        raise ValueError("adaptation must have an expectation: this method has no posterior of it.")
    mean, root, own = adaptation.expectation(params, adapted, inputs)
    return Beliefs(mean, jnp.sum(root * root, axis=-1) + own, root, own)


def update_linear(
    posterior: Posterior,
    vectors: jax.Array,
    rewards: jax.Array,
    noise: float | jax.Array,
    where: jax.Array | None = None,
) -> Posterior:
    """Adds the rewards of a list, one rank-one update each.

    Args:
        posterior: Of one user's F coefficients.
        vectors: `[K, F]` of the items that were shown.
        rewards: `[K]`, less what is expected without the coefficients.
        noise: `[]` variance of a reward given the coefficients, in squared units of the reward,
            > 0.
        where: `[K]` bool, False where nothing was shown or no reward is known; None means all.

    Returns:
        The posterior after the rewards.

    Raises:
        ValueError: If the shapes do not match.
    """
    losses.check_list(rewards=rewards, where=where)
    if jnp.shape(vectors) != jnp.shape(rewards) + jnp.shape(posterior.mean):
        got = [jnp.shape(leaf) for leaf in (vectors, rewards, posterior.mean)]
        raise ValueError(f"vectors must be [K, F], rewards [K], the mean [F], got {got}.")
    where = jnp.ones(jnp.shape(rewards), bool) if where is None else where

    def step(before: Posterior, row: Any):
        vector, reward, keep = row
        return gaussian.rank_one_update(before, vector, reward, noise, keep), None

    start = Posterior(jnp.asarray(posterior.mean), jnp.asarray(posterior.covariance))
    return jax.lax.scan(step, start, (vectors, rewards, where))[0]


def update_items(
    beliefs: Beliefs, items: jax.Array, rewards: jax.Array, noise: float | jax.Array
) -> Beliefs:
    """Adds the rewards of a list to independent Gaussian posteriors of the items.

    Args:
        beliefs: With `variance`, without `root`; a `count` grows with the rewards.
        items: `[K]` that were shown, each once; -1 where none was.
        rewards: `[K]`.
        noise: `[]` variance of a reward given its mean, in squared units of the reward, > 0.

    Returns:
        The beliefs after the rewards.

    Raises:
        ValueError: If the shapes differ, there is no variance, or items are not independent.
    """
    losses.check_list(items=items, rewards=rewards)
    if beliefs.variance is None or beliefs.root is not None:
        raise ValueError("beliefs must have a variance and no root: of independent items.")
    n = len(beliefs.mean)
    place = jnp.where(jnp.asarray(items) >= 0, items, n)
    at = lambda array: array.at[place].get(mode="fill", fill_value=0)  # noqa: E731
    mean, variance = at(beliefs.mean), at(beliefs.variance)
    gain = variance / (variance + noise)
    count = beliefs.count
    return beliefs._replace(
        mean=beliefs.mean.at[place].set(mean + gain * (rewards - mean), mode="drop"),
        variance=beliefs.variance.at[place].set(variance * (1 - gain), mode="drop"),
        count=None if count is None else count.at[place].add(1, mode="drop"),
    )


# Shares of the variance between items that the features, and the rest of an item, are tried at.
_SHARES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)


def content_prior(
    features: np.ndarray,
    mean: np.ndarray,
    count: np.ndarray,
    new_features: np.ndarray,
    *,
    noise: float,
) -> Beliefs:
    """Prior beliefs about new items from the rewards of similar ones.

    The mean reward of an item is `b + x . w + own`, with Gaussian w and own; the variances of both
    maximise the marginal likelihood of the warm items' averages. A new item starts with what its
    features tell, and with the variance that they leave open: more than a copy of the nearest warm
    item, which is noisy and as sure of the new item as of the old one.

    Args:
        features: `[I, F]` content features x of warm items.
        mean: `[I]` average reward of each.
        count: `[I]` number of rewards of each, > 0.
        new_features: `[M, F]` of the new items.
        noise: Variance of one reward of one item, in squared units of the reward, > 0.

    Returns:
        Mean and variance `[M]`, JAX arrays; `update_items` goes on from them.

    Raises:
        ValueError: If the shapes do not match, or a number is out of its range.

    References:
        Rasmussen and Williams, Gaussian Processes for Machine Learning, MIT Press 2006, sections
        2.1 and 5.4.1.
    """
    new = np.asarray(new_features, np.float64)
    fitted = fit_levels(features, mean, count, noise=noise)
    width = len(fitted.middle)
    if new.ndim != 2 or new.shape[1] != width:
        raise ValueError(f"new_features must be [M, {width}], got {list(new.shape)}.")
    if not np.isfinite(new).all():
        raise ValueError("new_features must be finite.")
    rows = np.concatenate([np.ones((len(new), 1)), new - fitted.middle], axis=1)
    own = np.full(len(new), fitted.own)
    variance = gaussian.predictive_variance(fitted.weights.covariance, rows, own)
    return Beliefs(
        jnp.asarray(fitted.centre + rows @ fitted.weights.mean, jnp.float32),
        jnp.asarray(variance, jnp.float32),
    )


class Levels(NamedTuple):
    """A model of items' mean rewards, `centre + [1, x - middle] . w + own`, with F features x."""

    centre: float
    """Average reward."""
    middle: np.ndarray
    """`[F]` mean features of the items."""
    prior: np.ndarray
    """`[1 + F]` prior variance of w, whose prior mean is 0."""
    own: float
    """Variance of the part of an item that its features leave open."""
    weights: Posterior
    """Of w, mean `[1 + F]`."""


def fit_levels(
    features: np.ndarray, mean: np.ndarray, count: np.ndarray, *, noise: float
) -> Levels:
    """Fits the model behind `content_prior`; arguments and errors as there."""
    x, y, n = (np.asarray(a, np.float64) for a in (features, mean, count))
    if x.ndim != 2 or y.shape != x.shape[:1] or n.shape != y.shape or not len(x):
        got = [x.shape, y.shape, n.shape]
        raise ValueError(f"features must be [I, F], mean and count [I], got {got}.")
    for name, array in (("features", x), ("mean", y)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite.")
    if not (n > 0).all():
        raise ValueError(f"count must be > 0, got {n.min()} at item {int(n.argmin())}.")
    if not 0 < noise < np.inf:
        raise ValueError(f"noise must be > 0 and finite, got {noise}.")
    centre = np.average(y, weights=n)
    # Between items, what their noise does not explain; a floor, where it explains all.
    between = max(np.var(y) - np.mean(noise / n), 0.01 * (np.var(y) + noise / n.max()))
    middle = x.mean(axis=0)
    size = max(np.mean(np.sum((x - middle) ** 2, axis=1)), 1e-12)
    one = np.ones((len(x), 1))
    design = np.concatenate([one, x - middle], axis=1)

    def fit(share: float, own: float) -> tuple[Any, Levels]:
        rows = own * between + noise / n
        slopes = max(share, 1e-6) * between / size
        prior = np.diag([100 * between, *[slopes] * x.shape[1]])
        gram, cross = gaussian.weighted_statistics(design, y - centre, rows)
        found = gaussian.posterior(gram, cross, covariance=prior)
        # Matrix determinant lemma, and the square completed.
        root = np.sqrt(np.diag(prior))
        eye = np.eye(len(root))
        sign, spread = np.linalg.slogdet(eye + root[:, None] * gram * root)
        fits = np.sum((y - centre) ** 2 / rows) - cross @ found.mean
        fitted = Levels(float(centre), middle, np.diag(prior), float(own * between), found)
        return sign * spread + np.sum(np.log(rows)) + fits, fitted

    tried = [fit(share, own) for share in _SHARES for own in _SHARES]
    return min(tried, key=lambda one: one[0])[1]
