import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses, networks, registry
from metajax.data import TrainingSet, cold_users, from_columns
from metajax.data.dataset import shapes_of
from metajax.data.datasets import load
from metajax.methods.semantic_map import (
    SemanticMap,
    initial_semantic_map,
    linear_map_to,
    semantic_map,
)
from metajax.types import Examples, Inputs, Task

ITEMS = 30


@pytest.fixture(scope="module")
def training():
    """Users like one of two kinds of films; the last four, two of each kind, are unrated."""
    rng = np.random.default_rng(0)
    kind = np.arange(ITEMS) % 2
    seen = rng.random((80, ITEMS)) < 0.6
    seen[:, -4:] = False
    user, item = np.nonzero(seen)
    rating = 3 + np.where(kind[item] == user % 2, 1.5, -1.5) + 0.3 * rng.normal(size=len(user))
    ids = [np.array([f"{n:02}" for n in range(size)]) for size in seen.shape]
    log = from_columns(user, item, rating, user_ids=ids[0], item_ids=ids[1])
    features = np.stack([kind, 1 - kind], axis=1).astype(np.float32)
    return TrainingSet(log, np.zeros((80, 0), np.float32), features, (0.0, 6.0))


def test_a_map_is_a_ridge_regression_in_which_items_count_by_their_ratings():
    """Repeating an item's row as often as it was rated is the same as counting it."""
    rng = np.random.default_rng(1)
    features, embedding, count = (
        rng.normal(size=(5, 2)),
        rng.normal(size=(5, 3)),
        np.array([1, 3, 0, 2, 2]),
    )
    weights, error = linear_map_to(embedding, features, count, ridge=0.5)
    x, y = np.repeat(features, count, axis=0), np.repeat(embedding, count, axis=0)
    # Four items were rated, twice on average.
    expected = np.linalg.solve(x.T @ x + 0.5 * 2 * np.eye(2), x.T @ y)
    np.testing.assert_allclose(weights, expected, rtol=1e-9)
    np.testing.assert_allclose(error, np.mean(np.sum((y - x @ expected) ** 2, axis=1)), rtol=1e-9)


def test_a_cold_item_is_ranked_by_its_kind(training):
    settings = registry.settings_for("semantic_map", rank=2, width=4)
    shapes = shapes_of(training)
    adaptation = registry.adaptation_of(settings, shapes)
    params = registry.first_progress(settings, training).state.params
    assert adaptation.predict_variance is not None
    variance_of = adaptation.predict_variance
    shown = jnp.arange(6)

    def inputs(item):
        return Inputs(jnp.zeros((len(item), 0)), jnp.asarray(training.item_features)[item], item)

    @jax.jit
    def scores(labels):
        support = Examples(inputs(shown), labels, jnp.ones(6, bool))
        cold = inputs(jnp.arange(ITEMS - 4, ITEMS))
        adapted = adaptation.adapt(params, support)
        predicted = adaptation.predict(params, adapted, cold)
        return predicted, variance_of(params, adapted, cold)

    mean, variance = scores(jnp.where(shown % 2 == 0, 4.5, 1.5))
    assert (mean[0::2] > 4).all()
    assert (mean[1::2] < 2).all()
    # A cold item is less sure than the noise of .09 alone.
    assert (variance > 0.09).all()


@pytest.mark.parametrize("loss", [losses.squared_error, optax.squared_error])
def test_training_queries_count_as_unrated_items(loss):
    """The loss in NumPy: scores by the map, and the distance to what is known of the items."""
    network = networks.from_linen(SemanticMap(3, 2, 1))
    rng = np.random.default_rng(2)
    table = {
        "item_embedding": rng.normal(size=(3, 2)),
        "known": np.array([1.0, 0.5, 0.0]),
        "traits": rng.normal(size=(3, 1)),
        "item_bias": np.array([3.0, 4.0, 2.0]),
        "item_spread": np.zeros(3),
        "weights": rng.normal(size=(2, 2)),
        "noise": np.array(0.5),
        "error": np.array(0.2),
    }
    learner = semantic_map(network, loss, outer=optax.sgd(0.0), closeness=0.3)
    features = np.array([[1.0], [2.0], [-1.0]])

    def rows(item):
        item = jnp.asarray(item)
        return Inputs(jnp.zeros((len(item), 0)), jnp.asarray(features)[item], item)

    task = Task(
        Examples(rows([0, 1]), jnp.array([4.0, 5.0]), jnp.ones(2, bool)),
        Examples(rows([1, 2, 0]), jnp.array([2.0, 3.0, 9.0]), jnp.array([True, True, False])),
    )
    batch = jax.tree.map(lambda leaf: leaf[None], task)
    state = learner.init(jax.random.key(0), batch)
    given = {name: jnp.asarray(value) for name, value in table.items()}
    state = state._replace(params=initial_semantic_map(state.params, **given))
    _, metrics = jax.jit(learner.update)(state, batch)

    guess = np.concatenate([table["traits"], features], axis=1) @ table["weights"]
    own, known = table["item_embedding"], table["known"][:, None]
    x = (known * own + (1 - known) * guess)[[0, 1]]
    noise = 0.5 + (1 - table["known"][[0, 1]]) * 0.2
    weighed = x / noise[:, None]
    z = np.linalg.solve(np.eye(2) + weighed.T @ x, weighed.T @ (np.array([4.0, 5.0]) - [3.0, 4.0]))
    error = np.array([4.0, 2.0]) + guess[[1, 2]] @ z - [2.0, 3.0]
    distance = 0.5 * np.sum((own[1] - guess[1]) ** 2) / 2
    np.testing.assert_allclose(metrics["loss"], np.mean(error**2) + 0.3 * distance, rtol=1e-5)


def test_closed_form_parameters_are_not_trained(small):
    training = cold_users(load(str(small))).training
    sizes = {"rank": 2, "width": 4, "tasks": 4, "query": 3}
    settings = registry.settings_for("semantic_map", **sizes, rate=0.1, weight_decay=0.1)
    shapes = shapes_of(training)
    learner, sampler = registry.learner_of(settings, shapes), registry.sampler_of(settings, shapes)
    tasks = jax.jit(sampler.sample)(sampler.table(training, seed=0), jax.random.key(0))
    state = registry.first_progress(settings, training).state
    update, before = jax.jit(learner.update), state.params
    for _ in range(3):
        state, _ = update(state, tasks)
    same = [
        name
        for name, leaf in before.items()
        if all(map(np.array_equal, *map(jax.tree.leaves, (leaf, state.params[name]))))
    ]
    assert set(same) == {"item_embedding", "item_spread", "known", "traits"}


def test_invalid_settings_of_a_map_are_refused(training):
    with pytest.raises(ValueError, match=r"closeness must be >= 0, got -1\."):
        semantic_map(
            networks.from_linen(SemanticMap(3, 2, 1)),
            losses.squared_error,
            outer=optax.sgd(0.0),
            closeness=-1.0,
        )
    with pytest.raises(ValueError, match="rank must be >= 1 for a map"):
        registry.first_progress(registry.settings_for("semantic_map", rank=0), training)
