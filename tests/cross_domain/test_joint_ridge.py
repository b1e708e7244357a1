import jax.numpy as jnp
import numpy as np

from metajax import registry
from metajax.cross_domain.domains import Domains
from metajax.cross_domain.joint_fold_in import joint_fold_in
from metajax.cross_domain.users import cross_users
from metajax.data import synthetic
from metajax.data.dataset import shapes_of
from metajax.types import Examples, Inputs


def test_the_first_predictions_are_those_of_the_joint_fold_in():
    world = synthetic.world(users=80, items=40, seed=1)
    training = cross_users(Domains(world.dataset, world.item_domain)).training
    settings = registry.settings_for("joint_ridge", rank=2, support=4, query=4)
    params = registry.first_progress(settings, training).state.params
    rule = registry.adaptation_of(settings, shapes_of(training))

    def inputs(items):
        features = np.broadcast_to(training.user_features[3], (len(items), shapes.user_width))
        return Inputs(*map(jnp.asarray, (features, training.item_features[items], items)))

    shapes = shapes_of(training)
    shown, queried = np.array([3, 8, 11, 20, 0]), np.arange(20, 40)
    ratings = jnp.array([1.0, 5.0, 4.0, 2.0, jnp.nan])
    support = Examples(inputs(shown), ratings, jnp.arange(5) < 4)
    fitted = joint_fold_in.fit(training, rank=2, item_ridge=30.0)
    posterior = joint_fold_in.adaptation.adapt(fitted, support)
    expected = joint_fold_in.adaptation.predict(fitted, posterior, inputs(queried))
    adapted = rule.adapt(params, support)
    np.testing.assert_allclose(rule.predict(params, adapted, inputs(queried)), expected, rtol=2e-4)
    assert rule.predict_variance is not None
    assert joint_fold_in.adaptation.predict_variance is not None
    spread = joint_fold_in.adaptation.predict_variance(fitted, posterior, inputs(queried))
    got = rule.predict_variance(params, adapted, inputs(queried))
    np.testing.assert_allclose(got, spread, rtol=2e-4)
