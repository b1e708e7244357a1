"""Arguments of learners: shapes, models, losses, and choices of parameters."""

from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import learners, losses
from metajax.adaptation import gru_embeddings, matching
from metajax.methods.attentive_neighbours import attentive_neighbours
from metajax.methods.attribute_prototypes import attribute_prototypes
from metajax.networks import from_linen, update_gru
from metajax.types import Examples, Model, Task

T, S, Q = 3, 4, 2
INNER, OUTER = optax.sgd(0.1), optax.sgd(0.1)


def init(key, x):
    return {"body": jnp.array([0.5, -1.0]), "head": {"bias": jnp.zeros(1)}}


LINE = Model(init, lambda w, x: x @ w["body"] + w["head"]["bias"][0])
BY_STEPS = {
    "anil": partial(learners.anil, inner=INNER, head="body"),
    "boil": partial(learners.boil, inner=INNER, head="head/*"),
    "fine_tuned": partial(learners.fine_tuned, inner=INNER),
    "fomaml": partial(learners.fomaml, inner=INNER),
    "gru_adapter": partial(learners.gru_adapter, width=2),
    "imaml": partial(learners.imaml, inner=INNER),
    "maml": partial(learners.maml, inner=INNER),
    "maml_plus_plus": partial(learners.maml_plus_plus, rate=0.1, steps=2),
    "meta_sgd": partial(learners.meta_sgd, rate=0.1),
    "proto_maml": partial(
        learners.proto_maml, inner=INNER, embed=lambda w, x: x, levels=(-1.0, 1.0)
    ),
    "reptile": partial(learners.reptile, inner=INNER),
}
ROWS = BY_STEPS | {
    "cavia": partial(learners.cavia, inner=INNER, size=1, join=lambda x, c: x + c[0]),
    "supervised": learners.supervised,
}


def tasks_of(seed=0) -> Task:
    rng = np.random.default_rng(seed)

    def part(n):
        x, y = rng.normal(size=(T, n, 2)), rng.normal(size=(T, n))
        return Examples(jnp.asarray(x), jnp.asarray(y), jnp.ones((T, n), bool))

    return Task(part(S), part(Q))


def column(examples):
    return examples._replace(labels=examples.labels[..., None])


@pytest.fixture(params=ROWS)
def make(request):
    return partial(ROWS[request.param], outer=OUTER)


def test_a_batch_whose_labels_are_columns_is_refused(make):
    learner, tasks = make(LINE, losses.squared_error), tasks_of()
    state = jax.eval_shape(learner.init, jax.random.key(0), tasks)
    for part, n in (("support", S), ("query", Q)):
        wrong = tasks._replace(**{part: column(getattr(tasks, part))})
        message = rf"labels of the {part} must have the shape \[T, N\], got \({T}, {n}, 1\)"
        for call in (partial(learner.init, jax.random.key(0)), partial(learner.update, state)):
            with pytest.raises(ValueError, match=message):
                jax.eval_shape(call, wrong)


@pytest.mark.parametrize("name", sorted(set(ROWS) - {"supervised"}))  # it sees no support
def test_one_task_whose_labels_are_a_column_is_refused(name):
    learner, tasks = ROWS[name](LINE, losses.squared_error, outer=OUTER), tasks_of()
    params = jax.eval_shape(learner.init, jax.random.key(0), tasks).params
    support = column(jax.tree.map(lambda leaf: leaf[0], tasks.support))
    message = rf"labels must have the shape of mask, \({S},\), got \({S}, 1\)"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(learner.adapt, params, support)


def test_scores_that_are_a_column_are_refused(make):
    wide = LINE._replace(apply=lambda w, x: LINE.apply(w, x)[:, None])
    learner, tasks = make(wide, losses.squared_error), tasks_of()
    state = jax.eval_shape(learner.init, jax.random.key(0), tasks)
    with pytest.raises(
        ValueError, match=r"scores must have the shape of labels, \(\d,\), got \(\d, 1\)"
    ):
        jax.eval_shape(learner.update, state, tasks)


def test_scores_that_are_a_column_are_refused_by_a_cell_that_reads_them():
    gru = update_gru(2)
    rule = gru_embeddings(gru, lambda w, x: x, lambda w, x: (x @ w)[:, None])
    params = {"network": jnp.ones(2), "gru": gru.init(jax.random.key(0), 4, 2)}
    support = jax.tree.map(lambda leaf: leaf[0], tasks_of().support)
    with pytest.raises(
        ValueError, match=r"scores must have the shape of labels, \(4,\), got \(4, 1"
    ):
        rule.adapt(params, support)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t._replace(query=t.query._replace(mask=jnp.ones((T, Q + 1), bool))),
            r"mask of the query must have the shape of labels of the query, \(3, 2\), got \(3, 3\)",
        ),
        (
            lambda t: t._replace(support=t.support._replace(inputs=jnp.ones((T, 2)))),
            r"inputs of the support must lead with the shape of its labels, \(3, 4\), got \(3, 2\)",
        ),
        (
            lambda t: t._replace(query=jax.tree.map(lambda leaf: leaf[:2], t.query)),
            "support and query must be of as many tasks, got 3 and 2",
        ),
    ],
)
def test_other_shapes_of_a_batch_are_refused(change, message):
    learner, tasks = learners.supervised(LINE, losses.squared_error, outer=OUTER), tasks_of()
    state = learner.init(jax.random.key(0), tasks)
    with pytest.raises(ValueError, match=message):
        learner.update(state, change(tasks))
    with pytest.raises(ValueError, match=message):
        learners.fisher_information(learner, losses.squared_error, state.params, change(tasks))


