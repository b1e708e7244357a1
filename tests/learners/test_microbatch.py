import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.learners import maml, meta_learner
from metajax.losses import squared_error
from metajax.types import Adaptation, Examples, Model, Task

T, S, Q = 7, 3, 4


def network(width):
    def init(key, x):
        keys = jax.random.split(key)
        return {
            "in": jax.random.normal(keys[0], (x.shape[-1], width)) / 2,
            "out": jax.random.normal(keys[1], (width,)) / 2,
        }

    return Model(init, lambda params, x: jnp.tanh(x @ params["in"]) @ params["out"])


def batch(tasks, features=2):
    keys = jax.random.split(jax.random.key(0), 4)
    x = [jax.random.normal(k, (tasks, n, features)) for k, n in zip(keys, (S, Q), strict=False)]
    y = [jax.random.normal(k, (tasks, n)) for k, n in zip(keys[2:], (S, Q), strict=True)]
    mask = [jnp.ones(leaf.shape, bool) for leaf in y]
    support, query = (Examples(*leaves) for leaves in zip(x, y, mask, strict=True))
    # The third task has nothing to be judged by.
    return Task(support, query._replace(mask=query.mask.at[2].set(False)))


def learner(microbatch, width=5):
    return maml(
        network(width),
        squared_error,
        inner=optax.sgd(0.1),
        outer=optax.sgd(1.0),
        steps=2,
        microbatch=microbatch,
    )


@pytest.mark.parametrize("microbatch", [1, 3, 6, 7, 10])
def test_any_microbatch_gives_the_gradient_of_the_full_batch(microbatch):
    tasks = batch(T)
    start = learner(None).init(jax.random.key(1), tasks)
    whole, whole_metrics = jax.jit(learner(None).update)(start, tasks)
    parts, metrics = jax.jit(learner(microbatch).update)(start, tasks)
    for name in whole.params:  # the step is the meta-gradient, by SGD 1
        np.testing.assert_allclose(parts.params[name], whole.params[name], rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], whole_metrics["loss"], rtol=1e-6)


def test_keys_follow_their_tasks():
    """An adaptation that only draws a number shows which key each task got."""

    def drawing(microbatch):
        def adapt(params, support, key=None):
            assert key is not None
            return jax.random.normal(key)

        adaptation = Adaptation(
            adapt,
            predict=lambda params, adapted, x: params * adapted * x[:, 0],
        )
        model = Model(lambda key, x: jnp.ones(()), lambda params, x: params * x[:, 0])
        return meta_learner(model, adaptation, squared_error, optax.sgd(1.0), microbatch=microbatch)

    tasks, key = batch(T), jax.random.key(5)
    start = drawing(None).init(jax.random.key(1), tasks)
    whole, _ = drawing(None).update(start, tasks, key)
    parts, _ = drawing(3).update(start, tasks, key)
    np.testing.assert_allclose(parts.params, whole.params, rtol=1e-6)


def test_memory_is_that_of_the_microbatch():
    def temporary(microbatch, tasks):
        shapes = jax.eval_shape(lambda: batch(tasks, features=32))
        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        chosen = learner(microbatch, width=64)
        state = chosen.init(jax.random.key(0), blank)
        compiled = jax.jit(chosen.update).lower(state, blank).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert temporary(16, 512) < temporary(None, 512) / 8
    assert temporary(16, 512) < 1.2 * temporary(16, 64)


def test_a_microbatch_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"^microbatch must be >= 1, got 0\.$"):
        learner(0)
