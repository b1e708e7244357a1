import sys

import numpy as np
import pytest
from scipy import sparse

from metajax.baselines.implicit_als import implicit_als

# The package has a method of the module's name.
MODULE = sys.modules["metajax.baselines.implicit_als"]

SETTINGS = {"rank": 3, "unobserved": 0.2, "ridge": 0.05}


def solved(others, weight, settings):
    """Each row's vector, given those of the columns, by a dense solver."""
    gram = settings["unobserved"] * others.T @ others
    everything = settings["unobserved"] * len(others)
    found = []
    for row in weight:
        penalty = settings["ridge"] * (row.sum() + everything)
        matrix = gram + (others * row[:, None]).T @ others + penalty * np.eye(others.shape[1])
        found.append(np.linalg.solve(matrix, others.T @ row))
    return np.stack(found)


@pytest.fixture(scope="module")
def dense(training):
    log = training.interactions
    matrix = np.zeros((14, 7))
    matrix[log.user, log.item] = (log.rating - 1) / 4
    return matrix[:13]


def objective(weight, x, y, settings):
    scores, unobserved = x @ y.T, settings["unobserved"]
    penalties = [
        (weight.sum(axis=axis) + unobserved * count) @ (vectors**2).sum(axis=1)
        for axis, count, vectors in ((1, len(y), x), (0, len(x), y))
    ]
    fit = np.sum(weight * (scores - 1) ** 2) + unobserved * np.sum(scores**2)
    return fit + settings["ridge"] * sum(penalties)


def test_factors_are_a_minimum_of_the_objective(training, dense):
    params = implicit_als.fit(training, sweeps=200, **SETTINGS)
    y = np.asarray(params.vectors, np.float64)
    x = solved(y, dense, SETTINGS)
    # Given the users, the items are where a dense solver puts them.
    np.testing.assert_allclose(y, solved(x, dense.T, SETTINGS), atol=2e-3)
    least = objective(dense, x, y, SETTINGS)
    assert least < objective(dense, 0 * x, 0 * y, SETTINGS) - 1
    for seed in range(3):
        off = np.random.default_rng(seed).normal(0, 0.03, y.shape)
        assert objective(dense, x, y + off, SETTINGS) > least


def test_a_new_user_is_folded_in_by_least_squares(training, make_support, candidates):
    params = implicit_als.fit(training, **SETTINGS)
    y = np.asarray(params.vectors, np.float64)
    adapted = implicit_als.adaptation.adapt(params, make_support([1, 4], [5.0, 2.0], padding=2))
    weight = np.zeros(7)
    weight[[1, 4]] = 1, 0.25
    expected = solved(y, weight[None], SETTINGS)[0]
    np.testing.assert_allclose(adapted, expected, rtol=1e-3, atol=1e-5)
    scores = implicit_als.adaptation.predict(params, adapted, candidates)
    np.testing.assert_allclose(scores - params.prior, y @ expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("entries", [1, 7, 1 << 13])
def test_rows_of_any_length_are_improved_in_blocks_of_any_size(entries, monkeypatch):
    monkeypatch.setattr(MODULE, "_ROWS", entries)
    monkeypatch.setattr(MODULE, "_STEPS", 6)
    rng = np.random.default_rng(0)
    weight = rng.random((40, 9)) * (rng.random((40, 9)) < 0.4)
    weight[3] = 0
    others = rng.normal(0, 0.5, (9, 4))
    own = rng.normal(0, 0.5, (40, 4))
    found = MODULE._half_sweep(
        sparse.csr_array(weight.astype(np.float32)),
        own.astype(np.float32),
        others.astype(np.float32),
        SETTINGS["unobserved"],
        SETTINGS["ridge"],
    )
    # In four dimensions conjugate gradients end after four steps.
    np.testing.assert_allclose(found, solved(others, weight, SETTINGS), atol=2e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be >= 1, got 0"),
        ({"sweeps": 0}, "sweeps must be >= 1, got 0"),
        ({"unobserved": 0.0}, "unobserved must be > 0"),
        ({"ridge": float("nan")}, "ridge must be > 0, got nan"),
    ],
)
def test_bad_settings_are_named(training, settings, message):
    with pytest.raises(ValueError, match=message):
        implicit_als.fit(training, **settings)
