"""Policies: greedy, epsilon-greedy, softmax, upper confidence bounds, and Thompson sampling.

Two constructions make them all. A policy of *positions* has a distribution over what is left at
each position: its propensities are exact, and conditional on the earlier positions. A policy of
*draws* ranks all items by one draw from the posterior, so that a list is one joint draw: its
propensities are marginal, the shares of draws that put the item there.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from metajax import metrics
from metajax.exploration.slates import (
    Beliefs,
    Policy,
    Propensities,
    Slate,
    allowed_at,
    check_beliefs,
)
from metajax.fields import suggestion

__all__ = [
    "POLICIES",
    "beta_thompson",
    "epsilon_greedy",
    "greedy",
    "linear_thompson",
    "linear_ucb",
    "policy_of",
    "softmax",
    "thompson",
    "ucb",
    "ucb1",
    "ucb1_bounds",
    "ucb_bounds",
]

# At a time, so that the draws of many users fit into memory.
_DRAWS_AT_ONCE = 32


def greedy(*, k: int = 10) -> Policy:
    """Shows the highest means; of equal ones the lower index. Every propensity is 1.

    Args:
        k: Length of the list.

    Returns:
        The policy.

    Raises:
        ValueError: If `k` < 1.

    Example:
        >>> slate = greedy(k=2).show(Beliefs(jnp.array([.1, .9, .5])), jnp.ones(3, bool))
        >>> slate.items.tolist(), slate.propensity.tolist()
        ([1, 2], [1.0, 1.0])
    """
    return _of_values(lambda beliefs: beliefs.mean, k)


def epsilon_greedy(
    *,
    k: int = 10,
    epsilon: float = 0.1,
    explore: Literal["uniform", "popularity"] = "uniform",
) -> Policy:
    """Shows, at each position, the highest mean, or with probability epsilon any item that is left.

    Args:
        k: Length of the list.
        epsilon: Probability of exploration at a position, in [0, 1].
        explore: Distribution of the explored item: uniform, or in proportion to
            `Beliefs.popularity` (uniform where that is 0 for all that are left).

    Returns:
        The policy; its propensities are exact and conditional.

    Raises:
        ValueError: If a setting is out of its range.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon}.")
    if explore not in ("uniform", "popularity"):
        raise ValueError(f"explore must be uniform or popularity, got {explore!r}.")

    def probabilities(beliefs: Beliefs, here: jax.Array) -> jax.Array:
        any_of = _share(here.astype(beliefs.mean.dtype))
        if explore == "popularity":
            weights = jnp.where(here, beliefs.popularity, 0)
            any_of = jnp.where(jnp.sum(weights) > 0, _share(weights), any_of)
        return (1 - epsilon) * _best(beliefs.mean, here) + epsilon * any_of

    return _of_positions(probabilities, k, *(["popularity"] if explore == "popularity" else []))


def softmax(*, k: int = 10, temperature: float) -> Policy:
    """Draws each position from the exponential weights of the means of what is left.

    The list has the distribution of Plackett and Luce: that of the k highest of
    `mean / temperature` plus independent Gumbel noise.

    Args:
        k: Length of the list.
        temperature: In the unit of the reward, > 0: a difference of means of that size is a ratio
            of probabilities of e.

    Returns:
        The policy; its propensities are exact and conditional.

    Raises:
        ValueError: If a setting is out of its range.

    References:
        Kool, van Hoof and Welling, Stochastic Beams and Where to Find Them, ICML 2019, section 2.
    """
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature must be > 0 and finite, got {temperature}.")

    def probabilities(beliefs: Beliefs, here: jax.Array) -> jax.Array:
        logits = jnp.where(here, beliefs.mean, -jnp.inf) / temperature
        top = jnp.max(logits, initial=jnp.finfo(logits.dtype).min)
        return _share(jnp.exp(logits - top))

    return _of_positions(probabilities, k)


def ucb_bounds(beliefs: Beliefs, *, width: float = 1.0) -> jax.Array:
    """Returns `mean + width * sqrt(variance)`, `[N]`, in the unit of the reward.

    Args:
        beliefs: With `variance`.
        width: Number of standard deviations, >= 0.
    """
    return beliefs.mean + width * jnp.sqrt(jnp.maximum(beliefs.variance, 0))


