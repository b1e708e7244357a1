"""Absence of copies of shared weights along the task axis."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest

from metajax import losses
from metajax.adaptation import (
    FiniteDifference,
    FirstOrder,
    Implicit,
    Linearized,
    Mixed,
    gradient_steps,
    matching,
)
from metajax.learners import maml
from metajax.networks import RatingNetwork, from_linen
from metajax.types import Examples, Inputs, Task

# Sizes that do not meet by chance.
TASKS, SUPPORT, QUERY, ITEMS = 7, 2, 4, 301


def batch() -> Task:
    def examples(rows):
        inputs = Inputs(
            jnp.ones((TASKS, rows, 5)), jnp.ones((TASKS, rows, 3)), jnp.ones((TASKS, rows), int)
        )
        return Examples(inputs, jnp.ones((TASKS, rows)), jnp.ones((TASKS, rows), bool))

    return Task(examples(SUPPORT), examples(QUERY))


def update_of(**options):
    """One update of MAML, and its arguments."""
    network = RatingNetwork((31,), (29,), (37,), items=ITEMS, identity_width=13, direct=True)
    learner = maml(
        from_linen(network),
        losses.squared_error,
        inner=optax.sgd(0.1),
        outer=optax.sgd(0.1),
        steps=2,
        **options,
    )
    tasks = batch()
    return learner.update, jax.eval_shape(learner.init, jax.random.key(0), tasks), tasks


def copies(text, shapes):
    """Finds arrays of a weight's shape, or its transpose's, with an axis of tasks in front."""
    found = set()
    for a, b in shapes:
        found |= set(re.findall(rf"f32\[{TASKS},(?:{a},{b}|{b},{a})\]", text.replace(" ", "")))
    return found


def test_a_table_that_adapts_is_not_copied():
    def written(form):
        update, state, tasks = update_of(form=form)
        return str(jax.make_jaxpr(update)(state, tasks))

    table = {(ITEMS, 13)}
    assert not copies(written("auto"), table)
    assert copies(written("plain"), table) == {f"f32[{TASKS},{ITEMS},13]"}


@pytest.mark.parametrize(
    ("form", "adapts", "adjoint"),
    [
        *(("factored", "*", adjoint) for adjoint in (Linearized(), Mixed(), FiniteDifference())),
        *(("plain", "predictor/*", adjoint) for adjoint in (Linearized(), Mixed(), Implicit())),
    ],
)
@pytest.mark.slow
def test_no_adjoint_copies_shared_weights(form, adapts, adjoint):
    update, state, tasks = update_of(form=form, adapts=matching(adapts), adjoint=adjoint)
    kernels = {name: jax.tree.leaves(part)[-1].shape for name, part in state.params.items()}
    # The direct layer and the biases are vectors.
    shared = {kernels[name] for name in ("user_tower", "item_tower", "item_embedding")}
    if form == "factored":
        shared.add(kernels["predictor"])
    assert not copies(str(jax.jit(update).lower(state, tasks).compile().as_text()), shared)


def test_the_first_step_multiplies_by_shared_weights():
    """Also where the steps are scanned, which would make copies of them to begin with."""

    def products_with_copies(steps):
        inner_loss = losses.on_examples(lambda w, x: (x @ w)[:, 0], losses.squared_error)
        adaptation = gradient_steps(
            inner_loss, optax.sgd(0.1), steps, predict=lambda w, x: x @ w, adjoint=FirstOrder()
        )
        rows = jnp.ones((TASKS, SUPPORT, 5))
        support = Examples(rows, jnp.ones((TASKS, SUPPORT)), jnp.ones((TASKS, SUPPORT), bool))
        adapt = jax.vmap(adaptation.adapt, in_axes=(None, 0))
        jaxpr = jax.make_jaxpr(adapt)(jnp.ones((5, 1)), support)
        copied = [
            equation
            for equation in jaxpr.eqns
            if equation.primitive.name == "dot_general"
            and (TASKS, 5, 1) in [atom.aval.shape for atom in equation.invars]
        ]
        scans = [e.params["length"] for e in jaxpr.eqns if e.primitive.name == "scan"]
        return len(copied), scans

    assert products_with_copies(1) == (0, [])
    assert products_with_copies(2) == (1, [])
    assert products_with_copies(11) == (0, [10])
