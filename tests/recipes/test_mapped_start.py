import jax.numpy as jnp
import numpy as np
import pytest

from metajax import assembly, recipes
from metajax.data import Domains, cross_users, synthetic
from metajax.recipes.domain_factors import canonical_factors


@pytest.mark.parametrize("name", ["emcdr", "emcdr_linear"])
def test_users_are_mapped_along_what_the_domains_have_in_common(name):
    world = synthetic.world(users=40, items=60, seed=0)
    training = cross_users(Domains(world.dataset, world.item_domain)).training
    settings = recipes.settings_for(name, rank=2)
    params = assembly.first_progress(settings, training).state.params
    found = canonical_factors(training, rank=2, seed=settings.seed)
    linear = params["bridge"]["map"]["linear"]
    np.testing.assert_array_equal(linear["kernel"], jnp.diag(found.correlation))
    np.testing.assert_array_equal(linear["bias"], np.zeros(3))
    # What the source leaves open of a user whose variance is 1.
    variance = np.exp(2 * params["log_spread"])
    np.testing.assert_allclose(variance, 1 - found.correlation**2, rtol=1e-5)
    np.testing.assert_array_equal(params["factors"].embedding, found.factors.embedding)
