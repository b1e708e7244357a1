import jax.numpy as jnp
import numpy as np
import pytest

from metajax import registry
from metajax.cross_domain.domain_factors import canonical_factors
from metajax.cross_domain.domains import Domains
from metajax.cross_domain.parameter_transfer import fit_transferred_factors
from metajax.cross_domain.users import cross_users
from metajax.data import synthetic


@pytest.fixture(scope="module")
def training():
    world = synthetic.world(users=40, items=60, seed=0)
    return cross_users(Domains(world.dataset, world.item_domain)).training


@pytest.fixture(scope="module")
def found(training):
    return canonical_factors(training, rank=2)


def started(name, training):
    settings = registry.settings_for(name, rank=2)
    return registry.first_progress(settings, training).state.params


@pytest.mark.parametrize("name", ["emcdr", "emcdr_linear"])
def test_maps_are_initially_the_canonical_correlations(name, training, found):
    params = started(name, training)
    linear = params["bridge"]["map"]["linear"]
    np.testing.assert_array_equal(linear["kernel"], jnp.diag(found.correlation))
    np.testing.assert_array_equal(linear["bias"], np.zeros(3))
    # What the source leaves open of a user whose variance is 1.
    variance = np.exp(2 * params["log_spread"])
    np.testing.assert_allclose(variance, 1 - found.correlation**2, rtol=1e-5)
    np.testing.assert_array_equal(params["factors"].embedding, found.factors.embedding)


def test_relations_are_initially_mapped_by_the_correlations(training, found):
    params = started("relation_transfer", training)
    transfer = params["relations"]["transfer"]["kernel"]
    np.testing.assert_array_equal(transfer, jnp.diag(found.correlation))
    np.testing.assert_allclose(
        np.exp(2 * params["log_spread"]), 1 - found.correlation**2, rtol=1e-5
    )
    np.testing.assert_array_equal(params["factors"].bias, found.factors.bias)


def test_a_rank_without_a_private_feature_is_refused(training):
    with pytest.raises(ValueError, match=r"rank must be >= 2, got 1\."):
        registry.first_progress(registry.settings_for("shared_and_private", rank=1), training)


def test_initial_factors_are_the_transferred_ones(training):
    factors = started("parameter_transfer", training)["factors"]
    found = fit_transferred_factors(training, rank=2)
    np.testing.assert_array_equal(factors.domain, training.item_domain)
    np.testing.assert_array_equal(factors.embedding, found.embedding)
    np.testing.assert_array_equal(factors.bias, found.bias)
    np.testing.assert_array_equal(factors.noise, found.noise)
