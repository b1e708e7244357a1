from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.data.dataset import TrainingSet
from metajax.data.interactions import from_columns
from metajax.data.sampler import sample_tasks, task_table

COUNTS, ITEMS = [6, 0, 1, 2, 12], 12
ORDERS = ["random", "time", "mixed"]


def training_of(counts, *, times=None) -> TrainingSet:
    """User u has `counts[u]` of the items, rated 100 u + item, which identifies the user."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(len(counts)), counts)
    item = np.concatenate([rng.permutation(ITEMS)[:n] for n in counts])
    time = rng.permutation(len(user)) if times is None else np.full(len(user), times)
    log = from_columns(
        user,
        item,
        100.0 * user + item,
        time,
        user_ids=np.arange(len(counts)).astype(str),
        item_ids=np.arange(ITEMS).astype(str),
    )
    user_features = np.arange(len(counts), dtype=np.float32)[:, None] + 0.5
    item_features = np.stack([np.arange(ITEMS), -np.arange(ITEMS)], axis=1).astype(np.float32)
    return TrainingSet(log, user_features, item_features, None)


TRAINING = training_of(COUNTS)
TABLE = task_table(TRAINING)


def of_user(tasks):
    return (tasks.query.inputs.user_features[:, 0, 0] - 0.5).astype(int)


def drawn_from(table, seed, **options):
    """Draws under jit: the many small operations of a draw are slow one by one."""
    tasks = jax.jit(partial(sample_tasks, **options))(table, jax.random.key(seed))
    return jax.tree.map(np.asarray, tasks)


def chi_square(counts) -> float:
    """Pearson's statistic of counts that should be equal."""
    expected = np.sum(counts) / np.size(counts)
    return float(np.sum((np.asarray(counts) - expected) ** 2) / expected)


@pytest.fixture(scope="module", params=ORDERS)
def drawn(request):
    """2,000 tasks with up to 4 interactions in the support and 5 in the query."""
    options = {"tasks": 2000, "support": 4, "query": 5, "order": request.param}
    return request.param, drawn_from(TABLE, 0, **options)


def test_a_task_holds_its_own_users_interactions_once(drawn):
    _, tasks = drawn
    log, owner = TRAINING.interactions, TRAINING.interactions.user
    owned = [set(log.item[owner == user]) for user in range(len(COUNTS))]
    for t, user in enumerate(of_user(tasks)):
        seen, queried = (part.inputs.item[t][part.mask[t]] for part in tasks)
        together = np.concatenate([seen, queried])
        assert len(set(together)) == len(together)
        assert set(together) <= owned[user]
        # As many as there are, and always one to judge by.
        assert len(queried) == min(COUNTS[user] - len(seen), 5) >= 1


def test_features_and_labels_belong_to_user_and_item(drawn):
    _, tasks = drawn
    for part in tasks:
        user = part.inputs.user_features[..., 0] - 0.5
        item = part.inputs.item
        np.testing.assert_array_equal(user, np.broadcast_to(of_user(tasks)[:, None], user.shape))
        np.testing.assert_array_equal(part.labels, 100 * user + item)
        np.testing.assert_array_equal(part.inputs.item_features, np.stack([item, -item], axis=-1))


def test_members_carry_their_index():
    options = {"tasks": 5, "support": 1, "query": 2}
    query = drawn_from(TABLE, 0, members=True, **options).query
    plain = drawn_from(TABLE, 0, **options).query
    jax.tree.map(np.testing.assert_array_equal, query._replace(inputs=query.inputs[0]), plain)
    np.testing.assert_array_equal(query.inputs.user, plain.inputs.user_features[..., 0] - 0.5)
    np.testing.assert_array_equal(query.inputs.rating, plain.labels)
    assert query.inputs.known.all()


def test_users_and_support_sizes_are_uniform(drawn):
    _, tasks = drawn
    user, size = of_user(tasks), tasks.support.mask.sum(axis=1)
    # 99.9 % of chi-square with 3 and 4 degrees of freedom is 16.3 and 18.5.
    assert chi_square(np.bincount(user, minlength=5)[[0, 2, 3, 4]]) < 16.3
    assert np.bincount(user, minlength=5)[1] == 0
    assert chi_square(np.bincount(size[COUNTS.index(12) == user], minlength=5)) < 18.5
    # Who has two interactions gets 0, or 1 for each of 1 to 4.
    assert abs(np.mean(size[user == 3]) - 0.8) < 0.06
    assert not size[user == 2].any()


def test_in_time_order_the_support_comes_first(drawn):
    order, tasks = drawn
    log, owner = TRAINING.interactions, TRAINING.interactions.user
    in_time = 0
    many = np.flatnonzero((of_user(tasks) == 4) & (tasks.support.mask.sum(axis=1) == 4))
    first = log.item[owner == 4][np.argsort(log.time[owner == 4])][:4]
    for t in many:
        in_time += np.array_equal(tasks.support.inputs.item[t], first)
    share = {"random": 0.0, "time": 1.0, "mixed": 0.5}[order]
    # The share of a fair coin over so many draws has a standard error of 0.05.
    assert len(many) > 80
    assert abs(in_time / len(many) - share) <= (0.2 if order == "mixed" else 0)