def ucb(*, k: int = 10, width: float = 1.0) -> Policy:
    """Shows the highest upper confidence bounds, `ucb_bounds`.

    It is deterministic: every propensity is 1, and its log supports no other policy.

    Args:
        k: Length of the list.
        width: Number of standard deviations, >= 0.

    Returns:
        The policy, for beliefs with `variance`.

    Raises:
        ValueError: If a setting is out of its range.
    """
    _check_width(width)
    return _of_values(lambda beliefs: ucb_bounds(beliefs, width=width), k, "variance")


def linear_ucb(*, k: int = 10, width: float = 1.0) -> Policy:
    """Shows the highest upper confidence bounds of a linear model of the items' vectors.

    The same as `ucb`, for the beliefs of `linear_beliefs` alone.

    Args and Returns: as in `ucb`.

    References:
        Li et al., A Contextual-Bandit Approach to Personalized News Article Recommendation, WWW
        2010, algorithm 1. Differs: the noise of the reward scales the width.
    """
    _check_width(width)
    return _of_values(lambda beliefs: ucb_bounds(beliefs, width=width), k, "variance", "root")


def ucb1_bounds(beliefs: Beliefs, *, scale: float = 1.0) -> jax.Array:
    """Returns `mean + scale * sqrt(2 log(t) / count)`, `[N]`, where t is the sum of counts.

    Args:
        beliefs: With `count`; infinite where it is 0.
        scale: Range of the reward, in its unit, > 0: highest minus lowest.
    """
    total = jnp.maximum(jnp.sum(beliefs.count), 1)
    bonus = scale * jnp.sqrt(2 * jnp.log(total) / jnp.maximum(beliefs.count, 1e-9))
    return jnp.where(beliefs.count > 0, beliefs.mean + bonus, jnp.inf)


def ucb1(*, k: int = 10, scale: float = 1.0) -> Policy:
    """Shows the highest of `ucb1_bounds`, and items without a reward first.

    Args:
        k: Length of the list.
        scale: Range of the reward, in its unit, > 0.

    Returns:
        The policy, for beliefs with `count`, of rewards alone. Every propensity is 1.

    Raises:
        ValueError: If a setting is out of its range.

    References:
        Auer, Cesa-Bianchi and Fischer, Finite-time Analysis of the Multiarmed Bandit Problem,
        Machine Learning 47, 2002, figure 1. Differs: `scale`, 1 there, and lists.
    """
    if not 0 < scale < np.inf:
        raise ValueError(f"scale must be > 0 and finite, got {scale}.")
    return _of_values(lambda beliefs: ucb1_bounds(beliefs, scale=scale), k, "count")


def thompson(*, k: int = 10, draws: int = 1000) -> Policy:
    """Shows the highest of a draw from independent Gaussian posteriors of the items.

    Args:
        k: Length of the list.
        draws: Number of draws that estimate the propensities, >= 1; the list is one of them, so
            that no propensity of a shown item is below `1 / draws`: it is too high by
            `(1 - p) / draws` in expectation, less than the standard error where p > 1 / draws.

    Returns:
        The policy, for beliefs with `variance`; its propensities are marginal.

    Raises:
        ValueError: If a setting is out of its range.

    References:
        Chapelle and Li, An Empirical Evaluation of Thompson Sampling, NeurIPS 2011, algorithm 1.
    """

    def draw(beliefs: Beliefs, key: jax.Array) -> jax.Array:
        noise = jax.random.normal(key, beliefs.mean.shape, beliefs.mean.dtype)
        return beliefs.mean + jnp.sqrt(jnp.maximum(beliefs.variance, 0)) * noise

    return _of_draws(draw, k, draws, "variance")


def linear_thompson(*, k: int = 10, draws: int = 1000) -> Policy:
    """Shows the highest of one joint draw: coefficients from their posterior score every item.

    Where items have a variance of their own, `Beliefs.own`, it is drawn for each besides.

    Args:
        k: Length of the list.
        draws: As in `thompson`.

    Returns:
        The policy, for the beliefs of `linear_beliefs`; its propensities are marginal.

    Raises:
        ValueError: If a setting is out of its range.

    References:
        Agrawal and Goyal, Thompson Sampling for Contextual Bandits with Linear Payoffs, ICML 2013,
        algorithm 1. Differs: the covariance is the posterior's, without a factor for the proof.
    """

    def draw(beliefs: Beliefs, key: jax.Array) -> jax.Array:
        noise = jax.random.normal(key, beliefs.root.shape[1:], beliefs.mean.dtype)
        values = beliefs.mean + beliefs.root @ noise
        if beliefs.own is None:
            return values
        noise = jax.random.normal(jax.random.fold_in(key, 1), values.shape, values.dtype)
        return values + jnp.sqrt(jnp.maximum(beliefs.own, 0)) * noise

    return _of_draws(draw, k, draws, "root")


