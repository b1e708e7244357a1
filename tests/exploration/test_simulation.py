from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import exploration
from metajax.data import load
from metajax.exploration import (
    Arm,
    Environment,
    Knowledge,
    Trace,
    arm_of,
    best_possible,
    first_days,
    item_levels,
    knowledge_of,
    outcome_of,
    policy_of,
    refitted,
    replayed,
    retention,
    simulate,
    synthetic,
)
from metajax.exploration.first_days import METRICS
from metajax.exploration.worlds import STARTS

ROUNDS = 8
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def days():
    return synthetic(users=30, items=20, rounds=ROUNDS, warm_users=40, seed=0)


@pytest.fixture(scope="module")
def known(days):
    return knowledge_of(days, "data", rank=3)


@pytest.fixture(scope="module")
def traces(days, known):
    """By policy, and of the best possible."""
    names = ("greedy", "linear_thompson")
    found = {n: simulate(days.environment, known, arm_of(n), KEY, rounds=ROUNDS) for n in names}
    return found | {"best": best_possible(days.environment, known, KEY, rounds=ROUNDS)}


def dense(features, own, precision, total):
    """Means and variances of levels in the space of items, with dense matrices."""
    rated = precision > 0
    prior = features @ features.T + own * np.eye(len(features))
    seen = prior[np.ix_(rated, rated)] + np.diag(1 / precision[rated])
    gain = np.linalg.solve(seen, prior[rated]).T
    return gain @ (total / np.maximum(precision, 1e-9))[rated], np.diag(prior - gain @ prior[rated])


def test_levels_of_items_are_a_gaussian_process_of_their_features():
    rng = np.random.default_rng(0)
    x, precision = rng.normal(size=(7, 3)), rng.gamma(1.0, 3.0, 7)
    precision[2] = 0
    total = precision * rng.normal(size=7)
    given = (x, 0.3, 1.0, precision, total, precision, [1.0, 5.0], np.zeros(7))
    arrays = (jnp.asarray(a, jnp.float32) for a in given)
    model = Knowledge(jnp.float32(2), jnp.zeros((7, 1)), *arrays)
    mean, variance = item_levels(model, model.precision, model.total)
    expected, spread = dense(x, 0.3, precision, total)
    np.testing.assert_allclose(mean, 2 + expected, atol=1e-4)
    np.testing.assert_allclose(variance, spread, atol=1e-4)


def test_greedy_lists_are_those_of_the_model_in_plain_numpy(days):
    environment, known = days.environment, knowledge_of(days, "content", rank=3)
    trace = simulate(environment, known, arm_of("greedy"), KEY, rounds=ROUNDS)
    item, _, reward = (np.asarray(leaf) for leaf in trace)
    x, noise = np.asarray(known.vectors, np.float64), float(known.noise)
    features, own = np.asarray(known.features, np.float64), float(known.own)
    precision, total = (np.asarray(a, np.float64) for a in (known.precision, known.total))
    users, width = len(item[0]), x.shape[1]
    mean, spread = np.zeros((users, width)), np.tile(np.eye(width), (users, 1, 1))
    met = np.zeros(environment.mean.shape, bool)
    for now in range(ROUNDS):
        level, doubt = dense(features, own, precision, total)
        level = level + float(known.centre)
        added = np.zeros((2, len(level)))
        for u in np.flatnonzero(np.asarray(environment.user_arrival) <= now):
            free = (np.asarray(environment.item_arrival) <= now) & ~met[u]
            scores = np.where(free, level + x @ mean[u], -np.inf)
            i = item[now, u]
            assert scores[i] >= scores.max() - 1e-3
            met[u, i] = True
            # The item learns what the user's part leaves of the reward.
            weight = 1 / (x[i] @ spread[u] @ x[i] + noise)
            rest = reward[now, u] - float(known.centre) - x[i] @ mean[u]
            added[:, i] += weight, weight * rest
            inverse = np.linalg.inv(spread[u])
            scale = noise + doubt[i]
            spread[u] = np.linalg.inv(inverse + np.outer(x[i], x[i]) / scale)
            mean[u] = spread[u] @ (inverse @ mean[u] + x[i] * (reward[now, u] - level[i]) / scale)
        precision, total = precision + added[0], total + added[1]


