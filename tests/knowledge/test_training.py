import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.knowledge import (
    GraphSettings,
    begin_links,
    drop_unused,
    filtered_ranks,
    graph_from_names,
    link_predictor,
    predictor_of,
    ranking_metrics,
    split_triples,
    train_links,
    training_triples,
    vocabulary_of,
)
from metajax.training import DivergedError

# A ring of twelve with steps of one, two and three.
RING = graph_from_names(
    [(f"{n:02}", f"+{k}", f"{(n + k) % 12:02}") for n in range(12) for k in (1, 2, 3)]
)
TRAINING, VALIDATION = split_triples(RING, share=0.2)
SIZES = {"entities": 12, "relations": 3}


# The rate is a value and not in the program, so that one program serves all tests.
PREDICTOR = link_predictor(
    "RotatE", optax.inject_hyperparams(optax.adam)(0.05), width=4, margin=3.0, negatives=4,
    batch=8, chunk=4,
)  # fmt: skip


def at_rate(rate, progress):
    """Puts another learning rate into a progress."""
    moments = progress.state.opt_state
    rates = {**moments.hyperparams, "learning_rate": jnp.float32(rate)}
    moments = moments._replace(hyperparams=rates)
    return progress._replace(state=progress.state._replace(opt_state=moments))


def trained(progress=None, **options):
    given: dict[str, Any] = {"epochs": 6, "seed": 3, "validate_every": 2, "batch": 8, **options}
    settings = GraphSettings(**given)
    return list(train_links(TRAINING, VALIDATION, settings, progress, predictor=PREDICTOR))


def test_a_resumed_training_continues_to_the_same_bits():
    whole = trained()
    half = trained()[:3]
    # What a checkpoint keeps: NumPy arrays.
    kept = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), half[-1][0])
    rest = trained(kept)
    assert [row for _, row in half + rest] == [row for _, row in whole]
    chex.assert_trees_all_equal(rest[-1][0], whole[-1][0])


def test_each_epoch_has_its_own_random_key():
    (*_, (progress, _)) = trained(epochs=2)
    data, (_, key) = (
        training_triples(TRAINING.triples, **SIZES),
        jax.random.split(jax.random.key(3)),
    )
    state = begin_links(TRAINING, GraphSettings(seed=3), predictor=PREDICTOR).state
    for n in range(2):
        state, _ = jax.jit(PREDICTOR.epoch)(state, data, jax.random.fold_in(key, n))
    chex.assert_trees_all_close(progress.state.params, state.params, rtol=1e-5)