def beta_thompson(*, k: int = 10, draws: int = 1000) -> Policy:
    """Shows the highest of a draw from the Beta posteriors of rewards in [0, 1].

    Args:
        k: Length of the list.
        draws: As in `thompson`.

    Returns:
        The policy, for beliefs whose `count` includes the prior (`beta_beliefs`); its propensities
        are marginal.

    Raises:
        ValueError: If a setting is out of its range; when it shows, if a mean is not in (0, 1) or a
            count is 0.

    References:
        Cheng, Generating Beta Variates with Nonintegral Shape Parameters, Communications of the ACM
        21, 1978, algorithm BA. Differs: log odds of the draws, which have the same order and are
        not rounded to 1.
    """

    def draw(beliefs: Beliefs, key: jax.Array) -> jax.Array:
        least = 1e-6
        a = jnp.maximum(beliefs.mean * beliefs.count, least)
        b = jnp.maximum((1 - beliefs.mean) * beliefs.count, least)
        return _beta_log_odds(key, a, b)

    return _of_draws(draw, k, draws, "count", unit=True)


POLICIES: Mapping[str, Callable[..., Policy]] = MappingProxyType(
    {
        "greedy": greedy,
        "epsilon_greedy": epsilon_greedy,
        "softmax": softmax,
        "ucb": ucb,
        "ucb1": ucb1,
        "thompson": thompson,
        "beta_thompson": beta_thompson,
        "linear_ucb": linear_ucb,
        "linear_thompson": linear_thompson,
    }
)
"""Policies by name: functions of settings, all with `k`."""


def policy_of(name: str, **settings: Any) -> Policy:
    """Returns a policy of the table.

    Args:
        name: One of `POLICIES`.
        **settings: Arguments of its function.

    Raises:
        ValueError: If there is no such policy or setting, or one is out of its range.

    Example:
        >>> policy_of("gredy")
        Traceback (most recent call last):
        ValueError: there is no policy 'gredy'; did you mean 'greedy'?
    """
    if name not in POLICIES:
        raise ValueError(f"there is no policy {name!r}{suggestion(name, list(POLICIES))}")
    known = list(inspect.signature(POLICIES[name]).parameters)
    for setting in settings:
        if setting not in known:
            raise ValueError(f"{name} has no setting {setting!r}, only {', '.join(known)}.")
    return POLICIES[name](**settings)


def _check_width(width: float) -> None:
    if not 0 <= width < np.inf:
        raise ValueError(f"width must be >= 0 and finite, got {width}.")


def _share(weights: jax.Array) -> jax.Array:
    total = jnp.sum(weights)
    return weights / jnp.where(total > 0, total, 1)


def _best(values: jax.Array, here: jax.Array) -> jax.Array:
    """Returns `[N]` 1 at the highest of the values that take part, or 0 everywhere."""
    # Items that take no part lie below -inf, which a value may be.
    low = jnp.finfo(values.dtype).min
    values = jnp.where(jnp.isnan(values), low, jnp.maximum(values, low))
    best = jnp.argmax(jnp.where(here, values, -jnp.inf))
    return (here & (jnp.arange(len(values)) == best)).astype(values.dtype)


def _drawn(probabilities: jax.Array, key: jax.Array) -> jax.Array:
    """Draws an index by inversion: one random number, however many items there are."""
    sums = jnp.cumsum(probabilities)
    item = jnp.argmax(sums > jax.random.uniform(key, (), sums.dtype) * sums[-1])
    # Rounding of the sums may put the number beside an item of probability 0.
    return jnp.where(probabilities[item] > 0, item, jnp.argmax(probabilities))


