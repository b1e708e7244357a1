from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import registry
from metajax.adaptation import ridge_head
from metajax.baselines.content import taste_map
from metajax.data import TrainingSet, from_columns
from metajax.data.dataset import shapes_of
from metajax.methods.bayesian_ridge import initial_values, ridge_network
from metajax.types import Examples, Inputs, Task

ITEMS = 12


@pytest.fixture(scope="module")
def training():
    """Returns items of which all like the even ones, but for the last two, which are unrated."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((40, ITEMS - 2)) < 0.7)
    rating = np.where(item % 2, 2, 4) + rng.integers(-1, 2, len(user))
    log = from_columns(
        user,
        item,
        rating.astype(np.float32),
        user_ids=np.arange(40).astype(str),
        item_ids=np.arange(ITEMS).astype(str),
    )
    even = np.eye(2, dtype=np.float32)[np.arange(ITEMS) % 2]
    return TrainingSet(log, np.zeros((40, 1), np.float32), even, (1.0, 5.0))


def started(training, **changes):
    settings = registry.settings_for("bayesian_ridge", rank=2, **changes)
    network = ridge_network(settings, shapes_of(training))
    items = jnp.arange(ITEMS)
    features = jnp.asarray(training.item_features)
    inputs = Inputs(jnp.zeros((ITEMS, 1)), features, items)
    params = initial_values(settings, training)(network.init(jax.random.key(0), inputs))
    return network, params, inputs


def test_unrated_items_are_predicted_by_similar_ones(training):
    network, params, inputs = started(training)
    found = network.apply(params, inputs)
    # A Gaussian process of two kinds of five items, whose kernel is 1 within a kind and 1/e between
    # them, shrinks their contrast by 5 (1 - 1/e) / (5 (1 - 1/e) + 1); counts are nearly equal.
    expected = np.asarray(found.expected)
    signal = 5 * (1 - np.exp(-1))
    level = expected[:10].mean()
    for unrated in (10, 11):
        contrast = expected[unrated % 2 : 10 : 2].mean() - level
        likely = level + signal / (signal + 1) * contrast
        np.testing.assert_allclose(expected[unrated], likely, atol=0.02)
        # Biases are shrunk by 25 / 28 for 25 ratings.
        assert abs(contrast) == pytest.approx(25 / 28 * 1.0, abs=0.06)
    # How far they may be from it is noise of theirs alone.
    noise = np.asarray(found.noise)
    assert (noise[10:] > noise[0]).all()
    np.testing.assert_array_equal(noise[:10], noise[0])


def test_tastes_extend_to_unrated_items(training):
    network, params, inputs = started(training)
    head = ridge_head(network.apply)
    expected = network.apply(params, inputs).expected

    def lift(rated):
        labels = expected + 1.0
        support = Examples(inputs, labels, jnp.isin(jnp.arange(ITEMS), jnp.asarray(rated)))
        return head.predict(params, head.adapt(params, support), inputs) - expected

    odd = jax.jit(lift)([1, 3, 5])
    # What was liked was odd, so the odd one is liked more than the even one.
    assert odd[11] > odd[10] + 0.01


def test_tastes_explain_their_share_of_an_average_rated_item(training):
    wide = np.random.default_rng(1).normal(size=(ITEMS, 40)).astype(np.float32)
    for features in (training.item_features, wide[:, :5]):
        along = features @ taste_map(
            training._replace(item_features=features), 2.0, share=0.1, most=32
        )
        explained = np.sum(along[:10] ** 2, axis=1).mean()
        np.testing.assert_allclose(explained, 0.2, rtol=1e-5)
    # Of wide attributes the main axes are kept, of which ten items have no more than ten.
    along = wide @ taste_map(training._replace(item_features=wide), 2.0, share=0.1, most=32)
    assert along.shape == (ITEMS, 32)
    np.testing.assert_allclose(np.sum(along[:10] ** 2, axis=1).mean(), 0.2, rtol=1e-5)


def test_the_share_of_tastes_is_an_option(training):
    kernels = [
        started(training, taste_share=share)[1]["taste_map"]["kernel"] for share in (0.07, 0.28)
    ]
    np.testing.assert_allclose(kernels[1], 2 * kernels[0], rtol=1e-5)
    np.testing.assert_array_equal(started(training)[1]["taste_map"]["kernel"], kernels[0])


@pytest.mark.parametrize("name", ["bayesian_ridge", "joint_ridge", "informed_ridge"])
def test_weight_decay_leaves_closed_forms_as_they_are(name, training):
    settings = registry.settings_for(name, rank=1, weight_decay=0.5, rate=0.1, updates=2)
    method = registry.trained_method_of(name)
    learner = method.learner(settings, method.network(settings, shapes_of(training)))
    inputs = Inputs(jnp.ones((1, 3, 1)), jnp.ones((1, 3, 2)), jnp.arange(3)[None])
    rows = Examples(inputs, jnp.ones((1, 3)), jnp.ones((1, 3), bool))
    state = learner.init(jax.random.key(0), Task(rows, rows))
    # What starts at 0 would not wear down.
    state = state._replace(params=jax.tree.map(lambda leaf: leaf + 0.5, state.params))
    update, before = jax.jit(learner.update), state.params
    for _ in range(2):  # The first is at rate 0.
        state, _ = update(state, Task(rows, rows))
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.params, before)
    network = changed.get("network", changed)
    for table in ("item_embedding", "item_spread", "taste_map"):
        assert not any(jax.tree.leaves(network.pop(table, False)))
    assert not any(jax.tree.leaves(changed.pop("table", False)))
    assert all(jax.tree.leaves(changed))


def test_without_attributes_there_are_no_tastes(training):
    blank = training._replace(item_features=np.zeros((ITEMS, 0), np.float32))
    network, params, inputs = started(blank)
    found = partial(network.apply, params)(inputs._replace(item_features=jnp.zeros((ITEMS, 0))))
    assert found.design.shape == (ITEMS, 3)
    np.testing.assert_allclose(found.expected[10], found.expected[11])


@pytest.mark.parametrize(("axes", "kept"), [(0, 0), (1, 1), (32, 2)])
def test_attribute_axes_limit_the_directions_of_attributes(training, axes, kept):
    network, params, inputs = started(training, attribute_axes=axes)
    assert network.apply(params, inputs).design.shape == (ITEMS, 3 + kept)
    settings = registry.settings_for("informed_ridge", rank=2, attribute_axes=axes)
    informed = registry.trained_method_of("informed_ridge").network(settings, shapes_of(training))
    blank = informed.init(jax.random.key(0), inputs)["network"].get("taste_map")
    assert (0 if blank is None else blank["kernel"].shape[1]) == kept
