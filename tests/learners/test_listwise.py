"""Gradient methods with listwise losses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import learners, losses
from metajax.types import Examples, Model, Task

NETWORK = Model(
    init=lambda key, x: {"body": jnp.eye(x.shape[-1]), "head": jnp.ones(x.shape[-1]) / 2},
    apply=lambda params, x: jnp.tanh(x @ params["body"]) @ params["head"],
)
SGD = {"inner": optax.sgd(0.3)}
EMBED = {"embed": lambda params, x: x @ params["body"], "levels": (0.0, 1.0)}
METHODS = {
    "maml": partial(learners.maml, **SGD),
    "reptile": partial(learners.reptile, **SGD),
    "meta_sgd": partial(learners.meta_sgd, rate=0.3),
    "maml_plus_plus": partial(learners.maml_plus_plus, rate=0.3, steps=2),
    "imaml": partial(learners.imaml, **SGD),
    "cavia": partial(learners.cavia, **SGD),
    "proto_maml": partial(learners.proto_maml, **SGD, **EMBED),
    "gru of gradients": partial(learners.gru_adapter, rate=0.3),
    "gru of embeddings": partial(learners.gru_adapter, sees="embeddings"),
}


def liked(seed, rows) -> Examples:
    """Four users who each like one candidate, by a taste of their own and one of all."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, rows, 2))
    best = np.argmax(x[..., 0] + np.linspace(-1, 1, 4)[:, None] * x[..., 1], axis=1)
    return Examples(
        jnp.asarray(x, jnp.float32),
        jnp.asarray(np.arange(rows) == best[:, None], jnp.float32),
        jnp.ones((4, rows), bool),
    )


TASKS = Task(liked(0, 3), liked(1, 5))


@pytest.mark.parametrize(
    ("name", "loss"),
    [("maml", losses.bpr), *((name, losses.softmax_cross_entropy) for name in METHODS)],
)
def test_an_order_is_learned(name, loss):
    learner = METHODS[name](NETWORK, loss, outer=optax.adam(0.05))

    @jax.jit
    def trained(state):
        return jax.lax.scan(lambda state, _: learner.update(state, TASKS), state, length=20)

    state, metrics = trained(learner.init(jax.random.key(0), TASKS))
    assert np.isfinite(metrics["loss"]).all()
    # Not knowing costs log 2 by pairs, log 5 in a list of five.
    chance = np.log(2) if loss is losses.bpr else np.log(5)
    assert metrics["loss"][-1] < min(metrics["loss"][0], 0.95 * chance)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
