import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.learners import frozen

PARAMS = {
    "body": {"kernel": jnp.array([0.1, -0.7]), "bias": jnp.array([1e-30])},
    "head": jnp.ones(2),
}
GRADIENT = jax.tree.map(lambda leaf: 3 * leaf + 1, PARAMS)


def moved(rule, updates):
    """The parameters after each update."""
    params, state, found = PARAMS, rule.init(PARAMS), []
    update = jax.jit(rule.update)
    for _ in range(updates):
        step, state = update(GRADIENT, state, params)
        params = optax.apply_updates(params, step)
        found.append(params)
    return found


OUTER = optax.adamw(0.1, weight_decay=0.5)


def test_frozen_leaves_keep_their_bits_and_the_others_move_as_without():
    found, free = moved(frozen(OUTER, "body/*"), 3)[-1], moved(OUTER, 3)[-1]
    jax.tree.map(np.testing.assert_array_equal, found["body"], PARAMS["body"])
    np.testing.assert_array_equal(found["head"], free["head"])
    assert np.abs(found["head"] - PARAMS["head"]).min() > 0.1


def test_leaves_that_are_frozen_later_move_until_then():
    found, free = moved(frozen(OUTER, "*/kernel", after=2), 4), moved(OUTER, 4)
    np.testing.assert_array_equal(found[1]["body"]["kernel"], free[1]["body"]["kernel"])
    np.testing.assert_array_equal(found[3]["body"]["kernel"], found[1]["body"]["kernel"])
    np.testing.assert_array_equal(found[3]["body"]["bias"], free[3]["body"]["bias"])
    assert np.abs(found[1]["body"]["kernel"] - PARAMS["body"]["kernel"]).min() > 0.1


def test_gradients_of_frozen_parameters_do_not_clip_others():
    clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
    found = moved(frozen(clipped, "body/*"), 1)[0]
    # The head's gradient is (4, 4), of norm 4 sqrt 2.
    np.testing.assert_allclose(found["head"], 1 - np.sqrt(0.5) * np.ones(2), rtol=1e-6)


def test_invalid_choices_of_frozen_parameters_are_refused():
    with pytest.raises(ValueError, match="patterns must be at least one"):
        frozen(OUTER)
    with pytest.raises(ValueError, match="after must be >= 0, got -1"):
        frozen(OUTER, "body/*", after=-1)
    with pytest.raises(ValueError, match=r"must fit a parameter, got 'tail'; body/bias, body/k"):
        frozen(OUTER, "head", "tail").init(PARAMS)
