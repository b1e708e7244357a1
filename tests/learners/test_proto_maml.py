import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.adaptation import matching
from metajax.learners import proto_maml
from metajax.types import Examples, Model, Task

LEVELS = (1.0, 2.0, 4.0)
# The network's own score is its bias; its embedding is the inputs times a matrix.
NETWORK = Model(
    init=lambda key, x: {"bias": jnp.array(0.5), "body": jnp.array([[1.0, 0.5], [-0.5, 2.0]])},
    apply=lambda params, x: params["bias"] + 0 * x[:, 0],
)
SEEN = Examples(
    jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [7.0, 7.0]]),
    # Beyond the bias: level 2, halfway from 2 to 4, below the lowest.
    jnp.array([2.5, 3.5, 0.5, 9.0]),
    jnp.array([True, True, True, False]),
)
ASKED = jnp.array([[2.0, -1.0], [0.5, 0.5]])


def learner_of(rate, adapts=lambda path: False):
    return proto_maml(
        NETWORK,
        losses.squared_error,
        embed=lambda params, x: x @ params["body"],
        levels=LEVELS,
        inner=optax.sgd(rate),
        outer=optax.sgd(0.1),
        adapts=adapts,
    )


def started(learner):
    blank = jax.tree.map(lambda leaf: leaf[None], (SEEN, SEEN))
    params = learner.init(jax.random.key(0), Task(*blank)).params
    return {**params, "prototypes": jnp.array([[0.2, 0.1], [-0.3, 0.4], [0.6, -0.2]])}


def nearest(prototypes, h):
    """Expected level, where a level is as probable as exp(-|h - prototype|^2)."""
    weights = np.exp(-np.sum((h[:, None] - prototypes) ** 2, axis=-1))
    return weights @ np.array(LEVELS) / weights.sum(axis=1)


@pytest.mark.usefixtures("x64")
def test_before_the_first_step_it_is_the_classifier_by_the_nearest_prototype():
    learner = learner_of(rate=0.0)
    params = started(learner)
    body = np.asarray(params["network"]["body"])
    h = np.asarray(SEEN.inputs)[:3] @ body
    # Level 1 has the third, level 2 the first and half of the second, level 4 the other half.
    # A learned prototype counts as one embedding, strength being 0.
    prior = np.asarray(params["prototypes"])
    prototypes = np.stack([
        (prior[0] + h[2]) / 2,
        (prior[1] + h[0] + h[1] / 2) / 2.5,
        (prior[2] + h[1] / 2) / 1.5,
    ])  # fmt: skip
    adapted = jax.jit(learner.adapt)(params, SEEN)
    scores = jax.jit(learner.predict)(params, adapted, ASKED)
    expected = 0.5 + nearest(prototypes, np.asarray(ASKED) @ body)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("adapts", ["", "body"])
def test_a_step_descends_the_loss_of_the_head_and_of_adapting_parameters(adapts):
    before, after = learner_of(0.0, matching(adapts)), learner_of(0.05, matching(adapts))
    params = started(before)
    first, second = (jax.jit(learner.adapt)(params, SEEN) for learner in (before, after))

    def loss(head, body):
        logits = SEEN.inputs[:3] @ body @ head["kernel"] + head["bias"][None]
        weights = jnp.exp(logits)
        scores = 0.5 + weights @ jnp.array(LEVELS) / weights.sum(axis=1)
        return jnp.mean((scores - SEEN.labels[:3]) ** 2)

    body = params["network"]["body"]
    head_slope, body_slope = jax.grad(loss, argnums=(0, 1))(first["head"], body)
    for name in ("kernel", "bias"):
        expected = first["head"][name] - 0.05 * head_slope[name]
        np.testing.assert_allclose(second["head"][name], expected, rtol=1e-12)
    if adapts:
        np.testing.assert_allclose(second["network"]["body"], body - 0.05 * body_slope, rtol=1e-12)
    else:
        assert second["network"]["body"] is None


def test_levels_have_to_ascend():
    for levels in ((1.0,), (2.0, 1.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match=r"^levels must be two or more, ascending, got "):
            proto_maml(
                NETWORK, losses.squared_error, embed=lambda params, x: x, levels=levels,
                inner=optax.sgd(0.1), outer=optax.sgd(0.1),
            )  # fmt: skip
