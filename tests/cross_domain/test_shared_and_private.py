import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import cross_domain, losses
from metajax.types import Examples, Inputs, Task

WIDTH, USERS = 3, 8
RNG = np.random.default_rng(0)
# Each direction of a user shows in an item of its own, almost without noise.
FACTORS = cross_domain.DomainFactors(
    jnp.repeat(jnp.array([0.0, 1.0]), WIDTH),
    jnp.tile(jnp.eye(WIDTH), (2, 1)),
    jnp.zeros(2 * WIDTH),
    jnp.full(2, 1e-4),
)
MODEL = cross_domain.shared_and_private_network(2 * WIDTH, WIDTH, 4)
PLACES = RNG.normal(size=(2, USERS, WIDTH))


def examples(labels) -> Examples:
    """Everything of both domains."""
    blank = jnp.zeros((*labels.shape, 0))
    item = jnp.broadcast_to(jnp.arange(labels.shape[1]), labels.shape)
    return Examples(Inputs(blank, blank, item), jnp.asarray(labels), jnp.ones(labels.shape, bool))


BOTH = np.concatenate([*PLACES], axis=1)
TASKS = Task(examples(BOTH), examples(BOTH))


def learner(loss=losses.squared_error, **weights):
    started = MODEL._replace(
        init=lambda key, inputs: cross_domain.initial_separation(
            MODEL.init(key, inputs),
            cross_domain.CanonicalFactors(FACTORS, jnp.full(WIDTH, 0.5)),
        )
    )
    return cross_domain.shared_and_private(started, loss, outer=optax.sgd(0.05), **weights)


def covariances(features) -> float:
    """Of the first two features with the last, squared and added up."""
    return float(np.sum(np.cov(features.T, bias=True)[:2, 2] ** 2))


def test_the_difference_is_the_sum_of_squared_covariances():
    where = jnp.arange(USERS) < 5
    expected = covariances(PLACES[0][:5])
    shared, private = jnp.asarray(PLACES[0][:, :2]), jnp.asarray(PLACES[0][:, 2:])
    hidden = jnp.where(where[:, None], private, jnp.nan)
    found = jax.jit(cross_domain.difference_loss)(shared, hidden, where=where)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    empty = cross_domain.difference_loss(shared, private, where=jnp.zeros(USERS, bool))
    assert empty == 0


@pytest.mark.parametrize("microbatch", [None, 2])
def test_the_loss_is_the_rating_loss_plus_the_difference_loss(microbatch):
    """Ratings show a user's place, so that both domains serve themselves almost without error."""
    rule = learner(own=2.0, difference=3.0, microbatch=microbatch)
    state = rule.init(jax.random.key(0), TASKS)
    _, metrics = jax.jit(rule.update)(state, TASKS)
    expected = 3.0 * sum(covariances(places) for places in PLACES)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-2)


@pytest.mark.slow
def test_a_loss_without_a_mask_is_averaged_over_known_ratings():
    mask = TASKS.query.mask.at[:, 1].set(False)
    labels = jnp.where(mask, TASKS.query.labels + 1, jnp.nan)
    tasks = TASKS._replace(query=TASKS.query._replace(labels=labels, mask=mask))
    ours, plain = learner(losses.absolute_error), learner(lambda a, b: jnp.abs(a - b))
    state = ours.init(jax.random.key(0), tasks)
    (_, expected), (_, found) = (jax.jit(one.update)(state, tasks) for one in (ours, plain))
    assert expected["loss"] > 1
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-6)


@pytest.mark.slow
def test_features_come_to_have_less_in_common():
    def likeness(difference):
        rule = learner(difference=difference)

        @jax.jit
        def trained(state):
            return jax.lax.scan(lambda s, _: (rule.update(s, TASKS)[0], None), state, length=100)[0]

        params = trained(rule.init(jax.random.key(0), TASKS)).params
        features = jax.vmap(lambda place: MODEL.features(params, place, 0))(jnp.asarray(PLACES[0]))
        return float(cross_domain.difference_loss(features.shared, features.private))

    assert likeness(1.0) < 0.2 * likeness(0.0)


def test_weights_are_not_negative():
    with pytest.raises(ValueError, match="difference must be >= 0, got -1"):
        learner(difference=-1.0)