def test_ucb1_sees_the_rewards_of_items_alone_as_in_plain_numpy(days, known):
    environment = days.environment
    trace = simulate(environment, known, arm_of("ucb1"), KEY, rounds=ROUNDS)
    item, _, reward = (np.asarray(leaf) for leaf in trace)
    log = days.training.interactions
    shares = np.clip((log.rating - 1) / 4, 0, 1)
    total, count = (np.bincount(log.item, of, 20) for of in (shares, np.ones(len(shares))))
    np.testing.assert_allclose(known.successes, total, rtol=1e-5)
    met = np.zeros(environment.mean.shape, bool)
    for now in range(ROUNDS):
        with np.errstate(divide="ignore", invalid="ignore"):
            bounds = total / count + np.sqrt(2 * np.log(count.sum()) / count)
        bounds[count == 0] = np.inf
        here = np.flatnonzero(item[now] >= 0)
        free = (np.asarray(environment.item_arrival) <= now) & ~met[here]
        best = np.where(free, bounds, -np.inf).max(axis=1)
        assert (bounds[item[now, here]] >= best - 1e-5).all()
        met[here, item[now, here]] = True
        earned = np.clip((reward[now, here] - 1) / 4, 0, 1)
        total = total + np.bincount(item[now, here], earned, 20)
        count = count + np.bincount(item[now, here], minlength=20)
    assert (total[days.new] > 0).any()


def test_beta_thompson_draws_from_the_posteriors_of_the_rewards_so_far():
    # Six users come first; what they give moves the draws of the next.
    early, late = 6, 3000
    mean = jnp.tile(jnp.array([1.5, 3.0, 4.0, 6.0]), (early + late, 1))
    when = jnp.where(jnp.arange(early + late) < early, 0, 1)
    environment = Environment(mean, jnp.float32(0.5), when, jnp.zeros(4, jnp.int32))
    x, nothing = jnp.zeros((4, 1)), jnp.zeros(4)
    one = jnp.float32(1)
    scale = jnp.array([1.0, 5.0])
    model = Knowledge(one, x, x, one, one, nothing, nothing, nothing, scale, nothing)
    trace = simulate(environment, model, arm_of("beta_thompson"), KEY, rounds=2)
    item, reward = np.asarray(trace.item), np.asarray(trace.reward)
    share = np.clip((reward[0, :early] - 1) / 4, 0, 1)
    good = np.bincount(item[0, :early], share, 4)
    seen = np.bincount(item[0, :early], minlength=4)
    draws = np.random.default_rng(0).beta(1 + good, 1 + seen - good, (200_000, 4)).argmax(axis=1)
    expected = np.bincount(draws, minlength=4) / len(draws)
    found = np.bincount(item[1, early:], minlength=4) / late
    error = np.sqrt(expected * (1 - expected) * (1 / late + 1 / len(draws)))
    assert (np.abs(found - expected) < 4 * error).all()
    # Uniform draws are not within reach of that, so that the update shows.
    assert (np.abs(expected - 0.25) > 8 * error).any()


def test_bounds_by_the_variance_of_the_model_are_those_of_linear_ucb(days, known):
    linear = simulate(days.environment, known, arm_of("linear_ucb"), KEY, rounds=ROUNDS)
    plain = simulate(days.environment, known, Arm(policy_of("ucb", k=1)), KEY, rounds=ROUNDS)
    np.testing.assert_array_equal(linear.item, plain.item)


def test_an_item_comes_once_and_nobody_and_nothing_comes_too_early(days, traces):
    environment = days.environment
    for trace in traces.values():
        item = np.asarray(trace.item)
        now, user = np.nonzero(item >= 0)
        shown = item[now, user]
        assert (np.asarray(environment.user_arrival)[user] <= now).all()
        assert (np.asarray(environment.item_arrival)[shown] <= now).all()
        assert len({*zip(user, shown, strict=True)}) == len(shown)
        here = np.asarray(environment.user_arrival)[None] <= np.arange(ROUNDS)[:, None]
        np.testing.assert_array_equal(item >= 0, here)
        mean = np.asarray(environment.mean)[user, shown]
        np.testing.assert_array_equal(np.asarray(trace.mean)[now, user], mean)
    assert days.new.sum() == 6


