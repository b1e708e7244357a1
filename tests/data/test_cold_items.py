from functools import partial

import jax
import numpy as np
import pytest

from metajax.data.cold_items import item_tasks, sample_item_tasks, sequence_table, split_items
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import from_columns
from metajax.data.leakage import LeakageError

USERS, ITEMS, LENGTH = 30, 9, 4


def log_of(rows):
    """Rows are (user, item, time)."""
    user, item, time = np.array(rows).T
    return from_columns(
        user,
        item,
        None,
        time,
        user_ids=np.arange(user.max() + 1).astype(str),
        item_ids=np.arange(ITEMS).astype(str),
    )


def random_log():
    """Every user has 3 to 9 interactions, at times 100 user + place."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        done = rng.permutation(ITEMS)[: rng.integers(3, ITEMS + 1)]
        rows += [(user, item, 100 * user + place) for place, item in enumerate(done)]
    return log_of(rows)


LOG = random_log()
FEATURES = np.stack([np.arange(ITEMS), -np.arange(ITEMS)], axis=1).astype(np.float32)
TRAINING = TrainingSet(LOG, np.zeros((USERS, 0), np.float32), FEATURES, None)


def histories(log) -> list[list[int]]:
    """Each user's items, in order of time."""
    blocks = np.split(np.arange(len(log.item)), log.offsets[1:-1])
    return [log.item[rows[np.argsort(log.time[rows], kind="stable")]].tolist() for rows in blocks]


def sequences_before(log, target):
    """Every sequence that ends in an item, cut to its last entries."""
    found = [done[: done.index(target)][-LENGTH:] for done in histories(log) if target in done]
    return sorted(sequence for sequence in found if sequence)


@pytest.fixture(scope="module")
def drawn():
    options = {"tasks": 400, "support": 3, "query": 2, "negatives": 5, "length": LENGTH}
    sample = jax.jit(partial(sample_item_tasks, **options))
    return jax.tree.map(np.asarray, sample(sequence_table(TRAINING), jax.random.key(0)))


def shown(part, task):
    """The real sequences of a task, with their labels."""
    rows = np.flatnonzero(part.mask[task])
    items, lengths = part.inputs.item[task], part.inputs.length[task]
    return [(items[row][: lengths[row]].tolist(), part.labels[task][row]) for row in rows]


def test_a_task_holds_sequences_that_end_in_one_item(drawn):
    everything = [done[:n][-LENGTH:] for done in histories(LOG) for n in range(1, len(done))]
    for task in range(len(drawn.query.mask)):
        target = int(drawn.query.inputs.target_features[task, 0, 0])
        ends = sequences_before(LOG, target)
        positive = [s for part in drawn for s, label in shown(part, task) if label == 1]
        # Support and query share nothing: none is used more often than it is there.
        assert all(positive.count(s) <= ends.count(s) for s in positive)
        assert len(positive) >= 1
        negative = [s for s, label in shown(drawn.query, task) if label == 0]
        assert all(s in everything and target not in s for s in negative)
        np.testing.assert_array_equal(
            drawn.support.inputs.target_features[task], np.tile(FEATURES[target], (3, 1))
        )


def test_support_sizes_and_items_are_mixed_and_one_is_left_to_judge_by(drawn):
    sizes = drawn.support.mask.sum(axis=1)
    assert sorted(set(sizes.tolist())) == [0, 1, 2, 3]
    assert len(np.unique(drawn.query.inputs.target_features[:, 0, 0])) == ITEMS
    assert (drawn.query.mask & (drawn.query.labels == 1)).any(axis=1).all()


def test_no_sequence_of_label_zero_ends_in_the_item():
    # Two items alone: what ends in one of them is all there is, and nothing is left over.
    log = log_of([(user, item, item) for user in range(4) for item in (0, 1)])
    table = sequence_table(TRAINING._replace(interactions=log))
    options = {"tasks": 8, "support": 1, "query": 2, "negatives": 6, "length": 2}
    tasks = jax.jit(partial(sample_item_tasks, **options))(table, jax.random.key(0))
    assert not (tasks.query.mask & (tasks.query.labels == 0)).any()


def test_cold_items_are_nowhere_in_the_training_log():
    training, cold = split_items(LOG, share=0.3, seed=1)
    assert len(cold) == 3
    assert not np.isin(training.item, cold).any()
    assert len(training.item) == np.sum(~np.isin(LOG.item, cold))
    _, other = split_items(LOG, share=0.3, seed=2)
    assert not np.array_equal(cold, other)
    _, some = split_items(LOG, share=0.5, among=np.arange(4))
    assert len(some) == 2
    assert set(some) <= {0, 1, 2, 3}
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\), got 1"):
        split_items(LOG, share=1)


def test_queries_of_cold_items_follow_their_supports_and_hold_warm_items():
    training, cold = split_items(LOG, share=0.3, seed=1)
    tasks = item_tasks(LOG, training, cold, support=2, length=LENGTH)
    done = histories(LOG)
    for c, target in enumerate(cold):
        # The users' numbers are the order of time here.
        before = [
            [i for i in history[: history.index(target)] if i not in cold][-LENGTH:]
            for history in done
            if target in history
        ]
        before = [sequence for sequence in before if sequence]
        support = [
            tasks.support_item[c, k, : tasks.support_length[c, k]].tolist() for k in range(2)
        ]
        assert support == before[:2]
        queried = np.flatnonzero(tasks.query_target == c)
        query = [tasks.query_item[q, : tasks.query_length[q]].tolist() for q in queried]
        assert query == before[2:]


def test_a_cold_item_in_the_training_log_is_a_leak():
    with pytest.raises(LeakageError, match="a cold item must not be in the training log, got item"):
        item_tasks(LOG, LOG, np.array([3]))


@pytest.mark.parametrize(
    ("cold", "options", "message"),
    [
        ([1, 1], {}, "cold must hold distinct items"),
        ([ITEMS], {}, r"cold must hold indices in \[0, 9\)"),
        ([1], {"support": -1}, "support must be >= 0, got -1"),
        ([1], {"length": 0}, "length must be >= 1, got 0"),
    ],
)
def test_invalid_tasks_are_refused(cold, options, message):
    with pytest.raises(ValueError, match=message):
        item_tasks(LOG, LOG, np.array(cold), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"support": -1}, "support must be >= 0, got -1"),
        ({"tasks": 0}, "tasks must be >= 1, got 0"),
        ({"negatives": 0}, "negatives must be >= 1, got 0"),
        ({"length": 0}, "length must be >= 1, got 0"),
    ],
)
def test_invalid_arguments_of_draws_are_refused(options, message):
    legal = {"tasks": 2, "support": 1, "query": 1, "negatives": 1, "length": 2}
    with pytest.raises(ValueError, match=message):
        sample_item_tasks(sequence_table(TRAINING), jax.random.key(0), **{**legal, **options})


def test_a_log_without_repeated_ends_is_refused():
    log = log_of([(0, 0, 0), (0, 1, 1)])
    with pytest.raises(ValueError, match="training must have an item in which two sequences end"):
        sequence_table(TRAINING._replace(interactions=log))
