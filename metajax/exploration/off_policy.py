"""Value of a policy from the log of another: IPS, SNIPS, DM, DR and switch-DR, and lists.

The weight of a row is the propensity of the evaluated policy over that of the logging policy. The
estimators of a single position are means or ratios of contributions of the rows, so one bootstrap
serves them all; the effective sample size and the largest weight are always beside the value.

References:
    Dudik, Langford and Li, Doubly Robust Policy Evaluation and Learning, ICML 2011, sections 2, 3.
    Swaminathan and Joachims, The Self-Normalized Estimator for Counterfactual Learning, NeurIPS
    2015, section 4.
    Wang, Agarwal and Dudik, Optimal and Adaptive Off-policy Evaluation in Contextual Bandits, ICML
    2017, section 4.
    Chernozhukov et al., Double/Debiased Machine Learning, The Econometrics Journal 21, 2018,
    section 3: cross-fitting.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from metajax import gaussian
from metajax.evaluation.intervals import resampled_sums
from metajax.exploration.logs import LoggedFeedback, check_log

__all__ = [
    "Contributions",
    "Estimate",
    "Estimator",
    "RewardModel",
    "action_means",
    "bootstrap_ratio",
    "by_position",
    "contributions",
    "cross_fitted",
    "evaluate",
    "evaluate_lists",
    "refitted",
    "resampled_values",
    "ridge_rewards",
]

Estimator = Literal["ips", "snips", "dm", "dr", "switch_dr"]
_ESTIMATORS = ("ips", "snips", "dm", "dr", "switch_dr")

# Standard errors between the mean weight and 1 from which it is no chance any more.
_SURE = 4.0
# Half an interval over its value, from which the value is said to be uncertain.
_WIDE = 0.25


class RewardModel(Protocol):
    """Regression of the reward on context and action."""

    def __call__(self, log: LoggedFeedback, weights: jax.Array, /) -> jax.Array:
        """Predicts the reward of every action in every row.

        Args:
            log: JAX arrays of R rows; `position` is given.
            weights: `[R]` >= 0, how often each row counts in the fit; 0: it is left out.

        Returns:
            `[R, A]` expected rewards, of all rows.
        """
        ...


class Contributions(NamedTuple):
    """Terms of the R rows of a log; the value is the ratio of the sums of the first two."""

    numerator: jax.Array
    """`[R]`."""
    denominator: jax.Array
    """`[R]` the weight for SNIPS, else 1."""
    weight: jax.Array
    """`[R]` before clipping; 0 without propensities."""


class Estimate(NamedTuple):
    """Value of a policy for each item that is shown, or for each list."""

    estimator: str
    """Its name."""
    value: float
    """In the unit of the reward."""
    low: float
    """Lower end of the 95 % percentile bootstrap interval."""
    high: float
    """Upper end."""
    rows: int
    """Number of rows of the log; of lists, of lists."""
    ess: float | None
    """Effective sample size, `(sum w)^2 / sum w^2`, before clipping; None without propensities. Of
    lists, the least over positions."""
    reward_ess: float | None
    """The same of `w * reward`: on how many rows with a reward the value rests."""
    largest_weight: float | None
    """Before clipping."""
    mean_weight: float | None
    """Near 1 where the log supports the policy and its propensities are right."""
    notes: tuple[str, ...]
    """Reasons for doubt, one sentence each."""


def action_means(actions: int, positions: int = 1, *, strength: float = 10.0) -> RewardModel:
    """Reward model of the mean of each action at each position, shrunk to that of the position.

    Args:
        actions: Number of actions A.
        positions: Number of positions.
        strength: Number of rows that the mean of the position counts as, > 0.

    Raises:
        ValueError: If `strength` is out of its range.
    """
    if not 0 < strength < np.inf:
        raise ValueError(f"strength must be > 0 and finite, got {strength}.")

    def predict(log: LoggedFeedback, weights: jax.Array, /) -> jax.Array:
        # Products, as sums over segments are slow in a batch of logs.
        place = jax.nn.one_hot(log.position, positions)
        chosen = jax.nn.one_hot(log.action, actions)
        count = (place * weights[:, None]).T @ chosen
        total = (place * (weights * log.reward)[:, None]).T @ chosen
        mean = jnp.sum(total, axis=1) / jnp.maximum(jnp.sum(count, axis=1), 1e-9)
        return place @ ((total + strength * mean[:, None]) / (count + strength))

    return predict


def ridge_rewards(actions: int, *, penalty: float = 1.0) -> RewardModel:
    """Reward model of a ridge regression on the context, with coefficients of each action.

    Args:
        actions: Number of actions A.
        penalty: Variance of a reward over the prior variance of a coefficient, > 0.

    Raises:
        ValueError: If `penalty` is out of its range.
    """
    if not 0 < penalty < np.inf:
        raise ValueError(f"penalty must be > 0 and finite, got {penalty}.")

    def predict(log: LoggedFeedback, weights: jax.Array, /) -> jax.Array:
        design = jnp.concatenate([jnp.ones((len(weights), 1)), log.context], axis=1)
        mean = jnp.sum(weights * log.reward) / jnp.maximum(jnp.sum(weights), 1e-9)
        noise = penalty / jnp.maximum(weights, 1e-9)

        def of_action(action: jax.Array) -> jax.Array:
            where = (log.action == action) & (weights > 0)
            statistics = gaussian.weighted_statistics(design, log.reward - mean, noise, where)
            return mean + design @ gaussian.posterior(*statistics).mean

        return jax.vmap(of_action, out_axes=1)(jnp.arange(actions))

    return predict


def cross_fitted(
    model: RewardModel,
    log: LoggedFeedback,
    fold: jax.Array,
    folds: int,
    weights: jax.Array | None = None,
) -> jax.Array:
    """Predicts each row by a model that has not seen the rows of its fold.

    Args:
        model: The model.
        log: JAX arrays of R rows.
        fold: `[R]` int32 in `[0, folds)`.
        folds: Number of folds, >= 2.
        weights: `[R]` how often each row counts; None: once.

    Returns:
        `[R, A]` expected rewards.
    """
    weights = jnp.ones(len(fold)) if weights is None else weights
    predicted = model(log, jnp.where(fold != 0, weights, 0))
    for f in range(1, folds):
        others = model(log, jnp.where(fold != f, weights, 0))
        predicted = jnp.where((fold == f)[:, None], others, predicted)
    return predicted


def contributions(
    estimator: Estimator,
    log: LoggedFeedback,
    target: jax.Array,
    predicted: jax.Array | None = None,
    *,
    clip: float | None = None,
    switch: float | None = None,
) -> Contributions:
    """Returns the terms of every row: a pure function, for `jax.vmap` over logs.

    Args:
        estimator: Its name.
        log: R rows.
        target: `[R, A]` propensities of the evaluated policy, of all actions at each row.
        predicted: `[R, A]` expected rewards, for DM, DR and switch-DR.
        clip: Largest weight that counts; None: any.
        switch: Largest weight up to which switch-DR corrects the model; None: any.
    """
    row, action = jnp.arange(len(log.action)), jnp.asarray(log.action)
    one = jnp.ones(len(row))
    taken = target[row, action]
    weight = jnp.zeros(len(row)) if log.propensity is None else taken / log.propensity
    used = weight if clip is None else jnp.minimum(weight, clip)
    if estimator == "ips":
        return Contributions(used * log.reward, one, weight)
    if estimator == "snips":
        return Contributions(used * log.reward, used, weight)
    assert predicted is not None
    direct = jnp.sum(target * predicted, axis=1)
    if estimator == "dm":
        return Contributions(direct, one, weight)
    if estimator == "switch_dr" and switch is not None:
        used = jnp.where(weight <= switch, used, 0)
    return Contributions(direct + used * (log.reward - predicted[row, action]), one, weight)


def refitted(
    estimator: Estimator,
    model: RewardModel,
    log: LoggedFeedback,
    counts: jax.Array,
    fold: jax.Array,
    folds: int,
) -> jax.Array:
    """Predicts by models that are fitted to each of B bootstrap samples.

    The values of DM and switch-DR hang on the model, where DR's does only to second order.

    Args:
        estimator: `dm`, whose model is fitted to all rows, or one that cross-fits it.
        model: The model.
        log: JAX arrays of R rows.
        counts: `[B, R]` how often each sample has each row.
        fold: `[R]` int32 in `[0, folds)`.
        folds: Number of folds, >= 2.

    Returns:
        `[B, R, A]` expected rewards.
    """

    def one(count: jax.Array) -> jax.Array:
        if estimator == "dm":
            return model(log, count)
        return cross_fitted(model, log, fold, folds, count)

    return jax.lax.map(one, counts.astype(jnp.float32))


def resampled_values(
    estimator: Estimator,
    log: LoggedFeedback,
    target: jax.Array,
    predicted: jax.Array,
    counts: jax.Array,
    *,
    clip: float | None = None,
    switch: float | None = None,
) -> jax.Array:
    """Returns the value on each of B bootstrap samples, from the predictions of `refitted`.

    Args:
        estimator: Its name.
        log: R rows.
        target: `[R, A]`.
        predicted: `[B, R, A]`.
        counts: `[B, R]`.
        clip: As in `contributions`.
        switch: As in `contributions`.

    Returns:
        `[B]`.
    """
    terms = jax.vmap(lambda q: contributions(estimator, log, target, q, clip=clip, switch=switch))
    found = terms(predicted)
    return jnp.sum(counts * found.numerator, 1) / jnp.sum(counts * found.denominator, 1)


def bootstrap_ratio(
    numerator: Any,
    denominator: Any,
    *,
    cluster: np.ndarray | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bootstraps the ratio of two sums over the rows of S logs of the same length.

    Args:
        numerator: `[S, R]`.
        denominator: `[S, R]`.
        cluster: `[R]` what is drawn as a whole; None: the row.
        resamples: Number of bootstrap samples, >= 1.
        seed: Of the draws, which are the same for all logs.

    Returns:
        `[S]` the ratios, and the ends of their 95 % percentile intervals; 0 where a sum is 0.
    """
    terms = [np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)]
    index = np.arange(terms[0].shape[1]) if cluster is None else cluster
    drawn = _ratio(*resampled_sums(terms, index, resamples, seed))
    value = _ratio(*(term.sum(axis=1) for term in terms))
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    return value, low, high


