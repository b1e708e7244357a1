import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.knowledge import (
    EwcAnchor,
    ewc_optimizer,
    grow_tables,
    link_predictor,
    new_rows,
    place_entities,
    score_of,
    training_triples,
)

OLD = [[0, 0, 1], [1, 1, 2], [2, 0, 3], [3, 1, 0]]
# 4 knows three old entities and itself, 5 only 4; of 6 there is no fact.
NEW = [[0, 0, 4], [4, 1, 2], [4, 0, 3], [4, 1, 4], [5, 0, 4]]


def learner(optimizer, **options):
    return link_predictor(
        "RotatE", optimizer, width=3, margin=1.0, negatives=2, batch=4, chunk=2, **options
    )


def as_complex(entity):
    return np.asarray(entity.real) + 1j * np.asarray(entity.imaginary)


@pytest.fixture(scope="module")
def state():
    return learner(ewc_optimizer(optax.adam(0.1))).init(jax.random.key(0), entities=8, relations=2)


def test_a_new_entity_is_the_mean_of_its_rotated_neighbours(state):
    new = jnp.arange(8) >= 4
    given = training_triples(NEW, entities=7, relations=2)
    found = jax.jit(place_entities, static_argnums=0)(score_of("RotatE"), state.params, given, new)
    old = as_complex(state.params["entity"])
    turn = np.exp(1j * np.asarray(state.params["relation"]))
    right = old.copy()
    right[4] = (old[0] * turn[0] + old[2] / turn[1] + old[3] / turn[0]) / 3
    # In the second round.
    right[5] = right[4] / turn[0]
    np.testing.assert_allclose(as_complex(found["entity"]), right, atol=1e-6)
    np.testing.assert_array_equal(as_complex(found["entity"])[:4], old[:4])
    np.testing.assert_array_equal(found["relation"], state.params["relation"])


def test_only_distances_have_a_closed_form(state):
    given = training_triples(NEW, entities=7, relations=2)
    for name in ("DistMult", "ComplEx"):
        with pytest.raises(ValueError, match=r"^score must be a distance, as RotatE and TransE"):
            place_entities(score_of(name), state.params, given, jnp.arange(8) >= 4)
    with pytest.raises(ValueError, match=r"^rounds must be >= 1, got 0\.$"):
        place_entities(score_of("RotatE"), state.params, given, jnp.arange(8) >= 4, rounds=0)


def test_frozen_rows_stay_bit_identical_and_new_entities_need_no_recompilation(state):
    predictor = learner(ewc_optimizer(optax.adam(0.1)))
    traced = []

    def epoch(state, given, key, trainable):
        traced.append(1)
        return predictor.epoch(state, given, key, trainable=trainable)[0]

    compiled = jax.jit(epoch)
    for entities, triples in ((4, OLD), (5, NEW[:4]), (6, NEW)):
        trainable = new_rows(state.params, entities=entities - 1, relations=1)
        given = training_triples(triples, entities=max(entities, 5), relations=2)
        new = compiled(state, given, jax.random.key(entities), trainable)
        for name, count in (("entity", entities - 1), ("relation", 1)):
            for before, after in zip(
                *(jax.tree.leaves(s.params[name]) for s in (state, new)), strict=True
            ):
                np.testing.assert_array_equal(before[:count], after[:count])
                assert (before[count] != after[count]).all()
        state = new
    # Of 4 and of 5 facts: room for 4, then for 8.
    assert len(traced) == 2


def test_frozen_rows_gather_no_momentum():
    optimizer = ewc_optimizer(optax.sgd(0.1, momentum=0.9))
    params = {"entity": jnp.zeros((3, 2)), "relation": jnp.zeros((1, 2))}
    gradient = jax.tree.map(jnp.ones_like, params)
    trainable = {"entity": jnp.array([False, True, False]), "relation": jnp.array([False])}
    _, state = optimizer.update(gradient, optimizer.init(params), params, trainable=trainable)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
    moved = [jnp.any(leaf != 0, axis=1).tolist() for leaf in jax.tree.leaves(updates)]
    assert moved == [[False, True, False], [False]]


def test_an_anchor_adds_the_gradient_of_the_ewc_penalty():
    predictor = learner(ewc_optimizer(optax.sgd(0.5)))
    given = training_triples(OLD, entities=4, relations=2)
    state = predictor.init(jax.random.key(0), entities=4, relations=2)
    params = jax.tree.map(lambda leaf: leaf + 0.25, state.params)
    fisher = predictor.fisher(params, given, jax.random.key(1))
    update = jax.jit(predictor.update)
    rows, key = jnp.arange(4), jax.random.key(2)
    free, _ = update(state, given, rows, key)
    held, _ = update(state, given, rows, key, anchor=EwcAnchor(params, fisher, 3.0))
    for start, f, one, other in zip(
        *(jax.tree.leaves(x) for x in (state.params, fisher, free.params, held.params)), strict=True
    ):
        # The anchor lies .25 above: the gradient of the penalty is 3 f (-.25).
        np.testing.assert_allclose(other, one + 0.5 * 3 * f * 0.25, rtol=1e-5, atol=1e-6)
        assert (start != one).any()


def test_enlarged_tables_train_as_the_smaller_ones_would(state):
    predictor = learner(ewc_optimizer(optax.adam(0.1)))
    given = training_triples(OLD, entities=4, relations=2)
    step = jax.jit(predictor.update)
    rows, key = jnp.arange(4), jax.random.key(3)
    state, _ = step(state, given, rows, key)
    larger = grow_tables(predictor, state, jax.random.key(4), entities=16, relations=4)
    assert larger.params["entity"].real.shape == (16, 3)
    one, other = (step(s, given, rows, key)[0] for s in (state, larger))
    assert int(other.step) == 2
    for name, count in (("entity", 8), ("relation", 2)):
        for a, b in zip(*(jax.tree.leaves(s.params[name]) for s in (one, other)), strict=True):
            np.testing.assert_allclose(a, b[:count], rtol=1e-6)
            assert (np.asarray(b[count:]) != 0).all()
    with pytest.raises(ValueError, match=r"^entities must be >= 16, the rows there are, got 8\.$"):
        grow_tables(predictor, larger, jax.random.key(4), entities=8, relations=4)
