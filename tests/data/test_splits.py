import numpy as np
import pytest

from metajax.data import splits
from metajax.data.interactions import from_columns, select_rows

USERS, ITEMS = 30, 20


@pytest.fixture(scope="module")
def log():
    # Users 0, 1, 2 have none, one and two interactions, the others 3 to 15.
    rng = np.random.default_rng(0)
    counts = np.concatenate([[0, 1, 2], rng.integers(3, 16, USERS - 3)])
    user = np.repeat(np.arange(USERS), counts)
    item = np.concatenate([rng.permutation(ITEMS)[:n] for n in counts])
    return build(user, item, rng.integers(1, 6, len(user)), rng.integers(0, 6, len(user)))


def build(user, item, rating, time):
    ids = [
        np.array([f"{kind}{n:02}" for n in range(size)])
        for kind, size in zip("ui", (USERS, ITEMS), strict=True)
    ]
    return from_columns(user, item, rating, time, user_ids=ids[0], item_ids=ids[1])


def test_folds_test_each_user_once(log):
    folds = splits.cold_user_folds(log, folds=4)
    tested = np.concatenate([fold.test for fold in folds])
    np.testing.assert_array_equal(np.sort(tested), np.arange(1, USERS))
    assert [len(fold.test) for fold in folds] == [8, 7, 7, 7]


def test_the_parts_of_a_fold_hold_every_user_once(log):
    for fold in splits.cold_user_folds(log, folds=3, validation_share=0.25):
        np.testing.assert_array_equal(np.sort(np.concatenate(fold)), np.arange(1, USERS))
        assert len(fold.validation) == round(0.25 * (len(fold.train) + len(fold.validation)))
        assert all((np.diff(part) > 0).all() for part in fold)


def test_no_more_validation_users_than_asked_for_and_the_others_train(log):
    wide = splits.cold_user_folds(log, validation_share=0.5)
    for fold, full in zip(
        splits.cold_user_folds(log, validation_share=0.5, most_validation=3), wide, strict=True
    ):
        assert len(full.validation) > len(fold.validation) == 3
        assert set(full.train) < set(fold.train)
        np.testing.assert_array_equal(fold.test, full.test)


def test_a_seed_is_a_repetition(log):
    first, again, other = (splits.cold_user_folds(log, seed=seed)[0].test for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, r"folds must be in \[2, 29\] \(the users\), got 1"),
        ({"folds": 30}, "got 30"),
        ({"validation_share": 1.0}, r"validation_share must be in \[0, 1\), got 1.0"),
        ({"most_validation": 0}, r"most_validation must be >= 1, got 0"),
    ],
)
def test_folds_out_of_range_are_refused(log, options, message):
    with pytest.raises(ValueError, match=message):
        splits.cold_user_folds(log, **options)


def triples(tasks, t):
    mask, query = tasks.support_mask[t], slice(*tasks.query_offsets[t : t + 2])
    support = zip(tasks.support_item[t][mask], tasks.support_rating[t][mask], strict=True)
    return list(support), list(zip(tasks.query_item[query], tasks.query_rating[query], strict=True))


@pytest.mark.parametrize("order", ["random", "time"])
def test_support_and_query_are_all_that_a_user_rated(log, order):
    tasks = splits.cold_user_tasks(log, np.arange(USERS), pool=4, order=order)
    for t, user in enumerate(tasks.user):
        rows = slice(*log.offsets[user : user + 2])
        support, query = triples(tasks, t)
        assert sorted(support + query) == list(zip(log.item[rows], log.rating[rows], strict=True))
        assert len(support) == min(4, len(log.item[rows]) - 1)


def test_users_with_one_interaction_have_an_empty_pool_and_those_with_none_are_left_out(log):
    tasks = splits.cold_user_tasks(log, np.array([2, 1, 0]))
    np.testing.assert_array_equal(tasks.user, [2, 1])
    np.testing.assert_array_equal(tasks.support_mask.sum(1), [1, 0])
    np.testing.assert_array_equal(tasks.query_offsets, [0, 1, 2])


@pytest.mark.parametrize("order", ["random", "time"])
def test_a_task_does_not_depend_on_the_other_users(log, order):
    together = splits.cold_user_tasks(log, np.arange(USERS), order=order)
    alone = splits.cold_user_tasks(log, np.array([7]), order=order)
    t = list(together.user).index(7)
    assert triples(together, t) == triples(alone, 0)
    assert triples(splits.cold_user_tasks(log, np.arange(9)[::-1], order=order), 1) == triples(
        alone, 0
    )


@pytest.mark.parametrize("order", ["random", "time"])
def test_a_task_does_not_depend_on_the_order_of_the_lines(log, order):
    lines = np.random.default_rng(3).permutation(len(log.item))
    shuffled = build(*(column[lines] for column in (log.user, log.item, log.rating, log.time)))
    tasks = (splits.cold_user_tasks(log, np.arange(USERS), order=order) for log in (log, shuffled))
    for one, other in zip(*tasks, strict=True):
        np.testing.assert_array_equal(one, other)


def test_larger_pools_begin_with_the_smaller(log):
    small, large = (splits.cold_user_tasks(log, np.arange(3, USERS), pool=pool) for pool in (2, 5))
    np.testing.assert_array_equal(small.support_item, large.support_item[:, :2])


def test_time_order_is_first_in_time_with_seeded_ties(log):
    tasks = [
        splits.cold_user_tasks(log, np.arange(3, USERS), order="time", pool=15, seed=s)
        for s in (0, 1)
    ]
    when = {(u, i): t for u, i, t in zip(log.user, log.item, log.time, strict=True)}
    for chosen in tasks:
        for t, user in enumerate(chosen.user):
            support, query = triples(chosen, t)
            times = [when[user, item] for item, _ in support]
            assert times == sorted(times)
            assert times[-1] <= min(when[user, item] for item, _ in query)
    assert not np.array_equal(tasks[0].support_item, tasks[1].support_item)


