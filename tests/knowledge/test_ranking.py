from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.knowledge import filtered_ranks, ranking_metrics, score_of
from metajax.knowledge.ranking import candidate_scores, rank_batch

ROTATE = score_of("RotatE")


@pytest.fixture(scope="module")
def params():
    """Of 7 entities, of which the last two are one and the same, and a row of padding."""
    entity = ROTATE.entities(jax.random.key(0), 8, 4, 1.0)
    entity = jax.tree.map(lambda leaf: leaf.at[6].set(leaf[5]).at[7].set(0.0), entity)
    return {"entity": entity, "relation": ROTATE.relations(jax.random.key(1), 2, 4, 1.0)}


def by_hand(params, triples, known, shown):
    """Optimistic and pessimistic ranks and numbers of candidates, query by query."""
    entity = np.asarray(params["entity"].real) + 1j * np.asarray(params["entity"].imaginary)
    turn = np.exp(1j * np.asarray(params["relation"]))
    every = {tuple(row) for row in known}
    found = np.zeros((3, 2, len(triples)))
    for at, (h, r, t) in enumerate(triples):
        for side, right in enumerate((h, t)):
            rows = [(e, r, t) if side == 0 else (h, r, e) for e in range(7)]
            others = [e for e in range(7) if e != right and shown[e] and rows[e] not in every]
            scores = np.array([-np.abs(entity[a] * turn[b] - entity[c]).sum() for a, b, c in rows])
            # Equal entities score alike to rounding.
            above = sum(scores[e] > scores[right] + 1e-5 for e in others)
            level = sum(abs(scores[e] - scores[right]) <= 1e-5 for e in others)
            found[:, side, at] = 1 + above, 1 + above + level, 1 + len(others)
    return found


@pytest.mark.parametrize("only", [None, [1, 2, 5, 6]])
def test_filtered_ranks_equal_those_of_a_loop(params, only):
    rng = np.random.default_rng(0)
    known = np.unique(rng.integers(0, (7, 2, 7), (40, 3)), axis=0)
    triples = np.concatenate([known[::4], [[5, 0, 6], [0, 1, 6]]])
    shown = np.isin(np.arange(7), np.arange(7) if only is None else only)
    ranks = filtered_ranks(
        ROTATE, params, triples, entities=7, relations=2, known=known, batch=4,
        candidates=None if only is None else shown,
    )  # fmt: skip
    right = by_hand(params, triples.tolist(), known.tolist(), shown)
    np.testing.assert_array_equal(ranks, right)
    assert (ranks.optimistic < ranks.pessimistic).any()
    np.testing.assert_array_equal(ranks.realistic, right[:2].mean(axis=0))


@pytest.mark.parametrize("side", ["head", "tail"])
def test_scores_are_the_same_whatever_the_chunk(params, side):
    triples = jnp.array([[0, 0, 1], [2, 1, 3]])
    scored = partial(candidate_scores, ROTATE, params, triples, side=side)
    np.testing.assert_allclose(scored(chunk=3), scored(chunk=99), rtol=1e-6)


def test_a_model_that_scores_all_alike_ranks_as_by_chance():
    params = {
        "entity": jax.tree.map(jnp.zeros_like, ROTATE.entities(jax.random.key(0), 9, 70, 1.0)),
        "relation": ROTATE.relations(jax.random.key(1), 1, 70, 1.0),
    }
    triples = [[0, 0, 1], [3, 0, 2]]
    ranks = filtered_ranks(ROTATE, params, triples, entities=9, relations=1, known=triples)
    found = ranking_metrics(ranks)
    np.testing.assert_array_equal(ranks.realistic, 5)
    assert found["amri"] == 0
    assert found["mrr_optimistic"] == 1
    assert found["mrr"] == pytest.approx(1 / 5)
    assert found["mrr_pessimistic"] == pytest.approx(1 / 9)


def test_scores_that_are_not_finite_are_refused(params):
    broken = {**params, "relation": params["relation"].at[1, 0].set(jnp.nan)}
    given = {"entities": 7, "relations": 2, "known": [[0, 0, 1]]}
    filtered_ranks(ROTATE, broken, [[0, 0, 1]], **given)
    with pytest.raises(ValueError, match=r"^scores must be finite, got others in batch 0\.$"):
        filtered_ranks(ROTATE, broken, [[0, 1, 1]], **given)


def test_a_target_that_is_not_finite_is_noticed(params):
    entity = jax.tree.map(lambda leaf: leaf.at[3].set(jnp.nan), params["entity"])
    others = jnp.arange(8) != 3
    triples, answers = jnp.array([[0, 0, 3], [0, 0, 2]]), jnp.full((2, 1), 8)
    finite = [
        rank_batch(
            ROTATE, {**params, "entity": entity}, triples[n:][:1], answers[:1], others, side="tail"
        )[3]
        for n in range(2)
    ]
    assert [bool(one) for one in finite] == [False, True]


def test_padding_rows_are_no_candidates(params):
    entity = jax.tree.map(lambda leaf: leaf.at[7].set(jnp.nan), params["entity"])
    given = {"entities": 7, "relations": 2, "known": [[0, 0, 1]]}
    ranks = [
        filtered_ranks(ROTATE, table, [[0, 0, 1]], **given)
        for table in (params, {**params, "entity": entity})
    ]
    np.testing.assert_array_equal(ranks[0], ranks[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": [True]}, r"^candidates must be 7 bools, got bool \[1\]\.$"),
        ({"entities": 9}, r"^params must have at least 9 entities, got 8\.$"),
        ({"known": [[0, 5, 0]]}, r"^relation must be in \[0, 2\), got 5 in row 0 of known\.$"),
    ],
)
def test_invalid_ranking_arguments_are_refused(params, options, message):
    given: dict[str, Any] = {"entities": 7, "relations": 2, "known": [[0, 0, 1]], **options}
    with pytest.raises(ValueError, match=message):
        filtered_ranks(ROTATE, params, [[0, 0, 1]], **given)


@pytest.mark.parametrize("side", ["head", "tail"])
def test_a_large_graph_is_ranked_within_250_megabytes(side):
    entities, width, batch = 40_943, 500, 256
    shaped = jax.ShapeDtypeStruct
    entity = jax.eval_shape(
        lambda key: ROTATE.entities(key, entities, width, 1.0), jax.random.key(0)
    )
    params = {"entity": entity, "relation": shaped((11, width), jnp.float32)}
    rank = jax.jit(partial(rank_batch, ROTATE, side=side))
    compiled = rank.lower(
        params,
        shaped((batch, 3), jnp.int32),
        shaped((batch, 512), jnp.int32),
        shaped((entities,), jnp.bool_),
    ).compile()
    memory: Any = compiled.memory_analysis()
    assert memory.temp_size_in_bytes <= 250e6
