import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.adaptation import paths
from metajax.networks import RatingNetwork, from_linen, initial_bias, initial_identity
from metajax.types import Inputs

ITEMS = 6


def inputs_of(users=2, items=3) -> Inputs:
    rng = np.random.default_rng(0)
    known, described = (jnp.asarray(rng.normal(size=(4, width))) for width in (users, items))
    return Inputs(known, described, jnp.array([0, 5, 2, 5]))


def built(inputs, **options):
    model = from_linen(RatingNetwork((5, 4), (3,), (7,), **options))
    return model, model.init(jax.random.key(0), inputs)


def test_parameters_have_the_documented_names_and_shapes():
    _, params = built(inputs_of(), items=ITEMS, identity_width=8, direct=True)
    assert dict(zip(paths(params), map(jnp.shape, jax.tree.leaves(params)), strict=True)) == {
        "user_tower/layer_0/kernel": (2, 5),
        "user_tower/layer_0/bias": (5,),
        "user_tower/layer_1/kernel": (5, 4),
        "user_tower/layer_1/bias": (4,),
        "item_tower/layer_0/kernel": (3, 3),
        "item_tower/layer_0/bias": (3,),
        "predictor/layer_0/kernel": (4 + 3 + 8, 7),
        "predictor/layer_0/bias": (7,),
        "predictor/layer_1/kernel": (7, 1),
        "predictor/layer_1/bias": (1,),
        "direct/kernel": (8, 1),
        "item_embedding/embedding": (ITEMS, 8),
        "item_bias/embedding": (ITEMS, 1),
    }


def test_without_identity_the_network_is_two_towers_and_a_predictor():
    inputs = inputs_of()
    model, params = built(inputs)
    assert sorted(params) == ["item_tower", "predictor", "user_tower"]

    def dense(x, layer):
        return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])

    def tower(x, layers):
        for i in range(len(layers)):
            x = dense(x if i == 0 else np.maximum(x, 0), layers[f"layer_{i}"])
        return x

    user = tower(np.asarray(inputs.user_features), params["user_tower"])
    item = tower(np.asarray(inputs.item_features), params["item_tower"])
    expected = tower(np.concatenate([user, item], axis=1), params["predictor"])[:, 0]
    np.testing.assert_allclose(model.apply(params, inputs), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("users", "items", "joined"), [(0, 3, 3 + 8), (2, 0, 4 + 8), (0, 0, 8)])
def test_a_side_without_features_has_no_tower(users, items, joined):
    inputs = inputs_of(users, items)
    model, params = built(inputs, items=ITEMS, identity_width=8)
    assert ("user_tower" in params) == bool(users)
    assert ("item_tower" in params) == bool(items)
    assert params["predictor"]["layer_0"]["kernel"].shape == (joined, 7)
    assert model.apply(params, inputs).shape == (4,)


def test_a_network_without_inputs_is_refused():
    with pytest.raises(ValueError, match="inputs must have features where items is 0, got none"):
        built(inputs_of(0, 0))


def test_a_direct_layer_without_items_is_refused():
    with pytest.raises(ValueError, match="direct must be False where items is 0, got True"):
        built(inputs_of(), direct=True)


@pytest.mark.parametrize("direct", [False, True])
def test_started_identities_score_the_given_biases(direct):
    inputs = inputs_of()
    model, params = built(inputs, items=ITEMS, identity_width=8, direct=direct)
    factors, bias = jax.random.normal(jax.random.key(1), (ITEMS, 8)), jnp.arange(ITEMS) / 2
    started = initial_identity(params, factors, bias)
    np.testing.assert_array_equal(model.apply(started, inputs), bias[inputs.item])
    np.testing.assert_array_equal(started["item_embedding"]["embedding"], factors)
    # All else is as it was, and what was given stays as it is.
    np.testing.assert_array_equal(
        started["user_tower"]["layer_0"]["kernel"], params["user_tower"]["layer_0"]["kernel"]
    )
    assert jnp.any(params["predictor"]["layer_1"]["kernel"])
    # The direct layer makes it the factor model bias + factors . user.
    if direct:
        user = jnp.arange(8.0)
        started["direct"] = {"kernel": user[:, None]}
        expected = bias[inputs.item] + factors[inputs.item] @ user
        np.testing.assert_allclose(model.apply(started, inputs), expected, rtol=1e-5)


def test_an_initial_bias_is_the_initial_score():
    inputs = inputs_of()
    model, params = built(inputs)
    np.testing.assert_array_equal(model.apply(initial_bias(params, 3.5), inputs), [3.5] * 4)
    assert jnp.any(params["predictor"]["layer_1"]["kernel"])


@pytest.mark.parametrize(
    ("factors", "bias", "message"),
    [
        ((ITEMS, 7), ITEMS, r"item_embedding must have the shape \(6, 8\), got \(6, 7\)"),
        ((ITEMS, 8), ITEMS - 1, r"item_bias must have the shape \(6, 1\), got \(5, 1\)"),
    ],
)
def test_identities_of_another_shape_are_refused(factors, bias, message):
    _, params = built(inputs_of(), items=ITEMS, identity_width=8)
    with pytest.raises(ValueError, match=message):
        initial_identity(params, jnp.zeros(factors), jnp.zeros(bias))


def test_a_network_without_identities_cannot_start_them():
    _, params = built(inputs_of())
    with pytest.raises(ValueError, match="params must have item_embedding"):
        initial_identity(params, jnp.zeros((ITEMS, 8)), jnp.zeros(ITEMS))
