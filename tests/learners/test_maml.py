import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.adaptation import matching
from metajax.learners import anil, boil, fomaml, maml
from metajax.types import Examples, Model, Task

INNER, OUTER = 0.1, 0.5
LINE = Model(
    init=lambda key, x: {"bias": jnp.zeros(()), "slope": jnp.ones(())},
    apply=lambda params, x: params["slope"] * x + params["bias"],
)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def batch(seed=0, tasks=4):
    """Tasks with 0 to 3 examples in the support and 0 to 2 in the query, padded with NaN."""
    rng = np.random.default_rng(seed)

    def part(sizes, width):
        mask = np.arange(width) < np.array(sizes)[:, None]
        x, y = (np.where(mask, rng.normal(size=mask.shape), np.nan) for _ in range(2))
        return Examples(*(jnp.asarray(leaf) for leaf in (x, y, mask)))

    return Task(part([3, 2, 1, 0][:tasks], 3), part([2, 0, 1, 2][:tasks], 2))


def by_hand(params, tasks, steps, *, adapts=(1.0, 1.0), second_order=True):
    """The meta-loss and meta-gradient in NumPy: one task with a query after the other."""
    values, gradients = [], []
    P = np.diag(adapts)
    for t in range(len(tasks.query.mask)):
        (A, y), (B, z) = (design(part, t) for part in tasks)
        if not len(z):
            continue
        theta = np.array([params["bias"], params["slope"]])
        H = 2 * A.T @ A / max(len(y), 1)
        chain = np.eye(2)
        for _ in range(steps):
            theta = theta - INNER * P @ (H @ theta - 2 * A.T @ y / max(len(y), 1))
            chain = (np.eye(2) - INNER * P @ H) @ chain
        error = B @ theta - z
        slope = 2 * B.T @ error / len(z)
        values.append(np.mean(error**2))
        gradients.append(chain.T @ slope if second_order else slope)
    return np.mean(values), np.mean(gradients, axis=0)


def design(part, t):
    x, y, mask = (np.asarray(leaf[t]) for leaf in part)
    return np.stack([np.ones(mask.sum()), x[mask]], axis=1), y[mask]


def learner_of(method, **options):
    return method(
        LINE, losses.squared_error, inner=optax.sgd(INNER), outer=optax.sgd(OUTER), **options
    )


@pytest.mark.parametrize(
    ("method", "options", "arithmetic"),
    [
        (maml, {}, {}),
        (maml, {"adapts": matching("bias")}, {"adapts": (1.0, 0.0)}),
        (fomaml, {}, {"second_order": False}),
        (anil, {"head": matching("slope")}, {"adapts": (0.0, 1.0)}),
        (boil, {"head": matching("slope")}, {"adapts": (1.0, 0.0)}),
    ],
)
@pytest.mark.parametrize("steps", [1, 3])
def test_an_update_is_the_update_by_hand(method, options, arithmetic, steps):
    learner = learner_of(method, steps=steps, **options)
    tasks = batch()
    state = learner.init(jax.random.key(0), tasks)
    state = state._replace(params={"bias": jnp.array(0.3), "slope": jnp.array(-1.2)})
    value, gradient = by_hand(state.params, tasks, steps, **arithmetic)
    new, metrics = jax.jit(learner.update)(state, tasks)
    assert set(metrics) == {"loss", "gradient_norm"}
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-12)
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(gradient), rtol=1e-12)
    np.testing.assert_allclose(new.params["bias"], 0.3 - OUTER * gradient[0], rtol=1e-12)
    np.testing.assert_allclose(new.params["slope"], -1.2 - OUTER * gradient[1], rtol=1e-12)
    assert new.step == 1


def test_first_order_has_the_loss_of_maml_and_another_gradient():
    tasks, updated = batch(), []
    for method in (maml, fomaml):
        learner = learner_of(method, steps=3)
        updated.append(learner.update(learner.init(jax.random.key(0), tasks), tasks))
    (exact, metrics), (biased, biased_metrics) = updated
    np.testing.assert_allclose(metrics["loss"], biased_metrics["loss"], rtol=1e-12)
    assert abs(exact.params["slope"] - biased.params["slope"]) > 0.01


def test_the_inner_loss_may_be_another():
    # The sum over n examples is n times their mean, and so is the step.
    seen = jax.tree.map(lambda leaf: leaf[0], batch().support)
    params = {"bias": jnp.array(0.0), "slope": jnp.array(1.0)}
    of_sum = learner_of(maml, inner_loss=losses.total_squared_error)
    of_mean = maml(LINE, losses.squared_error, inner=optax.sgd(3 * INNER), outer=optax.sgd(OUTER))
    chex.assert_trees_all_close(of_sum.adapt(params, seen), of_mean.adapt(params, seen), rtol=1e-12)
