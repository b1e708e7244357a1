from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.learners import supervised
from metajax.losses import squared_error
from metajax.training import DivergedError, begin, dispatch, train
from metajax.types import Adaptation, Examples, MetaLearner, MetaState, Model, Task

LINE = Model(init=lambda key, x: jax.random.normal(key, (2,)), apply=lambda params, x: x @ params)
LEARNER = supervised(LINE, squared_error, outer=optax.adam(1e-2))
TABLE = jnp.array([1.0, -2.0])


def sample(table, key):
    """Four tasks of three rows, labelled by the table's weights."""
    x = jax.random.normal(key, (4, 3, 2))
    examples = Examples(x, x @ table, jnp.ones((4, 3), bool))
    return Task(examples, examples)


def scripted() -> MetaLearner:
    """A learner whose table holds the loss of each update."""

    def update(state, tasks, key=None):
        del key
        metrics = {"loss": tasks[state.step], "gradient_norm": 2.0 * tasks[state.step]}
        return MetaState(state.params + 1, (), state.step + 1), metrics

    def init(key, tasks):
        del key, tasks
        return MetaState(jnp.zeros(()), (), jnp.zeros((), jnp.int32))

    return MetaLearner(init, update, Adaptation(lambda *_: (), lambda *_: jnp.zeros(0)))


def started():
    return begin(LEARNER.init(jax.random.key(0), sample(TABLE, jax.random.key(0))))


def error(params):
    return float(jnp.sum(jnp.square(params - TABLE)))


def run(progress, updates, **options):
    settings: dict[str, Any] = {"validate": error, "per_dispatch": 2, "validate_every": 4}
    settings |= {"updates": updates, "seed": 7}
    return list(train(LEARNER, sample, TABLE, progress, **(settings | options)))


def run_script(loss, *, validate=lambda params: 1.0, progress=None, **options):
    """Runs the scripted learner to its end, or to its error: the rows and the error."""
    learner, table = scripted(), jnp.asarray(loss, jnp.float32)
    settings: dict[str, Any] = {"per_dispatch": 2, "validate_every": 4, "updates": len(loss)}
    reached, caught = [], None
    try:
        reached.extend(
            train(
                learner,
                lambda table, key: table,
                table,
                progress or begin(learner.init(jax.random.key(0), table)),
                validate=validate,
                **(settings | options),
            )
        )
    except DivergedError as error:
        caught = error
    return reached, caught


def test_a_gradient_that_is_not_finite_stops_the_run_whatever_the_loss():
    def update(state, tasks, key=None):
        del tasks, key
        norm = jnp.where(state.step == 2, jnp.nan, 1.0)
        metrics = {"loss": jnp.ones(()), "gradient_norm": norm}
        return MetaState(state.params, (), state.step + 1), metrics

    learner, progress = scripted()._replace(update=update), started()
    progress = progress._replace(state=progress.state._replace(opt_state=()))
    rows = train(learner, sample, TABLE, progress, validate=None, updates=6, per_dispatch=2)
    assert next(rows)[1].step == 2
    with pytest.raises(DivergedError) as caught:
        next(rows)
    assert caught.value.step == 3


def test_a_dispatch_is_its_updates_one_by_one():
    state = started().state
    losses, norms = [], []
    for step in range(6):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(7), step))
        state, metrics = LEARNER.update(state, sample(TABLE, keys[0]), keys[1])
        losses.append(metrics["loss"])
        norms.append(metrics["gradient_norm"])
    (_, first_row), _, (reached, last_row) = run(started(), 6)
    chex.assert_trees_all_close(reached.state, state, rtol=1e-5)
    assert (first_row.step, last_row.step) == (2, 6)
    for row, part in ((first_row, slice(0, 2)), (last_row, slice(4, 6))):
        np.testing.assert_allclose(row.loss, np.mean(losses[part]), rtol=1e-5)
        np.testing.assert_allclose(row.gradient_norm, np.mean(norms[part]), rtol=1e-5)


@pytest.mark.parametrize("dispatches", [1, 3])
def test_a_resumed_run_reaches_the_same_bits(dispatches):
    whole = run(started(), 12)
    half = run(started(), 12)[:dispatches]
    # What a checkpoint keeps: NumPy arrays.
    kept = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), half[-1][0])
    rest = run(kept, 12)
    assert len(whole) == 6
    assert [row for _, row in half + rest] == [row for _, row in whole]
    for resumed, straight in zip(rest, whole[dispatches:], strict=True):
        chex.assert_trees_all_equal(resumed[0], straight[0])


def test_one_program_serves_every_run_of_a_learner():
    traces = []

    def counted(table, key):
        traces.append(key.shape)
        return sample(table, key)

    for seed, table in ((7, TABLE), (8, TABLE + 1)):
        list(train(LEARNER, counted, table, started(), validate=error, updates=20, seed=seed))
    assert traces == [()]


def test_a_weakly_typed_start_is_not_compiled_twice():
    traces = []

    def counted(table, key):
        traces.append(None)
        return sample(table, key)

    state = started().state
    weak = begin(state._replace(params=jnp.full((2,), 0.5)))
    list(train(LEARNER, counted, TABLE, weak, validate=error, updates=20))
    assert len(traces) == 1


