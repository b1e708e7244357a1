import contextlib
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.data.interactions import from_columns
from metajax.data.labels import Labels
from metajax.data.leakage import LeakageError
from metajax.data.splits import cold_user_tasks
from metajax.evaluation.evaluate import (
    ConstantPredictionsError,
    NonFinitePredictionsError,
    concatenate,
    evaluate,
    natural_reading,
)
from metajax.evaluation.intervals import records_of, summarise
from metajax.evaluation.metrics import Metric
from metajax.types import Adaptation

USERS, ITEMS, KS, LENGTH = 9, 12, (0, 1, 3), 4
SCALE = (1.0, 5.0)
USER_FEATURES = np.random.default_rng(1).normal(size=(USERS, 2)).astype(np.float32)
ITEM_FEATURES = np.random.default_rng(2).normal(size=(ITEMS, 2)).astype(np.float32)
BIAS = np.random.default_rng(3).normal(3, 1.5, ITEMS).astype(np.float32)
RATING = np.random.default_rng(4).integers(1, 6, (USERS, ITEMS)).astype(np.float32)


def make_log(lengths):
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(USERS), lengths)
    item = np.concatenate([rng.permutation(ITEMS)[:n] for n in lengths])
    ids = {"user_ids": np.arange(USERS).astype(str), "item_ids": np.arange(ITEMS).astype(str)}
    return from_columns(user, item, RATING[user, item], **ids)


# User 0 has one rating, so an empty pool; user 8 has rated everything.
LOG = make_log([1, 2, 3, 4, 6, 7, 8, 9, 12])
TASKS = cold_user_tasks(LOG, np.arange(USERS), pool=3)


def adapt_bias(params, support, key=None):
    residual = jnp.where(support.mask, support.labels - params[support.inputs.item], 0)
    return jnp.sum(residual) / (jnp.sum(support.mask) + 1)


def predict_bias(params, adapted, inputs):
    return (
        params[inputs.item]
        + adapted
        + 0.3 * jnp.sum(inputs.user_features * inputs.item_features, axis=-1)
    )


BIASES = Adaptation(adapt_bias, predict_bias)


def zero_shot(predict):
    return Adaptation(lambda params, support, key=None: (), lambda params, _, x: predict(params, x))


def judged(
    adaptation, params, tasks=TASKS, *, scale=SCALE, ks=KS, length=LENGTH, chunk=4, **options
):
    options |= {"scale": scale, "ks": ks, "length": length, "chunk": chunk}
    return evaluate(adaptation, params, tasks, USER_FEATURES, ITEM_FEATURES, **options)


def naturally(evaluation):
    found = natural_reading(evaluation)
    assert found is not None
    return found


def measured(per_user):
    """Every field but the users and the run, and every metric by its name."""
    return {**dict(zip(per_user._fields[2:-1], per_user[2:-1], strict=True)), **per_user.values}


def in_plain_numpy(tasks, k, t, *, natural=False):
    user, query = tasks.user[t], slice(*tasks.query_offsets[t : t + 2])
    pool = tasks.support_item[t][tasks.support_mask[t]]
    support, rest = pool[:k], pool[k:]
    shift = (RATING[user, support] - BIAS[support]).sum() / (len(support) + 1)
    scores = BIAS + shift + 0.3 * ITEM_FEATURES @ USER_FEATURES[user]
    item, rating = tasks.query_item[query], tasks.query_rating[query]
    error = np.clip(scores[item], *SCALE) - rating
    liked, left_out, count = set(item[rating >= 4]), set(pool), len(item)
    if natural:
        left_out, count = set(support), count + len(rest)
        liked |= set(rest[RATING[user, rest] >= 4])
    top = [i for i in np.argsort(-scores) if i not in left_out][:LENGTH]
    top += [-1] * (LENGTH - len(top))
    hits = np.array([i in liked for i in top])
    discount = 1 / np.log2(np.arange(LENGTH) + 2)
    return {
        "rmse": (error**2).sum(),
        "mae": np.abs(error).sum(),
        "count": count,
        "ndcg@4": hits @ discount / (discount[: len(liked)].sum() or 1),
        "precision@4": hits.sum() / LENGTH,
        "recall@4": hits.sum() / max(len(liked), 1),
        "hr@1": hits[0],
        "has_relevant": bool(liked),
        "top_items": top,
    }


