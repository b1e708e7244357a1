import itertools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.exploration import (
    Beliefs,
    LoggedFeedback,
    Slate,
    by_position,
    epsilon_greedy,
    evaluate,
    evaluate_lists,
    logged,
)
from metajax.exploration.off_policy import (
    action_means,
    bootstrap_ratio,
    contributions,
    cross_fitted,
    refitted,
    resampled_values,
    ridge_rewards,
)

LOG = LoggedFeedback(
    action=np.array([0, 1, 2, 0, 1]),
    reward=np.array([1.0, 0, 2, 3, 1]),
    propensity=np.array([0.5, 0.25, 0.25, 0.5, 0.1]),
)
TARGET = np.array([0.1, 0.5, 0.4])
# Predictions of one row, for all rows.
Q = np.array([2.0, 1.0, 0.5])


def model(log, weights):
    return jnp.tile(jnp.asarray(Q, jnp.float32), (len(weights), 1))


@pytest.mark.parametrize(
    ("estimator", "settings", "expected"),
    [
        # Weights are .2, 2, 1.6, .2 and 5.
        ("ips", {}, (0.2 + 0 + 3.2 + 0.6 + 5) / 5),
        ("ips", {"clip": 2.0}, (0.2 + 0 + 3.2 + 0.6 + 2) / 5),
        ("snips", {}, (0.2 + 0 + 3.2 + 0.6 + 5) / 9),
        ("snips", {"clip": 2.0}, (0.2 + 0 + 3.2 + 0.6 + 2) / 6),
        ("dm", {}, 0.2 + 0.5 + 0.2),
        ("dr", {}, 0.9 + (0.2 * -1 + 2 * -1 + 1.6 * 1.5 + 0.2 * 1 + 5 * 0) / 5),
        ("dr", {"clip": 1.0}, 0.9 + (0.2 * -1 - 1 + 1.5 + 0.2 + 0) / 5),
        ("switch_dr", {"switch": 1.7}, 0.9 + (0.2 * -1 + 1.6 * 1.5 + 0.2 * 1) / 5),
    ],
)
def test_an_estimator_is_its_arithmetic(estimator, settings, expected):
    found = evaluate(LOG, TARGET, estimator, model=model, folds=2, resamples=50, **settings)
    np.testing.assert_allclose(found.value, expected, rtol=1e-6)
    assert found.low <= found.value + 1e-6
    assert found.value <= found.high + 1e-6
    # Before clipping.
    weights = np.array([0.2, 2, 1.6, 0.2, 5])
    assert found.ess == pytest.approx(81 / np.sum(weights**2), rel=1e-6)
    parts = weights * LOG.reward
    assert found.reward_ess == pytest.approx(81 / np.sum(parts**2), rel=1e-6)
    assert found.largest_weight == pytest.approx(5, rel=1e-6)
    assert found.mean_weight == pytest.approx(9 / 5, rel=1e-6)
    assert (found.estimator, found.rows) == (estimator, 5)


S, R, A = 2000, 400, 3
LOGGING, OTHER = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
RATES = np.array([0.2, 0.4, 0.5])


@pytest.fixture(scope="module")
def simulated():
    """S logs of R rows, `[S, R]`."""
    rng = np.random.default_rng(0)
    action = rng.choice(A, (S, R), p=LOGGING)
    reward = (rng.random((S, R)) < RATES[action]).astype(np.float32)
    return jnp.asarray(action, jnp.int32), jnp.asarray(reward)