def test_random_order_is_uniform():
    # 3,000 users with the same three items: each of the six orders about 500 times.
    users = 3000
    log = from_columns(
        np.repeat(np.arange(users), 3),
        np.tile(np.arange(3), users),
        user_ids=np.arange(users).astype(str),
        item_ids=np.array(list("abc")),
    )
    tasks = splits.cold_user_tasks(log, np.arange(users))
    _, counts = np.unique(tasks.support_item[:, :2], axis=0, return_counts=True)
    # Standard deviation of a count is 20.4; the seed is fixed.
    assert len(counts) == 6
    assert np.abs(counts - users / 6).max() < 4 * 20.4


@pytest.mark.parametrize(
    ("users", "options", "message"),
    [
        ([1, 1], {}, "users must be distinct"),
        ([USERS], {}, r"users must hold indices in \[0, 30\)"),
        ([1], {"pool": -1}, "pool must be >= 0, got -1"),
        ([1], {"order": "latest"}, 'order must be "random" or "time", got \'latest\''),
    ],
)
def test_tasks_out_of_range_are_refused(log, users, options, message):
    with pytest.raises(ValueError, match=message):
        splits.cold_user_tasks(log, np.array(users), **options)


@pytest.mark.parametrize("cold_items", [None, np.array([2, 5, 19])])
def test_quadrants_share_out_every_rating_once(log, cold_items):
    quadrants = splits.warm_cold_quadrants(
        log, share=0.3, support=3, held_out=0.2, cold_items=cold_items
    )
    training, ww, cw, wc, cc = quadrants
    # What the cold users' supports hold is in no query; the rest is training or in one query.
    support = {(u, i) for q in (cw, cc) for t, u in enumerate(q.user) for i, _ in triples(q, t)[0]}
    pairs = list(zip(training.user, training.item, strict=True))
    pairs += [
        (u, i) for q in (ww, cw, wc, cc) for t, u in enumerate(q.user) for i, _ in triples(q, t)[1]
    ]
    assert len(pairs) == len(set(pairs))
    everything = set(zip(log.user, log.item, strict=True))
    left = everything - set(pairs)
    assert support <= left
    # Only supports of cold users without any query are in neither.
    assert {u for u, _ in left - support}.isdisjoint({*cw.user, *cc.user})


def test_quadrants_keep_cold_apart_from_warm(log):
    cold_items = np.array([2, 5, 19])
    training, ww, cw, wc, cc = splits.warm_cold_quadrants(log, support=3, cold_items=cold_items)
    assert {*ww.user, *wc.user}.isdisjoint({*cw.user, *cc.user})
    assert not (training.user_counts[cw.user]).any()
    for warm in (training.item, ww.query_item, cw.query_item, ww.support_item[ww.support_mask]):
        assert not np.isin(warm, cold_items).any()
    for cold in (wc.query_item, cc.query_item):
        assert np.isin(cold, cold_items).all()
    assert cw.support_mask.sum(1).max() == 3


def test_a_warm_user_is_known_by_their_training_ratings(log):
    training, ww, *_ = splits.warm_cold_quadrants(log, held_out=0.3)
    assert len(ww.user) > USERS / 2
    for t, user in enumerate(ww.user):
        support, query = triples(ww, t)
        assert len(query) == int(0.3 * (len(support) + len(query)))
        rows = slice(*training.offsets[user : user + 2])
        assert sorted(item for item, _ in triples(ww, t)[0]) == list(training.item[rows])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0}, r"share must be in \(0, 1\), got 0"),
        ({"held_out": 1}, r"held_out must be in \[0, 1\), got 1"),
        ({"support": -1}, "support must be >= 0, got -1"),
        ({"cold_items": np.array([20])}, r"cold_items must hold indices in \[0, 20\)"),
    ],
)
def test_quadrants_out_of_range_are_refused(log, options, message):
    with pytest.raises(ValueError, match=message):
        splits.warm_cold_quadrants(log, **options)


def test_leave_k_out_holds_out_the_last_k(log):
    log = select_rows(log, log.user >= 3)
    train, test = splits.leave_k_out(log, 2)
    np.testing.assert_array_equal(train, ~test)
    for user in range(3, USERS):
        rows = slice(*log.offsets[user : user + 2])
        assert test[rows].sum() == 2
        assert log.time[rows][train[rows]].max() <= log.time[rows][test[rows]].min()


def test_leave_k_out_names_the_first_user_with_too_few(log):
    with pytest.raises(ValueError, match=r"got k=2 for user 'u01' with 1 \(2 such users\)"):
        splits.leave_k_out(log, 2)
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        splits.leave_k_out(log, 0)


def test_time_split_keeps_the_rows_of_one_instant_together(log):
    train, test = splits.time_split(log, share=0.5)
    assert log.time[train].max() < log.time[test].min()
    at = int(log.time[test].min())
    np.testing.assert_array_equal(splits.time_split(log, at=at)[0], train)
    assert 0.2 < train.mean() <= 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.0}, r"share must be in \(0, 1\), got 1.0"),
        ({"share": 0.5, "at": 3}, "share and at exclude each other"),
        ({"at": 0}, "got an empty past"),
        ({"at": 99}, "got an empty future"),
    ],
)
def test_time_splits_out_of_range_are_refused(log, options, message):
    with pytest.raises(ValueError, match=message):
        splits.time_split(log, **options)


def test_a_log_without_times_has_no_time_split(log):
    with pytest.raises(ValueError, match="got an empty past"):
        splits.time_split(log._replace(time=np.zeros_like(log.time)))
