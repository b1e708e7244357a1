import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from metajax import losses
from metajax.adaptation import FirstOrder, Reverse, gradient_steps, matching
from metajax.adaptation.gradient_steps import check_optimizer
from metajax.learners import maml
from metajax.networks import RatingNetwork, from_linen
from metajax.types import Examples, Inputs, Task

RATE = 0.1
OPTIMIZERS = {
    "sgd": optax.sgd(RATE),
    "momentum": optax.sgd(RATE, momentum=0.9),
    "adam": optax.adam(RATE, eps_root=1e-4),
}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def linear(params, x):
    return x @ params


def linear_steps(optimizer=None, steps=3, **options):
    inner_loss = losses.on_examples(linear, losses.squared_error)
    return gradient_steps(
        inner_loss, optimizer or optax.sgd(RATE), steps, predict=linear, **options
    )


def regression(seed, n=5, width=3):
    """Parameters, three rows to look at and two to be judged by."""
    rng = np.random.default_rng(seed)
    w, x, y = (jnp.asarray(rng.normal(size=size)) for size in (width, (n, width), n))
    parts = slice(3), slice(3, n)
    return w, Task(*(Examples(x[rows], y[rows], jnp.ones(len(y[rows]), bool)) for rows in parts))


def query_loss(adaptation):
    def loss(params, task):
        adapted = adaptation.adapt(params, task.support)
        scores = adaptation.predict(params, adapted, task.query.inputs)
        return losses.squared_error(scores, task.query.labels, where=task.query.mask)

    return loss


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.slow
def test_the_meta_gradient_on_a_quadratic_is_the_closed_form(steps):
    # The loss |Xw - y|^2 / n has the Hessian H = 2 X'X / n and its minimum at w*. So k steps of
    # SGD give w_k = w* + (I - rate H)^k (w - w*), whose derivative by w is (I - rate H)^k.
    w, task = regression(0)
    X, y = np.asarray(task.support.inputs), np.asarray(task.support.labels)
    best = np.linalg.lstsq(X, y, rcond=None)[0]
    shrink = np.linalg.matrix_power(np.eye(3) - RATE * 2 * X.T @ X / len(y), steps)
    adapted = best + shrink @ (w - best)
    error = task.query.inputs @ adapted - task.query.labels
    direct = 2 * task.query.inputs.T @ error / len(error)

    adaptation = linear_steps(steps=steps)
    np.testing.assert_allclose(adaptation.adapt(w, task.support), adapted, rtol=1e-12)
    value, exact = jax.value_and_grad(query_loss(adaptation))(w, task)
    np.testing.assert_allclose(value, np.mean(error**2), rtol=1e-12)
    np.testing.assert_allclose(exact, shrink @ direct, rtol=1e-12)
    biased = jax.grad(query_loss(linear_steps(steps=steps, adjoint=FirstOrder())))(w, task)
    np.testing.assert_allclose(biased, direct, rtol=1e-12)


def rated(seed, n):
    rng = np.random.default_rng(seed)
    users, items, labels = (jnp.asarray(rng.normal(size=size)) for size in ((n, 2), (n, 3), n))
    inputs = Inputs(users, items, jnp.asarray(rng.integers(0, 4, n, np.int32)))
    return Examples(inputs, labels, jnp.ones(n, bool))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "adapts"), [("sgd", "*"), ("momentum", "predictor/*"), ("adam", "*")]
)
@pytest.mark.slow
def test_the_meta_gradient_of_a_network_is_its_central_difference(name, adapts):
    model = from_linen(RatingNetwork((3,), (2,), (3,), items=4, identity_width=2, direct=True))
    task = Task(rated(2, 3), rated(3, 4))
    adaptation = gradient_steps(
        losses.on_examples(model.apply, losses.squared_error),
        OPTIMIZERS[name],
        2,
        predict=model.apply,
        adapts=matching(adapts),
    )
    flat, unravel = ravel_pytree(model.init(jax.random.key(0), task.support.inputs))
    # Parameters none of which is zero, so that every one has a gradient.
    flat = 0.5 * jnp.asarray(np.random.default_rng(1).normal(size=flat.shape))
    nudges = 2e-6 * jnp.eye(len(flat))

    def loss(flat):
        return query_loss(adaptation)(unravel(flat), task)

    @jax.jit
    def both(flat):
        nearby = jax.vmap(loss)(jnp.concatenate([flat[None] + nudges, flat[None] - nudges]))
        return jax.grad(loss)(flat), (nearby[: len(flat)] - nearby[len(flat) :]) / 4e-6

    exact, difference = both(flat)
    # Central differences err by the square of the nudge, and by rounding over the nudge.
    np.testing.assert_allclose(exact, difference, rtol=0, atol=1e-8 * np.abs(exact).max())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("adjoint", ["reverse", "first_order"])