def simulated_log(action, reward):
    place, chances = jnp.zeros_like(action), jnp.asarray(LOGGING, jnp.float32)
    return LoggedFeedback(action, reward, chances[action], place)


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_intervals_cover_the_truth_as_often_as_they_say(simulated, estimator):
    target = jnp.tile(jnp.asarray(OTHER, jnp.float32), (R, 1))
    fit, fold = action_means(A), jnp.arange(R) % 2

    def predict(action, reward):
        return cross_fitted(fit, simulated_log(action, reward), fold, 2)

    def terms(action, reward, predicted):
        return contributions(estimator, simulated_log(action, reward), target, predicted)[:2]

    # In two steps, as `evaluate` does.
    predicted = jax.jit(jax.vmap(predict))(*simulated)
    action, reward = simulated
    numerator, denominator = jax.vmap(terms)(action, reward, predicted)
    value, low, high = bootstrap_ratio(numerator, denominator, resamples=500)
    truth = OTHER @ RATES
    assert abs(np.mean(value) - truth) < 3 * np.std(value) / np.sqrt(S)
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["dm", "switch_dr"])
def test_intervals_know_that_the_model_was_estimated(simulated, estimator):
    # The last action has a weight of 2.5: switch-DR leaves it to the model.
    target = jnp.tile(jnp.asarray(OTHER, jnp.float32), (R, 1))
    counts = jnp.asarray(np.random.default_rng(1).multinomial(R, np.full(R, 1 / R), 200))
    fit, fold = action_means(A, strength=0.5), jnp.arange(R) % 2

    def predict(action, reward):
        return refitted(estimator, fit, simulated_log(action, reward), counts, fold, 2)

    def replicates(action, reward, predicted):
        log = simulated_log(action, reward)
        return resampled_values(estimator, log, target, predicted, counts, switch=2.0)

    models, values = jax.jit(jax.vmap(predict)), []
    for start in range(0, 800, 100):
        action, reward = (array[start : start + 100] for array in simulated)
        values.append(jax.vmap(replicates)(action, reward, models(action, reward)))
    values = np.concatenate(values)
    low, high = np.percentile(values, (2.5, 97.5), axis=1)
    truth = OTHER @ RATES
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.97


def draw(propensities, rates, rows=4000, seed=0):
    rng = np.random.default_rng(seed)
    action = rng.choice(len(rates), rows, p=propensities)
    reward = (rng.random(rows) < np.asarray(rates)[action]).astype(float)
    return LoggedFeedback(action, reward, np.asarray(propensities)[action])


def test_a_propensity_that_is_made_up_lets_a_worse_policy_win_and_is_noticed():
    log = draw([0.9, 0.1], [0.3, 0.5])
    often, best = ([1.0, 0.0], [0.0, 1.0])
    right = [evaluate(log, target, "ips", resamples=200) for target in (often, best)]
    assert right[0].value < right[1].value
    assert not right[0].notes
    assert not any("mean weight" in note for note in right[1].notes)
    forced = log._replace(propensity=np.full(len(log.action), 0.5))
    wrong = [evaluate(forced, target, "ips", resamples=200) for target in (often, best)]
    assert wrong[0].value > wrong[1].value  # .54 and .10 for .3 and .5.
    assert all("the mean weight is" in found.notes[0] for found in wrong)


def test_actions_that_the_log_never_shows_are_noticed():
    log = draw([0.5, 0.5, 0.0], [0.1, 0.2, 0.9])
    found = evaluate(log, [0.3, 0.2, 0.5], "ips", resamples=200)
    assert found.value < 0.2  # The truth is .52.
    assert "the mean weight is 0.5" in found.notes[0]
    assert found.notes[1] == "50% of the policy is on actions that the log never shows there"
    assert evaluate(log, [0.3, 0.7, 0.0], "ips", resamples=200).notes == ()


def test_positions_are_not_mixed():
    rng = np.random.default_rng(0)
    action, position = rng.integers(3, size=(2, 6000))
    rates = np.array([[0.9, 0.2, 0.1], [0.1, 0.5, 0.1], [0.1, 0.1, 0.1]])
    reward = (rng.random(6000) < rates[position, action]).astype(float)
    log = LoggedFeedback(action, reward, np.full(6000, 1 / 3), position)
    target = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    each = (target * rates).sum(axis=1)
    found = evaluate(log, target, "ips", resamples=300)
    assert found.low < each.mean() < found.high
    parts = by_position(log, target, "ips", resamples=300)
    for part, truth in zip(parts, each, strict=True):
        assert part.low < truth < part.high
    rows = [part.rows for part in parts]
    np.testing.assert_allclose(np.average([p.value for p in parts], weights=rows), found.value)
    # The first position's distribution for all of them.
    with pytest.raises(ValueError, match=r"target must be \[P, A\] or \[R, A\], as the log has 3"):
        evaluate(log, target[0])
    mixed = evaluate(log, np.tile(target[0], (6000, 1)), "ips", resamples=300)
    assert not mixed.low < each.mean() < mixed.high


