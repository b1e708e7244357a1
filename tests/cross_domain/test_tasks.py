from functools import partial

import jax
import numpy as np
import pytest

from metajax.cross_domain.adversarial import with_unmatched_source_users
from metajax.cross_domain.tasks import cross_table, sample_cross_tasks, source_table
from metajax.data import TrainingSet, from_columns

# User 0 is in both domains, 1 in the target alone, 2 in the source alone, 3 in both.
LOGS = {0: [0, 1, 4, 5, 6], 1: [4, 6], 2: [0, 2], 3: [2, 3, 1, 0, 5, 7]}
DOMAIN = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.int32)
USER = np.concatenate([[u] * len(items) for u, items in LOGS.items()])
ITEM = np.concatenate(list(LOGS.values()))


def rating(user, item):
    return user + item / 10


TRAINING = TrainingSet(
    from_columns(
        USER,
        ITEM,
        rating(USER, ITEM),
        np.random.default_rng(0).permutation(len(USER)),
        user_ids=np.arange(4).astype(str),
        item_ids=np.arange(8).astype(str),
    ),
    np.arange(4, dtype=np.float32)[:, None],
    np.arange(8, dtype=np.float32)[:, None],
    (0.0, 5.0),
    item_domain=DOMAIN,
)


@pytest.fixture(scope="module")
def tasks():
    sample = partial(sample_cross_tasks, tasks=200, source=3, support=2, query=2)
    return jax.tree.map(np.asarray, jax.jit(sample)(cross_table(TRAINING), jax.random.key(0)))


def test_supports_are_the_source_and_some_of_the_target(tasks):
    sizes: dict[int, set[int]] = {}
    for t in range(200):
        support, query = (jax.tree.map(lambda leaf, t=t: leaf[t], part) for part in tasks)
        user = int(query.inputs.user_features[0, 0])
        assert user != 2
        shown, queried = support.inputs.item[support.mask], query.inputs.item[query.mask]
        own = LOGS[user]
        source = [i for i in shown if DOMAIN[i] == 0]
        assert (DOMAIN[support.inputs.item[3:][support.mask[3:]]] == 1).all()
        assert len(source) == min(3, sum(DOMAIN[i] == 0 for i in own))
        assert (DOMAIN[queried] == 1).all()
        assert len(queried)
        both = [*shown.tolist(), *queried.tolist()]
        assert len(set(both)) == len(both)
        assert set(both) <= set(own)
        for part in (support, query):
            expected = rating(user, part.inputs.item[part.mask])
            np.testing.assert_allclose(part.labels[part.mask], expected, rtol=1e-6)
            np.testing.assert_array_equal(part.inputs.user_features[:, 0], user)
        sizes.setdefault(user, set()).add(len(shown) - len(source))
    # One of two or three is always left to ask.
    assert sizes == {0: {0, 1, 2}, 1: {0, 1}, 3: {0, 1}}


def test_members_carry_their_user_index(tasks):
    sample = partial(sample_cross_tasks, tasks=200, source=3, support=2, query=2, members=True)
    found = jax.jit(sample)(cross_table(TRAINING), jax.random.key(0)).query
    jax.tree.map(np.testing.assert_array_equal, found._replace(inputs=found.inputs[0]), tasks.query)
    np.testing.assert_array_equal(found.inputs.user, tasks.query.inputs.user_features[..., 0])
    np.testing.assert_array_equal(found.inputs.rating, found.labels)
    assert found.inputs.known.all()


def test_invalid_samples_are_refused():
    with pytest.raises(ValueError, match="must have two domains, got no item_domain"):
        cross_table(TRAINING._replace(item_domain=None))
    with pytest.raises(ValueError, match="query must be >= 1, got 0"):
        sample_cross_tasks(
            cross_table(TRAINING), jax.random.key(0), tasks=1, source=1, support=1, query=0
        )


def test_source_queries_are_not_in_the_support():
    sample = partial(sample_cross_tasks, tasks=200, source=2, support=1, query=1, source_query=2)
    tasks = jax.tree.map(np.asarray, jax.jit(sample)(cross_table(TRAINING), jax.random.key(1)))
    sizes = set()
    for t in range(200):
        support, query = (jax.tree.map(lambda leaf, t=t: leaf[t], part) for part in tasks)
        own = [i for i in LOGS[int(query.inputs.user_features[0, 0])] if DOMAIN[i] == 0]
        shown = support.inputs.item[:2][support.mask[:2]].tolist()
        queried = query.inputs.item[1:][query.mask[1:]].tolist()
        assert set(shown + queried) <= set(own)
        assert len(set(shown + queried)) == len(shown) + len(queried)
        sizes.add((len(own), len(shown), len(queried)))
    # Of two interactions one is queried, of four two, of none nothing.
    assert sizes == {(2, 1, 1), (4, 2, 2), (0, 0, 0)}


def test_unmatched_source_users_are_drawn_from_all_of_the_source():
    draw = partial(sample_cross_tasks, tasks=200, source=1, support=1, query=2)

    @jax.jit
    def sample(tables, source, key):
        return with_unmatched_source_users(draw(tables, key), source, jax.random.key(3), rows=3)

    tables, key = cross_table(TRAINING), jax.random.key(1)
    tasks = jax.tree.map(np.asarray, sample(tables, source_table(TRAINING), key))
    plain = jax.jit(draw)(tables, key)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:, :2], b), tasks.query, plain.query)
    met = set()
    for t in range(200):
        rows = jax.tree.map(lambda leaf, t=t: leaf[t, 2:], tasks.query)
        new_user = int(rows.inputs.user_features[0, 0])
        own = [i for i in LOGS[new_user] if DOMAIN[i] == 0]
        shown = rows.inputs.item[rows.mask].tolist()
        assert len(set(shown)) == len(shown) == min(3, len(own))
        assert set(shown) <= set(own)
        np.testing.assert_allclose(rows.labels[rows.mask], rating(new_user, np.array(shown)))
        met.add(new_user)
    assert met == {user for user, own in LOGS.items() if any(DOMAIN[i] == 0 for i in own)}


def test_unmatched_source_users_need_a_row_or_more():
    with pytest.raises(ValueError, match="must have two domains, got no item_domain"):
        source_table(TRAINING._replace(item_domain=None))
    tables = cross_table(TRAINING)
    draw = partial(sample_cross_tasks, tasks=1, source=1, support=1, query=1)
    tasks = jax.eval_shape(draw, tables, jax.random.key(0))
    with pytest.raises(ValueError, match="rows must be >= 1, got 0"):
        with_unmatched_source_users(tasks, source_table(TRAINING), jax.random.key(0), rows=0)