def test_without_a_validation_all_updates_are_made_and_the_last_is_kept():
    reached, caught = run_script([1.0] * 12, validate=None, patience=1)
    assert caught is None
    assert [(row.step, row.validation) for _, row in reached] == [
        (step, None) for step in (2, 4, 6, 8, 10, 12)
    ]
    assert (reached[-1][0].best, reached[-1][0].best_step) == (12, 12)


def test_the_seed_determines_the_tasks():
    same, other = (
        list(train(LEARNER, sample, TABLE, started(), validate=error, updates=10, seed=seed))
        for seed in (7, 8)
    )
    assert same[0][1].loss != other[0][1].loss


def test_the_best_parameters_are_those_of_the_lowest_validation():
    seen = iter([3.0, 1.0, 2.0])
    reached, caught = run_script([1.0] * 12, validate=lambda params: next(seen))
    assert caught is None
    assert [row.validation for _, row in reached] == [None, 3.0, None, 1.0, None, 2.0]
    best = reached[-1][0]
    # The script counts its updates in its parameters.
    assert (best.best, best.best_loss, best.best_step) == (8, 1, 8)
    assert best.state.params == 12


def test_training_stops_when_validation_has_not_improved_for_a_while():
    values = iter([3.0, 2.0, 2.0, 2.5, 0.0])
    reached, _ = run_script([1.0] * 40, validate=lambda params: next(values), patience=2)
    # Best after 8 updates, then two validations no better, at 12 and 16.
    assert reached[-1][1].step == 16
    assert reached[-1][0].best_step == 8
    # A run that was stopped stays stopped.
    again, _ = run_script([1.0] * 40, progress=reached[-1][0], patience=2)
    assert again == []


def test_the_last_dispatch_makes_what_is_left_and_is_validated():
    reached, _ = run_script([1.0] * 12, updates=5)
    assert [(row.step, row.validation) for _, row in reached] == [(2, None), (4, 1.0), (5, 1.0)]
    assert run_script([1.0] * 12, updates=5, progress=reached[-1][0]) == ([], None)
    reached, _ = run_script([1.0] * 12, updates=1)
    assert [row.step for _, row in reached] == [1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 7.5])
@pytest.mark.parametrize("at", [1, 2, 6])
def test_a_lost_run_names_its_update_and_keeps_the_last_good_progress(bad, at):
    loss = np.ones(8)
    loss[at - 1] = bad
    reached, caught = run_script(loss, limit=7.0)
    assert caught is not None
    assert caught.step == at
    np.testing.assert_equal(caught.loss, bad)
    assert str(caught) == f"the meta-loss became {bad:g} at update {at}."
    assert len(reached) == (at - 1) // 2
    assert all(row.loss == 1 for _, row in reached)


def test_a_loss_at_the_limit_is_no_lost_run():
    reached, caught = run_script([1.0, 1.0, 1.0, 7.0], limit=7.0)
    assert caught is None
    assert reached[1][1].loss == 4


def test_without_a_limit_a_loss_may_be_any_number():
    assert run_script([1.0, 1e30, -1e30, 1.0])[1] is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_validation_that_is_no_number_is_a_lost_run(value):
    reached, caught = run_script([1.0] * 8, validate=lambda params: value)
    assert len(reached) == 1
    assert caught is not None
    assert caught.step == 4


def test_a_run_resumed_with_another_dispatch_size_is_still_validated():
    """From update 2 by fours, every 4: 6, 10 and 14 step over 4, 8 and 12."""
    first, _ = run(started(), 14)[0]
    rows = [row for _, row in run(first, 14, per_dispatch=4)]
    assert [row.step for row in rows] == [6, 10, 14]
    assert all(row.validation is not None for row in rows)


def test_patience_is_at_least_one():
    with pytest.raises(ValueError, match=r"^patience must be >= 1, got 0\.$"):
        run(started(), 4, patience=0)


@pytest.mark.parametrize(
    ("per_dispatch", "validate_every"), [(3, 4), (4, 2), (0, 4), (2, 0), (-2, 4)]
)
def test_validations_fall_between_dispatches(per_dispatch, validate_every):
    message = (
        "validate_every must be a positive multiple of per_dispatch, got "
        f"{validate_every} and {per_dispatch}"
    )
    with pytest.raises(ValueError, match=message):
        run(started(), 4, per_dispatch=per_dispatch, validate_every=validate_every)


@pytest.mark.parametrize(
    ("validate", "begun"),
    [(None, [2, 3, 4, 4]), (error, [2, 2, 4, 4])],  # After each of four dispatches.
)
def test_a_dispatch_begins_before_the_losses_of_the_last_are_read(validate, begun, monkeypatch):
    """But where validation may end training."""
    lengths = []

    def counting(state, table, key, *, learner, sample, length):
        lengths.append(length)
        return dispatch(state, table, key, learner=learner, sample=sample, length=length)

    monkeypatch.setattr("metajax.training.dispatch", counting)
    settings: dict[str, Any] = {"updates": 7, "per_dispatch": 2, "validate_every": 4, "seed": 7}
    counts, steps = [], []
    for _, row in train(LEARNER, sample, TABLE, started(), validate=validate, **settings):
        counts.append(len(lengths))
        steps.append(row.step)
    assert counts == begun
    assert lengths == [2, 2, 2, 1]
    assert steps == [2, 4, 6, 7]