def test_evaluation_equals_plain_numpy():
    per_user = judged(BIASES, jnp.array(BIAS)).per_user
    for at, k in enumerate(KS):
        for t in range(USERS):
            for name, expected in in_plain_numpy(TASKS, k, t).items():
                value = measured(per_user)[name][at, t]
                np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5, err_msg=name)
    assert 0 < per_user.has_relevant[0].sum() < USERS


def test_the_natural_reading_asks_for_the_rest_of_the_pool_too():
    found = judged(BIASES, jnp.array(BIAS), natural=True)
    plain = judged(BIASES, jnp.array(BIAS))
    assert plain.natural is None
    assert natural_reading(plain) is None
    jax.tree.map(np.testing.assert_array_equal, found.per_user, plain.per_user)
    rest = naturally(found)
    assert [m.name for m in rest.metrics] == [
        "ndcg@4", "precision@4", "recall@4", "hr@1", "coverage@4"
    ]  # fmt: skip
    for at, k in enumerate(KS):
        for t in range(USERS):
            expected = in_plain_numpy(TASKS, k, t, natural=True)
            for name, value in measured(rest.per_user).items():
                np.testing.assert_allclose(
                    value[at, t], expected[name], rtol=1e-5, atol=1e-5, err_msg=name
                )
    # Where the whole pool is shown the readings agree.
    for name, value in measured(rest.per_user).items():
        np.testing.assert_array_equal(value[-1], measured(found.per_user)[name][-1])
        if name in ("count", "ndcg@4", "recall@4"):
            assert not np.array_equal(value[0], measured(found.per_user)[name][0])
    both = concatenate([found, found])
    np.testing.assert_array_equal(naturally(both).per_user.run, np.repeat([0, 1], USERS))
    with pytest.raises(ValueError, match=r"alike .* got .*, also by the natural reading and"):
        concatenate([found, plain])


def test_calibration_equals_plain_numpy():
    """Half of a Gaussian lies within .674 standard deviations of its mean, 90 % within 1.645."""

    def variance(params, adapted, inputs):
        return (1 + inputs.item_features[:, 0]) ** 2

    result = BIASES._replace(predict_variance=variance)
    evaluation = judged(result, jnp.array(BIAS))
    for at, k in enumerate(KS):
        for t in range(USERS):
            user, query = TASKS.user[t], slice(*TASKS.query_offsets[t : t + 2])
            support = TASKS.support_item[t][TASKS.support_mask[t]][:k]
            shift = (RATING[user, support] - BIAS[support]).sum() / (len(support) + 1)
            scores = BIAS + shift + 0.3 * ITEM_FEATURES @ USER_FEATURES[user]
            item = TASKS.query_item[query]
            off = np.abs(scores[item] - TASKS.query_rating[query])
            deviation = np.abs(1 + ITEM_FEATURES[item, 0])
            for name, z in (("within@50", 0.67449), ("within@90", 1.64485)):
                expected = (off <= z * deviation).sum()
                assert evaluation.per_user.values[name][at, t] == expected
    assert "within@50" not in judged(BIASES, jnp.array(BIAS)).per_user.values
    unsure = BIASES._replace(predict_variance=lambda params, adapted, x: jnp.full(ITEMS, jnp.nan))
    with pytest.raises(NonFinitePredictionsError):
        judged(unsure, jnp.array(BIAS))