@pytest.mark.parametrize("order", ["random", "time"])
def test_every_ordered_choice_is_equally_likely(order):
    # Three of five interactions in order: 5 * 4 * 3 = 60 outcomes. The first in time is a
    # support of 0 here, so that both orders choose from all five.
    table = task_table(training_of([5]))
    tasks = drawn_from(table, 1, tasks=12_000, support=0, query=3, order=order)
    assert tasks.support.mask.shape == (12_000, 0)
    code = tasks.query.inputs.item @ np.array([ITEMS**2, ITEMS, 1])
    _, counts = np.unique(code, return_counts=True)
    # 99.9 % of chi-square with 59 degrees of freedom.
    assert len(counts) == 60
    assert chi_square(counts) < 98.3


def test_a_support_is_a_uniform_subset():
    # Two of five: 10 subsets, from the tasks whose support is full.
    table = task_table(training_of([5]))
    tasks = drawn_from(table, 2, tasks=12_000, support=2, query=1)
    full = tasks.support.mask.all(axis=1)
    items = np.sort(tasks.support.inputs.item[full], axis=1)
    _, counts = np.unique(items @ np.array([ITEMS, 1]), return_counts=True)
    # 99.9 % of chi-square with 9 degrees of freedom.
    assert len(counts) == 10
    assert chi_square(counts) < 27.9


def test_ties_of_time_are_broken_by_the_seed():
    tied = training_of([12], times=7)
    first, again, other = (np.asarray(task_table(tied, seed=s).item[:12]) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.sort(first), np.arange(ITEMS))


def test_the_same_key_gives_the_same_tasks_and_one_trace_serves_all_keys():
    traces = []

    @jax.jit
    def draw(table, key):
        traces.append(None)
        return sample_tasks(table, key, tasks=8, support=3, query=2)

    first, again, other = (draw(TABLE, jax.random.key(seed)) for seed in (0, 0, 1))
    same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), first, again)
    assert all(jax.tree.leaves(same))
    assert not jnp.array_equal(first.query.labels, other.query.labels)
    assert len(traces) == 1


def test_training_sets_of_about_one_size_have_tables_of_one_shape():
    one, other = (task_table(training_of(counts)) for counts in ([3, 5, 1, 2], [4, 0, 4, 1]))
    assert jax.tree.map(np.shape, one) == jax.tree.map(np.shape, other)
    assert (one.user.shape, one.item.shape) == ((4,), (16,))
    # Padding is no user: of the others each is drawn a third of the time.
    assert (one.users, other.users) == (4, 3)
    np.testing.assert_array_equal(other.count, [4, 4, 1, 0])
    who, times = np.unique(
        of_user(drawn_from(other, 3, tasks=900, support=1, query=1)), return_counts=True
    )
    np.testing.assert_array_equal(who, [0, 2, 3])
    # 99.9 % of chi-square with 2 degrees of freedom.
    assert chi_square(times) < 13.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": 0}, "tasks must be >= 1, got 0"),
        ({"support": -1}, "support must be >= 0, got -1"),
        ({"query": 0}, "query must be >= 1, got 0"),
        ({"query": 4096}, r"support \+ query must be <= 4096, got \d+ \+ 4096"),
        ({"order": "recent"}, "order must be random, time or mixed, got 'recent'"),
    ],
)
def test_invalid_arguments_of_draws_are_refused(options, message):
    legal: dict[str, Any] = {"tasks": 2, "support": 1, "query": 1}
    with pytest.raises(ValueError, match=message):
        sample_tasks(TABLE, jax.random.key(0), **{**legal, **options})


def test_a_table_without_interactions_is_refused():
    with pytest.raises(ValueError, match=r"training must have 1 to 2\^31 - 1 interactions, got 0"):
        task_table(training_of([0, 0]))


@pytest.mark.parametrize("spread", [0, 3, 10**6, 2**61])
def test_rows_are_in_order_of_time_and_ties_in_a_seeded_one(spread):
    rng = np.random.default_rng(0)
    pairs = np.sort(rng.choice(50 * 40, 900, replace=False))
    time = rng.integers(0, spread + 1, 900) * (1 if spread < 2**60 else 2) - 5
    ids = [np.array([str(n) for n in range(many)]) for many in (50, 40)]
    log = from_columns(pairs // 40, pairs % 40, None, time, user_ids=ids[0], item_ids=ids[1])
    ties = np.random.default_rng(7).random(900)
    wanted = np.lexsort((ties, log.time, log.user))
    training = TrainingSet(log, np.zeros((50, 0)), np.zeros((40, 0)), None)
    table = task_table(training, seed=7)
    np.testing.assert_array_equal(table.item[:900], log.item[wanted])
