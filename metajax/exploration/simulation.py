"""Simulation of a system's first days: users arrive, are shown items, react; a policy learns.

A round shows one item to each user who has arrived, and none twice. The model of a reward is

    reward = level of the item + vector of the item . coefficients of the user + noise ,

where the coefficients are standard normal and differ between users, and the level is
`centre + features . weights + own`, with standard normal weights and own parts of one variance.
A user learns from their own rewards, by a rank-one update; levels learn from everyone's, in closed
form, so that a new item starts where its content features put it and moves on from there. In either
update what is not known of the other side counts as noise. Policies of the textbook see none of
this but the sum and the number of each item's rewards, whoever gave them (`Arm.prior`). The vectors
are those of the start, unless the model is refitted to all rewards every few rounds.

References:
    Chapelle and Li, An Empirical Evaluation of Thompson Sampling, NeurIPS 2011, section 3, for the
    simulation with rewards that arrive in batches. Minka, A Family of Algorithms for Approximate
    Bayesian Inference, MIT 2001, section 3, assumed-density filtering, for the two sides in turn.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import gaussian
from metajax.exploration.policies import greedy
from metajax.exploration.slates import Beliefs, Policy
from metajax.types import Posterior

__all__ = [
    "Arm",
    "Environment",
    "Knowledge",
    "Trace",
    "best_possible",
    "item_levels",
    "retention",
    "simulate",
]

# Users whose lists are drawn at once.
_AT_ONCE = 256


class Environment(NamedTuple):
    """U users and N items, and the rewards that the users give."""

    mean: jax.Array
    """`[U, N]` expected reward; NaN where the item cannot be shown to the user."""
    noise: jax.Array
    """`[]` variance of a reward, >= 0."""
    user_arrival: jax.Array
    """`[U]` int32 round in which a user comes first."""
    item_arrival: jax.Array
    """`[N]` int32 round in which an item can be shown first."""


class Knowledge(NamedTuple):
    """A model of rewards before the first round: N items, F coefficients of a user, D features."""

    centre: jax.Array
    """`[]` level of the average item."""
    vectors: jax.Array
    """`[N, F]` by which a user's standard normal coefficients enter the reward."""
    features: jax.Array
    """`[N, D]` by which standard normal weights enter the level; one column may be an intercept."""
    own: jax.Array
    """`[]` variance of the part of a level that features leave open, >= 0."""
    noise: jax.Array
    """`[]` variance of a reward given everything, > 0."""
    precision: jax.Array
    """`[N]` sum over earlier rewards of 1 / variance; 0 for an item without any."""
    total: jax.Array
    """`[N]` sum over earlier rewards of (reward - centre - the user's part) / variance."""
    count: jax.Array
    """`[N]` number of earlier rewards."""
    scale: jax.Array
    """`[2]` lowest and highest reward, which count as 0 and 1 where rewards must be in [0, 1]; what
    lies beyond them is clipped."""
    successes: jax.Array
    """`[N]` sum of earlier rewards on that scale."""


class Arm(NamedTuple):
    """A policy in the simulation, and the uncertainty that it sees."""

    policy: Policy
    """Of lists of one position."""
    of_users: float = 1.0
    """Factor of the standard deviations by what is not known of the user, >= 0: at 0 the policy
    explores items alone."""
    of_items: float = 1.0
    """The same by what is not known of the items."""
    prior: float | None = None
    """None: the policy sees the model. A number >= 0: it sees the rewards of each item alone, in
    [0, 1], after as many successes and as many failures, which is a Beta posterior; the factors
    above have no effect."""


class Trace(NamedTuple):
    """Items shown and rewards of U users in R rounds."""

    item: jax.Array
    """`[R, U]` int32 item that was shown, -1 where none was."""
    mean: jax.Array
    """`[R, U]` expected reward of that item; 0 where none was."""
    reward: jax.Array
    """`[R, U]` the reward; 0 where none was."""


