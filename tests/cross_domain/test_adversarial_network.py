import jax
import jax.numpy as jnp
import numpy as np

from metajax import cross_domain
from metajax.types import Examples, Inputs

WIDTH = 2
FACTORS = cross_domain.DomainFactors(
    jnp.array([0.0, 1.0, 0.0]),
    jnp.array([[1.0, 0.5], [2.0, -1.0], [0.0, 1.0]]),
    jnp.array([3.0, 3.5, 2.0]),
    jnp.ones(2),
)
CORRELATION = jnp.array([0.8, 0.2])
MODEL = cross_domain.adversarial_network(3, WIDTH, 4)
SUPPORT = Examples(
    Inputs(jnp.zeros((3, 0)), jnp.zeros((3, 0)), jnp.arange(3)),
    jnp.array([5.0, 1.0, 2.5]),
    jnp.ones(3, bool),
)


def started():
    return cross_domain.initial_adversarial(
        MODEL.init(jax.random.key(0), None), cross_domain.CanonicalFactors(FACTORS, CORRELATION)
    )


def test_users_are_initially_mapped_by_the_canonical_correlations():
    linear = cross_domain.two_domain_network(3, WIDTH, cross_domain.PosteriorMeanMap())
    params = started()
    plain = {"linear": {"kernel": jnp.diag(CORRELATION), "bias": jnp.zeros(WIDTH)}}
    expected = linear.encode({**params, "bridge": {"map": plain}}, SUPPORT)
    found = jax.jit(MODEL.encode)(params, SUPPORT)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
    variance = np.exp(2 * params["log_spread"])
    np.testing.assert_allclose(variance, 1 - CORRELATION**2, rtol=1e-5)


def test_features_of_the_target_are_initially_its_latents():
    place = jnp.array([0.3, -1.2])
    features = MODEL.features(started(), place, 1)
    np.testing.assert_allclose(MODEL.expected(started(), features), place, rtol=1e-6)


def test_a_user_of_the_source_is_served_by_way_of_the_features():
    params = MODEL.init(jax.random.key(1), None)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape), params)
    params["factors"] = FACTORS
    # Nothing of the target is shown, so that what is expected stands.
    state = MODEL.encode(params, SUPPORT._replace(mask=jnp.array([True, False, True])))
    features = MODEL.features(params, state.source, 0)
    np.testing.assert_allclose(state.target.mean, MODEL.expected(params, features), rtol=1e-5)
    assert np.abs(features - MODEL.features(params, state.source, 1)).max() > 1e-3
    assert MODEL.logit(params, features).shape == ()