def test_rows_of_one_list_are_drawn_together():
    log = draw([0.5, 0.5], [0.2, 0.4], 500)
    action, reward, propensity = (np.repeat(array, 2) for array in log[:3])
    twice = LoggedFeedback(action, reward, propensity)
    alone = evaluate(twice, [0.2, 0.8], "ips")
    together = evaluate(twice._replace(slate=np.repeat(np.arange(500), 2)), [0.2, 0.8], "ips")
    ratio = (together.high - together.low) / (alone.high - alone.low)
    np.testing.assert_allclose(ratio, np.sqrt(2), rtol=0.15)


def test_a_model_is_not_asked_about_rows_that_it_has_seen():
    fold = jnp.array([0, 0, 1, 1, 1])
    fit = action_means(3)
    log = LOG._replace(position=np.zeros(5, int))
    before = cross_fitted(fit, log, fold, 2)
    changed = log._replace(reward=np.where(fold == 0, 100.0, log.reward))
    after = cross_fitted(fit, changed, fold, 2)
    np.testing.assert_array_equal(after[fold == 0], before[fold == 0])
    assert (after[fold == 1] != before[fold == 1]).all()


def test_reward_models_are_their_formulas():
    log = LoggedFeedback(
        action=np.array([0, 0, 1, 1, 1]),
        reward=np.array([1.0, 3, 2, 0, 9]),
        position=np.array([0, 1, 0, 0, 1]),
        context=np.array([[1.0], [2], [3], [4], [5]]),
    )
    weights = jnp.array([1.0, 2, 1, 1, 0])
    table = action_means(2, 2, strength=2.0)(log, weights)
    # Position 0 has the mean 1, position 1 the mean 3; the last row does not count.
    first = [(1 + 2 * 1) / (1 + 2), (2 + 0 + 2 * 1) / (2 + 2)]
    second = [(6 + 2 * 3) / (2 + 2), 3]
    np.testing.assert_allclose(table, [first, second, first, first, second], rtol=1e-6)

    table = ridge_rewards(2, penalty=0.5)(log, weights)
    design = np.concatenate([np.ones((5, 1)), log.context], axis=1)
    mean = (1 + 6 + 2 + 0) / 5
    for action in (0, 1):
        w = np.asarray(weights) * (log.action == action)
        gram = design.T @ (w[:, None] * design) + 0.5 * np.eye(2)
        coefficients = np.linalg.solve(gram, design.T @ (w * (log.reward - mean)))
        np.testing.assert_allclose(table[:, action], mean + design @ coefficients, rtol=1e-4)


LISTS = list(itertools.permutations(range(3), 2))


def uniform_log(conditional, reward):
    """Each list of two of three items once: the expectation over the lists is the average."""
    action = np.array(LISTS).ravel()
    chances = [1 / 3, 1 / 2] if conditional else [1 / 3, 1 / 3]
    return LoggedFeedback(
        action,
        np.array([reward(items, place) for items in LISTS for place in range(2)]),
        np.tile(chances, 6),
        np.tile([0, 1], 6),
        np.repeat(np.arange(6), 2),
        conditional=conditional,
    )


