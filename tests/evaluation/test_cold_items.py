from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses, networks
from metajax.data.cold_items import (
    ItemTasks,
    item_tasks,
    sample_item_tasks,
    sequence_table,
    split_items,
)
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import from_columns
from metajax.evaluation.cold_items import rank_cold_items, score_cold_items
from metajax.evaluation.evaluate import NonFinitePredictionsError
from metajax.methods.mecos import PairNetwork, mecos
from metajax.types import Adaptation

KINDS, EACH = 3, 8
ITEMS = KINDS * EACH


def world():
    """Each user does things of one kind alone: item i is of kind i modulo KINDS."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(120):
        kind = user % KINDS
        for place, n in enumerate(rng.permutation(EACH)[:6]):
            rows.append((user, kind + KINDS * n, 1000 * place + user))
    user, item, time = np.array(rows).T
    ids = np.arange(120).astype(str), np.arange(ITEMS).astype(str)
    return from_columns(user, item, None, time, user_ids=ids[0], item_ids=ids[1])


TASKS = ItemTasks(
    item=np.array([4, 2]),
    support_item=np.array([[[1, 1]], [[3, 0]]], np.int32),
    support_length=np.array([[2], [1]], np.int32),
    query_item=np.array([[1, 0], [3, 3]], np.int32),
    query_length=np.array([1, 2], np.int32),
    query_target=np.array([0, 1]),
)
FEATURES = np.arange(10, dtype=np.float32)[:, None]


def sums(params, support, key=None):
    return jnp.sum(support.inputs.item * support.mask[:, None])


def test_every_sequence_is_scored_for_every_item():
    rule = Adaptation(
        sums,
        lambda params, adapted, queried: (
            params * adapted + queried.length + 100 * queried.target_features[:, 0]
        ),
    )
    scores = score_cold_items(rule, 10.0, TASKS, FEATURES)
    np.testing.assert_array_equal(scores, [[20 + 1 + 400, 30 + 1 + 200], [20 + 2 + 400, 232]])
    unseen = score_cold_items(rule, 10.0, TASKS, FEATURES, shots=0)
    np.testing.assert_array_equal(unseen, [[401, 201], [402, 202]])
    with pytest.raises(ValueError, match=r"shots must be in \[0, 1\] \(the supports\), got 2"):
        score_cold_items(rule, 10.0, TASKS, FEATURES, shots=2)
    with pytest.raises(ValueError, match=r"item_features must be a table with more than 4 rows"):
        score_cold_items(rule, 10.0, TASKS, FEATURES[:4])
    with pytest.raises(NonFinitePredictionsError, match="scores are not finite at K=1"):
        score_cold_items(rule, np.nan, TASKS, FEATURES)


def test_ranks_are_counted_and_ties_are_in_the_middle():
    tasks = TASKS._replace(query_target=np.array([0, 1, 2]), item=np.arange(3))
    scores = np.array([[0.5, 0.9, 0.1], [0.1, 0.9, 0.2], [0.5, 0.5, 0.5]])
    ranking = rank_cold_items(scores, tasks, k=2)
    np.testing.assert_allclose(ranking.reciprocal_rank, [1 / 2, 1, 1 / 2])
    np.testing.assert_array_equal(ranking.hit, [1, 1, 1])
    np.testing.assert_allclose(ranking.ndcg, [1 / np.log2(3), 1, 1 / np.log2(3)])
    np.testing.assert_array_equal(rank_cold_items(scores, tasks, k=1).hit, [0, 1, 0])
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        rank_cold_items(scores, tasks, k=0)
    with pytest.raises(ValueError, match=r"scores must have the shape \(3, 3\), got \(2, 3\)"):
        rank_cold_items(scores[:2], tasks)


@pytest.mark.slow
def test_a_few_sequences_determine_the_kind_of_a_cold_item():
    log = world()
    training, cold = split_items(log, share=0.25, seed=0)
    tasks = item_tasks(log, training, cold, support=3, length=4)
    # Nothing is known of items but who did what.
    blank = np.zeros((ITEMS, 0), np.float32)
    table = sequence_table(TrainingSet(training, np.zeros((120, 0), np.float32), blank, None))
    network = PairNetwork(items=ITEMS, embedding=4, width=8, steps=1)
    learner = mecos(
        networks.from_support_module(network), losses.sigmoid_cross_entropy, outer=optax.adam(0.02)
    )
    sample = partial(sample_item_tasks, tasks=16, support=3, query=3, negatives=6, length=4)

    @jax.jit
    def train(table):
        def update(state, key):
            task_key, update_key = jax.random.split(key)
            return learner.update(state, sample(table, task_key), update_key)[0], None

        state = learner.init(jax.random.key(0), sample(table, jax.random.key(2)))
        return jax.lax.scan(update, state, jax.random.split(jax.random.key(1), 120))[0]

    params = train(table).params
    by_shots = [score_cold_items(learner, params, tasks, blank, shots=k) for k in (0, 3)]
    kind = cold % KINDS
    right = kind[tasks.query_target][:, None] == kind
    best = [right[np.arange(len(scores)), scores.argmax(axis=1)].mean() for scores in by_shots]
    # With nothing seen all cold items are alike; with three sequences each, the kind is known.
    assert np.ptp(by_shots[0], axis=1).max() < 1e-5
    assert best[1] > 0.95