@pytest.mark.parametrize("steps", [10, 11])
def test_unrolled_and_scanned_steps_equal_a_loop_by_hand(steps, adjoint):
    w, task = regression(1)
    stop = jax.lax.stop_gradient if adjoint == "first_order" else lambda gradient: gradient
    options = {"adjoint": FirstOrder()} if adjoint == "first_order" else {}
    optimizer = OPTIMIZERS["momentum"]

    def by_hand(w):
        state = optimizer.init(w)
        for _ in range(steps):
            gradient = jax.grad(losses.on_examples(linear, losses.squared_error))(w, task.support)
            updates, state = optimizer.update(stop(gradient), state, w)
            w = w + updates
        error = linear(w, task.query.inputs) - task.query.labels
        return jnp.mean(error**2)

    adaptation = linear_steps(optimizer, steps, **options)
    text = str(jax.make_jaxpr(adaptation.adapt)(w, task.support))
    assert ("scan[" in text) == (steps > 10)
    ours = jax.jit(jax.value_and_grad(query_loss(adaptation)))(w, task)
    chex.assert_trees_all_close(ours, jax.value_and_grad(jax.jit(by_hand))(w), rtol=1e-12)


def test_shared_parameters_have_no_task_axis():
    tasks, model = 7, from_linen(RatingNetwork((11, 13), (17,), (19,)))
    batch = jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        *(Task(rated(t, 5), rated(90 + t, 4)) for t in range(tasks)),
    )
    frozen = re.compile(rf"f32\[{tasks},(2,11|11,2|11,13|13,11|3,17|17,3)\]")

    def traced(adapts):
        learner = maml(
            model,
            losses.squared_error,
            inner=optax.sgd(RATE),
            outer=optax.sgd(RATE),
            adapts=matching(adapts),
            form="plain",
        )
        state = learner.init(jax.random.key(0), batch)
        adapted = jax.eval_shape(jax.vmap(learner.adapt, (None, 0)), state.params, batch.support)
        return adapted, jax.jit(learner.update).trace(state, batch)

    def written(program):
        return str(program.jaxpr).replace(" ", "")

    adapted, program = traced("predictor/*")
    assert not jax.tree.leaves([adapted["user_tower"], adapted["item_tower"]])
    assert adapted["predictor"]["layer_0"]["kernel"].shape == (tasks, 30, 19)
    assert not frozen.search(written(program))
    assert not frozen.search(program.lower().compile().as_text() or "")
    # The search does find what it looks for where the towers adapt.
    assert frozen.search(written(traced("*")[1]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_empty_support_gives_the_zero_shot_score(name):
    w, task = regression(2)
    nothing = task.support._replace(mask=jnp.zeros(3, bool))
    adaptation = linear_steps(OPTIMIZERS[name])
    np.testing.assert_array_equal(adaptation.adapt(w, nothing), w)
    # The adapted parameters are the parameters, and so is their derivative.
    np.testing.assert_array_equal(jax.jacobian(adaptation.adapt)(w, nothing), np.eye(3))


def test_a_support_without_rows_is_an_empty_support():
    w, task = regression(2)
    nothing = jax.tree.map(lambda leaf: leaf[:0], task.support)
    np.testing.assert_array_equal(linear_steps().adapt(w, nothing), w)


@pytest.mark.parametrize(
    "optimizer",
    [optax.adam(0.1), optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1))],
)
def test_an_optimizer_without_a_derivative_at_zero_is_refused(optimizer):
    message = r"finite derivative at zero gradient, got nan; for Adam set eps_root"
    with pytest.raises(ValueError, match=message):
        linear_steps(optimizer)
    # Also where the adaptation is built inside a traced function.
    w, task = regression(0)
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda w: linear_steps(optimizer).adapt(w, task.support))(w)
    linear_steps(optimizer, adjoint=FirstOrder())


