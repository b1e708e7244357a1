import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import baselines, registry
from metajax.cross_domain.domains import Domains
from metajax.cross_domain.users import cross_users
from metajax.data import synthetic
from metajax.data.dataset import shapes_of
from metajax.types import Examples, Inputs


@pytest.fixture(scope="module")
def training():
    """Returns two domains without attributes of their items."""
    world = synthetic.world(users=40, items=30, seed=0)
    training = cross_users(Domains(world.dataset, world.item_domain)).training
    return training._replace(item_features=np.zeros((30, 0), np.float32))


@pytest.mark.parametrize("name", ["gcn_ridge", "shared_graph"])
def test_the_first_predictions_are_those_of_the_fold_in_of_both_domains(name, training):
    settings = registry.settings_for(name, rank=2)
    params = registry.first_progress(settings, training).state.params
    rule = registry.adaptation_of(settings, shapes_of(training))
    rng = np.random.default_rng(1)
    item = jnp.asarray(rng.permutation(30)[:8])
    inputs = Inputs(jnp.zeros((8, 0)), jnp.zeros((8, 0)), item)
    support = Examples(inputs, jnp.asarray(rng.integers(1, 6, 8), jnp.float32), item % 3 > 0)
    fold_in = baselines.eb_fold_in
    closed = fold_in.fit(training, rank=2)
    expected = fold_in.adaptation.predict(closed, fold_in.adaptation.adapt(closed, support), inputs)

    @jax.jit
    def predicted(params):
        return rule.predict(params, rule.adapt(params, support), inputs)

    np.testing.assert_allclose(predicted(params), expected, rtol=1e-5, atol=1e-5)


def test_users_in_the_graph_start_where_their_ratings_put_them(training):
    """Each is the posterior mean under the identities and the noise of the items they rated."""
    params = registry.first_progress(registry.settings_for("gcn_ridge", rank=2), training)
    params = params.state.params
    log = training.interactions
    for user in log.users[:5]:
        rows = slice(*log.offsets[user : user + 2])
        x = np.asarray(params["item"], np.float64)[log.item[rows]]
        y = log.rating[rows] - np.asarray(params["item_bias"])[log.item[rows]]
        noise = float(params["noise"][0])
        expected = np.linalg.solve(np.eye(3) + x.T @ x / noise, x.T @ y / noise)
        np.testing.assert_allclose(params["user"][user], expected, rtol=1e-3, atol=1e-4)
    nobody = np.flatnonzero(log.user_counts == 0)
    assert not np.asarray(params["user"])[nobody].any()


@pytest.mark.parametrize("name", ["light_gcn", "graph_gat"])
def test_who_has_chosen_nothing_is_first_shown_what_is_popular(name, training):
    settings, training = (
        registry.settings_for(name, embedding=4),
        training._replace(item_domain=None),
    )
    params = registry.first_progress(settings, training).state.params
    rule = registry.adaptation_of(settings, shapes_of(training))
    item = jnp.arange(30)
    nothing = Examples(
        Inputs(jnp.zeros((30, 0)), jnp.zeros((30, 0)), item), jnp.ones(30), jnp.zeros(30, bool)
    )

    @jax.jit
    def predicted(params):
        return rule.predict(params, rule.adapt(params, nothing), nothing.inputs)

    log, (low, high) = training.interactions, training.scale
    liked = np.bincount(log.item[log.rating >= low + 0.75 * (high - low)], minlength=30)
    np.testing.assert_allclose(predicted(params), np.log1p(liked), rtol=1e-6)


def test_vectors_are_not_ratings(training):
    settings = registry.settings_for("graph_sage", objective="rating")
    with pytest.raises(ValueError, match="objective must be of an order of items, got 'rating'"):
        registry.learner_of(settings, shapes_of(training))