def test_a_mask_of_none_means_all(make):
    learner, tasks = make(LINE, losses.squared_error), tasks_of()
    state = learner.init(jax.random.key(0), tasks)
    without = Task(*(Examples(part.inputs, part.labels) for part in tasks))
    assert without.query.mask is None
    update = jax.jit(learner.update)
    chex.assert_trees_all_close(update(state, without), update(state, tasks), rtol=1e-6)
    one, other = (jax.tree.map(lambda leaf: leaf[0], t.support) for t in (without, tasks))
    adapt = jax.jit(learner.adapt)
    chex.assert_trees_all_close(adapt(state.params, one), adapt(state.params, other), rtol=1e-6)


def test_a_loss_of_optax_is_the_same_loss(make):
    tasks = tasks_of()
    hidden = tasks.support._replace(mask=jnp.arange(S)[None] < jnp.array([[4], [2], [0]]))
    tasks = tasks._replace(support=hidden)
    ours, theirs = (make(LINE, loss) for loss in (losses.squared_error, optax.squared_error))
    state = ours.init(jax.random.key(0), tasks)
    chex.assert_trees_all_close(
        jax.jit(ours.update)(state, tasks), jax.jit(theirs.update)(state, tasks), rtol=1e-6
    )


class _Line(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x)[:, 0]


MODULE: Any = _Line()


def test_a_module_that_is_not_wrapped_is_refused(make):
    message = r"model must be a Model of init, apply, got _Line; from_linen\(module\) makes one"
    with pytest.raises(TypeError, match=message):
        make(MODULE, losses.squared_error)


OF_OUTPUTS = {
    "attribute_prototypes": (attribute_prototypes, "AmongPrototypes", "place, expected"),
    "bayesian_ridge": (learners.bayesian_ridge, "Evidence", "expected, design, noise, power"),
    "matching_network": (learners.matching_network, "Matched", "query, key, prior, score"),
    "prototypical": (learners.prototypical, "Placed", "item, prior, prior_label, closeness, bias"),
}


@pytest.mark.parametrize("name", OF_OUTPUTS)
def test_a_network_without_the_outputs_of_its_learner_is_refused(name):
    make, contract, missing = OF_OUTPUTS[name]
    learner, tasks = make(from_linen(MODULE), losses.squared_error, outer=OUTER), tasks_of()
    state = learner.init(jax.random.key(0), tasks)
    message = rf"must return {contract}, got an array of shape \({S},\), without {missing}"
    with pytest.raises(TypeError, match=message):
        learner.update(state, tasks)
    with pytest.raises(TypeError, match="model must be a Model"):
        make(MODULE, losses.squared_error, outer=OUTER)


def test_a_network_that_does_not_read_a_support_is_refused():
    with pytest.raises(TypeError, match=r"model must be a SupportModel .* from_support_module"):
        learners.neural_process(MODULE, outer=OUTER)
    with pytest.raises(TypeError, match="model must be a SupportModel of init, encode, decode"):
        attentive_neighbours(MODULE, losses.squared_error, outer=OUTER)


@pytest.mark.parametrize(
    "choice", ["head/*", ("head/*",), ["head/bias", "nothing"], matching("head/*")]
)
@pytest.mark.parametrize("name", BY_STEPS)
def test_parameters_are_chosen_by_patterns_or_a_predicate(name, choice):
    option = "head" if name in ("anil", "boil") else "adapts"
    learner = BY_STEPS[name](LINE, losses.squared_error, outer=OUTER, **{option: choice})
    tasks = tasks_of()
    params = learner.init(jax.random.key(0), tasks).params
    adapted = learner.adapt(params, jax.tree.map(lambda leaf: leaf[0], tasks.support))
    own = adapted.get("network", adapted)
    still, moves = ("head", "body") if name == "boil" else ("body", "head")
    assert not jax.tree.leaves(own[still])
    assert jax.tree.leaves(own[moves])


def test_empty_and_invalid_choices_are_refused():
    none: Any = ((1, 2), 3)
    for wrong in none:
        with pytest.raises(TypeError):
            learners.maml(LINE, losses.squared_error, inner=INNER, outer=OUTER, adapts=wrong)
    learner = learners.maml(LINE, losses.squared_error, inner=INNER, outer=OUTER, adapts="tail")
    support = jax.tree.map(lambda leaf: leaf[0], tasks_of().support)
    with pytest.raises(ValueError, match="adapts must choose a parameter, got none of body, head/"):
        learner.adapt(LINE.init(jax.random.key(0), support.inputs), support)
