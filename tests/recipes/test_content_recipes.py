import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import assembly, recipes
from metajax.baselines import content_fold_in
from metajax.baselines.content import fit_content
from metajax.data import Domains, cross_users, synthetic
from metajax.data.dataset import shapes_of


@pytest.fixture(scope="module")
def training():
    """Two domains whose users nobody knows in both."""
    world = synthetic.world(users=40, items=60, seed=0)
    return cross_users(Domains(world.dataset, world.item_domain), overlap=0.0).training


@pytest.fixture(scope="module")
def prepared(training):
    """Returns `prepared(name) -> (learner, progress, tasks)` of a recipe, made small."""

    def prepare(name, **changes):
        sizes = {"tasks": 6, "query": 4, "embedding": 8, "width": 8, "updates": 20}
        settings = recipes.settings_for(name, **{**sizes, **changes})
        shapes = shapes_of(training)
        sampler = assembly.sampler_of(settings, shapes)
        tasks = sampler.sample(sampler.table(training, seed=0), jax.random.key(3))
        progress = assembly.first_progress(settings, training)
        return assembly.learner_of(settings, shapes), progress, tasks

    return prepare


def predicted(method, params, tasks):
    def one(task):
        adapted = method.adapt(params, task.support)
        return method.predict(params, adapted, task.query.inputs)

    return jax.jit(jax.vmap(one))(tasks)


def test_a_content_adapter_begins_as_the_closed_form(prepared, training):
    learner, progress, tasks = prepared("content_adapter")
    expected = predicted(content_fold_in, fit_content(training), tasks)
    found = predicted(learner, progress.state.params, tasks)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_changes_the_target_alone_and_what_is_shared_stays(prepared, training):
    learner, progress, tasks = prepared("content_adapter", rate=0.1)
    before = progress.state.params
    state = progress.state
    update = jax.jit(learner.update)
    for _ in range(3):
        state, _ = update(state, tasks)
    for name in ("encoder", "traits", "item_domain"):
        jax.tree.map(np.testing.assert_array_equal, state.params[name], before[name])
    assert np.abs(state.params["adapter"]["up"]["kernel"]).max() > 1e-3
    # With the rest as it was, what differs is the adapter's doing.
    adapted = {**before, "adapter": state.params["adapter"]}
    item = jnp.arange(len(training.item_domain))
    inputs = jax.tree.map(lambda leaf: leaf[0], tasks.query.inputs)._replace(
        user_features=jnp.tile(training.user_features[:1], (len(item), 1)),
        item_features=jnp.asarray(training.item_features),
        item=item,
    )
    support = jax.tree.map(lambda leaf: leaf[0], tasks.support)
    posterior = learner.adapt(before, support)
    change = np.abs(
        learner.predict(adapted, posterior, inputs) - learner.predict(before, posterior, inputs)
    )
    assert change[training.item_domain == 0].max() == 0
    assert change[training.item_domain == 1].max() > 1e-3