def test_a_cascade_is_the_sum_over_all_lists():
    # The second reward depends on the first item.
    reward = lambda items, place: items[0] + 1.0 if not place else items[0] * 3.0 + items[1]  # noqa: E731
    log = uniform_log(True, reward)
    policy = epsilon_greedy(k=2, epsilon=0.4)
    beliefs, mask = Beliefs(jnp.array([0.1, 0.3, 0.2])), jnp.ones(3, bool)
    chances = np.asarray(
        jax.vmap(policy.propensities, (None, None, 0))(beliefs, mask, jnp.array(LISTS))
    )
    taken = np.array([[chances[n, j, items[j]] for j in range(2)] for n, items in enumerate(LISTS)])
    truth = sum(
        taken[n].prod() * sum(reward(items, j) for j in range(2)) for n, items in enumerate(LISTS)
    )
    found = evaluate_lists(log, taken.ravel(), assumption="cascade", resamples=100)
    np.testing.assert_allclose(found.value, truth, rtol=1e-5)
    normalised = evaluate_lists(
        log, taken.ravel(), assumption="cascade", normalised=True, resamples=100
    )
    # The weights of all lists average 1 at either position, so nothing is left to normalise.
    np.testing.assert_allclose(normalised.value, truth, rtol=1e-5)
    assert found.rows == 6
    assert found.largest_weight == pytest.approx(taken.prod(axis=1).max() * 6, rel=1e-5)
    # At the second position, where it is lower.
    weights = taken.prod(axis=1)
    assert found.ess == pytest.approx(weights.sum() ** 2 / (weights**2).sum(), rel=1e-5)


def test_independent_positions_are_the_sum_over_items():
    worth = np.array([[1.0, 2, 3], [0, 5, 1]])
    log = uniform_log(False, lambda items, place: worth[place, items[place]])
    target = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    found = evaluate_lists(
        log, target[log.position, log.action], assumption="independent", resamples=100
    )
    np.testing.assert_allclose(found.value, (target * worth).sum(), rtol=1e-6)
    assert found.low < found.value < found.high
    clipped = evaluate_lists(
        log, target[log.position, log.action], assumption="independent", clip=0.5, resamples=100
    )
    expected = (np.minimum(target, 0.5 / 3) * worth).sum()
    np.testing.assert_allclose(clipped.value, expected, rtol=1e-6)


def test_shorter_lists_count_where_they_are():
    log = LoggedFeedback(
        np.array([0, 1, 0]),
        np.array([1.0, 4, 2]),
        np.ones(3),
        np.array([0, 1, 0]),
        np.array([7, 7, 9]),
        conditional=True,
    )
    for normalised in (False, True):
        found = evaluate_lists(
            log, np.ones(3), assumption="cascade", normalised=normalised, resamples=20
        )
        np.testing.assert_allclose(found.value, (1 + 4 + 2) / 2)
        assert found.notes == ()


def test_a_log_leaves_out_what_was_not_shown():
    slates = Slate(
        items=jnp.array([[3, 1], [2, -1]]),
        propensity=jnp.array([[0.5, 0.25], [1.0, 0.0]]),
        standard_error=jnp.zeros((2, 2)),
        shown=jnp.array([[True, True], [True, False]]),
    )
    log = logged(slates, np.array([[1.0, 0], [1, np.nan]]), conditional=True, contexts=np.eye(2))
    assert log.action.tolist() == [3, 1, 2]
    assert log.reward.tolist() == [1, 0, 1]
    assert log.propensity.tolist() == [0.5, 0.25, 1]
    assert log.context.tolist() == [[1, 0], [1, 0], [0, 1]]
    assert log.conditional
    with pytest.raises(ValueError, match=r"slates and rewards must be \[S, K\]"):
        logged(slates, np.ones(2), conditional=True)


LISTED = LOG._replace(
    position=np.array([0, 1, 0, 1, 2]), slate=np.array([4, 4, 5, 5, 5]), conditional=True
)
UNKNOWN = LOG._replace(propensity=None)


