import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import cross_domain, losses
from metajax.types import Examples, Inputs, Task

WIDTH, USERS = 2, 64
# Of the source both directions of a user can be seen, of the target the first alone.
FACTORS = cross_domain.DomainFactors(
    jnp.array([0.0, 0.0, 1.0]),
    jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
    jnp.zeros(3),
    jnp.array([0.1, 0.1]),
)
MODEL = cross_domain.adversarial_network(3, WIDTH, 8)
SIDES = (0, 1)


def places() -> np.ndarray:
    """A user's taste, the same in both domains, and what they show of themselves in the source."""
    return np.random.default_rng(0).normal([0.0, 1.5], 1.0, (USERS, WIDTH))


def examples(items, labels) -> Examples:
    blank = jnp.zeros((*labels.shape, 0))
    item = jnp.broadcast_to(jnp.array(items), labels.shape)
    return Examples(Inputs(blank, blank, item), jnp.asarray(labels), jnp.ones(labels.shape, bool))


def tasks() -> Task:
    """Supports of the source, queries of the target, followed by another user's source."""
    taste = places()
    new_users = np.roll(taste, 1, axis=0)
    query = np.concatenate([taste[:, :1], new_users], axis=1)
    return Task(examples([0, 1], taste), examples([2, 0, 1], query))


def learner(strength, loss=losses.squared_error):
    started = MODEL._replace(
        init=lambda key, inputs: cross_domain.initial_adversarial(
            MODEL.init(key, inputs),
            cross_domain.CanonicalFactors(FACTORS, jnp.full(WIDTH, 0.9)),
        )
    )
    # Decay calms the two who play against each other.
    outer = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1))
    return cross_domain.adversarial(started, loss, outer=outer, strength=lambda step: strength)


def accuracy_of_discriminator(params) -> float:
    """How often the discriminator is right of users of both domains."""

    def right(place):
        logits = [
            MODEL.logit(params, MODEL.features(params, place * jnp.array([1.0, 1.0 - side]), side))
            for side in SIDES
        ]
        return 0.5 * ((logits[0] < 0).astype(float) + (logits[1] > 0))

    return float(jnp.mean(jax.jit(jax.vmap(right))(jnp.asarray(places(), jnp.float32))))


@pytest.mark.parametrize(("strength", "least", "most"), [(0.0, 0.85, 1.0), (1.0, 0.4, 0.6)])
def test_the_reversal_brings_the_discriminator_to_chance(strength, least, most):
    """The domain is independent of ratings, so that features can be invariant to it."""
    rule, batch = learner(strength), tasks()

    @jax.jit
    def trained(state):
        return jax.lax.scan(lambda s, _: (rule.update(s, batch)[0], None), state, length=300)[0]

    state = trained(rule.init(jax.random.key(0), batch))
    assert least <= accuracy_of_discriminator(state.params) <= most
    # The ratings are served all the same.
    adapted = jax.jit(jax.vmap(rule.adapt, (None, 0)))(state.params, batch.support)
    predict = jax.jit(jax.vmap(rule.predict, (None, 0, 0)))
    scores = predict(state.params, adapted, batch.query.inputs)
    assert np.mean((scores[:, 0] - batch.query.labels[:, 0]) ** 2) < 0.1
    np.testing.assert_array_equal(state.params["factors"].embedding, FACTORS.embedding)


def test_a_loss_without_a_mask_is_averaged_over_ratings_of_the_target():
    batch, found = tasks(), []
    for loss in (losses.squared_error, optax.squared_error):
        rule = learner(1.0, loss)
        _, metrics = jax.jit(rule.update)(rule.init(jax.random.key(0), batch), batch)
        found.append(metrics["loss"])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_ratings_of_the_source_in_the_query_do_not_count():
    rule, batch = learner(1.0), tasks()
    state, update = rule.init(jax.random.key(0), batch), jax.jit(rule.update)
    # A discriminator that sees nothing: they are what it tells users of the source by.
    blind = jax.tree.map(jnp.zeros_like, state.params["discriminator"])
    state = state._replace(params={**state.params, "discriminator": blind})
    of_source = FACTORS.domain[batch.query.inputs.item] == 0
    assert (batch.query.mask & of_source).any()
    assert (batch.query.mask & ~of_source).any()
    other = jnp.where(of_source, 50.0, batch.query.labels)
    changed = batch._replace(query=batch.query._replace(labels=other))
    first, second = (update(state, given)[1]["loss"] for given in (batch, changed))
    np.testing.assert_array_equal(first, second)


def test_a_domain_without_rows_in_the_query_adds_no_cross_entropy():
    """The discriminator takes everyone for a user of the target, which costs 50 in the source."""
    rule, batch = learner(1.0), tasks()
    state = rule.init(jax.random.key(0), batch)

    def certain(path, leaf):
        last = jax.tree_util.keystr(path, simple=True, separator="/").endswith("layer_1/bias")
        return leaf + 100.0 if last else leaf

    judge = jax.tree_util.tree_map_with_path(certain, state.params["discriminator"])
    state = state._replace(params={**state.params, "discriminator": judge})
    in_target = FACTORS.domain[batch.query.inputs.item] == 1
    alone = batch._replace(query=batch.query._replace(mask=batch.query.mask & in_target))
    update = jax.jit(rule.update)
    (_, with_source), (_, without) = update(state, batch), update(state, alone)
    assert with_source["loss"] > 40
    assert without["loss"] < 5
