"""Adjoints against central differences and closed forms."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.adaptation import (
    FiniteDifference,
    FirstOrder,
    Implicit,
    Linearized,
    Mixed,
    Reverse,
    gradient_steps,
    inner_loop,
    matching,
)
from metajax.types import Examples, Task
from tests.kinds import slow_but

NOTHING: Any = None
EXACT = {
    "reverse": Reverse(),
    "reverse, remat": Reverse(remat=True),
    "linearized": Linearized(),
    "mixed": Mixed(),
}
OPTIMIZERS = {
    "sgd": (optax.sgd(0.1), 3),
    "momentum": (optax.sgd(0.1, momentum=0.9), 3),
    "adam": (optax.adam(0.05, eps_root=1e-4), 3),
    "sgd, scanned": (optax.sgd(0.05), 11),
}


@pytest.fixture(autouse=True)
def _double_precision():
    with jax.enable_x64(True):
        yield


def apply(params, inputs):
    rows, item = inputs
    hidden = jnp.tanh(rows @ params["tower"] + jnp.take(params["item"], item, axis=0))
    return hidden @ params["predictor"]


def some_params():
    rng = np.random.default_rng(1)
    shapes = {"tower": (2, 3), "item": (4, 3), "predictor": (3,)}
    return {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}


def some_tasks():
    """A whole support, an empty one, and one with a gap."""
    rng = np.random.default_rng(2)

    def examples(rows):
        inputs = rng.normal(size=(3, rows, 2)), rng.integers(0, 4, (3, rows))
        return Examples(inputs, jnp.asarray(rng.normal(size=(3, rows))), jnp.ones((3, rows), bool))

    mask = jnp.array([[True] * 4, [False] * 4, [True, False, True, True]])
    return jax.tree.map(jnp.asarray, Task(examples(4)._replace(mask=mask), examples(2)))


def meta_loss(adaptation, params, tasks):
    def one(params, task):
        adapted = adaptation.adapt(params, task.support)
        predict = partial(adaptation.predict, params)
        return losses.on_examples(predict, losses.squared_error)(adapted, task.query)

    return jax.vmap(one, in_axes=(None, 0))(params, tasks).mean()


def adaptation_of(optimizer, adjoint, **options):
    optimizer, steps = OPTIMIZERS[optimizer]
    inner_loss = losses.on_examples(apply, losses.squared_error)
    return gradient_steps(inner_loss, optimizer, steps, predict=apply, adjoint=adjoint, **options)


@pytest.mark.parametrize("adapts", ["*", "predictor"])
@pytest.mark.parametrize("optimizer", slow_but({"adam"}, OPTIMIZERS))
def test_exact_adjoints_agree_with_each_other_and_with_central_differences(optimizer, adapts):
    params, tasks = some_params(), some_tasks()
    direction = jax.tree.map(lambda w: np.random.default_rng(3).normal(size=w.shape), params)

    @jax.jit
    def everything(params):
        def loss(adjoint, params):
            adaptation = adaptation_of(optimizer, adjoint, adapts=matching(adapts))
            return meta_loss(adaptation, params, tasks)

        gradients = {
            name: jax.value_and_grad(partial(loss, adjoint))(params)
            for name, adjoint in {**EXACT, "difference": FiniteDifference(1e-4)}.items()
        }
        moved = [
            jax.tree.map(lambda w, v, s=s: w + s * 1e-5 * v, params, direction) for s in (1, -1)
        ]
        ahead, behind = (loss(EXACT["reverse"], where) for where in moved)
        return gradients, (ahead - behind) / 2e-5

    gradients, slope = everything(params)
    expected = gradients["reverse"]
    np.testing.assert_allclose(optax.tree.vdot(expected[1], direction), slope, rtol=1e-7)
    for name in EXACT:
        chex.assert_trees_all_close(gradients[name], expected, rtol=1e-10, atol=1e-13)
    chex.assert_trees_all_close(gradients["difference"], expected, rtol=1e-3, atol=1e-6)


def test_exact_adjoints_agree_on_a_task_alone_and_on_the_gradient_of_each_task():
    params, tasks = some_params(), some_tasks()

    def loss(adjoint, params, task):
        adapted = adaptation_of("sgd", adjoint).adapt(params, task.support)
        return losses.on_examples(apply, losses.squared_error)(adapted, task.query)

    @jax.jit
    def gradients(params):
        found = {}
        for name, adjoint in EXACT.items():
            gradient = jax.grad(partial(loss, adjoint))
            of_each = jax.vmap(gradient, in_axes=(None, 0))(params, tasks)
            alone = gradient(params, jax.tree.map(lambda leaf: leaf[0], tasks))
            found[name] = alone, of_each
        return found

    found = gradients(params)
    for alone, of_each in found.values():
        first = jax.tree.map(lambda leaf: leaf[0], of_each)
        chex.assert_trees_all_close(alone, first, rtol=1e-10, atol=1e-13)
        chex.assert_trees_all_close(of_each, found["reverse"][1], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("steps", [1, 11])
@pytest.mark.slow
def test_the_inner_loss_may_close_over_traced_values(steps):
    params, tasks = some_params(), some_tasks()
    adjoints = {**EXACT, "implicit": Implicit(5.0, iterations=30)}

    @jax.jit
    def slopes(strength):
        def loss(adjoint, strength):
            def of_task(task):
                def inner_loss(params, support):
                    error = losses.on_examples(apply, losses.squared_error)(params, support)
                    # Of the task, too: its query weighs its support's penalty.
                    weight = strength * jnp.mean(task.query.labels**2)
                    return error + weight * optax.tree.norm(params, squared=True)

                rate = 0.02 if isinstance(adjoint, Implicit) else 0.05
                loop = partial(gradient_steps, inner_loss, optax.sgd(rate), predict=apply)
                at = loop(100 if isinstance(adjoint, Implicit) else steps, adjoint=adjoint)
                adapted = at.adapt(params, task.support)
                return losses.on_examples(apply, losses.squared_error)(adapted, task.query)

            return jax.vmap(of_task)(tasks).mean()

        found = {name: jax.grad(partial(loss, a))(strength) for name, a in adjoints.items()}
        nudge = 1e-5
        for name in ("reverse", "implicit"):
            ahead, behind = (loss(adjoints[name], strength + s * nudge) for s in (1, -1))
            found[f"difference of {name}"] = (ahead - behind) / (2 * nudge)
        return found

    found = slopes(0.1)
    for name in EXACT:
        np.testing.assert_allclose(found[name], found["difference of reverse"], rtol=1e-7)
    np.testing.assert_allclose(found["implicit"], found["difference of implicit"], rtol=1e-4)


def parabola(adjoint, steps=1, rate=0.5, optimizer=optax.sgd):
    """Adapts w by the loss (w - c)^2 / 2."""
    loop = inner_loop(
        lambda params, examples: jnp.sum(jnp.square(params["w"] - params["c"])) / 2,
        optimizer(rate),
        steps,
        predict=lambda params, inputs: params["w"],
        adapts=matching("w"),
        adjoint=adjoint,
    )
    return lambda w, c: loop.run({"w": w, "c": c}, ())[0]["w"]


def test_first_order_takes_the_gradient_for_a_constant():
    adapt = parabola(FirstOrder())
    # w - (w - c) / 2, in which only the first w is seen.
    assert float(adapt(3.0, 1.0)) == 2.0
    assert jax.grad(adapt, argnums=(0, 1))(3.0, 1.0) == (1.0, 0.0)


def test_reverse_sees_through_the_gradient():
    adapt = parabola(Reverse())
    assert jax.grad(adapt, argnums=(0, 1))(3.0, 1.0) == (0.5, 0.5)


def test_implicit_differentiates_the_proximal_solution():
    adapt = parabola(Implicit(proximal=3.0, iterations=2), steps=200, rate=0.2)
    # (w - c) + 3 (w - start) = 0: w = (c + 3 start) / 4.
    np.testing.assert_allclose(adapt(5.0, 1.0), 4.0, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(adapt, argnums=(0, 1))(5.0, 1.0), (0.75, 0.25), rtol=1e-12)


def test_damping_shrinks_the_implicit_gradient():
    adapt = parabola(Implicit(3.0, iterations=2, damping=1.0), steps=200, rate=0.2)
    # 3 (H + 3 + 1)^-1 and (H + 3 + 1)^-1, with H = 1.
    np.testing.assert_allclose(jax.grad(adapt, argnums=(0, 1))(5.0, 1.0), (0.6, 0.2), rtol=1e-12)


def test_conjugate_gradients_solve_for_many_weights_under_vmap():
    params, tasks = some_params(), some_tasks()
    proximal = 5.0
    inner_loss = losses.on_examples(apply, losses.squared_error)
    loop = partial(inner_loop, inner_loss, optax.sgd(0.1), 300, predict=apply)
    adapt = loop(adjoint=Implicit(proximal, iterations=30)).run

    @jax.jit
    def both(params):
        def one(support):
            adapted, back = jax.vjp(lambda params: adapt(params, support)[0], params)
            return adapted, back(params)[0]

        def solved(support):
            adapted = adapt(params, support)[0]
            flat, join = jax.flatten_util.ravel_pytree(adapted)
            hessian = jax.hessian(lambda flat: inner_loss(join(flat), support))(flat)
            target = jax.flatten_util.ravel_pytree(params)[0]
            return join(jnp.linalg.solve(jnp.eye(len(flat)) + hessian / proximal, target))

        return jax.vmap(one)(tasks.support)[1], jax.vmap(solved)(tasks.support)

    chex.assert_trees_all_close(*both(params), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Implicit(0.0), "proximal must be > 0, got 0.0"),
        (lambda: Implicit(iterations=0), "iterations must be >= 1, got 0"),
        (lambda: Implicit(damping=-1.0), "damping must be >= 0, got -1.0"),
        (lambda: FiniteDifference(0.0), "step must be > 0, got 0.0"),
        (lambda: gradient_steps(NOTHING, optax.adam(1e-2), 1, predict=NOTHING), "eps_root"),
        (
            lambda: gradient_steps(NOTHING, optax.sgd(1e-2), 0, predict=NOTHING),
            "steps must be >= 1",
        ),
    ],
)
def test_unsupported_combinations_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_adjoint_that_does_not_pass_the_optimizer_takes_any():
    adapt = parabola(FirstOrder(), optimizer=optax.adam)
    # The first step of Adam is its rate, against the sign of the gradient.
    np.testing.assert_allclose(adapt(3.0, 1.0), 2.5, rtol=1e-7)
    np.testing.assert_array_equal(jax.grad(adapt, argnums=(0, 1))(3.0, 1.0), (1.0, 0.0))
    adapt = parabola(Implicit(proximal=3.0, iterations=2), 400, 0.1, optimizer=optax.adam)
    np.testing.assert_allclose(adapt(5.0, 1.0), 4.0, rtol=1e-4)
    np.testing.assert_allclose(jax.grad(adapt, argnums=(0, 1))(5.0, 1.0), (0.75, 0.25), rtol=1e-12)
