from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import registry
from metajax.adaptation import paths
from metajax.data.dataset import Shapes
from metajax.learners import maml, supervised, touched_rows
from metajax.losses import squared_error
from metajax.networks import RatingNetwork, from_linen
from metajax.types import Examples, Inputs, Task

TABLES = ("item_embedding/*", "item_bias/*")
SHAPES = Shapes(items=400, user_width=3, item_width=2, scale=(1.0, 5.0))
METHODS = [name for name in registry.names(1) if registry.trained_method_of(name).tables]


def outer():
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(0.01, weight_decay=0.1))


def learner_of(items, *, kind=maml, microbatch=None):
    network = RatingNetwork((4,), (4,), (4,), items=items, identity_width=3, direct=True)
    more: dict[str, Any] = (
        {"inner": optax.sgd(0.1), "adapts": "direct/*", "steps": 2} if kind is maml else {}
    )
    return kind(from_linen(network), squared_error, outer=outer(), microbatch=microbatch, **more)


def tasks_of(items, *, seed=0, mask=None):
    """Tasks whose supports have the first half of some items, and whose queries the others."""
    rng = np.random.default_rng(seed)

    def part(item):
        user, film = (jnp.asarray(rng.normal(size=(*item.shape, n)), jnp.float32) for n in (3, 2))
        labels = jnp.asarray(rng.integers(1, 6, item.shape), jnp.float32)
        kept = jnp.ones(item.shape, bool) if mask is None else mask
        return Examples(Inputs(user, film, jnp.asarray(item)), labels, kept)

    return Task(*map(part, np.split(np.asarray(items, np.int32), 2, axis=1)))


def updated(learner, batches, *, start):
    state, metrics = start, {}
    for number, batch in enumerate(batches):
        state, metrics = jax.jit(learner.update)(state, batch, jax.random.key(number))
    return state, metrics


def tables_of(state, items):
    """The leaves with a row an item, by their paths, and the others."""
    named = dict(zip(paths(state), map(np.asarray, jax.tree.leaves(state)), strict=True))
    tables = {name: leaf for name, leaf in named.items() if leaf.shape[:1] == (items,)}
    return tables, {name: leaf for name, leaf in named.items() if name not in tables}


@pytest.mark.parametrize("kind", [maml, supervised])
@pytest.mark.parametrize("microbatch", [None, 3])
def test_where_all_rows_are_touched_it_is_adamw(kind, microbatch):
    items = 16
    batches = [
        tasks_of(np.random.default_rng(n).permutation(64).reshape(4, 16) % items, seed=n)
        for n in range(6)
    ]
    start = learner_of(items).init(jax.random.key(1), batches[0])

    def of_items(n):
        return learner_of(n, kind=kind, microbatch=microbatch)

    dense, expected = updated(of_items(items), batches, start=start)
    found, metrics = updated(touched_rows(of_items, items, *TABLES, sparse=0), batches, start=start)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    for name in expected:
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-6)


def test_rows_that_no_task_has_keep_their_bits():
    items, touched = 400, np.array([3, 7, 7, 399])
    batches = [tasks_of([[0, 3, 7, 399], [7, 7, 399, 3]], seed=n) for n in range(3)]
    # Item 0 is padding alone.
    mask = jnp.array([[False, True], [True, True]])
    batches = [batch._replace(support=batch.support._replace(mask=mask)) for batch in batches]
    learner = touched_rows(learner_of, items, *TABLES)
    start = learner.init(jax.random.key(1), batches[0])
    end, _ = updated(learner, batches, start=start)
    before, after = tables_of(start, items)[0], tables_of(end, items)[0]
    assert len(before) == 6  # Two tables, and two moments of each.
    others = np.setdiff1d(np.arange(items), touched)
    for name, table in before.items():
        np.testing.assert_array_equal(after[name][others], table[others])
        assert (after[name][touched] != table[touched]).all(), name


def test_moments_and_weights_of_a_row_decay_only_where_a_task_has_it():
    """Of a row that occurs at the first and the third update the second leaves no trace."""
    items = 400
    first, second = tasks_of([[1, 2, 3, 4]]), tasks_of([[5, 6, 7, 8]], seed=1)
    learner = touched_rows(learner_of, items, *TABLES)
    start = learner.init(jax.random.key(1), first)
    one, _ = updated(learner, [first], start=start)
    two, _ = updated(learner, [first, second], start=start)
    rows = np.arange(1, 5)
    for name, table in tables_of(one, items)[0].items():
        np.testing.assert_array_equal(tables_of(two, items)[0][name][rows], table[rows])


def test_an_update_of_most_rows_is_that_of_all():
    items = 15
    batch = tasks_of([[0, 1, 2, 3]])
    learner, whole = touched_rows(learner_of, items, *TABLES), learner_of(items)
    start = whole.init(jax.random.key(1), batch)
    for one, other in zip(
        *(jax.tree.leaves(updated(each, [batch], start=start)) for each in (learner, whole)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_donated_state_is_updated_in_place():
    items = 100_000
    batch = tasks_of([[0, 1, 2, 3]])
    learner = touched_rows(learner_of, items, *TABLES)
    state = jax.eval_shape(learner.init, jax.random.key(1), batch)
    program = jax.jit(learner.update, donate_argnums=0).lower(state, batch).compile()
    memory: Any = program.memory_analysis()
    table = 4 * 3 * items
    assert memory.alias_size_in_bytes > 3 * table
    assert memory.temp_size_in_bytes < table / 4
    lines = (program.as_text() or "").splitlines()
    copies = [line for line in lines if f"f32[{items},3]" in line and " copy(" in line]
    assert not copies


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("maml", "prototypical") else pytest.param(name, marks=pytest.mark.slow)
        for name in METHODS
    ],
)
def test_methods_read_their_tables_at_the_items_of_tasks_alone(name):
    """Three updates by the same tasks: rows and all else move as those of a dense update."""
    batch = tasks_of(np.random.default_rng(0).integers(0, SHAPES.items, (3, 8)))
    settings = registry.settings_for(name, rate=0.01, updates=4)
    learners = [
        registry.learner_of(registry.with_changes(settings, lazy_from=least), SHAPES)
        for least in (1, SHAPES.items + 1)
    ]
    start = learners[1].init(jax.random.key(1), batch)
    few, whole = (updated(learner, [batch] * 3, start=start)[0] for learner in learners)
    rows = np.unique(np.concatenate([np.ravel(part.inputs.item) for part in batch]))
    (tables, rest), (dense, expected) = tables_of(few, SHAPES.items), tables_of(whole, SHAPES.items)
    assert len(tables) >= 2
    for path in rest:
        np.testing.assert_allclose(rest[path], expected[path], rtol=1e-5, atol=1e-6, err_msg=path)
    begun = tables_of(start, SHAPES.items)[0]
    others = np.setdiff1d(np.arange(SHAPES.items), rows)
    for path in tables:
        np.testing.assert_allclose(
            tables[path][rows], dense[path][rows], rtol=1e-5, atol=1e-6, err_msg=path
        )
        np.testing.assert_array_equal(tables[path][others], begun[path][others], err_msg=path)


def test_small_catalogues_have_the_learner_of_all_rows():
    settings = registry.settings_for("maml")
    small: Any = registry.learner_of(settings, SHAPES)
    large: Any = registry.learner_of(settings, SHAPES._replace(items=100_000))
    assert "learner_with" in small.update.__qualname__
    assert "touched_rows" in large.update.__qualname__