def test_without_rankings_only_queries_are_scored():
    shapes = []

    def predict(params, adapted, inputs):
        shapes.append(inputs.item.shape)
        return predict_bias(params, adapted, inputs)

    def variance(params, adapted, inputs):
        return 1 + inputs.item_features[:, 0] ** 2

    whole = judged(BIASES._replace(predict_variance=variance), jnp.array(BIAS))
    result = Adaptation(adapt_bias, predict, variance)
    rated = judged(result, jnp.array(BIAS), ranking=False)
    # The longest query is of nine items, padded to a power of two.
    assert shapes == [(16,)]
    for name in ("rmse", "mae", "within@50", "within@90", "has_relevant"):
        ours, theirs = (measured(found.per_user)[name] for found in (rated, whole))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=name)
    assert (rated.per_user.top_items == -1).all()
    assert not {"ndcg@4", "hr@1"} & rated.per_user.values.keys()


def test_an_oracle_has_no_error():
    def known(ratings, inputs):
        # The first feature identifies the user.
        who = jnp.argmin(jnp.abs(inputs.user_features[0, 0] - USER_FEATURES[:, 0]))
        return ratings[who, inputs.item]

    per_user = judged(zero_shot(known), jnp.array(RATING), ks=(0,)).per_user
    np.testing.assert_array_equal(per_user.values["rmse"], 0)
    np.testing.assert_array_equal(per_user.values["mae"], 0)


def test_all_support_sizes_and_chunks_share_one_program():
    traces = []

    def predict(params, inputs):
        traces.append(inputs.item.shape)
        return params[inputs.item]

    adaptation = zero_shot(predict)
    judged(adaptation, jnp.array(BIAS))
    # Another call with the same adaptation and shapes does not compile again either.
    judged(adaptation, jnp.array(BIAS) + 1, seed=3)
    assert traces == [(ITEMS,)]


def test_methods_share_the_program_of_metrics():
    traces = []

    def total(scores, labels, *, where=None):
        traces.append(scores.shape)
        return jnp.sum(scores, where=where)

    found = []
    for bias in (2.0, 3.0):
        rule = zero_shot(lambda params, inputs, bias=bias: params[inputs.item] + bias)
        values = judged(rule, jnp.array(BIAS), metrics=[total]).per_user.values
        found.append(values["total"])
    # The pool is no candidate.
    left = ITEMS - TASKS.support_mask.sum(axis=1)
    np.testing.assert_allclose(found[1] - found[0], np.tile(left, (len(KS), 1)), rtol=1e-4)
    assert traces == [(ITEMS,)]


def test_the_order_and_choice_of_users_change_nothing():
    together = judged(BIASES, jnp.array(BIAS)).per_user
    order = np.random.default_rng(5).permutation(USERS)
    shuffled = judged(BIASES, jnp.array(BIAS), cold_user_tasks(LOG, order, pool=3)).per_user
    alone = judged(BIASES, jnp.array(BIAS), cold_user_tasks(LOG, np.array([6]), pool=3)).per_user
    for name, value in measured(together).items():
        for other, rows in ((shuffled, order), (alone, [6])):
            found = measured(other)[name]
            np.testing.assert_allclose(found, value[:, rows], rtol=1e-6, atol=1e-6)


def test_a_large_catalogue_is_scored_for_fewer_users_at_a_time(monkeypatch):
    widths = []

    def batches(*arguments, **options):
        for batch in made(*arguments, **options):
            widths.append(batch.rating.shape)
            yield batch

    module = importlib.import_module("metajax.evaluation.evaluate")
    made = module._batches
    monkeypatch.setattr(module, "_batches", batches)
    whole = measured(judged(BIASES, jnp.array(BIAS)).per_user)
    monkeypatch.setattr(module, "_SCORES", 2 * ITEMS + 1)
    parts = measured(judged(BIASES, jnp.array(BIAS)).per_user)
    assert widths == 3 * [(4, ITEMS)] + 5 * [(2, ITEMS)]
    for name, value in whole.items():
        np.testing.assert_allclose(value, parts[name], rtol=1e-6, atol=1e-6)


def test_the_chunk_size_changes_nothing():
    one, many = (judged(BIASES, jnp.array(BIAS), chunk=chunk).per_user for chunk in (2, 100))
    for name, value in measured(one).items():
        np.testing.assert_allclose(value, measured(many)[name], rtol=1e-6, atol=1e-6)


