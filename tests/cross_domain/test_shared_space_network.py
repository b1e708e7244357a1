import jax
import jax.numpy as jnp
import numpy as np

from metajax import cross_domain
from metajax.types import Examples, Inputs

ITEMS, WIDTH = 6, 2
RNG = np.random.default_rng(0)
DOMAIN = np.array([0, 1, 0, 1, 1, 0])
NOISE = np.array([0.5, 2.0])
FACTORS = cross_domain.DomainFactors(
    jnp.asarray(DOMAIN),
    jnp.asarray(RNG.normal(size=(ITEMS, WIDTH))),
    jnp.asarray(RNG.normal(size=ITEMS)),
    jnp.asarray(NOISE),
)
CORRELATION = jnp.array([0.8, 0.3])
MODEL = cross_domain.shared_space_network(ITEMS, WIDTH, (3,))
ROWS, LABELS = np.array([0, 3, 2, 4]), np.array([1.0, -0.5, 2.0, 0.3])


def inputs_of(items) -> Inputs:
    return Inputs(jnp.zeros((len(items), 0)), jnp.zeros((len(items), 0)), jnp.asarray(items))


def started():
    return cross_domain.initial_shared_space(
        MODEL.init(jax.random.key(0), None), cross_domain.CanonicalFactors(FACTORS, CORRELATION)
    )


def test_the_initial_state_is_the_posterior_of_jointly_normal_users():
    """Of both places at once, their covariance written out and inverted."""
    across = np.diag(CORRELATION)
    joint = np.block([[np.eye(WIDTH), across], [across, np.eye(WIDTH)]])
    x = np.zeros((ITEMS, 2 * WIDTH))
    for item, side in enumerate(DOMAIN):
        x[item, side * WIDTH : (side + 1) * WIDTH] = FACTORS.embedding[item]
    weighed = x[ROWS].T / NOISE[DOMAIN[ROWS]]
    precision = np.linalg.inv(joint) + weighed @ x[ROWS]
    place = np.linalg.solve(precision, weighed @ (LABELS - FACTORS.bias[ROWS]))
    expected = FACTORS.bias + x @ place

    support = Examples(inputs_of(ROWS), jnp.asarray(LABELS), jnp.ones(len(ROWS), bool))
    state = jax.jit(MODEL.encode)(started(), support)
    scores = MODEL.decode(started(), state, inputs_of(np.arange(ITEMS)))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_random_parameters_do_not_transfer():
    blank = MODEL.init(jax.random.key(0), None)
    np.testing.assert_array_equal(blank["maps"][0] @ blank["maps"][1].T, np.zeros((WIDTH, WIDTH)))


def test_hidden_layers_initially_add_zero_and_are_learned():
    params, queried = started(), inputs_of(np.arange(ITEMS))
    support = Examples(inputs_of(ROWS), jnp.asarray(LABELS), jnp.ones(len(ROWS), bool))
    plain = cross_domain.shared_space_network(ITEMS, WIDTH)
    scores = plain.decode(params, plain.encode(params, support), queried)
    state = MODEL.encode(params, support)
    np.testing.assert_allclose(MODEL.decode(params, state, queried), scores, rtol=1e-6)
    kernel = params["predictor"]["score"]["kernel"]
    params["predictor"]["score"]["kernel"] = kernel + 1.0
    assert np.abs(MODEL.decode(params, state, queried) - scores).max() > 1e-3