def test_a_user_gives_an_item_the_same_reward_under_every_policy(traces):
    rewards = [
        {
            (u, int(i)): float(r)
            for row, given in zip(np.asarray(t.item), np.asarray(t.reward), strict=True)
            for u, (i, r) in enumerate(zip(row, given, strict=True))
            if i >= 0
        }
        for t in traces.values()
    ]
    shared = set(rewards[0]) & set(rewards[1])
    assert len(shared) > 20
    assert all(rewards[0][pair] == rewards[1][pair] for pair in shared)
    noise = [rewards[0][pair] for pair in shared]
    assert np.std(noise) > 0.5


def test_no_policy_earns_more_than_the_best_possible(days, traces):
    best = np.asarray(traces["best"].mean).sum(axis=0)
    for name in ("greedy", "linear_thompson"):
        found = outcome_of(traces[name], traces["best"], days)
        assert (found.values["regret"] > -1e-4).all()
        earned = np.asarray(traces[name].mean).sum(axis=0)
        np.testing.assert_allclose(found.values["regret"], best - earned, atol=1e-4)
        assert found.regret[-1] == pytest.approx(found.values["regret"].mean())


def test_what_is_known_of_users_and_items_converges_to_the_truth():
    rng = np.random.default_rng(1)
    vectors, level = rng.normal(size=(40, 2)), rng.normal(size=40)
    people = rng.normal(size=(25, 2))
    mean = level + people @ vectors.T
    when = jnp.zeros(25, jnp.int32), jnp.zeros(40, jnp.int32)
    environment = Environment(jnp.asarray(mean, jnp.float32), jnp.float32(0.01), *when)
    nothing = jnp.zeros(40)
    model = Knowledge(
        jnp.float32(0), jnp.asarray(vectors, jnp.float32), jnp.zeros((40, 1)), jnp.float32(1),
        jnp.float32(0.01), nothing, nothing, nothing, jnp.array([-3.0, 3.0]), nothing,
    )  # fmt: skip
    # At random, so that the order is none of the policy's, and after that the best known.
    trace = simulate(environment, model, arm_of("random"), KEY, rounds=20)
    best = best_possible(environment, model, KEY, rounds=20)
    assert outcome_of(trace, best, DAYS._replace(new=np.zeros(40, bool))).regret[-1] > 10
    greedy = simulate(environment, model, arm_of("greedy"), KEY, rounds=20)
    late = np.asarray(best.mean)[10:].mean() - np.asarray(greedy.mean)[10:].mean()
    first = np.asarray(best.mean)[0].mean() - np.asarray(greedy.mean)[0].mean()
    assert first > 1
    assert abs(late) < 0.2 * first


DAYS = exploration.Days("made", None, None, np.array([False, True]), 4.0, 3.0, 1.0)  # type: ignore


def test_figures_of_a_trace_by_hand():
    # The second user comes in the second round.
    trace = Trace(
        *(jnp.array(a) for a in ([[0, -1], [1, 0]], [[3.0, 0], [5, 4]], [[2.0, 0], [6, 4]]))
    )
    best = Trace(
        *(jnp.array(a) for a in ([[1, -1], [0, 0]], [[5.0, 0], [3, 4]], [[6.0, 0], [2, 4]]))
    )
    found = outcome_of(trace, best, DAYS)
    assert found.values["regret"].tolist() == [0, 0]
    assert found.regret.tolist() == [1, 0]
    assert found.success.tolist() == [0.5, 1]
    assert found.values["first_success"].tolist() == [0, 1]
    assert found.values["success"].tolist() == [0.5, 1]
    # After a failure q is .35 and the hazard .0845; after a success .65 and .0245.
    stays = [1 - 0.2 * 0.65**2, (1 - 0.2 * 0.65**2) * (1 - 0.2 * (1 - 0.545) ** 2)]
    assert found.values["retention"].tolist() == pytest.approx([stays[1], 1 - 0.2 * 0.35**2])
    assert found.values["stayed_success"].tolist() == pytest.approx([stays[0], 1])
    assert found.coverage == 1
    success = np.array([[False], [True]])
    np.testing.assert_allclose(retention(success, np.ones((2, 1), bool))[:, 0], stays)


