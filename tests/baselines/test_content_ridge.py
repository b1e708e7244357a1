import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.baselines import content_ridge, fit_content_ridge
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import from_columns
from metajax.types import Examples, Inputs

USERS, ITEMS, NEW = 12, 9, (7, 8)
RNG = np.random.default_rng(0)
LIKES = (RNG.random((USERS, ITEMS)) < 0.4) & ~np.isin(np.arange(ITEMS), NEW)
VECTORS = RNG.normal(size=(ITEMS, 3))
RIDGE, LEVEL_RIDGE = 0.5, 0.3


def training(vectors=VECTORS, likes=LIKES):
    seen = likes | (RNG.random(likes.shape) < 0.3) & ~np.isin(np.arange(ITEMS), NEW)
    user, item = np.nonzero(seen)
    log = from_columns(
        user,
        item,
        np.where(likes[user, item], 5.0, 2.0),
        user_ids=np.array([f"u{n:02d}" for n in range(USERS)]),
        item_ids=np.array([f"i{n}" for n in range(ITEMS)]),
    )
    return TrainingSet(log, np.zeros((USERS, 0)), vectors.astype(np.float32), (1.0, 5.0))


def scores(params, items, ratings, padding=0):
    """Padding holds what must never be looked at."""
    none = jnp.zeros((len(items) + padding, 0))
    support = Examples(
        Inputs(none, none, jnp.array([*items, *[ITEMS + 5] * padding], jnp.int32)),
        jnp.array([*ratings, *[np.nan] * padding], jnp.float32),
        jnp.arange(len(items) + padding) < len(items),
    )
    everything = Inputs(jnp.zeros((ITEMS, 0)), jnp.zeros((ITEMS, 0)), jnp.arange(ITEMS))
    return content_ridge.adaptation.predict(
        params, content_ridge.adaptation.adapt(params, support), everything
    )


def by_hand(liked):
    """Fits popularity without each item in turn, then solves the user's own least squares."""
    x = VECTORS / np.sqrt(np.mean(np.sum(VECTORS**2, axis=1)))
    share, known = LIKES.mean(axis=0), np.array([n for n in range(ITEMS) if n not in NEW])
    mean, expected = share[known].mean(), np.zeros(ITEMS)
    for n in range(ITEMS):
        others = known[known != n]
        gram = x[others].T @ x[others] + LEVEL_RIDGE * np.eye(3)
        expected[n] = mean + x[n] @ np.linalg.solve(gram, x[others].T @ (share[others] - mean))
    level = (len(liked) + 1) / (LIKES.sum() / USERS + 1)
    y = np.isin(np.arange(ITEMS), liked).astype(float) - level * expected
    gram = x[known].T @ x[known] + RIDGE * np.eye(3)
    return level * expected + x @ np.linalg.solve(gram, x[known].T @ y[known])


def test_the_score_is_the_mean_of_a_posterior_that_is_solved_by_hand():
    params = fit_content_ridge(training(), ridge=RIDGE, level_ridge=LEVEL_RIDGE)
    found = scores(params, [0, 3, 5], [5.0, 4.0, 2.0])
    # Item 5 was disliked, which is the same as not met.
    np.testing.assert_allclose(found, by_hand([0, 3]), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(scores(params, [], []), by_hand([]), rtol=2e-5, atol=2e-6)


def test_similar_items_to_liked_ones_rank_higher():
    vectors = np.eye(ITEMS)[[0, 1, 2, 3, 4, 5, 6, 0, 1]]
    params = fit_content_ridge(training(vectors))
    before, after = scores(params, [1], [5.0]), scores(params, [0], [5.0])
    assert after[7] > before[7]
    assert after[8] < before[8]


def test_padding_is_ignored():
    params = fit_content_ridge(training())
    plain, padded = scores(params, [0], [5.0]), scores(params, [0], [5.0], padding=2)
    np.testing.assert_array_equal(padded, plain)


def test_units_of_the_attributes_make_no_difference():
    first = scores(fit_content_ridge(training()), [0], [5.0])
    other = scores(fit_content_ridge(training(100 * VECTORS)), [0], [5.0])
    np.testing.assert_allclose(other, first, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "changed", "message"),
    [
        ({"ridge": 0.0}, {}, "ridge must be"),
        ({"level_ridge": -1.0}, {}, "level_ridge must be"),
        (
            {},
            {"vectors": np.zeros((ITEMS, 2))},
            "item_features must hold an attribute that is not 0",
        ),
        ({}, {"vectors": VECTORS * np.nan}, r"^item_features must be finite, got nan\.$"),
        ({}, {"likes": np.zeros_like(LIKES)}, "a liked item"),
    ],
)
def test_invalid_training_sets_are_refused(settings, changed, message):
    with pytest.raises(ValueError, match=message):
        fit_content_ridge(training(**changed), **settings)


def test_parameters_are_float32():
    assert {leaf.dtype.name for leaf in jax.tree.leaves(fit_content_ridge(training()))} == {
        "float32"
    }
