"""Recipes whose users' weights may be kept as factors give the same update either way."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import learners, losses
from metajax.adaptation import matching
from metajax.networks import RatingNetwork, from_linen
from metajax.types import Examples, Inputs, Task

TASKS, ROWS, ITEMS = 3, 2, 5
HEAD = matching("predictor/layer_1/*")
TOWERS = matching("*_tower/*")
SGD = {"inner": optax.sgd(0.1)}


def hidden(network, inputs):
    return inputs.user_features @ network["user_tower"]["layer_0"]["kernel"]


METHODS = {
    "anil": (partial(learners.anil, head=HEAD, **SGD), "predictor/layer_1/kernel"),
    "boil": (
        partial(learners.boil, head=lambda path: not TOWERS(path), **SGD),
        "user_tower/layer_0/kernel",
    ),
    "maml_plus_plus": (
        partial(learners.maml_plus_plus, rate=0.1, multi_step=2, adapts=TOWERS),
        "network/user_tower/layer_0/kernel",
    ),
    "proto_maml": (
        partial(
            learners.proto_maml, embed=hidden, levels=(-1.0, 1.0), adapts=matching("item_t*"), **SGD
        ),
        "network/item_tower/layer_0/kernel",
    ),
}


def rated(seed) -> Examples:
    rng = np.random.default_rng(seed)
    lead = (TASKS, ROWS)
    users, items, labels = (
        jnp.asarray(rng.normal(size=shape)) for shape in ((*lead, 4), (*lead, 5), lead)
    )
    inputs = Inputs(users, items, jnp.asarray(rng.integers(0, ITEMS, lead, np.int32)))
    return Examples(inputs, labels, jnp.ones(lead, bool))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", METHODS)
def test_factors_and_full_weights_give_the_same_update(name):
    method, factored_leaf = METHODS[name]
    model = from_linen(RatingNetwork((6,), (7,), (3,), ITEMS, identity_width=2))
    tasks = Task(rated(0), rated(1))
    learner = {
        form: method(model, losses.squared_error, outer=optax.sgd(1.0), steps=2, form=form)
        for form in ("plain", "factored")
    }
    shapes = jax.eval_shape(learner["plain"].init, jax.random.key(0), tasks)
    rng = np.random.default_rng(2)
    state = jax.tree.map(lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape)), shapes)
    state = state._replace(step=jnp.zeros((), jnp.int32))
    support = jax.tree.map(lambda leaf: leaf[0], tasks.support)

    @jax.jit
    def everything(state):
        updates = {form: one.update(state, tasks) for form, one in learner.items()}
        return updates, learner["factored"].adapt(state.params, support)

    updates, adapted = everything(state)
    for part in factored_leaf.split("/"):
        adapted = adapted[part]
    assert hasattr(adapted, "outputs")  # a low-rank change
    chex.assert_trees_all_close(updates["factored"], updates["plain"], rtol=1e-9, atol=1e-11)