def test_every_start_is_a_model_of_the_same_shapes_and_data_tell_most(days):
    models = {start: knowledge_of(days, start, rank=3) for start in STARTS}
    shapes = {str(jax.tree.map(jnp.shape, model)) for model in models.values()}
    assert len(shapes) == 1
    truth = np.asarray(days.environment.mean).mean(axis=0)
    errors = {}
    for start, model in models.items():
        level, variance = item_levels(model, model.precision, model.total)
        errors[start] = np.mean(((level - truth) ** 2)[~days.new])
        assert (np.asarray(variance)[days.new] > 1e-6).all()
    assert errors["data"] < 0.3 * min(errors["content"], errors["nothing"])
    fitted = models["data"]
    assert (np.asarray(fitted.precision > 0) == ~days.new).all()
    log = days.training.interactions
    np.testing.assert_array_equal(fitted.count, log.item_counts)


def test_a_refit_that_tells_nothing_new_changes_no_list():
    # Levels are known, so that a user's coefficients depend on their own rewards alone.
    rng = np.random.default_rng(2)
    vectors, level = rng.normal(size=(30, 2)), rng.normal(size=30)
    mean = level + rng.normal(size=(12, 2)) @ vectors.T
    when = jnp.asarray(np.arange(12) % 4, jnp.int32), jnp.zeros(30, jnp.int32)
    environment = Environment(jnp.asarray(mean, jnp.float32), jnp.float32(0.2), *when)
    sure, nothing = jnp.full(30, 1e6), jnp.zeros(30)
    model = Knowledge(
        jnp.float32(0), jnp.asarray(vectors, jnp.float32), jnp.zeros((30, 1)), jnp.float32(1),
        jnp.float32(0.2), sure, sure * jnp.asarray(level, jnp.float32), nothing,
        jnp.array([-3.0, 3.0]), nothing,
    )  # fmt: skip
    seen = []

    def refit(trace):
        seen.append(np.asarray(trace.item))
        return model

    for name in ("greedy", "linear_thompson"):
        arm = arm_of(name)
        plain = simulate(environment, model, arm, KEY, rounds=8)
        seen.clear()
        again = simulate(environment, model, arm, KEY, rounds=8, refit=refit, every=3)
        np.testing.assert_array_equal(again.item, plain.item)
        np.testing.assert_allclose(again.reward, plain.reward, atol=1e-6)
        assert len(seen) == 2
        for rounds, items in zip((3, 6), seen, strict=True):
            np.testing.assert_array_equal(items[:rounds], np.asarray(plain.item)[:rounds])
            assert (items[rounds:] == -1).all()


def test_lists_after_a_refit_are_those_of_the_new_vectors_and_all_rewards():
    rng = np.random.default_rng(3)
    vectors, level = rng.normal(size=(30, 2)), rng.normal(size=30)
    mean = level + rng.normal(size=(20, 2)) @ vectors.T
    when = jnp.zeros(20, jnp.int32), jnp.zeros(30, jnp.int32)
    environment = Environment(jnp.asarray(mean, jnp.float32), jnp.float32(0.2), *when)
    sure, nothing = jnp.full(30, 1e6), jnp.zeros(30)
    blank = Knowledge(
        jnp.float32(0), jnp.zeros((30, 2)), jnp.zeros((30, 1)), jnp.float32(1), jnp.float32(0.2),
        nothing, nothing, nothing, jnp.array([-3.0, 3.0]), nothing,
    )  # fmt: skip
    told = blank._replace(
        vectors=jnp.asarray(vectors, jnp.float32),
        precision=sure,
        total=sure * jnp.asarray(level, jnp.float32),
    )
    trace = simulate(
        environment, blank, arm_of("greedy"), KEY, rounds=6, refit=lambda trace: told, every=5
    )
    item, reward = np.asarray(trace.item), np.asarray(trace.reward)
    for u in range(20):
        x, y = vectors[item[:5, u]], reward[:5, u] - level[item[:5, u]]
        coefficients = np.linalg.solve(np.eye(2) + x.T @ x / 0.2, x.T @ y / 0.2)
        scores = level + vectors @ coefficients
        scores[item[:5, u]] = -np.inf
        assert scores[item[5, u]] >= scores.max() - 1e-3


