import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.knowledge import (
    cluster_relations,
    filtered_ranks,
    graph_from_names,
    graph_from_triples,
    link_predictor,
    relation_clusters,
    relation_signatures,
    training_triples,
    vocabulary_of,
)
from metajax.knowledge.relation_clusters import cluster_loss

ENTITIES, RELATIONS, NAMES = 30, 6, 20


def named_by_many(seed):
    """A graph of 6 relations, each a shift from one kind of entity, under 20 names each.

    Returns:
        Training triples, test triples whose alias is in training, and all triples.
    """
    rng = np.random.default_rng(seed)
    shifts = 3 * rng.integers(0, ENTITIES // 3, RELATIONS) + rng.integers(0, 3, RELATIONS)
    triples = [
        (h, r, (h + shifts[r]) % ENTITIES)
        for r in range(RELATIONS)
        for h in range(r % 3, ENTITIES, 3)
    ]
    every = np.array([(h, NAMES * r + n, t) for h, r, t in triples for n in range(NAMES)])
    # Each triple has three of its aliases, most of them in training.
    chosen = [NAMES * at + n for at in range(len(triples)) for n in rng.choice(NAMES, 3, False)]
    shuffled = every[rng.permutation(chosen)]
    training, test = shuffled[:108], shuffled[108:]
    return training, test[np.isin(test[:, 1], training[:, 1])], every


@pytest.mark.slow
def test_aliases_of_a_relation_learn_from_each_other_with_right_labels_only():
    names = RELATIONS * NAMES
    learner = link_predictor(
        "RotatE", optax.adam(0.02), width=16, margin=6.0, negatives=8, batch=128,
        clusters=RELATIONS, cluster_weight=3.0,
    )  # fmt: skip

    @jax.jit
    def trained(state, given, key):
        def epoch(at, state):
            return learner.epoch(state, given, jax.random.fold_in(key, at))[0]

        return jax.lax.fori_loop(0, 60, epoch, state)

    right = (np.arange(names) // NAMES).astype(np.int32)
    shuffled = np.random.default_rng(0).permutation(right)
    mrr = {}
    for seed in range(4):
        training, test, every = named_by_many(seed)
        state = learner.init(jax.random.key(seed), entities=ENTITIES, relations=names)
        for kind, label in (("none", np.full_like(right, -1)), ("right", right), ("any", shuffled)):
            given = training_triples(training, entities=ENTITIES, relations=names, cluster=label)
            params = trained(state, given, jax.random.key(seed + 7)).params
            ranks = filtered_ranks(
                learner.score, params, test, entities=ENTITIES, relations=names, known=every
            )
            mrr.setdefault(kind, []).append(np.mean(1 / ranks.realistic))
    means = {kind: np.mean(values) for kind, values in mrr.items()}
    assert means["right"] > means["none"] + 0.08
    assert abs(means["any"] - means["none"]) < 0.05


def test_aliases_are_in_one_cluster():
    # Of three kinds of relations, each of four names, with enough facts to cluster by.
    rng = np.random.default_rng(0)
    head, tail = rng.integers(10, size=(2, 240))
    name = np.arange(240) % 12
    kind = name // 4
    triples = np.stack([10 * kind + head, name, 10 * ((kind + 1) % 3) + tail], axis=1)
    graph = graph_from_triples(
        triples, vocabulary_of(map(str, range(30))), vocabulary_of(map(str, range(13)))
    )
    labels = cluster_relations(relation_signatures(graph), 3)
    assert labels[12] == -1
    by_kind = labels[:12].reshape(3, 4)
    assert (by_kind == by_kind[:, :1]).all()
    assert len(np.unique(by_kind)) == 3
    with pytest.raises(ValueError, match=r"^clusters must be from 1 to the 12 relations with a "):
        cluster_relations(relation_signatures(graph), 13)


def test_cluster_loss_is_the_cross_entropy_of_a_linear_head():
    rng = np.random.default_rng(0)
    features, kernel, bias = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)
    logits = features @ kernel + bias
    surprise = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), [2, 0, 1, 1, 0]]
    head = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
    found = cluster_loss(head, jnp.asarray(features), jnp.array([2, -1, 1, 1, -1, -1, -1, -1]))
    assert float(found) == pytest.approx(surprise[[0, 2, 3]].mean(), rel=1e-5)


def test_clusters_without_labels_are_refused():
    learner = link_predictor("RotatE", optax.sgd(0.1), width=2, batch=2, chunk=2, clusters=2)
    state = learner.init(jax.random.key(0), entities=3, relations=2)
    given = training_triples([[0, 0, 1], [1, 1, 2]], entities=3, relations=2)
    with pytest.raises(ValueError, match=r"^data must have a cluster of each relation"):
        learner.epoch(state, given, jax.random.key(1))


def test_relation_signatures_are_shares_of_roles(monkeypatch):
    monkeypatch.setattr(relation_clusters, "_BLOCK", 3)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, (8, 3, 8), (30, 3))
    graph = graph_from_names([(f"e{h}", f"r{r}", f"e{t}") for h, r, t in drawn])
    triples = graph.triples
    expected = np.zeros((3, 2, 2, 3))  # relation, whose role, role as head or tail, of relation
    for r in range(3):
        facts = np.flatnonzero(triples[:, 1] == r)
        for end, role, s in itertools.product((0, 1), (0, 1), range(3)):
            others = triples[:, 1] == s
            for n in facts:
                same = others & (triples[:, 2 * role] == triples[n, 2 * end])
                # A fact does not speak for itself.
                same[n] &= role != end
                expected[r, end, role, s] += same.any() / len(facts)
    np.testing.assert_allclose(relation_signatures(graph), expected.reshape(3, 12), rtol=1e-6)


def test_aliases_of_a_relation_have_close_signatures():
    rng = np.random.default_rng(0)
    facts = [
        (f"film{n}", f"{relation}{rng.integers(2)}", f"{relation}{rng.integers(9)}")
        for n in range(100)
        for relation in ("actor", "actor", "actor", "genre", "genre")
    ]
    actor, actor_alias, genre, genre_alias = relation_signatures(graph_from_names(facts))
    near = np.linalg.norm(actor - actor_alias), np.linalg.norm(genre - genre_alias)
    assert max(near) < np.linalg.norm(actor - genre) / 3
