import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import svds

from metajax.baselines import sparse as own
from metajax.baselines.preferences import preference_curve


@pytest.fixture(scope="module")
def table():
    """Weights of 300 users and 120 items of different popularity; the last item has nobody."""
    rng = np.random.default_rng(0)
    share = np.geomspace(0.3, 0.01, 120)
    share[-1] = 0
    dense = (rng.random((300, 120)) < share) * rng.random((300, 120))
    return sparse.csr_array(dense.astype(np.float32))


def test_the_matrix_of_preferences_has_a_row_for_each_user_of_the_log(training):
    found = own.preference_matrix(training, preference_curve(training.scale)).toarray()
    log = training.interactions
    dense = np.zeros((14, 7), np.float32)
    dense[log.user, log.item] = (log.rating - 1) / 4
    np.testing.assert_allclose(found, dense[:13])


@pytest.mark.parametrize("products", [1 << 25, 500])
def test_nearest_items_are_those_of_the_dense_product(table, products, monkeypatch):
    monkeypatch.setattr(own, "_PRODUCTS", products)
    scale = 1 + np.arange(120.0) / 120
    item, value = own.nearest_items(table, lambda p, i, j: p * scale[j] / scale[i], most=5)
    dense = table.toarray()
    whole = dense.T @ dense * scale / scale[:, None]
    np.fill_diagonal(whole, 0)
    expected = -np.sort(-whole, axis=1)[:, :5]
    np.testing.assert_allclose(-np.sort(-value, axis=1), expected, rtol=1e-5)
    found = np.take_along_axis(whole, item, axis=1)
    np.testing.assert_allclose(np.where(value > 0, found, 0), value, rtol=1e-5)
    assert value[-1].max() == 0


def test_blocks_have_bounded_costs_and_a_row_at_least():
    cost = np.array([3.0, 3.0, 9.0, 1.0, 1.0, 1.0])
    found = [(rows.start, rows.stop) for rows in own._blocks(cost, 6.0)]
    assert found == [(0, 2), (2, 3), (3, 6)]


def test_leading_directions_are_those_of_the_decomposition(table, monkeypatch):
    _, values, right = svds(table.astype(np.float64), k=20, random_state=0)
    order = np.argsort(-values)
    # Few enough to converge by iteration, not because the subspace is the whole space.
    monkeypatch.setattr(own, "_EXTRA", 40)
    monkeypatch.setattr(own, "_ENTRIES", 1000)
    square, vectors = own.leading_directions(table, 20, seed=0)
    np.testing.assert_allclose(square, values[order] ** 2, rtol=1e-3)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(20), atol=1e-5)
    overlap = np.abs(np.sum(vectors[:, :3] * right[order[:3]].T, axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-4)


def test_directions_beyond_the_rank_are_zero():
    one = sparse.csr_array(np.outer([1.0, 2.0, 2.0], [3.0, 0.0, 4.0, 0.0]).astype(np.float32))
    square, vectors = own.leading_directions(one, 3)
    np.testing.assert_allclose(square, [225, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(np.abs(vectors[:, 0]), [0.6, 0, 0.8, 0], atol=1e-6)
    assert np.abs(vectors[:, 1:]).max() == 0