@pytest.mark.parametrize("start", STARTS)
def test_a_refitted_model_knows_what_happened_and_what_its_start_knew(days, start):
    known = knowledge_of(days, start, rank=3)
    trace = simulate(days.environment, known, arm_of("random"), KEY, rounds=ROUNDS)
    found = refitted(days, start, trace, rank=3)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, known)
    item, reward = np.asarray(trace.item), np.asarray(trace.reward)
    count = np.bincount(item[item >= 0], minlength=20)
    np.testing.assert_array_equal(found.count, np.asarray(known.count) + count)
    total = np.bincount(item[item >= 0], np.clip((reward[item >= 0] - 1) / 4, 0, 1), 20)
    np.testing.assert_allclose(found.successes, np.asarray(known.successes) + total, rtol=1e-4)
    # Each reward of the trace enters: with others, another model.
    other = refitted(days, start, trace._replace(reward=trace.reward[::-1]), rank=3)
    assert np.abs(np.asarray(other.vectors - found.vectors)).max() > 1e-3
    turned = days.training.item_features[::-1]
    moved = days._replace(training=days.training._replace(item_features=turned))
    content = refitted(moved, start, trace, rank=3)
    same = np.allclose(content.features, found.features)
    assert same == (start == "nothing")


def test_refits_are_part_of_the_first_days(days):
    def regret(**settings):
        records = first_days(lambda seed: days, policies=["greedy"], starts=["content"], **settings)
        return next(r["points"] for r in records if r.get("curve") == "regret")

    plain, refits = regret(rounds=ROUNDS), regret(rounds=ROUNDS, refit_every=3)
    # The first refit is after three rounds.
    assert plain[:3] == refits[:3]
    assert plain[3:] != refits[3:]


def test_held_out_people_are_shown_what_they_have_rated(small):
    dataset = load(small)
    days = replayed(dataset, new_items=0.2, rounds=4, seed=3)
    log, training = dataset.interactions, days.training.interactions
    mean = np.asarray(days.environment.mean)
    held = np.setdiff1d(log.users, training.users)
    assert mean.shape == (len(held), 30)
    for row, user in zip(mean, held, strict=True):
        rows = slice(log.offsets[user], log.offsets[user + 1])
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(row)), np.sort(log.item[rows]))
        assert (row[log.item[rows]] == log.rating[rows]).all()
    assert not days.new[training.item].any()
    assert days.new.sum() == 6
    assert (days.threshold, days.middle, days.unit) == (4.0, 3.0, 1.0)
    some = np.asarray(replayed(dataset, users=2, new_items=0.2, seed=3).environment.mean)
    assert len(some) == 2
    assert all((np.nan_to_num(row) == np.nan_to_num(mean)).all(axis=1).any() for row in some)
    # Whoever has been shown everything is shown nothing more.
    known = knowledge_of(days, "nothing")
    trace = simulate(days.environment, known, arm_of("greedy"), KEY, rounds=40)
    assert (np.sum(np.asarray(trace.item) >= 0, axis=0) == np.isfinite(mean).sum(axis=1)).all()
    assert (np.asarray(trace.reward)[np.asarray(trace.item) < 0] == 0).all()


