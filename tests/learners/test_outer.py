import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.learners import meta_learner
from metajax.losses import squared_error
from metajax.types import Adaptation, Examples, Model, Task

CONSTANT = Model(init=lambda key, x: jax.random.normal(key), apply=lambda w, x: w + 0 * x)


def tasks_of(labels, mask):
    def part(labels, mask):
        labels = jnp.asarray(labels)
        return Examples(jnp.ones(labels.shape), labels, jnp.asarray(mask))

    return Task(part([[0.0]] * len(labels), [[True]] * len(labels)), part(labels, mask))


# Shifts the score by noise, so that what a key does can be seen.
NOISY = Adaptation(
    adapt=lambda params, support, key=None: 0.0 if key is None else jax.random.normal(key),
    predict=lambda params, adapted, x: CONSTANT.apply(params, x) + adapted,
)
LEARNER = meta_learner(CONSTANT, NOISY, squared_error, optax.sgd(0.25))
TASKS = tasks_of([[1.0, 3.0], [4.0, np.nan]], [[True, True], [True, False]])


def test_each_task_counts_alike_whatever_its_query():
    state = LEARNER.init(jax.random.key(0), TASKS)._replace(params=jnp.array(2.0))
    new, metrics = LEARNER.update(state, TASKS)
    # Errors of 1 and -1, mean square 1; error of -2, square 4.
    assert metrics["loss"] == (1 + 4) / 2
    # Slopes: 2 * (1 - 1) / 2 = 0, and 2 * -2.
    assert metrics["gradient_norm"] == 2
    assert new.params == 2 + 0.25 * 2


def test_a_task_without_a_query_does_not_count():
    state = LEARNER.init(jax.random.key(0), TASKS)
    unasked = tasks_of(
        [[1.0, 3.0], [7.0, 7.0], [4.0, np.nan]], [[True] * 2, [False] * 2, [True, False]]
    )
    chex.assert_trees_all_equal(LEARNER.update(state, unasked), LEARNER.update(state, TASKS))


def test_a_batch_without_any_query_changes_nothing():
    state = LEARNER.init(jax.random.key(0), TASKS)
    new, metrics = LEARNER.update(state, tasks_of([[np.nan, 1.0]], [[False, False]]))
    assert new.params == state.params
    assert metrics == {"loss": 0, "gradient_norm": 0}
    assert new.step == 1


def test_each_task_has_a_key_of_its_own_and_none_means_no_noise():
    state = LEARNER.init(jax.random.key(0), TASKS)._replace(params=jnp.array(2.0))
    key = jax.random.key(5)
    noise = [jax.random.normal(k) for k in jax.random.split(key, 2)]
    assert noise[0] != noise[1]
    _, metrics = LEARNER.update(state, TASKS, key)
    first, second = (1 + noise[0]) ** 2 / 2 + (-1 + noise[0]) ** 2 / 2, (-2 + noise[1]) ** 2
    np.testing.assert_allclose(metrics["loss"], (first + second) / 2, rtol=1e-6)


def test_of_the_tasks_only_shapes_matter_to_the_start():
    other = jax.tree.map(jnp.zeros_like, TASKS)
    chex.assert_trees_all_equal(
        LEARNER.init(jax.random.key(3), TASKS), LEARNER.init(jax.random.key(3), other)
    )
    assert LEARNER.init(jax.random.key(3), TASKS).params == jax.random.normal(jax.random.key(3))


def test_many_updates_are_one_trace_and_count_their_steps():
    traces = []

    @jax.jit
    def update(state, tasks):
        traces.append(None)
        return LEARNER.update(state, tasks)

    state = LEARNER.init(jax.random.key(0), TASKS)
    for seed in range(3):
        labels = jax.random.normal(jax.random.key(seed), (2, 2))
        state, _ = update(state, tasks_of(labels, [[True, bool(seed)], [False, True]]))
    assert state.step.dtype == jnp.int32
    assert state.step == 3
    assert len(traces) == 1