def test_a_method_sees_the_first_k_supports_and_no_more():
    def adapt(params, support, key=None):
        return jnp.sum(jnp.where(support.mask, 2.0**support.inputs.item, 0))

    adaptation = Adaptation(adapt, lambda params, seen, x: seen + params[x.item] * 1e-2)
    # Scores are seen + a rank below 0.12, so the error of each query reveals the sum that was seen.
    per_user = judged(adaptation, jnp.arange(12.0), scale=(-9e9, 9e9), relevant=0).per_user
    for t in range(1, USERS):
        query = slice(*TASKS.query_offsets[t : t + 2])
        for at, k in enumerate(KS):
            support = TASKS.support_item[t][TASKS.support_mask[t]][:k]
            scores = (2.0**support).sum() + TASKS.query_item[query] * 1e-2
            expected = np.abs(scores - TASKS.query_rating[query]).sum()
            np.testing.assert_allclose(per_user.values["mae"][at, t], expected, rtol=1e-5)


def test_recommendations_are_never_in_the_pool_or_naturally_in_the_support():
    found = judged(BIASES, jnp.array(BIAS), length=ITEMS, natural=True)
    for t in range(USERS):
        pool = TASKS.support_item[t][TASKS.support_mask[t]]
        for at, k in enumerate(KS):
            for per_user, seen in ((found.per_user, pool), (naturally(found).per_user, pool[:k])):
                top = per_user.top_items[at, t]
                rest = np.setdiff1d(np.arange(ITEMS), seen)
                np.testing.assert_array_equal(np.sort(top[top >= 0]), rest)
                assert (top < 0).sum() == len(seen)


def test_nothing_is_gained_by_predicting_which_items_fall_into_the_pool():
    # Everyone starts with ten of twelve popular items, and likes them, the last two later; then
    # come ten of the forty others.
    users, popular, others = 60, 12, 40
    rng = np.random.default_rng(0)
    item = np.array(
        [
            [*rng.permutation(popular), *(popular + rng.permutation(others)[:10])]
            for _ in range(users)
        ]
    )
    user, time = np.divmod(np.arange(item.size), item.shape[1])
    ids = [np.arange(n).astype(str) for n in (users, popular + others)]
    log = from_columns(
        user, item.ravel(), np.full(item.size, 5.0), time, user_ids=ids[0], item_ids=ids[1]
    )
    tasks = cold_user_tasks(log, np.arange(users), pool=10, order="time")
    count = np.bincount(log.item) / users
    pooled = np.bincount(tasks.support_item.ravel(), minlength=len(count)) / users

    def ndcg(scores):
        options = {"scale": SCALE, "ks": (0, 3), "rating": False, "natural": True}
        features = [np.zeros((n, 1), np.float32) for n in (users, len(count))]
        adaptation = zero_shot(lambda params, x: params[x.item])
        found = evaluate(adaptation, jnp.asarray(scores), tasks, *features, **options)
        return [e.per_user.values["ndcg@10"].mean(1) for e in (found, naturally(found))]

    for knowing in (count - 2 * pooled, -pooled):
        for plain, by_pools in zip(ndcg(count), ndcg(knowing), strict=True):
            assert (by_pools < plain).all()