def evaluate(
    log: LoggedFeedback,
    target: Any,
    estimator: Estimator = "snips",
    *,
    clip: float | None = None,
    switch: float | None = None,
    model: RewardModel | None = None,
    folds: int = 5,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Estimates the expected reward of an item that a policy shows, from the log of another policy.

    Args:
        log: Of the logging policy, with marginal propensities; the direct method needs none.
        target: Propensities of the evaluated policy, of all A actions: `[A]`; `[P, A]` where
            positions differ; or `[R, A]`, at each row. A log with several positions does not take
            `[A]`, as a policy shows other items first than last.
        estimator: Inverse propensity scores, self-normalised, direct method, doubly robust, or
            doubly robust where the weight is at most `switch`.
        clip: Largest weight that counts, > 0: bias for variance; None: any.
        switch: > 0, for switch-DR alone.
        model: For DM, DR and switch-DR; None: `action_means`. DR and switch-DR cross-fit it.
        folds: Number of folds of the cross-fitting, >= 2.
        resamples: Number of bootstrap samples of the lists, >= 1. For DM and switch-DR the model is
            fitted to each of them; a bias of the model is in no interval.
        seed: Of folds and samples.

    Returns:
        The value with its interval, effective sample size, largest weight, and reasons for doubt.

    Raises:
        ValueError: If an argument does not fit; of a log it names the row.

    Example:
        >>> log = LoggedFeedback(np.array([0, 1, 0, 1]), np.array([1., 0., 1., 1.]), np.full(4, .5))
        >>> found = evaluate(log, [1., 0.], "ips")
        >>> found.value, found.ess, found.largest_weight
        (1.0, 2.0, 2.0)
    """
    if estimator not in _ESTIMATORS:
        raise ValueError(f"estimator must be one of {', '.join(_ESTIMATORS)}, got {estimator!r}.")
    _check_number(clip, "clip")
    if (switch is None) == (estimator == "switch_dr"):
        raise ValueError("switch must be given for switch_dr, and for it alone.")
    _check_number(switch, "switch")
    check_log(log)
    positions = 1 if log.position is None else int(np.max(log.position)) + 1
    table = _target_of_rows(target, log, positions)
    actions = table.shape[1]
    check_log(log, actions=actions)
    if log.propensity is None and estimator != "dm":
        raise ValueError(f"propensity must be in the log for {estimator}; only dm needs none.")
    if log.conditional and positions > 1 and estimator != "dm":
        raise ValueError(
            "propensity must be marginal, and this log's is conditional on the earlier positions: "
            "evaluate_lists takes it, with assumption='cascade'."
        )
    whole, rows = _as_jax(log), jnp.asarray(table, jnp.float32)
    cluster = _clusters(log)
    predicted, fit = None, action_means(actions, positions) if model is None else model
    fold = _folds(cluster, folds, seed) if estimator in ("dr", "switch_dr") else None
    if estimator == "dm":
        predicted = jax.jit(fit)(whole, jnp.ones(len(cluster)))
    elif fold is not None:
        predicted = jax.jit(lambda f: cross_fitted(fit, whole, f, folds))(fold)
    found = contributions(estimator, whole, rows, predicted, clip=clip, switch=switch)
    ends = bootstrap_ratio(
        found.numerator[None],
        found.denominator[None],
        cluster=cluster,
        resamples=resamples,
        seed=seed,
    )
    value, low, high = (float(end[0]) for end in ends)
    if estimator in ("dm", "switch_dr"):
        none = jnp.zeros(len(cluster), jnp.int32)
        fit_all = jax.jit(lambda counts, fold: refitted(estimator, fit, whole, counts, fold, folds))
        drawn = []
        for counts in _samples(cluster, resamples, seed):
            fitted = fit_all(counts, none if fold is None else fold)
            values = resampled_values(
                estimator, whole, rows, fitted, counts, clip=clip, switch=switch
            )
            drawn.append(np.asarray(values))
        low, high = np.percentile(np.concatenate(drawn)[:resamples], (2.5, 97.5))
    unseen = _unseen_share(log, table, positions)
    weights = None if log.propensity is None else np.asarray(found.weight, np.float64)[None]
    return _estimate(estimator, value, low, high, weights, np.asarray(log.reward)[None], unseen)


def by_position(
    log: LoggedFeedback, target: Any, estimator: Estimator = "snips", **settings: Any
) -> tuple[Estimate, ...]:
    """Evaluates a policy at each position on its own.

    Args:
        log: As in `evaluate`.
        target: As in `evaluate`.
        estimator: As in `evaluate`.
        **settings: Of `evaluate`.

    Returns:
        P estimates.

    Raises:
        ValueError: As `evaluate`, or if no row has one of the positions.
    """
    check_log(log)
    position = np.zeros(len(log.action), int) if log.position is None else np.asarray(log.position)
    positions = int(position.max()) + 1
    if log.conditional and positions > 1:
        raise ValueError("propensity must be marginal, and this log's is conditional.")
    table, found = _target_of_rows(target, log, positions), []
    for place in range(positions):
        rows = position == place
        if not rows.any():
            raise ValueError(
                f"position must have all of 0 to {positions - 1}, got none of {place}."
            )
        of: dict[str, Any] = {
            name: None if array is None else np.asarray(array)[rows]
            for name, array in log._asdict().items()
            if name not in ("conditional", "position")
        }
        found.append(evaluate(LoggedFeedback(**of), table[rows], estimator, **settings))
    return tuple(found)


def evaluate_lists(
    log: LoggedFeedback,
    target: Any,
    *,
    assumption: Literal["independent", "cascade"],
    normalised: bool = False,
    clip: float | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Estimates the expected sum of the rewards of a list.

    independent: the reward at a position depends on the item there alone, and its weight is the
    ratio of marginal propensities. cascade: it depends on the items before it too, and its weight
    is the product of the ratios of conditional propensities up to its position.

    Args:
        log: With `slate` and `position`, and propensities of the kind that the assumption needs.
        target: `[R]` propensity of the evaluated policy, of the item of each row at its position
            (for a cascade given the list before it: `Policy.propensities` of the logged list).
        assumption: As above.
        normalised: True to divide by the sum of the weights at each position, as SNIPS.
        clip: Largest weight that counts, > 0; None: any.
        resamples: Number of bootstrap samples of lists, >= 1.
        seed: Of the samples.

    Returns:
        The value of a list with its interval.

    Raises:
        ValueError: If an argument does not fit; of a log it names the row or the list.

    References:
        Li et al., Offline Evaluation of Ranking Policies with Click Models, KDD 2018, section 5.
        McInerney et al., Counterfactual Evaluation of Slate Recommendations with Sequential Reward
        Interactions, KDD 2020, section 3.
    """
    if assumption not in ("independent", "cascade"):
        raise ValueError(f"assumption must be independent or cascade, got {assumption!r}.")
    _check_number(clip, "clip")
    check_log(log)
    for name in ("propensity", "slate", "position"):
        if getattr(log, name) is None:
            raise ValueError(f"{name} must be in the log: lists cannot be evaluated without it.")
    slate, position = np.unique(log.slate, return_inverse=True)[1], np.asarray(log.position)
    lists, positions = int(slate.max()) + 1, int(position.max()) + 1
    if positions > 1 and log.conditional != (assumption == "cascade"):
        needed, other = (
            ("conditional", "marginal") if assumption == "cascade" else ("marginal", "conditional")
        )
        raise ValueError(f"propensity must be {needed} for {assumption}, this log's is {other}.")
    chances = np.asarray(target, np.float64)
    if chances.shape != slate.shape:
        raise ValueError(f"target must be [{len(slate)}], got {list(chances.shape)}.")
    wrong = ~((chances >= 0) & (chances <= 1))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"target must be in [0, 1], got {chances[row]} in row {row}.")
    present = np.zeros((positions, lists), bool)
    present[position, slate] = True
    if present.sum() != len(slate):
        raise ValueError("position must occur once in a list, and one occurs twice.")
    gap = present[1:] & ~present[:-1]
    if gap.any():
        place, at = np.argwhere(gap)[0]
        name = np.unique(log.slate)[at]
        raise ValueError(f"position {place} of list {name} must be in the log, as later ones are.")
    weight, reward = np.zeros((2, positions, lists))
    weight[position, slate] = chances / np.asarray(log.propensity, np.float64)
    reward[position, slate] = log.reward
    if assumption == "cascade":
        weight = np.cumprod(weight, axis=0)
    used = weight if clip is None else np.minimum(weight, clip)
    # Where lists end early, a position counts with the share of lists that reach it.
    reach = present.mean(axis=1)
    terms = [used * reward, used if normalised else present.astype(float)]
    drawn = resampled_sums(terms, np.arange(lists), resamples, seed)
    value = float(_ratio(*(term.sum(axis=1) for term in terms)) @ reach)
    low, high = np.percentile(_ratio(*drawn) @ reach, (2.5, 97.5))
    name = f"{'normalised ' if normalised else ''}{assumption}"
    rewards = np.where(present, reward, 0)
    return _estimate(name, value, low, high, weight, rewards, 0.0, present)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return numerator / np.where(denominator > 0, denominator, 1)


