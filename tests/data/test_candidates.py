from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import losses
from metajax.data import (
    TrainingSet,
    from_columns,
    sample_candidate_tasks,
    sample_catalogue_tasks,
    task_table,
)
from metajax.data.dataset import shapes_of
from metajax.data.sampler import sampling_shares
from metajax.methods import Settings, objectives
from metajax.methods.tasks import weighted_candidate_tasks

ITEMS, COUNTS = 7, [4, 0, 1, 7]
RATINGS = {
    (user, item): float((3 * user + 2 * item) % 5 + 1)
    for user, count in enumerate(COUNTS)
    for item in np.random.default_rng(user).permutation(ITEMS)[:count]
}
USER, ITEM = np.array(list(RATINGS)).T
TRAINING = TrainingSet(
    from_columns(
        USER,
        ITEM,
        np.array(list(RATINGS.values())),
        np.random.default_rng(9).permutation(len(USER)),
        user_ids=np.arange(len(COUNTS)).astype(str),
        item_ids=np.arange(ITEMS).astype(str),
    ),
    np.arange(len(COUNTS), dtype=np.float32)[:, None] + 0.5,
    np.arange(ITEMS, dtype=np.float32)[:, None] - 0.5,
    (1.0, 5.0),
)
TABLE = task_table(TRAINING)


def drawn_by(sample, **options):
    tasks = jax.jit(partial(sample, tasks=300, support=3, relevant=4.0, **options))(
        TABLE, jax.random.key(0)
    )
    return jax.tree.map(np.asarray, tasks)


def check(tasks):
    """Supports equal the log, features are the item's."""
    for t in range(len(tasks.query.mask)):
        support, query = (jax.tree.map(lambda leaf, t=t: leaf[t], part) for part in tasks)
        user = int(query.inputs.user_features[0, 0])
        known = {item: rating for (who, item), rating in RATINGS.items() if who == user}
        seen = set(support.inputs.item[support.mask].tolist())
        # One interaction is always left to be asked for.
        pool = set(support.inputs.item[: len(known) - 1].tolist())
        assert len(pool) == min(len(support.mask), len(known) - 1)
        assert all(known[i] == r for i, r in zip(support.inputs.item, support.labels, strict=True))
        np.testing.assert_array_equal(query.inputs.item_features[:, 0], query.inputs.item - 0.5)
        yield known, seen, pool, query


@pytest.mark.parametrize("order", ["random", "time"])
def test_a_catalogue_query_is_all_items_but_the_pool_with_labels_of_the_log(order):
    without = hidden = 0
    for known, seen, pool, query in check(drawn_by(sample_catalogue_tasks, order=order)):
        np.testing.assert_array_equal(query.inputs.item, np.arange(ITEMS))
        liked = [known.get(i, 0) >= 4 and i not in pool for i in range(ITEMS)]
        if any(liked):
            np.testing.assert_array_equal(query.labels, liked)
            np.testing.assert_array_equal(query.mask, [i not in pool for i in range(ITEMS)])
            hidden += pool > seen
        else:
            without += 1
            assert not query.mask.any()
    assert 0 < without < 300
    assert hidden


def test_candidates_are_the_users_own_among_items_they_do_not_know():
    for known, seen, _, query in check(drawn_by(sample_candidate_tasks, query=2, negatives=5)):
        own = query.inputs.item[:2][query.mask[:2]].tolist()
        drawn = query.inputs.item[2:][query.mask[2:]].tolist()
        assert set(own) <= set(known) - seen
        assert len(set(own)) == len(own)
        assert not set(drawn) & set(known)
        assert not query.labels[2:].any()
        if query.mask.any():
            assert query.labels.any()
            listed = zip(query.inputs.item[:2], query.mask[:2], query.labels[:2], strict=True)
            assert all(label == (known[i] >= 4) for i, mask, label in listed if mask)
            unknown = [i not in known for i in query.inputs.item[2:]]
            np.testing.assert_array_equal(query.mask[2:], unknown)


