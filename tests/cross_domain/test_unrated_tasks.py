from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from metajax.cross_domain.distilled import sample_unrated_tasks, unrated_table
from metajax.data import TrainingSet, from_columns

# Users 0 and 1 are of the source, 2 and 3 of the target; item 7 is unrated.
USER = np.array([0, 0, 0, 1, 2, 2, 2, 3, 3])
ITEM = np.array([0, 1, 2, 3, 4, 5, 6, 4, 6])
DOMAIN = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.int32)


@pytest.fixture(scope="module")
def tasks():
    log = from_columns(
        USER, ITEM, USER + ITEM / 10, user_ids=np.arange(4).astype(str),
        item_ids=np.arange(8).astype(str),
    )  # fmt: skip
    users, items = (np.arange(n, dtype=np.float32)[:, None] for n in (4, 8))
    training = TrainingSet(log, users, items, (0.0, 5.0), item_domain=DOMAIN)
    sample = partial(sample_unrated_tasks, tasks=101, source=2, support=1, query=3)
    return jax.tree.map(np.asarray, jax.jit(sample)(unrated_table(training), jax.random.key(0)))


def test_queries_of_the_first_half_are_rated_items(tasks):
    support, query = jax.tree.map(lambda leaf: leaf[:51], tasks)
    assert query.inputs.known.all()
    mask, inputs = query.mask, query.inputs.inputs
    user = np.broadcast_to(inputs.user_features[..., 0], mask.shape)
    assert set(user[mask]) == {2, 3}
    np.testing.assert_allclose(query.labels[mask], (user + inputs.item / 10)[mask], rtol=1e-6)
    # Nothing of the source is known of them.
    assert not support.mask[:, :2].any()


def test_queries_of_the_second_half_are_unrated_target_items(tasks):
    support, query = jax.tree.map(lambda leaf: leaf[51:], tasks)
    assert len(support.mask) == 50
    assert not query.inputs.known.any()
    assert query.mask.all()
    items, counts = np.unique(query.inputs.inputs.item, return_counts=True)
    np.testing.assert_array_equal(items, [4, 5, 6])
    # Two of five ratings are of items 4 and 6 each: 60 of 150, within three deviations of 6.
    np.testing.assert_allclose(counts, [60, 30, 60], atol=18)
    user = support.inputs.user_features[:, 0, 0]
    assert set(user) == {0, 1}
    np.testing.assert_array_equal(query.inputs.user, np.tile(user[:, None], (1, 3)))
    np.testing.assert_array_equal(support.mask.sum(axis=1), np.where(user == 0, 2, 1))
    shown = support.inputs.item[support.mask]
    assert (DOMAIN[shown] == 0).all()
    rated = (support.inputs.user_features[..., 0] + support.inputs.item / 10)[support.mask]
    np.testing.assert_allclose(support.labels[support.mask], rated, rtol=1e-6)


def test_one_task_cannot_be_of_both_kinds():
    nothing: Any = ()
    with pytest.raises(ValueError, match=r"tasks must be >= 2, got 1\."):
        sample_unrated_tasks(nothing, jax.random.key(0), tasks=1, source=1, support=1, query=1)
