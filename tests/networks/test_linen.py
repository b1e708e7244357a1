import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.networks import from_linen

X = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(nn.Dense(1)(x))


class Summed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x.sum(axis=1)


def test_a_column_of_scores_comes_back_flat():
    model = from_linen(nn.Dense(1))
    params = model.init(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, params) == {"kernel": (2, 1), "bias": (1,)}
    expected = np.asarray(X) @ np.asarray(params["kernel"])[:, 0] + params["bias"][0]
    np.testing.assert_allclose(model.apply(params, X), expected, rtol=1e-6)


def test_other_scores_come_back_as_they_are():
    model = from_linen(nn.Dense(2))
    assert model.apply(model.init(jax.random.key(0), X), X).shape == (3, 2)
    # Without parameters, and one score for one row.
    model = from_linen(Summed())
    assert model.init(jax.random.key(0), X) == {}
    np.testing.assert_array_equal(model.apply({}, X[:1]), [3])


def test_scores_of_a_layer_in_bfloat16_are_float32():
    model = from_linen(nn.Dense(1, dtype=jnp.bfloat16))
    params = model.init(jax.random.key(0), X)
    scores = model.apply(params, X)
    assert scores.dtype == params["kernel"].dtype == jnp.float32
    # Computed in bfloat16 nevertheless: they are numbers of it.
    np.testing.assert_array_equal(scores, scores.astype(jnp.bfloat16))


def test_batch_statistics_are_refused():
    message = r"module must hold parameters alone, got the collections \['batch_stats'\]"
    with pytest.raises(ValueError, match=message):
        from_linen(Normalised()).init(jax.random.key(0), X)
