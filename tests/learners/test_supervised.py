import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax import losses
from metajax.adaptation import gradient_steps, matching
from metajax.learners import fine_tuned, supervised
from metajax.types import Examples, Model, Task

MODEL = Model(
    init=lambda key, x: {"w": jax.random.normal(key, (2,)), "b": jnp.zeros(())},
    apply=lambda params, x: x @ params["w"] + params["b"],
)


def batch() -> Task:
    rng = np.random.default_rng(0)

    def part(n):
        x, y = (jnp.asarray(rng.normal(size=size)) for size in ((3, n, 2), (3, n)))
        return Examples(x, y, jnp.ones((3, n), bool))

    return Task(part(4), part(5))


TASKS = batch()


def test_supervised_training_fits_the_query_and_serves_zero_shot():
    learner = supervised(MODEL, losses.squared_error, outer=optax.sgd(0.1))
    state = learner.init(jax.random.key(0), TASKS)
    new, metrics = learner.update(state, TASKS)
    x, y = np.asarray(TASKS.query.inputs), np.asarray(TASKS.query.labels)
    error = x @ np.asarray(state.params["w"]) - y
    np.testing.assert_allclose(metrics["loss"], np.mean(error**2), rtol=1e-5)
    w = state.params["w"] - 0.1 * 2 * np.einsum("tn,tnd->d", error, x) / error.size
    np.testing.assert_allclose(new.params["w"], w, rtol=1e-5)
    np.testing.assert_allclose(new.params["b"], -0.1 * 2 * error.mean(), rtol=1e-5)

    support = jax.tree.map(lambda leaf: leaf[0], TASKS.support)
    adapted = learner.adapt(new.params, support)
    assert not jax.tree.leaves(adapted)
    np.testing.assert_array_equal(
        learner.predict(new.params, adapted, x[0]), MODEL.apply(new.params, x[0])
    )


def test_fine_tuned_trains_to_the_same_bits_as_supervised():
    outer = optax.adam(1e-2)
    plain = supervised(MODEL, losses.squared_error, outer=outer)
    # Adam without eps_root will do here: nothing is differentiated through it.
    tuned = fine_tuned(MODEL, losses.squared_error, inner=optax.adam(1e-2), outer=outer, steps=2)
    states = []
    for learner in (plain, tuned):
        state, update = learner.init(jax.random.key(0), TASKS), jax.jit(learner.update)
        for _ in range(5):
            state, _ = update(state, TASKS)
        states.append(state)
    chex.assert_trees_all_equal(*states)


def test_fine_tuned_adapts_by_gradient_steps():
    options = {"steps": 3, "adapts": matching("b")}
    learner = fine_tuned(
        MODEL,
        losses.squared_error,
        inner=optax.sgd(0.1),
        outer=optax.sgd(0.1),
        inner_loss=losses.absolute_error,
        **options,
    )
    expected = gradient_steps(
        losses.on_examples(MODEL.apply, losses.absolute_error),
        optax.sgd(0.1),
        predict=MODEL.apply,
        **options,
    )
    params = learner.init(jax.random.key(0), TASKS).params
    support = jax.tree.map(lambda leaf: leaf[0], TASKS.support)
    adapted = learner.adapt(params, support)
    chex.assert_trees_all_equal(adapted, expected.adapt(params, support))
    x = TASKS.query.inputs[0]
    scores = learner.predict(params, adapted, x)
    np.testing.assert_array_equal(scores, expected.predict(params, adapted, x))
    assert np.abs(scores - MODEL.apply(params, x)).min() > 1e-3