def _check_number(value: float | None, name: str) -> None:
    if value is not None and not 0 < value < np.inf:
        raise ValueError(f"{name} must be > 0 and finite, or None, got {value}.")


def _target_of_rows(target: Any, log: LoggedFeedback, positions: int) -> np.ndarray:
    """Returns `[R, A]`, checked."""
    table, rows = np.asarray(target, np.float64), len(log.action)
    if table.ndim == 1 and positions > 1:
        raise ValueError(
            f"target must be [P, A] or [R, A], as the log has {positions} positions, got "
            f"{list(table.shape)}: a policy shows other items first than last."
        )
    if table.ndim not in (1, 2) or (table.ndim == 2 and len(table) not in (positions, rows)):
        raise ValueError(
            f"target must be [A], [{positions}, A] or [{rows}, A], got {list(table.shape)}."
        )
    wide = np.atleast_2d(table)
    wrong = ~((wide >= 0).all(axis=1) & (np.abs(wide.sum(axis=1) - 1) < 1e-3))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"target must be probabilities that sum to 1, got a sum of {wide[row].sum():g} in row "
            f"{row}."
        )
    if len(wide) == rows:
        return wide
    return wide[0 if log.position is None else np.asarray(log.position)] * np.ones((rows, 1))


def _as_jax(log: LoggedFeedback) -> LoggedFeedback:
    f32 = lambda a: None if a is None else jnp.asarray(a, jnp.float32)  # noqa: E731
    action = jnp.asarray(log.action, jnp.int32)
    return log._replace(
        action=action,
        reward=f32(log.reward),
        propensity=f32(log.propensity),
        position=jnp.zeros_like(action)
        if log.position is None
        else jnp.asarray(log.position, jnp.int32),
        slate=None,
        context=f32(log.context),
    )


