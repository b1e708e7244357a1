import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.knowledge import link_predictor, normalised_fisher, training_triples
from metajax.knowledge.link_prediction import gather_embeddings, triple_losses
from metajax.knowledge.negative_sampling import sample_negatives

# The third has one entity in both places; false heads and tails are often entities of the fact.
TRIPLES = [[0, 0, 1], [2, 1, 0], [1, 1, 1], [2, 0, 3], [3, 1, 1]]


def test_the_information_is_the_mean_of_each_facts_squared_gradient():
    learner = link_predictor(
        "RotatE", optax.sgd(0.1), width=3, margin=1.0, negatives=3, batch=2, chunk=2
    )
    given = training_triples(TRIPLES, entities=4, relations=2)
    params = learner.init(jax.random.key(0), entities=8, relations=2).params
    key = jax.random.key(1)
    found = jax.jit(learner.fisher)(params, given, key)

    def of_fact(params, drawn, at):
        one = jax.tree.map(lambda leaf: leaf[at : at + 1], drawn)
        tables = {**params, "relation": learner.score.operator(params["relation"])}
        return triple_losses(learner.score, gather_embeddings(tables, one), one, margin=1.0)[0, 0]

    gradient = jax.jit(jax.grad(of_fact), static_argnums=2)
    total = jax.tree.map(np.zeros_like, params)
    for block in range(3):
        rows = 2 * block + jnp.arange(2)
        drawn = sample_negatives(given, rows, jax.random.fold_in(key, block), chunk=1, negatives=3)
        for at in range(2 if block < 2 else 1):
            squares = jax.tree.map(jnp.square, gradient(params, drawn, at))
            total = jax.tree.map(lambda a, b: a + b / 5, total, squares)
    for ours, right in zip(jax.tree.leaves(found), jax.tree.leaves(total), strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-4, atol=1e-9)
        assert (np.asarray(ours[:2]) > 0).all()
        np.testing.assert_array_equal(ours[4:], 0)

    scaled = normalised_fisher(found, entities=4, relations=2)
    numbers = [leaf[:4].ravel() for leaf in jax.tree.leaves(scaled)]
    np.testing.assert_allclose(np.concatenate(numbers).mean(), 1, rtol=1e-5)
