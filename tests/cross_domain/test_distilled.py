from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import cross_domain, losses, networks
from metajax.adaptation import zero_shot
from metajax.types import Examples, Inputs, MemberInputs, Task

ITEMS, WIDTH = 5, 2
RNG = np.random.default_rng(0)
STUDENT = networks.from_support_module(cross_domain.StudentNetwork(ITEMS, WIDTH, 3))
DESIGN, EXPECTED = RNG.normal(size=(ITEMS, WIDTH)), RNG.normal(size=ITEMS)
SHARE, USER_MAP = np.array([0.4, 0.3, 0.2, 0.1, 0.0]), RNG.normal(size=(1, WIDTH))


def inputs(item):
    rows = (len(item), 1)
    return Inputs(jnp.full(rows, 0.5), jnp.zeros(rows), jnp.asarray(item))


def started():
    params = STUDENT.init(jax.random.key(0), inputs([0, 1]))
    given = (DESIGN, EXPECTED, SHARE, USER_MAP, np.array(0.7))
    names = ("design", "expected", "share", "user_map", "noise")
    values = dict(zip(names, map(jnp.asarray, given), strict=True))
    return cross_domain.initial_student(params, **values)


def test_the_initial_student_is_the_posterior_for_the_mean_spread():
    """Every item once and as often as the average has it: then the sum is what was inverted."""
    item = np.repeat(np.arange(4), [4, 3, 2, 1])
    labels = RNG.normal(size=len(item))
    support = Examples(inputs(item), jnp.asarray(labels), jnp.ones(len(item), bool))
    params = started()
    scores = jax.jit(lambda p, s: STUDENT.decode(p, STUDENT.encode(p, s), inputs(range(ITEMS))))(
        params, support
    )
    x, usual = DESIGN[item], EXPECTED + DESIGN @ USER_MAP[0] * 0.5
    moment = x.T @ x / 0.7
    z = np.linalg.solve(moment + np.eye(2), x.T @ (labels - usual[item]) / 0.7)
    np.testing.assert_allclose(scores, usual + DESIGN @ z, rtol=1e-4)


def learner_of(teacher_weight, loss=losses.squared_error):
    """A teacher that predicts 3 for item 3, 4 for item 4 and so on, plus an optional 1."""

    def prediction(params, inputs):
        return params + inputs.item

    taught = STUDENT._replace(
        init=lambda key, inputs: {"student": started(), "teacher": jnp.array(1.0)},
        encode=lambda params, support: STUDENT.encode(params["student"], support),
        decode=lambda params, state, inputs: STUDENT.decode(params["student"], state, inputs),
    )
    return cross_domain.distilled(
        taught, zero_shot(prediction), loss, outer=optax.sgd(0.1), teacher_weight=teacher_weight
    )


def task():
    """The second of three items has a label, the third is padding."""
    support = Examples(inputs([0, 1]), jnp.array([1.0, -1.0]), jnp.array([True, True]))
    queried = inputs([2, 3, 4])
    known = jnp.array([False, True, True])
    member = MemberInputs(queried, jnp.zeros(3, int), known, jnp.zeros(3))
    labels = jnp.array([jnp.nan, 2.0, jnp.nan])
    query = Examples(member, jnp.where(known, labels, 0), jnp.array([True, True, False]))
    return jax.tree.map(lambda leaf: leaf[None], Task(support, query))


@pytest.mark.parametrize("loss", [losses.squared_error, optax.squared_error])
@pytest.mark.parametrize("teacher_weight", [0.0, 0.3, 1.0])
def test_the_teacher_covers_all_items_and_ratings_the_rated_ones(teacher_weight, loss):
    learner = learner_of(teacher_weight, loss)
    state = learner.init(jax.random.key(0), task())
    after, metrics = jax.jit(learner.update)(state, task())
    one = jax.tree.map(lambda leaf: leaf[0], task())
    adapted = learner.adapt(state.params, one.support)
    scores = np.asarray(learner.predict(state.params, adapted, inputs([2, 3])))
    rated, lesson = (scores[1] - 2.0) ** 2, np.mean((scores - [3.0, 4.0]) ** 2)
    np.testing.assert_allclose(
        metrics["loss"], (1 - teacher_weight) * rated + teacher_weight * lesson, rtol=1e-5
    )
    assert float(after.params["teacher"]) == 1.0
    assert np.any(after.params["student"]["item_bias"] != state.params["student"]["item_bias"])


def test_invalid_distillation_tasks_are_refused():
    with pytest.raises(ValueError, match=r"teacher_weight must be in \[0, 1\], got 1\.5\."):
        learner_of(1.5)
    plain = task()
    plain = plain._replace(query=plain.query._replace(inputs=plain.query.inputs.inputs))
    learner = learner_of(0.5)
    with pytest.raises(TypeError, match="MemberInputs, got Inputs"):
        jax.eval_shape(partial(learner.update, learner.init(jax.random.key(0), plain)), plain)
