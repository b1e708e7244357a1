"""Detection of optimizers whose updates are linear in the gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.adaptation import initial_rates, learned_rates
from metajax.adaptation.factored.plan import linear_leaves

PARAMS = {"bias": np.ones(3, np.float32), "kernel": np.ones((4, 3), np.float32), "none": None}
LABELS = {"bias": "first", "kernel": "second", "none": None}
BOTH, NEITHER = [True, True], [False, False]


def two(first, second):
    return optax.multi_transform({"first": first, "second": second}, LABELS)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (optax.sgd(0.1), BOTH),
        (optax.sgd(0.1, momentum=0.9), BOTH),
        (optax.sgd(optax.linear_schedule(0.1, 0.0, 4), momentum=0.9, nesterov=True), BOTH),
        (optax.inject_hyperparams(optax.sgd)(0.1), BOTH),
        (optax.adam(0.1), NEITHER),
        (optax.rmsprop(0.1), NEITHER),
        (optax.lion(0.1), NEITHER),
        (optax.chain(optax.clip(1.0), optax.sgd(0.1)), NEITHER),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)), NEITHER),
        (optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)), NEITHER),
        (optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1)), NEITHER),
        (two(optax.adam(0.1), optax.sgd(0.1)), [False, True]),
        (two(optax.set_to_zero(), optax.sgd(0.1)), [False, True]),
        (learned_rates(initial_rates(PARAMS, 0.1)), BOTH),
        (learned_rates(initial_rates(PARAMS, 0.1, steps=2), per_step=True), BOTH),
        (learned_rates(initial_rates(PARAMS, 0.1, per="element")), NEITHER),
    ],
)
def test_an_optimizer_is_linear_or_not(optimizer, expected):
    assert linear_leaves(optimizer, PARAMS) == expected


def test_traced_rates_are_checked():
    seen = []

    @jax.jit
    def trace(rate):
        seen.append(linear_leaves(optax.sgd(rate, momentum=rate), PARAMS))
        rates = {"bias": rate, "kernel": rate * jnp.ones((4, 3))}
        seen.append(linear_leaves(learned_rates(rates), PARAMS))
        return rate

    trace(0.1)
    assert seen == [BOTH, [True, False]]


def test_a_state_that_does_not_start_at_zero_is_not_linear():
    def update(updates, state, params=None):
        state = jax.tree.map(jnp.add, state, updates)
        return state, state

    def ones(params):
        return jax.tree.map(jnp.ones_like, params)

    assert linear_leaves(optax.GradientTransformation(ones, update), PARAMS) == NEITHER


def test_gradients_that_meet_are_not_linear():
    def update(updates, state, params=None):
        crossed = {**updates, "bias": updates["bias"] + updates["kernel"][0]}
        return crossed, state

    optimizer = optax.GradientTransformation(lambda params: (), update)
    assert linear_leaves(optimizer, PARAMS)[0] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per": "layer"}, "per must be 'leaf' or 'element', got 'layer'"),
        ({"steps": 0}, "steps must be >= 1 or None, got 0"),
        ({"rate": float("nan")}, "rate must be finite, got nan"),
    ],
)
def test_rates_that_cannot_work_are_refused(options, message):
    arguments: dict[str, Any] = {"rate": 0.1, **options}
    with pytest.raises(ValueError, match=message):
        initial_rates(PARAMS, **arguments)


def test_rates_for_other_leaves_are_refused():
    rates = learned_rates(initial_rates({"bias": PARAMS["bias"]}, 0.1))
    with pytest.raises(ValueError, match="a leaf for each adapted parameter, 2, got 1"):
        rates.update(PARAMS, rates.init(PARAMS))


def test_rates_of_each_step_are_used_in_turn_and_the_last_one_stays():
    rates = learned_rates({"w": jnp.array([1.0, 2.0])}, per_step=True)
    state, updates = rates.init({"w": jnp.zeros(())}), []
    for _ in range(3):
        update, state = rates.update({"w": jnp.ones(())}, state)
        updates.append(float(jax.tree.leaves(update)[0]))
    assert updates == [-1.0, -2.0, -2.0]
