import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.learners import consolidated, ewc_penalty, fisher_information, maml, supervised
from metajax.types import Examples, Task


def test_the_fisher_information_is_the_mean_of_squared_gradients_of_tasks(line, regressions, kept):
    learner = supervised(line, losses.squared_error, outer=optax.sgd(0.1))
    w = np.array([0.4, -0.7])
    squares = [(2 * B.T @ (B @ w - z) / len(z)) ** 2 for _, (B, z) in kept(regressions) if len(z)]
    assert len(squares) == 3  # of four tasks; one has no query
    found = fisher_information(learner, losses.squared_error, jnp.asarray(w), regressions)
    np.testing.assert_allclose(found, np.mean(squares, axis=0), rtol=1e-12)


def test_an_outer_optimizer_sees_the_gradient_of_loss_and_penalty(line, regressions):
    anchor, fisher = jnp.array([1.0, 2.0]), jnp.array([3.0, 0.5])
    plain, pulled = (
        maml(line, losses.squared_error, inner=optax.sgd(0.1), outer=outer)
        for outer in (optax.sgd(0.2), consolidated(optax.sgd(0.2), anchor, fisher, 4.0))
    )
    state = pulled.init(jax.random.key(0), regressions)
    w = state.params
    without, _ = jax.jit(plain.update)(plain.init(jax.random.key(0), regressions), regressions)
    pull = 4.0 * fisher * (w - anchor)
    np.testing.assert_allclose(jax.grad(ewc_penalty)(w, anchor, fisher, 4.0), pull, rtol=1e-12)
    new, _ = jax.jit(pulled.update)(state, regressions)
    np.testing.assert_allclose(new.params, without.params - 0.2 * pull, rtol=1e-12)


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match=r"^weight must be finite and >= 0, got "):
        consolidated(optax.sgd(0.1), jnp.zeros(2), jnp.ones(2), weight)


def family(features, slope, seed) -> Task:
    """Users whose ratings have the slope along z; `features(z) -> [.., 2]` is what is seen."""
    rng = np.random.default_rng(seed)
    z, noise = rng.normal(size=(2, 64, 8))
    examples = Examples(
        jnp.asarray(features(z), jnp.float32),
        jnp.asarray(slope * z + 0.3 * noise, jnp.float32),
        jnp.ones(z.shape, bool),
    )
    halves = [jax.tree.map(lambda leaf, h=h: leaf[:, 4 * h : 4 * h + 4], examples) for h in (0, 1)]
    return Task(*halves)


def test_plain_training_forgets_the_first_family_and_consolidation_does_not(line):
    # The first family is seen in one feature and goes up; in the second both features are alike
    # and it goes down. Only (2, -4) serves both; from (2, 0) plain training goes to (0, -2).
    first = family(lambda z: np.stack([z, 0.03 * z[::-1]], axis=-1), 2.0, seed=0)
    second = family(lambda z: np.stack([z, z], axis=-1), -2.0, seed=1)
    loss = losses.squared_error

    def trained(params, tasks, outer):
        learner = maml(line, loss, inner=optax.sgd(0.02), outer=outer)
        state = learner.init(jax.random.key(0), tasks)
        state = state._replace(params=params)

        @jax.jit
        def many(state):
            return jax.lax.scan(lambda s, _: learner.update(s, tasks), state, length=500)

        return learner, many(state)[0].params

    def judged(params, tasks):
        return float(jnp.mean(jnp.square(tasks.query.inputs @ params - tasks.query.labels)))

    learner, anchor = trained(jnp.zeros(2), first, optax.sgd(0.03))
    fisher = fisher_information(learner, loss, anchor, first)
    _, plain = trained(anchor, second, optax.sgd(0.03))
    _, careful = trained(anchor, second, consolidated(optax.sgd(0.03), anchor, fisher, 50.0))
    # The noise alone is 0.09.
    at_first, forgotten, kept = (judged(w, first) for w in (anchor, plain, careful))
    assert at_first < 0.12
    assert kept < 0.2
    assert forgotten > 2
    for w in (plain, careful):
        assert judged(w, second) < 0.2