def _clusters(log: LoggedFeedback) -> np.ndarray:
    """Returns `[R]` the list of each row, from 0."""
    if log.slate is None:
        return np.arange(len(log.action))
    return np.unique(log.slate, return_inverse=True)[1]


def _folds(cluster: np.ndarray, folds: int, seed: int) -> jax.Array:
    count = int(cluster.max()) + 1
    if not 2 <= folds <= count:
        raise ValueError(f"folds must be from 2 to the number of lists, {count}, got {folds}.")
    order = np.random.default_rng(seed).permutation(count) % folds
    return jnp.asarray(order[cluster], jnp.int32)


# Samples whose counts of rows are in memory at a time.
_SAMPLES_AT_ONCE = 10


def _samples(cluster: np.ndarray, resamples: int, seed: int) -> Iterator[jax.Array]:
    """Yields counts of the rows in bootstrap samples of the lists, at least `resamples` in all."""
    rng, count = np.random.default_rng(seed), int(cluster.max()) + 1
    for _ in range(-(-resamples // _SAMPLES_AT_ONCE)):
        drawn = rng.multinomial(count, np.full(count, 1 / count), _SAMPLES_AT_ONCE)
        yield jnp.asarray(drawn[:, cluster], jnp.float32)


def _unseen_share(log: LoggedFeedback, table: np.ndarray, positions: int) -> float:
    """Returns the share of the policy that lies on actions that the log never has there."""
    place = np.zeros(len(table), int) if log.position is None else np.asarray(log.position)
    seen = np.zeros((positions, table.shape[1]), bool)
    seen[place, np.asarray(log.action)] = True
    return float(np.mean(np.sum(np.where(seen[place], 0, table), axis=1)))


def _estimate(
    name: str,
    value: float,
    low: float,
    high: float,
    weights: np.ndarray | None,
    rewards: np.ndarray,
    unseen: float,
    present: np.ndarray | None = None,
) -> Estimate:
    """Makes the record; weights and rewards are `[P, R]`, of one position or of P of R lists."""
    notes, sizes = [], [None] * 4
    rows = rewards.shape[1]
    if weights is not None:
        parts = weights * rewards
        kept = np.ones(weights.shape, bool) if present is None else present
        mean = [float(w[keep].mean()) for w, keep in zip(weights, kept, strict=True)]
        spread = [
            float(w[keep].std() / np.sqrt(keep.sum()))
            for w, keep in zip(weights, kept, strict=True)
        ]
        sizes = [
            float(min(_effective(w) for w in weights)),
            float(_effective(parts.ravel())),
            float(weights.max()),
            float(np.mean(mean)),
        ]
        for at, error in zip(mean, spread, strict=True):
            # Equal weights beside 1 are no chance either.
            if abs(at - 1) > max(_SURE * error, 1e-3):
                notes.append(
                    f"the mean weight is {at:.3f} and should be 1: the log does not support the "
                    "policy, or its propensities are wrong"
                )
                break
    if unseen > 0.01:
        notes.append(f"{unseen:.0%} of the policy is on actions that the log never shows there")
    if value and (high - low) / 2 > _WIDE * abs(value):
        notes.append(f"the interval is {(high - low) / 2 / abs(value):.0%} of the value to a side")
    ess, reward_ess, largest, mean_weight = sizes
    return Estimate(
        name,
        value,
        float(low),
        float(high),
        rows,
        ess,
        reward_ess,
        largest,
        mean_weight,
        tuple(notes),
    )


def _effective(weights: np.ndarray) -> float:
    square = float(np.sum(weights**2))
    return float(np.sum(np.abs(weights)) ** 2) / square if square else 0.0