def test_equal_scores_are_ordered_by_the_seed_and_not_by_the_index():
    # One item stands out, the others are equal.
    adaptation = zero_shot(lambda params, x: jnp.where(x.item == 5, 2.0, 1.0))
    lists = [
        judged(adaptation, (), seed=seed, ks=(0,)).per_user.top_items[0, 0] for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(lists[0], lists[1])
    assert not np.array_equal(lists[0], lists[2])
    assert all(top[0] == 5 for top in lists)
    assert not np.array_equal(lists[0][1:], np.arange(LENGTH - 1))


def test_every_query_item_of_an_implicit_log_is_relevant():
    tasks = TASKS._replace(query_rating=np.ones_like(TASKS.query_rating))
    per_user = judged(BIASES, jnp.array(BIAS), tasks, scale=None, rating=False).per_user
    assert per_user.has_relevant.all()


def test_random_draws_of_a_user_do_not_depend_on_other_users():
    adaptation = Adaptation(
        lambda params, support, key=None: key,
        lambda params, key, x: jax.random.normal(key, (ITEMS,))[x.item],
    )
    key = jax.random.key(0)
    together = judged(adaptation, (), key=key).per_user.top_items
    tasks = cold_user_tasks(LOG, np.array([6]), pool=3)
    alone = judged(adaptation, (), tasks, key=key).per_user.top_items
    np.testing.assert_array_equal(together[:, 6:7], alone)
    assert not np.array_equal(together[0, 6], together[0, 7])


def test_a_ranking_needs_scores_that_differ():
    adaptation = zero_shot(lambda params, x: x.user_features[:, 0] + 3)
    with pytest.raises(ConstantPredictionsError, match="mean predicts the same for every item at"):
        judged(adaptation, (), method="mean")
    # As ratings they are fine: users differ.
    judged(adaptation, (), ranking=False)


def test_constant_predictions_are_refused_unless_allowed():
    adaptation = zero_shot(lambda params, x: jnp.full(x.item.shape, 3.5))
    with pytest.raises(ConstantPredictionsError, match=r"flat predicts 3\.5 for every user"):
        judged(adaptation, (), method="flat", ranking=False)
    judged(adaptation, (), ranking=False, allow_constant=True)


def test_constant_predictions_at_one_support_size_are_found():
    adaptation = Adaptation(
        lambda params, support, key=None: jnp.sum(support.mask) < 1,
        lambda params, empty, x: jnp.where(empty, params[x.item], 0),
    )
    # User 0 has an empty pool and would not collapse.
    tasks = cold_user_tasks(LOG, np.arange(1, USERS), pool=3)
    with pytest.raises(ConstantPredictionsError, match="at K=1 for 8 of 8 users"):
        judged(adaptation, jnp.array(BIAS), tasks)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_named(bad):
    def predict(params, inputs):
        is_four = inputs.user_features[:, 0] == USER_FEATURES[4, 0]
        return jnp.where(is_four & (inputs.item == 2), bad, params[inputs.item])

    message = r"net predicts NaN or infinity at K=0, first for user index 4 \(1 of 9 users\)"
    with pytest.raises(NonFinitePredictionsError, match=message):
        judged(zero_shot(predict), jnp.array(BIAS), method="net")


def test_a_query_item_in_the_support_is_leakage():
    item = TASKS.support_item.copy()
    item[8, 0] = TASKS.query_item[-1]
    with pytest.raises(LeakageError, match="user index 8"):
        judged(BIASES, jnp.array(BIAS), TASKS._replace(support_item=item))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": (0, 4)}, r"ks must be support sizes in \[0, 3\] \(the pool\), got \(0, 4\)"),
        ({"ks": ()}, "ks must be support sizes"),
        ({"scale": None}, "rating needs a scale"),
        ({"length": 0}, "length must be >= 1, got 0"),
        ({"chunk": 0}, "chunk must be >= 1, got 0"),
        ({"tasks": cold_user_tasks(LOG, np.array([], int))}, "tasks must hold at least one user"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        judged(BIASES, jnp.array(BIAS), **options)


def test_tables_must_cover_the_users_and_items():
    for users, items, name in ((USERS - 1, ITEMS, "user"), (USERS, ITEMS - 1, "item")):
        with pytest.raises(ValueError, match=f"{name}_features must be a table with more than"):
            evaluate(
                BIASES,
                BIAS,
                TASKS,
                USER_FEATURES[:users],
                ITEM_FEATURES[:items],
                scale=SCALE,
                ks=KS,
            )


def test_scores_must_be_one_an_item():
    with pytest.raises(ValueError, match=r"predict must return scores \[12\], got \[12, 2\]"):
        judged(zero_shot(lambda params, x: x.item_features), ())


def test_concatenated_runs_keep_their_users_and_numbers():
    one = judged(BIASES, jnp.array(BIAS))
    both = concatenate([one, concatenate([one, one])])
    np.testing.assert_array_equal(both.per_user.user, np.tile(one.per_user.user, 3))
    np.testing.assert_array_equal(both.per_user.run, np.repeat([0, 1, 2], USERS))
    found, expected = (e.per_user.values["ndcg@4"] for e in (both, one))
    np.testing.assert_array_equal(found, np.tile(expected, 3))
    assert both.per_user.top_items.shape == (len(KS), 3 * USERS, LENGTH)


def test_at_a_support_size_that_a_run_lacks_its_users_do_not_count():
    whole = judged(BIASES, jnp.array(BIAS))
    short = judged(BIASES, jnp.array(BIAS), ks=(0, 1))
    for both in (concatenate([whole, short]), concatenate([short, whole])):
        assert both.ks == KS
        uncounted = both.per_user.count[KS.index(3)] == 0
        assert uncounted.sum() == USERS
        assert (both.per_user.top_items[KS.index(3), uncounted] == -1).all()
        records, alone = (
            {
                (r.metric, r.k): r
                for r in records_of(
                    found, kind="baseline", protocol="P1", order="random", seeds=[0], resamples=10
                )
            }
            for found in (both, whole)
        )
        assert set(records) == set(alone)
        for at in (("rmse", 3), ("ndcg@4", 3), ("coverage@4", 3), ("rmse", 1)):
            assert records[at].mean == pytest.approx(alone[at].mean, rel=1e-6)


def test_figures_are_in_the_unit_of_the_log():
    labels = Labels(20.0, 100.0, 20.0, 100.0)
    stars = judged(BIASES, jnp.array(BIAS))
    percent = judged(BIASES, jnp.array(BIAS), labels=labels)
    for name, factor in (("rmse", 20), ("mae", 20), ("mse", 400), ("rmse_user", 20), ("hr@1", 1)):
        found, expected = (summarise(e)[name] for e in (percent, stars))
        np.testing.assert_allclose(found, factor * expected, rtol=1e-6)


def test_metrics_of_ones_own_see_ratings_in_the_unit_of_the_log():
    def highest(scores, labels, *, where):
        return jnp.max(jnp.where(where, jnp.maximum(scores, labels), 0))

    own = Metric("highest", highest, "ratings")
    stars = judged(BIASES, jnp.array(BIAS), metrics=[own]).per_user.values["highest"]
    for labels in (
        Labels(20.0, 100.0, 20.0, 100.0),
        Labels(0.0, 80.0, 0.0, float(np.log1p(80.0)), "log1p"),
    ):
        found = judged(BIASES, jnp.array(BIAS), labels=labels, metrics=[own])
        expected = labels.outside(stars)
        np.testing.assert_allclose(found.per_user.values["highest"], expected, rtol=1e-5)


def test_errors_through_a_transform_are_those_of_the_labels_themselves():
    labels = Labels(0.0, 80.0, 0.0, float(np.log1p(80.0)), "log1p")
    found = judged(BIASES, jnp.array(BIAS), labels=labels)
    own = Metric("own", lambda s, y, *, where: jnp.sum(jnp.where(where, s - y, 0) ** 2), "ratings")
    other = judged(BIASES, jnp.array(BIAS), labels=labels, metrics=[own])
    squares = other.per_user.values["own"]
    np.testing.assert_allclose(found.per_user.values["mse"], squares, rtol=1e-3, atol=1e-9)
    assert found.per_user.values["mse"].max() > 100


def test_only_evaluations_of_one_method_are_concatenated():
    one = judged(BIASES, jnp.array(BIAS))
    with pytest.raises(ValueError, match="evaluations must be alike"):
        concatenate([one, one._replace(method="another")])
    with pytest.raises(ValueError, match="evaluations must hold at least one, got none"):
        concatenate([])


@pytest.mark.parametrize(("varied", "refused"), [(1, True), (2, False)])
def test_a_ranking_is_refused_where_95_percent_of_users_have_constant_lists(varied, refused):
    users = 20
    user, item = np.repeat(np.arange(users), 4), np.tile(np.arange(4), users)
    ids = {"user_ids": np.arange(users).astype(str), "item_ids": np.arange(ITEMS).astype(str)}
    log = from_columns(user, item, RATING[user % USERS, item], **ids)
    tasks = cold_user_tasks(log, np.arange(users), pool=3)
    features = np.arange(users, dtype=np.float32)[:, None]

    def predict(params, x):
        return jnp.where(x.user_features[:, 0] < varied, params[x.item], x.user_features[:, 0])

    def judge():
        evaluate(
            zero_shot(predict), jnp.array(BIAS), tasks, features, ITEM_FEATURES, scale=SCALE, ks=KS
        )

    expected = pytest.raises(ConstantPredictionsError, match="at K=0 for 19 of 20 users")
    with expected if refused else contextlib.nullcontext():
        judge()


def test_scores_are_constant_within_a_millionth_of_their_size():
    def spread(width):
        return zero_shot(lambda params, x: 3 + width * x.item / ITEMS + x.user_features[:, 0])

    judged(spread(1e-3), ())
    with pytest.raises(ConstantPredictionsError, match="the same for every item"):
        judged(spread(1e-7), ())


def test_given_supports_are_seen_at_every_size():
    given = judged(BIASES, jnp.array(BIAS), TASKS._replace(given=1), ks=(0, 2))
    plain = judged(BIASES, jnp.array(BIAS), ks=(1, 3))
    for name, value in measured(plain.per_user).items():
        np.testing.assert_array_equal(measured(given.per_user)[name], value)
    with pytest.raises(ValueError, match=r"ks must be support sizes in \[0, 2\]"):
        judged(BIASES, jnp.array(BIAS), TASKS._replace(given=1), ks=(3,))


def test_lists_are_ordered_by_rank_and_ratings_are_those_of_predict():
    backwards = BIASES._replace(rank=lambda *args: -predict_bias(*args))
    both = judged(backwards, BIAS)
    ratings = judged(BIASES, BIAS, ranking=False)
    only = judged(Adaptation(adapt_bias, lambda *args: -predict_bias(*args)), BIAS, rating=False)
    values = both.per_user.values
    for name in ratings.per_user.values:
        np.testing.assert_allclose(values[name], ratings.per_user.values[name], rtol=1e-5)
    for name in only.per_user.values:
        np.testing.assert_array_equal(values[name], only.per_user.values[name])
    np.testing.assert_array_equal(both.per_user.top_items, only.per_user.top_items)


@pytest.mark.parametrize("fault", ["constant", "not finite", "of another shape"])
def test_a_faulty_order_is_refused(fault):
    ranks = {
        "constant": lambda *args: jnp.zeros(ITEMS),
        "not finite": lambda *args: predict_bias(*args).at[0].set(jnp.nan),
        "of another shape": lambda *args: predict_bias(*args)[:, None],
    }
    error = {"constant": ConstantPredictionsError, "not finite": NonFinitePredictionsError}
    with pytest.raises(error.get(fault, ValueError), match=r"same for every|NaN|rank must return"):
        judged(BIASES._replace(rank=ranks[fault]), BIAS)


def test_an_order_that_is_not_judged_is_not_computed():
    def rank(params, adapted, inputs):
        raise AssertionError("it was")

    assert judged(BIASES._replace(rank=rank), BIAS, ranking=False).per_user.values


def test_a_wide_catalogue_is_scored_a_few_users_at_a_time(monkeypatch):
    module = importlib.import_module("metajax.evaluation.evaluate")
    whole = judged(BIASES, jnp.array(BIAS), chunk=4).per_user
    monkeypatch.setattr(module, "_WIDE", 4 * ITEMS - 1)
    monkeypatch.setattr(module, "_AT_ONCE", 3 * ITEMS)
    assert module._users_at_once(4, ITEMS) == 2
    few = judged(BIASES, jnp.array(BIAS), chunk=4).per_user
    jax.tree.map(np.testing.assert_array_equal, whole, few)