def test_records_pair_policies_on_the_same_users(days):
    stages = []
    records = first_days(
        lambda seed: days, policies=["softmax"], starts=["nothing"], seeds=[0, 5], rounds=3,
        on_stage=stages.append,
    )  # fmt: skip
    assert len(stages) == 2 * 3
    of = {(r["policy"], r["metric"]): r for r in records if "metric" in r}
    assert {metric for _, metric in of} == {*METRICS, "coverage"}
    for metric in METRICS:
        mine, other = of["softmax", metric], of["greedy", metric]
        assert mine["difference"] == pytest.approx(mine["mean"] - other["mean"])
        assert mine["difference_low"] <= mine["difference"] <= mine["difference_high"]
        assert (mine["users"], mine["seeds"], mine["reference"]) == (60, [0, 5], "greedy")
        assert "difference" not in other
    values = {
        r["curve"]: r["points"] for r in records if r.get("curve") and r["policy"] == "greedy"
    }
    assert set(values) == {"regret", "success", "staying"}
    assert len(values["regret"]) == 3
    assert values["regret"][-1] == pytest.approx(of["greedy", "regret"]["mean"], rel=1e-4)
    first = of["greedy", "first_success"]
    share = first["mean"]
    error = 1.96 * np.sqrt(share * (1 - share) / 59)
    assert first["high"] - share == pytest.approx(error)


def run(arguments):
    environment, model, arm, rounds = arguments
    return simulate(environment, model, arm, KEY, rounds=rounds)


def changed(**changes):
    return lambda days, known: (days.environment, known._replace(**changes), arm_of("greedy"), 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (changed(noise=jnp.float32(0)), "knowledge.noise must be > 0"),
        (changed(own=jnp.float32(-1)), "knowledge.own must be >= 0"),
        (changed(scale=jnp.array([5.0, 5.0])), "knowledge.scale must be lowest < highest"),
        (changed(successes=jnp.zeros(3)), r"knowledge.successes must be \[20\], got \[3\]"),
        (
            lambda d, k: (d.environment, k, Arm(policy_of("greedy", k=1), prior=-1.0), 3),
            "arm.prior must be >= 0 and finite, got -1",
        ),
        (changed(precision=jnp.zeros(3)), r"knowledge.precision must be \[20\], got \[3\]"),
        (changed(vectors=jnp.zeros((3, 2))), r"knowledge.vectors must be \[20, F\]"),
        (
            lambda d, k: (d.environment._replace(mean=jnp.zeros(3)), k, arm_of("greedy"), 3),
            r"environment.mean must be \[U, N\]",
        ),
        (lambda d, k: (d.environment, k, arm_of("greedy"), 0), "rounds must be a whole number"),
        (
            lambda d, k: (d.environment, k, Arm(policy_of("greedy", k=2)), 3),
            "arm.policy must show 1 position, got 2",
        ),
        (lambda d, k: arm_of("gredy"), "did you mean 'greedy'"),
        (
            lambda d, k: knowledge_of(d, cast(Any, "some")),
            "start must be one of data, content, nothing",
        ),
        (
            lambda d, k: simulate(d.environment, k, arm_of("greedy"), KEY, rounds=3, every=0),
            "every must be a whole number >= 1, got 0",
        ),
        (
            lambda d, k: refitted(d, cast(Any, "some"), Trace(*(jnp.zeros((1, 30)),) * 3)),
            "start must be one of data, content, nothing",
        ),
        (
            lambda d, k: refitted(d, "data", Trace(*(jnp.full((1, 30), -1),) * 3)),
            "trace must have a reward, got none",
        ),
        (lambda d, k: synthetic(users=0), "users must be >= 1, got 0"),
        (lambda d, k: synthetic(rounds=0), "rounds must be >= 1, got 0"),
        (lambda d, k: synthetic(new_items=1.0), r"new_items must be in \[0, 1\), got 1.0"),
        (
            lambda d, k: first_days(lambda s: d, policies=["softmax", "softmax"]),
            "policies must be one or more, each once",
        ),
    ],
)
def test_bad_input_is_named(days, known, make, message):
    with pytest.raises(ValueError, match=message):
        run(make(days, known))


def test_a_log_without_ratings_is_not_replayed(small):
    dataset = load(small)._replace(scale=None)
    with pytest.raises(ValueError, match="data must have ratings to be replayed"):
        replayed(dataset)
    with pytest.raises(ValueError, match=r"fold must be in \[0, 5\), got 5"):
        replayed(load(small), fold=5)
    with pytest.raises(ValueError, match="users must be >= 1, got 0"):
        replayed(load(small), users=0)
