import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.learners import gru_adapter

RATE = 0.1


def learner_of(line, sees, **options):
    return gru_adapter(
        line, losses.squared_error, outer=optax.sgd(0.5), sees=sees, width=3, rate=RATE, **options
    )


def begun(learner, tasks):
    """Parameters whose readout is not zero, and those of the cell as NumPy arrays."""
    params = learner.init(jax.random.key(0), tasks).params
    rng = np.random.default_rng(4)
    params = jax.tree.map(lambda w: jnp.asarray(w + 0.3 * rng.normal(size=w.shape)), params)
    return params, jax.tree.map(np.asarray, params["gru"])


def cell(gru, hidden, seen):
    """A step of a gated recurrent unit."""

    def dense(name, x):
        return x @ gru["cell"][name]["kernel"] + gru["cell"][name].get("bias", 0)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    reset = sigmoid(dense("ir", seen) + dense("hr", hidden))
    keep = sigmoid(dense("iz", seen) + dense("hz", hidden))
    new = np.tanh(dense("in", seen) + reset * dense("hn", hidden))
    return (1 - keep) * new + keep * hidden


@pytest.mark.usefixtures("x64")
def test_of_gradients_the_cell_sets_the_rate_of_every_element(line, regressions, kept):
    learner = learner_of(line, "gradients", steps=2)
    params, gru = begun(learner, regressions)
    adapt = jax.jit(jax.vmap(learner.adapt, (None, 0)))(params, regressions.support)
    for t, ((A, y), _) in enumerate(kept(regressions)):
        w, hidden = np.asarray(params["network"]), np.zeros((2, 3))
        for _ in range(2):
            gradient = 2 * A.T @ (A @ w - y) / max(len(y), 1)
            hidden = cell(gru, hidden, np.arcsinh(gradient / 0.01)[:, None])
            w = w - RATE * np.exp(hidden @ gru["readout"])[:, 0] * gradient
        np.testing.assert_allclose(adapt["network"][t], w, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_of_embeddings_the_cell_writes_the_change(line, regressions, kept):
    learner = learner_of(line, "embeddings")
    params, gru = begun(learner, regressions)
    adapt = jax.jit(jax.vmap(learner.adapt, (None, 0)))(params, regressions.support)
    for t, ((A, y), _) in enumerate(kept(regressions)):
        w, hidden = np.asarray(params["network"]), np.zeros(3)
        for x, label in zip(A, y, strict=True):
            hidden = cell(gru, hidden, np.array([*x, label, label - x @ w]))
        np.testing.assert_allclose(adapt[t], w + hidden @ gru["readout"], rtol=1e-10)


@pytest.mark.parametrize("sees", ["gradients", "embeddings"])
def test_the_cell_initially_has_no_effect_and_is_learned(line, regressions, sees):
    learner = learner_of(line, sees)
    state = learner.init(jax.random.key(0), regressions)
    support = jax.tree.map(lambda leaf: leaf[0], regressions.support)
    adapted = jax.tree.leaves(jax.jit(learner.adapt)(state.params, support))[0]
    (x, y, _), w = support, state.params["network"]
    slope = 2 * x.T @ (x @ w - y) / 3 if sees == "gradients" else 0.0
    np.testing.assert_allclose(adapted, w - RATE * slope, rtol=1e-6)
    new, _ = jax.jit(learner.update)(state, regressions)
    assert np.abs(new.params["gru"]["readout"]).min() > 0


def test_an_unknown_mode_is_refused(line):
    with pytest.raises(ValueError, match=r"^sees must be one of gradients, embeddings, got 'all'"):
        learner_of(line, "all")
    with pytest.raises(ValueError, match=r"^width must be >= 1, got 0"):
        gru_adapter(line, losses.squared_error, outer=optax.sgd(0.5), width=0)
