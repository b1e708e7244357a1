from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import cross_domain
from metajax.types import Examples, Inputs

ITEMS, WIDTH = 6, 2
RNG = np.random.default_rng(0)
DOMAIN = np.array([0, 1, 0, 1, 1, 0])
FACTORS = cross_domain.DomainFactors(
    jnp.asarray(DOMAIN),
    jnp.asarray(RNG.normal(size=(ITEMS, WIDTH))),
    jnp.asarray(RNG.normal(size=ITEMS)),
    jnp.array([0.5, 2.0]),
)
CARRIED, SPREAD = jnp.array([0.8, 0.3]), jnp.array([0.6, 0.9])
NETWORK = cross_domain.RelationNetwork((3,))
MODEL = cross_domain.relation_transfer_network(ITEMS, WIDTH, NETWORK)


def started(model=MODEL):
    params = cross_domain.initial_factors(model.init(jax.random.key(0), None), FACTORS)
    return {**params, "log_spread": jnp.log(SPREAD)}


def rows(items, labels) -> Examples:
    n = len(items)
    inputs = Inputs(jnp.zeros((n, 0)), jnp.zeros((n, 0)), jnp.asarray(items))
    return Examples(inputs, jnp.asarray(labels), jnp.ones(n, bool))


def test_a_relation_is_mapped_in_the_target_alone_and_read_by_one_head():
    """With f at 0: head . (u * v) in the source, head . (M (u * v)) in the target."""
    params: Any = started()["relations"]
    head, carried = RNG.normal(size=WIDTH), RNG.normal(size=(WIDTH, WIDTH))
    params = {
        **params,
        "head": {"kernel": jnp.asarray(head)[:, None]},
        "transfer": {"kernel": jnp.asarray(carried).T},
    }
    user, item = RNG.normal(size=WIDTH), np.asarray(FACTORS.embedding)
    given = jnp.asarray(user), FACTORS.embedding, FACTORS.domain
    added = np.asarray(NETWORK.apply({"params": params}, *given))
    mapped = np.where(DOMAIN[:, None], (user * item) @ carried.T, user * item)
    expected = mapped @ head
    np.testing.assert_allclose(added, expected, rtol=1e-5, atol=1e-6)
    # The hidden layers see user and item too, once they have learned something.
    params["correction"]["kernel"] += 1.0
    assert np.abs(np.asarray(NETWORK.apply({"params": params}, *given)) - added).max() > 0.01


def test_relations_carried_over_in_part_are_a_linear_map_of_users():
    params = started()
    params["relations"]["transfer"]["kernel"] = jnp.diag(CARRIED)
    mapped = cross_domain.two_domain_network(ITEMS, WIDTH, cross_domain.PosteriorMeanMap())
    by_map = {"linear": {"kernel": jnp.diag(CARRIED), "bias": jnp.zeros(WIDTH)}}
    linear = {**started(mapped), "bridge": {"map": by_map}, "log_spread": jnp.log(SPREAD)}
    queried = rows(np.arange(ITEMS), np.zeros(ITEMS)).inputs
    for items, labels in (([0, 2, 3, 1], [1.0, -0.5, 2.0, 0.3]), ([5], [1.0]), ([4], [-1.0])):
        scores = [
            model.decode(given, model.encode(given, rows(items, labels)), queried)
            for model, given in ((MODEL, params), (mapped, linear))
        ]
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-5)


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="items must be >= 1, got 0"):
        cross_domain.relation_transfer_network(0, 2)
