import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from metajax import losses
from metajax.base import Examples, Model
from metajax.learners import maml
from metajax.models import from_linen

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


def test_batch_statistics_are_refused():
    message = r"module must hold parameters alone, got the collections \['batch_stats'\]"
    with pytest.raises(ValueError, match=message):
        from_linen(Normalised()).init(jax.random.key(0), X)


def test_an_nnx_module_is_a_model_in_a_few_lines():
    graph, _ = nnx.split(nnx.Linear(2, 1, rngs=nnx.Rngs(0)))
    model = Model(
        init=lambda key, x: nnx.state(nnx.Linear(2, 1, rngs=nnx.Rngs(params=key))),
        apply=lambda params, x: nnx.merge(graph, params)(x)[:, 0],
    )
    learner = maml(model, losses.squared_error, inner=optax.sgd(0.1), outer=optax.sgd(0.1))
    params = model.init(jax.random.key(0), X)
    support = Examples(X, jnp.zeros(3), jnp.array([True, False, False]))
    adapted = learner.adapt(params, support)
    # One step of 0.1 on the square of one score s moves bias by -0.2 s, and weights by x times it.
    score = model.apply(params, X)[0]
    moved = -0.2 * score * (1 + X @ X[0])
    scores = learner.predict(params, adapted, X)
    np.testing.assert_allclose(scores, model.apply(params, X) + moved, rtol=1e-5)