@pytest.mark.parametrize("candidates", [None, np.array([1, 2, 4, 6], np.int32)])
def test_items_are_sampled_by_a_power_of_their_popularity(candidates):
    table = TABLE._replace(candidates=candidates)
    counts = np.bincount(ITEM, minlength=ITEMS)
    assert len(set(counts.tolist())) > 1
    listed = np.arange(ITEMS) if candidates is None else candidates
    expected = np.zeros(ITEMS)
    expected[listed] = (1 + counts[listed]) ** 0.75
    expected /= expected.sum()
    np.testing.assert_allclose(sampling_shares(table, 0.75), expected, rtol=1e-6)
    uniform = np.isin(np.arange(ITEMS), listed) / len(listed)
    np.testing.assert_allclose(sampling_shares(table, 0.0), uniform, rtol=1e-6)
    options = {"tasks": 200, "support": 1, "query": 1, "negatives": 500, "power": 0.75}
    tasks = jax.jit(partial(sample_candidate_tasks, **options))(table, jax.random.key(0))
    drawn = np.bincount(np.asarray(tasks.query.inputs.item)[:, 1:].ravel(), minlength=ITEMS)
    # Five deviations of a share of 100,000 draws.
    np.testing.assert_allclose(drawn / 100_000, expected, atol=5 * np.sqrt(0.25 / 100_000))


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_the_mean_gradient_of_sampled_lists_tends_to_that_of_all_items(power):
    settings = Settings(
        tasks=200, support=1, query=7, negatives=3000, negative_power=power, order="random"
    )
    table = TABLE._replace(item_counts=jnp.array([50.0, 20, 8, 3, 1, 0, 0]))
    tasks = weighted_candidate_tasks(settings, shapes_of(TRAINING)).sample(table, jax.random.key(0))
    scores = jax.random.normal(jax.random.key(1), (ITEMS,))
    item, labels, where = tasks.query.inputs.item, tasks.query.labels, tasks.query.mask

    def sampled(scores, corrected):
        def one(item, labels, where):
            loss = objectives["sampled_ranking"].loss
            own = labels if corrected else jnp.where(labels < 0, -3000 / ITEMS, labels)
            return loss(scores[item], own, where=where)

        return jnp.mean(jax.vmap(one)(item, labels, where))

    def exact(scores):
        user = np.asarray(tasks.query.inputs.user_features)[:, 0, 0].astype(int)
        total = 0.0
        for t, who in enumerate(user):
            own = set(np.asarray(item[t, :7])[np.asarray(where[t, :7])].tolist())
            there = [i in own or (who, i) not in RATINGS for i in range(ITEMS)]
            liked = [i in own and RATINGS[who, i] >= 4 for i in range(ITEMS)]
            if any(liked):
                arrays = jnp.array(liked, jnp.float32), jnp.array(there)
                total += losses.softmax_cross_entropy(scores, arrays[0], where=arrays[1])
        return total / len(user)

    wanted = jax.grad(exact)(scores)
    found = jax.grad(sampled)(scores, True)
    np.testing.assert_allclose(found, wanted, atol=0.005)
    if power:
        assert np.abs(jax.grad(sampled)(scores, False) - wanted).max() > 0.02


def test_every_interaction_is_relevant_by_default():
    tasks = jax.jit(partial(sample_catalogue_tasks, tasks=20, support=0))(TABLE, jax.random.key(1))
    tasks = jax.tree.map(np.asarray, tasks)
    for known, _, _, query in check(tasks):
        np.testing.assert_array_equal(query.labels, [i in known for i in range(ITEMS)])


def test_at_least_one_item_is_sampled():
    with pytest.raises(ValueError, match="negatives must be >= 1, got 0"):
        sample_candidate_tasks(TABLE, jax.random.key(0), tasks=1, support=1, query=1, negatives=0)


@pytest.mark.parametrize(
    "sample",
    [sample_catalogue_tasks, partial(sample_candidate_tasks, query=2, negatives=5)],
    ids=["catalogue", "candidates"],
)
def test_members_carry_their_index_and_ratings(sample):
    tasks = drawn_by(sample, members=True)
    inputs = tasks.query.inputs
    jax.tree.map(
        np.testing.assert_array_equal,
        tasks._replace(query=tasks.query._replace(inputs=inputs.inputs)),
        drawn_by(sample),
    )
    for t, user in enumerate(inputs.user):
        assert (user == inputs.inputs.user_features[t, :, 0].astype(int)).all()
        for at, item in enumerate(inputs.inputs.item[t].tolist()):
            known = (int(user[at]), item) in RATINGS
            assert inputs.known[t, at] == known
            assert not known or inputs.rating[t, at] == RATINGS[int(user[at]), item]
