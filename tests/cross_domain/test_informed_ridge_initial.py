import jax
import jax.numpy as jnp
import numpy as np

from metajax import registry
from metajax.baselines import fit_factors
from metajax.cross_domain.domains import Domains
from metajax.cross_domain.informed_ridge import fit_implicit_feedback_prior
from metajax.cross_domain.users import cross_users
from metajax.data import synthetic
from metajax.data.dataset import shapes_of
from metajax.types import Examples, Inputs

POWER = 0.7


def test_the_first_predictions_are_the_posterior_under_the_prior_of_choices():
    world = synthetic.world(users=80, items=40, seed=1)
    domains = Domains(world.dataset, world.item_domain)
    # Without attributes the closed form is choices and factors alone.
    training = cross_users(domains).training
    training = training._replace(item_features=training.item_features[:, :0])
    settings = registry.settings_for("informed_ridge", rank=2, support=4, query=4)
    params = registry.first_progress(settings, training).state.params
    rule = registry.adaptation_of(settings, shapes_of(training))

    user = 3
    source, target = (np.flatnonzero(world.item_domain == side) for side in (0, 1))
    shown, queried = np.concatenate([source[:5], target[:2]]), target[2:]
    ratings = np.linspace(1, 5, 7)

    def inputs(items):
        features = jnp.asarray(training.user_features[user])
        return Inputs(
            jnp.broadcast_to(features, (len(items), len(features))),
            jnp.zeros((len(items), 0)),
            jnp.asarray(items),
        )

    support = Examples(inputs(shown), jnp.asarray(ratings), jnp.ones(7, bool))
    scores = jax.jit(
        lambda params: rule.predict(params, rule.adapt(params, support), inputs(queried))
    )(params)

    factors = fit_factors(training.interactions, rank=2, item_ridge=30.0)
    choices = fit_implicit_feedback_prior(training, factors, world.item_domain == 0)
    mean = choices.level + choices.of_item[shown[:5]].sum(axis=0) / np.sqrt(5)
    mean = mean + training.user_features[user] @ choices.of_user
    x = np.insert(np.asarray(factors.item_factors, np.float64), 0, 1.0, axis=1)
    bias = float(factors.mean) + np.asarray(factors.item_bias, np.float64)
    weight = np.where(np.arange(7) < 5, POWER, 1.0) / float(factors.noise)
    precision = np.linalg.inv(choices.covariance)
    left = precision + (weight[:, None] * x[shown]).T @ x[shown]
    right = precision @ mean + x[shown].T @ (weight * (ratings - bias[shown]))
    expected = bias[queried] + x[queried] @ np.linalg.solve(left, right)
    np.testing.assert_allclose(scores, expected, rtol=2e-4)