def item_levels(
    knowledge: Knowledge, precision: jax.Array, total: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the posterior of the items' levels given the rewards of everybody.

    With the precision p and total t of an item's rewards, the weights are a linear regression of
    t / p with variance `own + 1 / p`; given them an item keeps the share own p / (1 + own p) of
    its deviation.

    Args:
        knowledge: The model.
        precision: `[N]` as in `Knowledge`, earlier rewards included.
        total: `[N]` likewise.

    Returns:
        `[N]` means and `[N]` variances.
    """
    x, kept = knowledge.features, 1 / (1 + knowledge.own * precision)
    gram = (x * (precision * kept)[:, None]).T @ x
    found = gaussian.posterior(gram, x.T @ (total * kept))
    by_features = x @ found.mean
    mean = by_features + knowledge.own * kept * (total - precision * by_features)
    spread = gaussian.predictive_variance(found.covariance, x, 0.0)
    return knowledge.centre + mean, knowledge.own * kept + kept**2 * spread


class _State(NamedTuple):
    users: Posterior
    met: jax.Array
    precision: jax.Array
    total: jax.Array
    count: jax.Array
    successes: jax.Array


@partial(jax.jit, static_argnames=("arm", "rounds", "informed"))
def _simulated(
    environment: Environment,
    knowledge: Knowledge,
    state: _State,
    first: jax.Array,
    key: jax.Array,
    *,
    arm: Arm,
    rounds: int,
    informed: bool = False,
) -> tuple[_State, Trace]:
    """Simulates rounds `first, ..., first + rounds - 1`."""
    users = len(environment.mean)
    of_draws, of_rewards = jax.random.split(key)
    everyone = jnp.arange(users)
    low, high = knowledge.scale

    def shown_to(
        levels: tuple[jax.Array, ...], row: tuple[Any, ...]
    ) -> tuple[jax.Array, jax.Array]:
        level, own, count, successes = levels
        posterior, allowed, truth, own_key = row
        mean = level + knowledge.vectors @ posterior.mean
        root = knowledge.vectors @ gaussian.covariance_root(posterior.covariance)
        root, own = arm.of_users * root, arm.of_items**2 * own
        variance = jnp.sum(root * root, axis=1) + own
        mean = truth if informed else mean
        beliefs = Beliefs(mean, variance, root, own, count, popularity=count)
        if arm.prior is not None:
            seen = count + 2 * arm.prior
            share = jnp.where(seen > 0, (successes + arm.prior) / jnp.maximum(seen, 1e-9), 0.5)
            beliefs = Beliefs(share, count=seen, popularity=count)
        slate = arm.policy.show(beliefs, allowed, own_key)
        return slate.items[0], slate.shown[0]

    def one_round(state: _State, now: jax.Array) -> tuple[_State, Trace]:
        level, own = item_levels(knowledge, state.precision, state.total)
        allowed = (environment.item_arrival <= now) & ~state.met & jnp.isfinite(environment.mean)
        allowed &= (environment.user_arrival <= now)[:, None]
        keys = jax.random.split(jax.random.fold_in(of_draws, now), users)
        rows = (state.users, allowed, environment.mean, keys)
        item, shown = jax.lax.map(
            partial(shown_to, (level, own, state.count, state.successes)),
            rows,
            batch_size=min(_AT_ONCE, users),
        )
        place = jnp.where(shown, item, 0)
        expected = jnp.where(shown, environment.mean[everyone, place], 0)
        # The same of a user and an item under every policy, so that users are pairs.
        single = lambda user, item: jax.random.normal(  # noqa: E731
            jax.random.fold_in(jax.random.fold_in(of_rewards, user), item)
        )
        noise = jnp.sqrt(environment.noise) * jax.vmap(single)(everyone, place)
        reward = jnp.where(shown, expected + noise, 0)
        x = knowledge.vectors[place]
        spread = jnp.einsum("uf,ufg,ug->u", x, state.users.covariance, x) + knowledge.noise
        by_user = jnp.sum(x * state.users.mean, axis=1)
        success = jnp.clip((reward - low) / (high - low), 0, 1)
        weight = jnp.where(shown, 1 / spread, 0)
        after = jax.vmap(gaussian.rank_one_update)(
            state.users, x, reward - level[place], knowledge.noise + own[place], shown
        )
        return _State(
            after,
            state.met.at[everyone, place].set(state.met[everyone, place] | shown),
            state.precision.at[place].add(weight),
            state.total.at[place].add(weight * (reward - knowledge.centre - by_user)),
            state.count.at[place].add(jnp.where(shown, 1.0, 0.0)),
            state.successes.at[place].add(jnp.where(shown, success, 0)),
        ), Trace(jnp.where(shown, item, -1), expected, reward)

    return jax.lax.scan(one_round, state, first + jnp.arange(rounds))


def _start(environment: Environment, knowledge: Knowledge) -> _State:
    """Returns the state in which no user has seen anything."""
    users, width = len(environment.mean), knowledge.vectors.shape[1]
    eye = jnp.broadcast_to(jnp.eye(width), (users, width, width))
    return _State(
        Posterior(jnp.zeros((users, width)), eye),
        jnp.zeros(environment.mean.shape, bool),
        knowledge.precision,
        knowledge.total,
        knowledge.count,
        knowledge.successes,
    )


@jax.jit
def _refitted(knowledge: Knowledge, state: _State, trace: Trace) -> _State:
    """Returns the state under another model, whose earlier rewards include those of the trace."""
    level, own = item_levels(knowledge, knowledge.precision, knowledge.total)

    def learn(users: Posterior, row: Trace) -> tuple[Posterior, None]:
        shown = row.item >= 0
        place = jnp.where(shown, row.item, 0)
        return jax.vmap(gaussian.rank_one_update)(
            users,
            knowledge.vectors[place],
            row.reward - level[place],
            knowledge.noise + own[place],
            shown,
        ), None

    width = knowledge.vectors.shape[1]
    prior = Posterior(
        jnp.zeros_like(state.users.mean),
        jnp.broadcast_to(jnp.eye(width), state.users.covariance.shape),
    )
    users = jax.lax.scan(learn, prior, trace)[0]
    return state._replace(users=users, precision=knowledge.precision, total=knowledge.total)


def simulate(
    environment: Environment,
    knowledge: Knowledge,
    arm: Arm,
    key: jax.Array,
    *,
    rounds: int,
    refit: Callable[[Trace], Knowledge] | None = None,
    every: int = 5,
) -> Trace:
    """Lets a policy show items for some rounds.

    Args:
        environment: Users, items and rewards.
        knowledge: The model before the first round.
        arm: The policy.
        key: Of the draws; rewards are the same under every policy.
        rounds: Number of rounds R, >= 1.
        refit: From what happened, `[R, U]` with nothing shown in rounds to come, to a model of the
            same shapes that has learned from it, vectors of the items included. Users' coefficients
            are then those of the new model given all their rewards; counts and sums of rewards, for
            `Arm.prior`, go on. None: vectors stay as they are.
        every: Number of rounds between refits, >= 1.

    Returns:
        What happened.

    Raises:
        ValueError: If shapes do not match, a number is out of its range, or the policy draws
            longer lists.
    """
    _check(environment, knowledge, arm, rounds)
    _check_whole("every", every)
    state = _start(environment, knowledge)
    run = partial(_simulated, environment, arm=arm)
    if refit is None:
        return run(knowledge, state, 0, key, rounds=rounds)[1]
    shape = rounds, len(environment.mean)
    trace = Trace(jnp.full(shape, -1, jnp.int32), jnp.zeros(shape), jnp.zeros(shape))
    for first in range(0, rounds, every):
        if first:
            knowledge = refit(trace)
            _check(environment, knowledge, arm, rounds)
            state = _refitted(knowledge, state, trace)
        state, part = run(knowledge, state, first, key, rounds=min(every, rounds - first))
        trace = jax.tree.map(
            lambda whole, rows, first=first: whole.at[first : first + len(rows)].set(rows),
            trace,
            part,
        )
    return trace


def best_possible(
    environment: Environment, knowledge: Knowledge, key: jax.Array, *, rounds: int
) -> Trace:
    """Simulates the oracle, which shows the item of the highest expected reward; as `simulate`."""
    arm = Arm(greedy(k=1))
    _check(environment, knowledge, arm, rounds)
    start = _start(environment, knowledge)
    return _simulated(environment, knowledge, start, 0, key, arm=arm, rounds=rounds, informed=True)[
        1
    ]


def _check(environment: Environment, knowledge: Knowledge, arm: Arm, rounds: int) -> None:
    shape = np.shape(environment.mean)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"environment.mean must be [U, N], at least [1, 1], got {list(shape)}.")
    users, items = shape
    for name, array, length in (
        ("environment.user_arrival", environment.user_arrival, users),
        ("environment.item_arrival", environment.item_arrival, items),
        *(
            (f"knowledge.{n}", getattr(knowledge, n), items)
            for n in ("precision", "total", "count", "successes")
        ),
    ):
        if np.shape(array) != (length,):
            raise ValueError(f"{name} must be [{length}], got {list(np.shape(array))}.")
    for name in ("vectors", "features"):
        found = np.shape(getattr(knowledge, name))
        if len(found) != 2 or found[0] != items:
            raise ValueError(f"knowledge.{name} must be [{items}, F], got {list(found)}.")
    for name, value, low in (
        ("environment.noise", environment.noise, True),
        ("knowledge.own", knowledge.own, True),
        ("knowledge.noise", knowledge.noise, False),
    ):
        fits = np.shape(value) == () and (float(value) >= 0 if low else float(value) > 0)
        if not (fits and np.isfinite(float(value))):
            raise ValueError(f"{name} must be {'>= 0' if low else '> 0'} and finite, got {value}.")
    scale = np.asarray(knowledge.scale)
    if scale.shape != (2,) or not scale[0] < scale[1]:
        raise ValueError(f"knowledge.scale must be lowest < highest, got {scale.tolist()}.")
    if arm.prior is not None and not 0 <= arm.prior < np.inf:
        raise ValueError(f"arm.prior must be >= 0 and finite, got {arm.prior}.")
    _check_whole("rounds", rounds)
    if arm.policy.length != 1:
        raise ValueError(f"arm.policy must show 1 position, got {arm.policy.length}.")


def _check_whole(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {value!r}.")


def retention(success: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Returns the probability that a user is still there after each round, `[R, U]`.

    The experience q of a user starts at .5 and moves by .3 towards the success, 1 or 0, of each
    item shown; after it the user leaves with the hazard `.2 (1 - q)^2`. Users stay in the
    simulation, so that every policy is judged on the same rounds.

    Args:
        success: `[R, U]` bool.
        shown: `[R, U]` bool, True where an item was shown.
    """
    experience = np.full(success.shape[1], 0.5)
    left, found = np.ones(success.shape[1]), np.empty(success.shape)
    for now, (good, here) in enumerate(zip(success, shown, strict=True)):
        experience = np.where(here, 0.7 * experience + 0.3 * good, experience)
        left = np.where(here, left * (1 - 0.2 * (1 - experience) ** 2), left)
        found[now] = left
    return found
