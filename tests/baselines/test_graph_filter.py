import jax.numpy as jnp
import numpy as np
import pytest

from metajax.baselines.graph_filter import graph_filter
from metajax.data.interactions import select_rows


@pytest.fixture(scope="module")
def filters(training):
    """The normalised graph of items P, its eigenvectors, largest first, and the degrees."""
    log = training.interactions
    dense = np.zeros((14, 7))
    dense[log.user, log.item] = (log.rating - 1) / 4
    by_user, degree = dense.sum(axis=1), dense.sum(axis=0)
    roots = [np.sqrt(np.where(total > 0, total, 1)) for total in (by_user, degree)]
    normalised = dense / roots[0][:, None] / roots[1]
    graph = normalised.T @ normalised
    return graph, np.linalg.eigh(graph)[1][:, ::-1], degree


@pytest.mark.parametrize("rank", [1, 3, 256])
def test_scores_are_those_of_the_dense_filter(training, filters, make_support, candidates, rank):
    graph, vectors, degree = filters
    power = np.where(degree > 0, np.where(degree > 0, degree, 1) ** 0.3, 0)
    inverse = np.where(power > 0, 1 / np.where(power > 0, power, 1), 0)
    linear = graph - np.diag(np.diag(graph))
    # The last item has no interactions: one direction of eigenvalue 0 is left out.
    leading = vectors[:, : min(rank, 6)]
    whole = inverse[:, None] * (linear + 2.0 * leading @ leading.T) * power
    expected = 1.0 * whole[1] + 0.25 * whole[4]

    params = graph_filter.fit(training, rank=rank, ideal=2.0, degree_power=0.3)
    assert np.sum(np.abs(np.asarray(params.vectors)).max(axis=0) > 0) == min(rank, 6)
    adapted = graph_filter.adaptation.adapt(params, make_support([1, 4], [5.0, 2.0], padding=2))
    scores = graph_filter.adaptation.predict(params, adapted, candidates)
    np.testing.assert_allclose(scores - params.prior, expected, atol=2e-6)
    # With popularity alone where nothing is known.
    empty = graph_filter.adaptation.adapt(params, make_support([], [], padding=1))
    scores = graph_filter.adaptation.predict(params, empty, candidates)
    np.testing.assert_array_equal(scores, params.prior)


def test_the_largest_entries_of_a_row_are_kept(training, filters, make_support, candidates):
    graph, _, degree = filters
    row = graph[1] * np.where(degree > 0, degree, 1) ** 0.4 / degree[1] ** 0.4
    row[1] = 0
    row[np.argsort(-row)[2:]] = 0
    params = graph_filter.fit(training, ideal=0.0, neighbours=2)
    adapted = graph_filter.adaptation.adapt(params, make_support([1], [5.0]))
    scores = graph_filter.adaptation.predict(params, adapted, candidates)
    np.testing.assert_allclose(scores - params.prior, row, atol=1e-6)


def test_a_log_without_interactions_gives_scores_of_zero(training, make_support, candidates):
    log = training.interactions
    bare = training._replace(interactions=select_rows(log, np.zeros(len(log.item), bool)))
    params = graph_filter.fit(bare)
    adapted = graph_filter.adaptation.adapt(params, make_support([1, 4], [5.0, 2.0]))
    scores = graph_filter.adaptation.predict(params, adapted, candidates)
    np.testing.assert_array_equal(scores, jnp.zeros(7))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be >= 1, got 0"),
        ({"neighbours": 0}, "neighbours must be >= 1, got 0"),
        ({"ideal": float("nan")}, "ideal must be >= 0, got nan"),
        ({"degree_power": 1.5}, r"degree_power must be in \[0, 1\], got 1.5"),
        ({"sharpness": 0.0}, "sharpness must be > 0"),
    ],
)
def test_bad_settings_are_named(training, settings, message):
    with pytest.raises(ValueError, match=message):
        graph_filter.fit(training, **settings)
