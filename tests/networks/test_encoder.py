import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.networks import Encoder, RatingNetwork, from_linen, initial_encoder
from metajax.types import Inputs

ITEMS = 6


def inputs_of(users=2, items=3) -> Inputs:
    rng = np.random.default_rng(0)
    known, described = (jnp.asarray(rng.normal(size=(4, width))) for width in (users, items))
    return Inputs(known, described, jnp.array([0, 5, 2, 5]))


def built(inputs, **options):
    encoder = from_linen(Encoder((5, 4), (3,), **options))
    return encoder, encoder.init(jax.random.key(0), inputs)


def test_it_has_the_towers_and_identities_of_the_rating_network():
    inputs = inputs_of()
    encoder, params = built(inputs, items=ITEMS, identity_width=8)
    network = from_linen(RatingNetwork((5, 4), (3,), (7,), items=ITEMS, identity_width=8))
    parts = network.init(jax.random.key(1), inputs)
    del parts["predictor"]
    parts["bias"] = jnp.array(3.0)
    assert jax.tree.map(jnp.shape, parts) == jax.tree.map(jnp.shape, params)
    bias = jnp.arange(ITEMS) / 2
    parts["item_bias"] = {"embedding": bias[:, None]}
    user, item, expected = encoder.apply(parts, inputs)
    assert user.shape == (4, 4)
    np.testing.assert_array_equal(item[:, 3:], parts["item_embedding"]["embedding"][inputs.item])
    np.testing.assert_array_equal(expected, 3 + bias[inputs.item])


def test_missing_features_are_left_out():
    encoder, params = built(inputs_of(users=0))
    assert sorted(params) == ["bias", "item_tower"]
    user, item, bias = encoder.apply({**params, "bias": jnp.array(3.5)}, inputs_of(0))
    assert (user.shape, item.shape) == ((4, 0), (4, 3))
    np.testing.assert_array_equal(bias, [3.5] * 4)
    with pytest.raises(ValueError, match="inputs must have item features where items is 0"):
        built(inputs_of(items=0))


def test_it_starts_from_closed_forms():
    _, params = built(inputs_of(), items=ITEMS, identity_width=8)
    factors, bias = np.ones((ITEMS, 8)), np.arange(ITEMS)
    started = initial_encoder({"encoder": params, "score": 1}, bias, factors)
    assert started["score"] == 1
    assert started["encoder"]["bias"] == 2.5
    np.testing.assert_array_equal(started["encoder"]["item_bias"]["embedding"][:, 0], bias - 2.5)
    np.testing.assert_array_equal(started["encoder"]["item_embedding"]["embedding"], factors)
    _, plain = built(inputs_of())
    assert initial_encoder({"encoder": plain}, 3.5)["encoder"]["bias"] == 3.5
    with pytest.raises(ValueError, match=r"item_bias must have the shape \(6, 1\), got \(5, 1\)"):
        initial_encoder({"encoder": params}, bias[:5], factors)
    with pytest.raises(ValueError, match="encoder must have item_bias, got user_tower"):
        initial_encoder({"encoder": plain}, bias, factors)
