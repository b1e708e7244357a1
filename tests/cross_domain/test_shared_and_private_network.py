import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import cross_domain
from metajax.types import Examples, Inputs

WIDTH = 3
RNG = np.random.default_rng(0)
FACTORS = cross_domain.DomainFactors(
    jnp.array([0.0, 1.0, 0.0]),
    jnp.asarray(RNG.normal(size=(3, WIDTH))),
    jnp.array([3.0, 3.5, 2.0]),
    jnp.ones(2),
)
CORRELATION = jnp.array([0.8, 0.5, 0.2])
MODEL = cross_domain.shared_and_private_network(3, WIDTH, 4)
SUPPORT = Examples(
    Inputs(jnp.zeros((3, 0)), jnp.zeros((3, 0)), jnp.arange(3)),
    jnp.array([5.0, 1.0, 2.5]),
    jnp.ones(3, bool),
)


def started():
    return cross_domain.initial_separation(
        MODEL.init(jax.random.key(0), None), cross_domain.CanonicalFactors(FACTORS, CORRELATION)
    )


def test_shared_features_are_initially_mapped_by_the_correlations():
    """Two of three directions are shared; the last is as if nothing carried over."""
    params, along = started(), jnp.array([0.8, 0.5, 0.0])
    plain = {"linear": {"kernel": jnp.diag(along), "bias": jnp.zeros(WIDTH)}}
    linear = cross_domain.two_domain_network(3, WIDTH, cross_domain.PosteriorMeanMap())
    expected = linear.encode({**params, "bridge": {"map": plain}}, SUPPORT)
    found = jax.jit(MODEL.encode)(params, SUPPORT)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected
    )
    np.testing.assert_allclose(np.exp(2 * params["log_spread"]), 1 - along**2, rtol=1e-5)


@pytest.mark.parametrize("side", [0, 1])
def test_shared_and_private_features_initially_determine_the_user(side):
    place = jnp.array([0.3, -1.2, 2.0])
    features = MODEL.features(started(), place, side)
    np.testing.assert_array_equal(features.shared, place[:2])
    np.testing.assert_array_equal(features.private, place[2:])
    np.testing.assert_allclose(MODEL.latents(started(), features, side), place, rtol=1e-6)


def test_shared_features_are_of_one_encoder_and_private_ones_of_two():
    params = MODEL.init(jax.random.key(1), None)
    params = jax.tree.map(lambda leaf: leaf + RNG.normal(size=leaf.shape), params)
    params["factors"] = FACTORS
    # Nothing of the target is shown, so that what is expected stands.
    state = MODEL.encode(params, SUPPORT._replace(mask=jnp.array([True, False, True])))
    here, there = (MODEL.features(params, state.source, side) for side in (0, 1))
    np.testing.assert_array_equal(here.shared, there.shared)
    assert np.abs(here.private - there.private).max() > 1e-3
    taken = cross_domain.SeparatedFeatures(params["bridge"]["carried"] * here.shared, jnp.zeros(1))
    np.testing.assert_allclose(state.target.mean, MODEL.latents(params, taken, 1), rtol=1e-5)


def test_a_private_feature_needs_room():
    with pytest.raises(ValueError, match="width must be >= 3 for a private feature, got 2"):
        cross_domain.shared_and_private_network(3, 2, 4)