def at(field, row, value) -> LoggedFeedback:
    array: Any = np.array(getattr(LOG, field))
    array[row] = value
    return LoggedFeedback(**(LOG._asdict() | {field: array}))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *(
            (
                lambda e=e, s=s: evaluate(UNKNOWN, TARGET, cast("Any", e), **cast("Any", s)),
                f"propensity must be .* for {e};",
            )
            for e, s in [("ips", {}), ("snips", {}), ("dr", {}), ("switch_dr", {"switch": 1.0})]
        ),
        *(
            (
                lambda p=p: evaluate(at("propensity", 3, p), TARGET),
                rf"propensity must be in \(0, 1\], got {p} in row 3",
            )
            for p in (0.0, 1.5, np.nan, -0.1)
        ),
        (lambda: evaluate(at("reward", 2, np.inf), TARGET), "reward must be finite, got inf in ro"),
        (lambda: evaluate(at("action", 1, 7), TARGET), "action must be .* below 3, got 7 in row 1"),
        (lambda: evaluate(at("action", 1, -1), TARGET), "action must be .* got -1 in row 1"),
        (lambda: evaluate(LOG._replace(action=LOG.reward), TARGET), "action must be integers"),
        (lambda: evaluate(LOG._replace(reward=np.ones(4)), TARGET), r"reward must be \[5\], got"),
        (lambda: evaluate(LOG._replace(context=np.ones(5)), TARGET), r"context must be \[5, D\]"),
        (lambda: evaluate(LoggedFeedback(np.array([], int), []), TARGET), r"action must be \[R\]"),
        (lambda: evaluate(LOG, TARGET * 2), "target must be probabilities .* got a sum of 2 in"),
        (lambda: evaluate(LOG, TARGET * np.nan), "target must be probabilities"),
        (lambda: evaluate(LOG, np.ones((2, 3)) / 3), r"target must be \[A\], \[1, A\] or \[5, A\]"),
        (
            lambda: evaluate(LOG, TARGET, cast("Any", "ipw")),
            "estimator must be one of ips, snips, dm, dr, swit",
        ),
        (lambda: evaluate(LOG, TARGET, clip=0.0), "clip must be > 0 and finite, or None, got 0.0"),
        (lambda: evaluate(LOG, TARGET, "switch_dr"), "switch must be given for switch_dr"),
        (lambda: evaluate(LOG, TARGET, switch=1.0), "switch must be given for switch_dr"),
        (lambda: evaluate(LOG, TARGET, "dr", folds=9), "folds must be from 2 to .*, 5, got 9"),
        (lambda: evaluate(LOG, TARGET, resamples=0), "resamples must be >= 1, got 0"),
        (lambda: evaluate(LISTED, np.ones((3, 3)) / 3), "propensity must be marginal, and this"),
        (lambda: by_position(LISTED, np.ones((3, 3)) / 3), "propensity must be marginal"),
        (
            lambda: by_position(LOG._replace(position=np.full(5, 1)), np.ones((2, 3)) / 3),
            "position must have all of 0 to 1, got none of 0",
        ),
        (
            lambda: evaluate_lists(LISTED, np.ones(5), assumption="independent"),
            "propensity must be marginal for independent, this log's is conditional",
        ),
        (
            lambda: evaluate_lists(
                LISTED._replace(conditional=False), np.ones(5), assumption="cascade"
            ),
            "propensity must be conditional for cascade, this log's is marginal",
        ),
        (
            lambda: evaluate_lists(LOG, np.ones(5), assumption="cascade"),
            "slate must be in the log",
        ),
        (
            lambda: evaluate_lists(LISTED, np.ones(5) * 2, assumption="cascade"),
            r"target must be in \[0, 1\], got 2.0 in row 0",
        ),
        (
            lambda: evaluate_lists(LISTED, np.ones(4), assumption="cascade"),
            r"target must be \[5\], got \[4\]",
        ),
        (
            lambda: evaluate_lists(
                LISTED._replace(position=np.array([0, 1, 0, 2, 3])),
                np.ones(5),
                assumption="cascade",
            ),
            "position 1 of list 5 must be in the log",
        ),
        (
            lambda: evaluate_lists(
                LISTED._replace(position=np.array([0, 0, 0, 1, 2])),
                np.ones(5),
                assumption="cascade",
            ),
            "position must occur once in a list",
        ),
        (lambda: action_means(2, strength=0), "strength must be > 0"),
        (lambda: ridge_rewards(2, penalty=-1), "penalty must be > 0"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_direct_method_needs_no_propensities():
    found = evaluate(UNKNOWN, TARGET, "dm", model=model, resamples=20)
    np.testing.assert_allclose(found.value, 0.9, rtol=1e-6)
    assert found.ess is None
    assert found.largest_weight is None
