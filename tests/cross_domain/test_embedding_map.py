import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.cross_domain.embedding_map import EmbeddingMap, fit_map, map_rows
from metajax.cross_domain.emcdr import PosteriorMeanMap
from metajax.types import Posterior

RNG = np.random.default_rng(0)
SOURCE = RNG.normal(size=(30, 3)) + 1
OVERLAP = np.stack([RNG.permutation(30)[:20], RNG.permutation(25)[:20]], axis=1)
TARGET = np.zeros((25, 2))
TARGET[OVERLAP[:, 1]] = SOURCE[OVERLAP[:, 0]] @ RNG.normal(size=(3, 2)) + RNG.normal(size=(20, 2))


def test_the_linear_map_is_the_ridge_regression_of_the_pairs():
    params = fit_map(SOURCE, TARGET, OVERLAP, ridge=2.5)
    x, y = SOURCE[OVERLAP[:, 0]], TARGET[OVERLAP[:, 1]]
    centred = x - x.mean(axis=0)
    weights = np.linalg.solve(centred.T @ centred + 2.5 * np.eye(3), centred.T @ y)
    expected = y.mean(axis=0) + (SOURCE - x.mean(axis=0)) @ weights
    np.testing.assert_allclose(map_rows(params, SOURCE), expected, rtol=1e-4, atol=1e-5)


def test_a_direction_without_pairs_is_mapped_to_zero():
    flat = SOURCE * np.array([1.0, 0.0, 1.0])
    params = fit_map(flat, TARGET, OVERLAP, ridge=0.0)
    moved = map_rows(params, jnp.array([[0.0, 5.0, 0.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(moved[0], moved[1], atol=1e-5)


def test_a_hidden_layer_learns_a_nonlinear_map():
    """What the target has is the square of the source: a line explains none of it."""
    x = np.linspace(-1, 1, 21)[:, None]
    pairs = np.stack([np.arange(21)] * 2, axis=1)
    off = {
        hidden: np.mean((map_rows(fit_map(x, x**2, pairs, hidden=hidden), x) - x**2) ** 2)
        for hidden in (0, 8)
    }
    np.testing.assert_allclose(off[0], np.var(x**2), rtol=1e-4)
    assert off[8] < 0.1 * off[0]


def test_a_bridge_maps_the_mean_as_its_map_does_rows():
    place = Posterior(jnp.array([0.5, -1.0]), jnp.eye(2))
    bridge = PosteriorMeanMap(hidden=3)
    params = bridge.init(jax.random.key(0), place)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.3, params)
    mapped = bridge.apply({"params": params}, place)
    expected = EmbeddingMap(2, 3).apply({"params": params["map"]}, place.mean)
    np.testing.assert_allclose(*map(np.asarray, (mapped, expected)), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ridge": -1.0}, r"ridge must be >= 0, got -1\.0\."),
        ({"ridge": float("nan")}, "ridge must be >= 0, got nan"),
        ({"hidden": -1}, "hidden must be >= 0, got -1"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"rate": 0.0}, r"rate must be > 0, got 0\.0"),
    ],
)
def test_invalid_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fit_map(SOURCE, TARGET, OVERLAP, **options)


def test_unknown_rows_are_refused():
    with pytest.raises(ValueError, match=r"30 of the source and 25 of the target, got 1 unknown"):
        fit_map(SOURCE, TARGET, [[29, 24], [29, 25]])
