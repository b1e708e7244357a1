"""Environments of the simulation, and what is known before the first round.

Two kinds of environments: users drawn from the synthetic world, whose truth is known; and people of
a log who were held out, to whom a film can be shown that they have rated, with that rating.
Some items are new: they come during the rounds, and no rating of them is in the data of the start.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from metajax.baselines.attribute_factors import with_attributes
from metajax.baselines.eb_fold_in import standardised
from metajax.baselines.factors import fit_factors, user_posteriors
from metajax.data.dataset import Dataset, TrainingSet
from metajax.data.interactions import from_columns, select_rows, select_users
from metajax.data.schema import encoded
from metajax.data.splits import cold_user_folds
from metajax.data.synthetic import world
from metajax.exploration.beliefs import fit_levels
from metajax.exploration.simulation import Environment, Knowledge, Trace

__all__ = ["Days", "Start", "knowledge_of", "refitted", "replayed", "synthetic"]

Start = Literal["data", "content", "nothing"]

STARTS: tuple[Start, ...] = ("data", "content", "nothing")
"""A model fitted to the log of earlier users; the catalogue and its content features alone; and the
catalogue alone."""

_WARM_USERS = 500
# Standard deviations assumed where there are no data, in quarters of the scale: of the noise, of
# the average of all items, of an item's own part, of its part by content, of a user's bias and of a
# user's tastes for content.
_NOISE, _LEVEL, _OWN, _BY_CONTENT, _BIAS, _TASTES = 1.0, 1.0, 0.4, 0.3, 0.4, 0.3


class Days(NamedTuple):
    """An environment, and the data that starts are made from."""

    name: str
    """Name of the data."""
    environment: Environment
    """Users, items and rewards."""
    training: TrainingSet
    """Log of earlier users, without ratings of new items; attributes of all items."""
    new: np.ndarray
    """`[N]` bool, items that come during the rounds."""
    threshold: float
    """Reward from which on it is a success."""
    middle: float
    """Middle of the scale."""
    unit: float
    """A quarter of the scale."""


def synthetic(
    *,
    users: int = 10_000,
    items: int = 300,
    new_items: float = 0.3,
    rounds: int = 50,
    warm_users: int = _WARM_USERS,
    seed: int = 0,
) -> Days:
    """Draws users and items from the synthetic world of one domain.

    Users come in the first half of the rounds and new items in the first three quarters, both at
    uniform times. A success is a rating of 4 or more.

    Args:
        users: Number of users, >= 1.
        items: Number of items, >= 2.
        new_items: Share of the items that are new, in [0, 1).
        rounds: Number of rounds, >= 1.
        warm_users: Earlier users, whose log there is, >= 2.
        seed: Of everything.

    Raises:
        ValueError: If an argument is out of its range.
    """
    _check(rounds, new_items)
    for name, value, low in (
        ("users", users, 1),
        ("items", items, 2),
        ("warm_users", warm_users, 2),
    ):
        if value < low:
            raise ValueError(f"{name} must be >= {low}, got {value}.")
    drawn = world(users=warm_users + users, items=items, domains=1, cold=0.0, seed=seed)
    truth = drawn.bayes_params
    level = np.asarray(truth.mean + truth.item_bias)
    rng = np.random.default_rng([seed, 1])
    new = _new(rng, items, new_items)
    mean = level + drawn.user_latent[warm_users:] @ np.asarray(truth.regressors).T
    environment = Environment(
        jnp.asarray(mean, jnp.float32),
        truth.noise,
        _times(rng, users, max(rounds // 2, 1)),
        jnp.where(new, _times(rng, items, max(3 * rounds // 4, 1)), 0),
    )
    training = _training(drawn.dataset, np.arange(warm_users), new)
    return Days("synthetic", environment, training, new, 4.0, 3.0, 1.0)


def replayed(
    dataset: Dataset,
    *,
    fold: int = 0,
    users: int | None = None,
    new_items: float = 0.3,
    rounds: int = 50,
    seed: int = 0,
) -> Days:
    """Replays the ratings of a fold's cold users.

    A user can be shown what they have rated, and gives that rating: a list of all items from which
    those without a rating are left out. All come in the first round; new items come as in
    `synthetic`. A success is a relevant rating, by default four stars of five.

    Args:
        dataset: A log of ratings.
        fold: Fold of five, whose test users are replayed; the others are the earlier users.
        users: Number of test users, drawn at random, >= 1; None means all. If there are fewer, all.
        new_items: Share of the items that are new, in [0, 1).
        rounds: Number of rounds, >= 1.
        seed: Of the folds, of the users, and of the new items.

    Raises:
        ValueError: If an argument is out of its range, or the log has no ratings.
    """
    _check(rounds, new_items)
    if dataset.implicit or dataset.scale is None:
        raise ValueError(f"data must have ratings to be replayed, and {dataset.name} has none.")
    if not 0 <= fold < 5:
        raise ValueError(f"fold must be in [0, 5), got {fold}.")
    if users is not None and users < 1:
        raise ValueError(f"users must be >= 1, got {users}.")
    low, high = dataset.scale
    if low > high:
        raise ValueError("data must have a scale on which high ratings are good.")
    log = dataset.interactions
    parts = cold_user_folds(log, seed=seed)[fold]
    rng = np.random.default_rng([seed, 1])
    new = _new(rng, len(log.item_ids), new_items)
    people = np.sort(np.random.default_rng([seed, 2]).permutation(parts.test)[:users])
    mean = np.full((len(people), len(new)), np.nan, np.float32)
    place = np.searchsorted(people, log.user)
    here = np.isin(log.user, people)
    mean[place[here], log.item[here]] = log.rating[here]
    environment = Environment(
        jnp.asarray(mean),
        jnp.float32(0),
        jnp.zeros(len(people), jnp.int32),
        jnp.where(new, _times(rng, len(new), max(3 * rounds // 4, 1)), 0),
    )
    training = _training(dataset, np.sort(np.concatenate(parts[:2])), new)
    middle, unit = (low + high) / 2, (high - low) / 4
    return Days(dataset.name, environment, training, new, dataset.threshold, middle, unit)


def _check(rounds: int, new_items: float) -> None:
    if rounds < 1:
        raise ValueError(f"rounds must be >= 1, got {rounds}.")
    if not 0 <= new_items < 1:
        raise ValueError(f"new_items must be in [0, 1), got {new_items}.")


def _check_start(start: Start) -> None:
    if start not in STARTS:
        raise ValueError(f"start must be one of {', '.join(STARTS)}, got {start!r}.")


def _new(rng: np.random.Generator, items: int, share: float) -> np.ndarray:
    return rng.permutation(items) < round(share * items)


def _times(rng: np.random.Generator, count: int, end: int) -> jnp.ndarray:
    return jnp.asarray(rng.integers(0, end, count), jnp.int32)


def _training(dataset: Dataset, users: np.ndarray, new: np.ndarray) -> TrainingSet:
    log = select_users(dataset.interactions, users)
    log = select_rows(log, ~new[log.item])
    if not len(log.item):
        raise ValueError("data must leave ratings of items that are not new, got none.")
    return encoded(dataset, log, users)[2]


def knowledge_of(days: Days, start: Start, *, rank: int = 4) -> Knowledge:
    """Returns the model at the start.

    With data it is the empirical-Bayes fold-in on item factors (`baselines.fit_factors`), vectors
    of new items predicted from attributes, and levels of `fit_levels`. Without, levels and vectors
    are content features with stated variances, or an intercept alone.

    Args:
        days: The environment.
        start: One of `STARTS`.
        rank: Number of item factors of the model with data, >= 1.

    Returns:
        The model; of all starts with arrays of the same shapes.

    Raises:
        ValueError: If there is no such start, or `rank` is out of its range.
    """
    scale = days.middle + 2 * days.unit * np.array([-1.0, 1.0])
    made: dict[str, Callable[[], tuple[Any, ...]]] = {
        "data": lambda: _fitted(days, rank, scale),
        "content": lambda: _assumed(days, _standard(days.training.item_features)),
        "nothing": lambda: _assumed(days, np.zeros((len(days.new), 0))),
    }
    _check_start(start)
    return _padded(days, made[start](), rank, scale)


def refitted(days: Days, start: Start, trace: Trace, *, rank: int = 4) -> Knowledge:
    """Returns the model of a start that has learned from what happened since.

    It is the model with data, fitted to all rewards that were given; to the log of earlier users as
    well where the start has it, and without content features where the start has none.

    Args:
        days: The environment.
        start: One of `STARTS`.
        trace: What happened, of at least one reward.
        rank: As in `knowledge_of`.

    Returns:
        The model, with arrays of the same shapes as those of `knowledge_of`.

    Raises:
        ValueError: As `knowledge_of`, or if nothing was shown.
    """
    _check_start(start)
    training = days.training
    log = training.interactions
    earlier = log.user if start == "data" else np.zeros(0, np.int64)
    rows = len(earlier)
    now, user = np.nonzero(np.asarray(trace.item) >= 0)
    if not len(now):
        raise ValueError("trace must have a reward, got none.")
    reward = np.asarray(trace.reward, np.float64)[now, user]
    count = len(log.user_ids) + np.shape(trace.item)[1]
    whole = from_columns(
        np.concatenate([earlier, len(log.user_ids) + user]),
        np.concatenate([log.item[:rows], np.asarray(trace.item)[now, user]]),
        np.concatenate([log.rating[:rows], reward]),
        np.zeros(rows + len(now), np.int64),
        user_ids=np.array([f"{number:09d}" for number in range(count)]),
        item_ids=log.item_ids,
    )
    content = training.item_features[:, : 0 if start == "nothing" else None]
    learned = days._replace(training=training._replace(interactions=whole, item_features=content))
    scale = days.middle + 2 * days.unit * np.array([-1.0, 1.0])
    return _padded(days, _fitted(learned, rank, scale), rank, scale)


def _padded(days: Days, found: tuple[Any, ...], rank: int, scale: np.ndarray) -> Knowledge:
    width = 1 + max(rank, days.training.item_features.shape[1])
    return Knowledge(
        *(
            jnp.asarray(
                np.pad(leaf, ((0, 0), (0, width - leaf.shape[1]))) if np.ndim(leaf) == 2 else leaf,
                jnp.float32,
            )
            for leaf in (*found[:-1], scale, found[-1])
        )
    )


def _standard(features: np.ndarray) -> np.ndarray:
    """Returns content features that are centred, of mean square 1 an item."""
    centred = np.asarray(features, np.float64) - np.mean(features, axis=0)
    return centred / np.sqrt(max(np.mean(np.sum(centred**2, axis=1)), 1e-12))


def _assumed(days: Days, content: np.ndarray) -> tuple[Any, ...]:
    """Returns fields of `Knowledge` without data."""
    items, unit = len(content), days.unit
    ones, nothing = np.ones((items, 1)), np.zeros(items)
    return (
        days.middle,
        unit * np.concatenate([_BIAS * ones, _TASTES * content], axis=1),
        unit * np.concatenate([_LEVEL * ones, _BY_CONTENT * content], axis=1),
        (_OWN * unit) ** 2,
        (_NOISE * unit) ** 2,
        nothing,
        nothing,
        nothing,
        nothing,
    )


def _fitted(days: Days, rank: int, scale: np.ndarray) -> tuple[Any, ...]:
    """Returns fields of `Knowledge` by the log of earlier users."""
    training, log = days.training, days.training.interactions
    factors = fit_factors(log, rank=rank)
    factors, _ = with_attributes(factors, training)
    mean, bias, vectors, prior_mean, prior, noise = (
        np.asarray(leaf, np.float64) for leaf in factors
    )
    x = np.insert(vectors, 0, 1.0, axis=1)
    users, found = user_posteriors(factors, log)
    row = np.searchsorted(users, log.user)
    # Part of the user in each rating, and its variance, which is noise to the item.
    part = np.sum(x[log.item] * (found.mean[row] - prior_mean), axis=1)
    spread = np.einsum("rf,rfg,rg->r", x[log.item], found.covariance[row], x[log.item])
    precise = 1 / (spread + float(noise))
    items, rest = len(bias), log.rating - part
    precision = np.bincount(log.item, precise, items)
    weighted = np.bincount(log.item, precise * rest, items)
    rated = precision > 0
    shares = np.clip((log.rating - scale[0]) / (scale[1] - scale[0]), 0, 1)
    levels = fit_levels(
        training.item_features[rated],
        weighted[rated] / precision[rated],
        precision[rated],
        noise=1.0,
    )
    features = np.insert(training.item_features - levels.middle, 0, 1.0, axis=1)
    _, design, _ = standardised(mean + bias, x, prior_mean, prior)
    return (
        levels.centre,
        design,
        features * np.sqrt(levels.prior),
        max(levels.own, 1e-6),
        noise,
        precision,
        weighted - levels.centre * precision,
        log.item_counts.astype(np.float64),
        np.bincount(log.item, shares, items),
    )