def _beta_log_odds(key: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """Draws `log(x / (1 - x))` with x ~ Beta(a, b), `[N]`; NaN where a or b is.

    An attempt takes two uniform numbers for every item from one key, and most succeed at once.
    `jax.random.beta` has a loop, and keys, for each of two gamma variates of each item.
    """
    low, high, both = jnp.minimum(a, b), jnp.maximum(a, b), a + b
    inner = low > 1
    # The 1 keeps the branch that is not taken finite.
    slope = jnp.sqrt((both - 2) / jnp.where(inner, 2 * a * b - both, 1))
    slope = jnp.where(inner, slope, 1 / low)
    odds = jnp.log(low / high)

    def attempt(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        found, waiting, key = state
        key, own = jax.random.split(key)
        first, second = jax.random.uniform(own, (2, *a.shape), a.dtype, minval=1e-7)
        v = slope * jnp.log(first / (1 - first))
        # log((high + low e^v) / both), without cancellation and without overflow.
        near = jnp.log1p(low * jnp.expm1(jnp.minimum(v, 60)) / both)
        sums = jnp.where(v < 60, near, v + jnp.log(low / both))
        fit = (low + 1 / slope) * v - both * sums - np.log(4)
        # A NaN is not rejected, or an item that is masked would be tried for ever.
        rejected = fit < jnp.log(first * first * second)
        return jnp.where(waiting, v + odds, found), waiting & rejected, key

    start = jnp.zeros_like(both), jnp.ones(both.shape, bool), key
    found = jax.lax.while_loop(lambda state: jnp.any(state[1]), attempt, start)[0]
    return jnp.where(a <= b, found, -found)


def _check_length(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a whole number >= 1, got {k!r}.")


def _of_values(values: Callable[[Beliefs], jax.Array], k: int, *needed: str) -> Policy:
    """Makes the policy that shows the highest of some values `[N]`; it needs no key."""
    _check_length(k)

    def show(beliefs: Beliefs, mask: jax.Array, key: jax.Array | None = None, /) -> Slate:
        check_beliefs(beliefs, mask, *needed, k=k)
        items = _ranked(values(beliefs), beliefs, mask, k)
        shown = items >= 0
        chances = shown.astype(beliefs.mean.dtype)
        return Slate(items, chances, jnp.zeros_like(chances), shown)

    return Policy(
        show,
        _conditional(lambda beliefs, here: _best(values(beliefs), here), k, needed),
        conditional=True,
        length=k,
    )


def _of_positions(
    probabilities: Callable[[Beliefs, jax.Array], jax.Array], k: int, *needed: str
) -> Policy:
    """Makes a policy of the distribution `[N]` over what a position may show and no other has."""
    _check_length(k)

    def show(beliefs: Beliefs, mask: jax.Array, key: jax.Array | None = None, /) -> Slate:
        check_beliefs(beliefs, mask, *needed, k=k)
        keys = jax.random.split(_given(key), k)

        def place(free: jax.Array, position: tuple[jax.Array, jax.Array]):
            row, own = position
            here = free & row
            chances = probabilities(beliefs, here)
            item = _drawn(chances, own)
            shown = jnp.any(here)
            free = free & (jnp.arange(len(free)) != item)
            found = jnp.where(shown, item, -1).astype(jnp.int32)
            return free, (found, jnp.where(shown, chances[item], 0), shown)

        free = jnp.ones(beliefs.mean.shape, bool)
        _, (items, chances, shown) = jax.lax.scan(place, free, (allowed_at(beliefs, mask, k), keys))
        return Slate(items, chances, jnp.zeros_like(chances), shown)

    return Policy(show, _conditional(probabilities, k, needed), conditional=True, length=k)


def _conditional(
    probabilities: Callable[[Beliefs, jax.Array], jax.Array], k: int, needed: Sequence[str]
) -> Propensities:
    """Makes the propensities of a distribution over what a position may show and no other has."""

    def propensities(
        beliefs: Beliefs, mask: jax.Array, items: jax.Array, key: jax.Array | None = None, /
    ) -> jax.Array:
        check_beliefs(beliefs, mask, *needed, k=k)
        _check_items(items, k)

        def place(free: jax.Array, position: tuple[jax.Array, jax.Array]):
            row, item = position
            return free & (jnp.arange(len(free)) != item), probabilities(beliefs, free & row)

        free = jnp.ones(beliefs.mean.shape, bool)
        return jax.lax.scan(place, free, (allowed_at(beliefs, mask, k), jnp.asarray(items)))[1]

    return propensities


def _ranked(values: jax.Array, beliefs: Beliefs, mask: jax.Array, k: int) -> jax.Array:
    """Returns the items `[k]` of the highest values, each position of those that it may show."""
    if jnp.ndim(mask) == 1:
        return metrics.top_items(values, k=k, where=allowed_at(beliefs, mask, 1)[0])

    def place(free: jax.Array, row: jax.Array):
        best = _best(values, free & row) > 0
        return free & ~best, jnp.where(jnp.any(best), jnp.argmax(best), -1)

    free = jnp.ones(values.shape, bool)
    return jax.lax.scan(place, free, allowed_at(beliefs, mask, k))[1].astype(jnp.int32)


def _of_draws(
    draw: Callable[[Beliefs, jax.Array], jax.Array],
    k: int,
    draws: int,
    *needed: str,
    unit: bool = False,
) -> Policy:
    """Makes a policy of a draw `[N]` from the posterior; `unit`: of means in (0, 1)."""
    _check_length(k)
    if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 1:
        raise ValueError(f"draws must be a whole number >= 1, got {draws!r}.")

    def ranked(beliefs: Beliefs, mask: jax.Array, key: jax.Array) -> jax.Array:
        return _ranked(draw(beliefs, key), beliefs, mask, k)

    def lists(beliefs: Beliefs, mask: jax.Array, keys: jax.Array) -> jax.Array:
        one = lambda key: ranked(beliefs, mask, key)  # noqa: E731
        return jax.lax.map(one, keys, batch_size=min(draws, _DRAWS_AT_ONCE))

    def check(beliefs: Beliefs, mask: jax.Array) -> None:
        check_beliefs(beliefs, mask, *needed, k=k)
        if unit:
            _check_unit(beliefs, mask)

    def show(beliefs: Beliefs, mask: jax.Array, key: jax.Array | None = None, /) -> Slate:
        check(beliefs, mask)
        keys = jax.random.split(_given(key), draws)
        # On its own, so that a compiler drops the other draws where nobody asks for propensities.
        items = ranked(beliefs, mask, keys[0]).astype(jnp.int32)
        shown = items >= 0
        count = jnp.sum(lists(beliefs, mask, keys) == items, axis=0)
        share = (count / draws).astype(beliefs.mean.dtype)
        # With one success and one failure more, as all draws of one kind are no certainty.
        near = (count + 1) / (draws + 2)
        error = jnp.sqrt(near * (1 - near) / draws).astype(share.dtype)
        return Slate(items, jnp.where(shown, share, 0), jnp.where(shown, error, 0), shown)

    def propensities(
        beliefs: Beliefs, mask: jax.Array, items: jax.Array, key: jax.Array | None = None, /
    ) -> jax.Array:
        check(beliefs, mask)
        _check_items(items, k)
        n = beliefs.mean.shape[0]
        drawn = lists(beliefs, mask, jax.random.split(_given(key), draws))
        # Index n, where nothing is shown, is dropped.
        column = jnp.where(drawn >= 0, drawn, n)
        counts = jnp.zeros((k, n), beliefs.mean.dtype)
        return counts.at[jnp.arange(k), column].add(1, mode="drop") / draws

    return Policy(show, propensities, conditional=False, length=k)


def _given(key: jax.Array | None) -> jax.Array:
    if key is None:
        raise ValueError("key must be given: this policy draws at random.")
    return key


def _check_items(items: jax.Array, k: int) -> None:
    if jnp.shape(items) != (k,):
        raise ValueError(f"items must be [{k}], got {list(jnp.shape(items))}.")


def _check_unit(beliefs: Beliefs, mask: jax.Array) -> None:
    arrays = (beliefs.mean, beliefs.count, mask)
    if any(isinstance(array, jax.core.Tracer) for array in arrays):
        return
    mean, count = np.asarray(beliefs.mean), np.asarray(beliefs.count)
    allowed = np.asarray(mask).reshape(-1, len(mean)).any(axis=0)
    for name, rule, fits, array in (
        ("mean", "in (0, 1)", (mean > 0) & (mean < 1), mean),
        ("count", "> 0", count > 0, count),
    ):
        if (allowed & ~fits).any():
            item = int((allowed & ~fits).argmax())
            raise ValueError(f"{name} must be {rule}, got {float(array[item])} at item {item}.")