def test_epochs_and_updates_are_counted():
    rows = [row for _, row in trained()]
    updates = -(-TRAINING.count // 8)
    assert [(row.epoch, row.step) for row in rows] == [(n, n * updates) for n in range(1, 7)]
    assert [row.epoch for row in rows if row.validation is not None] == [2, 4, 6]


def test_the_best_parameters_have_the_best_validation_ranks():
    found = trained()
    by_epoch = {row.epoch: (row.validation, progress) for progress, row in found if row.validation}
    mrr, at_best = max(by_epoch.values(), key=lambda pair: pair[0])
    last = found[-1][0]
    chex.assert_trees_all_equal(last.best, at_best.state.params)
    assert int(last.best_step) == int(at_best.state.step)
    assert float(last.best_loss) == pytest.approx(1 - mrr, abs=1e-6)
    ranks = filtered_ranks(
        PREDICTOR.score, last.best, VALIDATION.triples, **SIZES, known=RING.triples
    )
    assert ranking_metrics(ranks)["mrr"] == pytest.approx(mrr, abs=1e-6)


def test_validation_ranks_are_filtered_by_training_triples():
    graph = graph_from_names([(f"a{h}", "r", f"b{t}") for h in range(6) for t in range(6)])
    training, validation = split_triples(graph, share=0.2)
    settings = GraphSettings(epochs=1, batch=8)
    ((progress, row),) = train_links(training, validation, settings, predictor=PREDICTOR)
    sizes = {"entities": 12, "relations": 1}
    ranks, unfiltered = (
        filtered_ranks(PREDICTOR.score, progress.best, validation.triples, **sizes, known=known)
        for known in (graph.triples, validation.triples)
    )
    assert row.validation == pytest.approx(ranking_metrics(ranks)["mrr"], abs=1e-6)
    assert row.validation > ranking_metrics(unfiltered)["mrr"] + 0.01


def test_validation_is_of_at_most_so_many_triples():
    (*_, (progress, row)) = trained(queries=1, epochs=2)
    ranks = filtered_ranks(
        PREDICTOR.score, progress.best, VALIDATION.triples, **SIZES, known=RING.triples
    )
    alone = np.mean(1 / ranks.realistic, axis=0)
    assert len(set(alone)) > 3
    assert np.min(np.abs(alone - row.validation)) < 1e-6


def test_a_predictor_has_the_numbers_of_its_settings():
    settings = GraphSettings(
        score="TransE", width=3, margin=2.0, temperature=0.5, negatives=5, rate=0.03, batch=12,
        chunk=18,
    )  # fmt: skip
    expected = link_predictor(
        "TransE", optax.adam(0.03), width=3, margin=2.0, temperature=0.5, negatives=5, batch=12,
        chunk=6,
    )  # fmt: skip
    data, key = training_triples(TRAINING.triples, **SIZES), jax.random.key(5)
    states = [
        jax.jit(one.epoch)(one.init(key, **SIZES), data, key)[0]
        for one in (predictor_of(settings), expected)
    ]
    chex.assert_trees_all_equal(*states)
    # Another seed is no other program.
    assert predictor_of(dataclasses.replace(settings, seed=1, epochs=2)) is predictor_of(settings)


def test_training_stops_when_validation_stops_improving():
    lazy = at_rate(0, begin_links(TRAINING, predictor=PREDICTOR))
    rows = [row for _, row in trained(lazy, epochs=50, patience=2)]
    # Best at the first look, after two epochs; four more without a better one.
    assert len(rows) == 2 + 2 * 2


def test_without_validation_all_epochs_run_and_the_last_is_the_best():
    (*_, (progress, row)) = train_links(
        TRAINING, None, GraphSettings(epochs=3), predictor=PREDICTOR
    )
    assert (row.epoch, row.validation) == (3, None)
    chex.assert_trees_all_equal(progress.best, progress.state.params)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (1e6, r"^the largest number of an embedding \(at most 1\.25e\+03 is sound\) became .*e\+0"),
        (np.nan, r"^the loss became nan at update 8\.$"),
    ],
)
def test_a_diverging_embedding_stops_training_and_leaves_the_last_progress_good(rate, message):
    (*_, (good, _)) = trained(epochs=1)
    with pytest.raises(DivergedError, match=message) as caught:
        trained(at_rate(rate, good), epochs=9)
    assert caught.value.step == int(good.state.step) + -(-TRAINING.count // 8)
    chex.assert_tree_all_finite(good)
    ranks = filtered_ranks(
        PREDICTOR.score, good.best, VALIDATION.triples, **SIZES, known=RING.triples
    )
    assert 0 < ranking_metrics(ranks)["mrr"] <= 1


def test_the_bound_of_divergence_is_a_setting():
    with pytest.raises(DivergedError, match=r"\(at most 1\.25 is sound\)"):
        trained(divergence_factor=1.0, epochs=50, patience=50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, r"^epochs must be >= 1, got 0\.$"),
        ({"validate_every": 0}, r"^validate_every must be >= 1, got 0\.$"),
        ({"patience": 0}, r"^patience must be >= 1, got 0\.$"),
        ({"queries": 0}, r"^queries must be >= 1, got 0\.$"),
        ({"divergence_factor": float("nan")}, r"^divergence_factor must be finite, got nan\.$"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        trained(**options)


def test_validation_of_unseen_relations_is_refused():
    names = RING.relations.names
    fewer = RING.triples[RING.triples[:, 1] != names.index("+3")]
    blind = RING._replace(**dict(zip(("head", "relation", "tail"), fewer.T, strict=True)), count=24)
    with pytest.raises(ValueError, match=r"relation of the test must have a training .* '\+3'\.$"):
        next(train_links(blind, VALIDATION, predictor=PREDICTOR))
    assert drop_unused(RING).count == RING.count


def test_validation_with_other_names_is_refused():
    entities, relations = (
        vocabulary_of(known.names[::-1]) for known in (RING.entities, RING.relations)
    )
    for what, other in (
        ("entities", VALIDATION._replace(entities=entities)),
        ("relations", VALIDATION._replace(relations=relations)),
    ):
        with pytest.raises(ValueError, match=f"^validation must have the {what} of training in "):
            next(train_links(TRAINING, other, predictor=PREDICTOR))