def test_an_optimizer_by_parameter_names_is_accepted():
    optimizer = optax.multi_transform(
        {"slow": optax.sgd(0.1), "fast": optax.sgd(0.2)}, {"a": "slow", "b": "fast"}
    )
    adaptation = gradient_steps(
        lambda params, _: params["a"] + params["b"], optimizer, 2, predict=lambda params, x: x
    )
    _, task = regression(0)
    adapted = adaptation.adapt({"a": jnp.zeros(()), "b": jnp.zeros(())}, task.support)
    chex.assert_trees_all_close(adapted, {"a": -0.2, "b": -0.4}, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_the_learning_rate_may_be_traced():
    w, task = regression(3)

    @jax.jit
    def loss(rate):
        return query_loss(linear_steps(optax.sgd(rate)))(w, task)

    value, slope = jax.value_and_grad(loss)(RATE)
    expected = query_loss(linear_steps(optax.sgd(RATE)))(w, task)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(slope, (loss(RATE + 1e-6) - loss(RATE - 1e-6)) / 2e-6, rtol=1e-7)


@pytest.mark.parametrize("steps", [0, -1])
def test_zero_steps_are_refused(steps):
    with pytest.raises(ValueError, match=rf"steps must be >= 1, got {steps}\."):
        linear_steps(steps=steps)


def test_something_must_adapt():
    w, task = regression(0)
    adaptation = linear_steps(adapts=matching("predictor/*"))
    with pytest.raises(ValueError, match="adapts must choose a parameter, got none of a/b, c"):
        adaptation.adapt({"a": {"b": w}, "c": w}, task.support)


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        (optax.lbfgs(), ValueError, r"needs the loss as well \(such as optax\.lbfgs"),
        (0.05, TypeError, r"one of Optax's, such as optax\.sgd\(0\.05\).* got 0\.05\."),
        (lambda params: 0.05, TypeError, r"one of Optax's.* got 0\.05\."),
        (optax.clip(1.0), ValueError, r"against the gradient, got a change of 1 for a gradient of"),
        (optax.scale(0.1), ValueError, r"against the gradient, got a change of 0\.1 "),
    ],
)
@pytest.mark.parametrize("adjoint", [Reverse(), FirstOrder()])
def test_what_cannot_descend_by_gradients_is_refused_in_one_line(
    optimizer, error, message, adjoint
):
    def loss(weight, examples):
        return jnp.sum(jnp.square(weight - examples.labels))

    def adapt(optimizer):
        rule = gradient_steps(loss, optimizer, 1, predict=lambda w, x: w * x, adjoint=adjoint)
        return rule.adapt(jnp.zeros(()), Examples(jnp.zeros(1), jnp.ones(1), jnp.ones(1, bool)))

    with pytest.raises(error, match=message) as caught:
        adapt(optimizer)
    assert "\n" not in str(caught.value)


def test_optimizers_that_need_more_than_one_number_are_not_probed():
    clipped = optax.chain(optax.clip(1.0), optax.sgd(0.1))
    for optimizer in (optax.sm3(0.1), clipped, optax.lion(0.1), optax.set_to_zero()):
        check_optimizer(optimizer)
