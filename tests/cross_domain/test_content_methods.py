import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import registry
from metajax.baselines.content import content_groups, fit_content
from metajax.cross_domain import meta_transfer
from metajax.cross_domain.content_adapter import content_fold_in
from metajax.cross_domain.domains import Domains
from metajax.cross_domain.users import cross_users
from metajax.data import synthetic
from metajax.data.dataset import shapes_of
from metajax.types import Examples, Inputs


@pytest.fixture(scope="module")
def training():
    """Two domains without common users, rated from 1 to 5."""
    world = synthetic.world(users=40, items=60, seed=0)
    dataset = world.dataset._replace(scale=(1.0, 5.0))
    return cross_users(Domains(dataset, world.item_domain), overlap=0.0).training


@pytest.fixture(scope="module")
def prepared(training):
    """Returns `prepared(name) -> (learner, progress, tasks)` of a method, made small."""

    def prepare(name, **changes):
        sizes = {"tasks": 6, "query": 4, "embedding": 8, "width": 8, "updates": 20}
        chosen = registry.changes_for(name, {**sizes, **changes})
        settings = registry.settings_for(name, **chosen)
        shapes = shapes_of(training)
        sampler = registry.sampler_of(settings, shapes)
        tasks = jax.jit(sampler.sample)(sampler.table(training, seed=0), jax.random.key(3))
        progress = registry.first_progress(settings, training)
        return registry.learner_of(settings, shapes), progress, tasks

    return prepare


def predicted(method, params, tasks):
    def one(task):
        adapted = method.adapt(params, task.support)
        return method.predict(params, adapted, task.query.inputs)

    return jax.jit(jax.vmap(one))(tasks)


@pytest.mark.slow
def test_a_content_adapter_starts_as_the_closed_form(prepared, training):
    learner, progress, tasks = prepared("content_adapter")
    expected = predicted(content_fold_in.adaptation, fit_content(training), tasks)
    found = predicted(learner, progress.state.params, tasks)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_prototypes_begin_at_items_and_predict_the_expectation_for_new_users(prepared, training):
    learner, progress, tasks = prepared("attribute_prototypes")
    params, fitted = progress.state.params, fit_content(training)
    features = np.concatenate([fitted.traits, training.item_features], axis=1)
    design = features @ np.asarray(fitted.encoder)
    for prototype in np.asarray(params["prototype"]):
        assert np.abs(design - prototype).max(axis=1).min() < 1e-4
    nothing = tasks.support._replace(mask=jnp.zeros_like(tasks.support.mask))
    found = predicted(learner, params, tasks._replace(support=nothing))
    item = np.asarray(tasks.query.inputs.item)
    usual = np.sum((tasks.query.inputs.user_features @ fitted.user_map) * design[item], axis=-1)
    np.testing.assert_allclose(found, fitted.expected[item] + usual, rtol=1e-4)


def test_prototypes_learn_and_content_features_do_not_decay(prepared):
    learner, progress, tasks = prepared("attribute_prototypes", rate=0.1, weight_decay=0.1)
    state = progress.state
    update, before = jax.jit(learner.update), state.params
    for _ in range(3):
        state, _ = update(state, tasks)
    for name in ("traits", "item_domain"):
        np.testing.assert_array_equal(state.params["content"][name], before["content"][name])
    assert np.abs(state.params["prototype"] - before["prototype"]).max() > 1e-2


@pytest.mark.slow
def test_a_student_begins_near_its_teacher(prepared, training):
    """Shrunk along each direction alone: off by far less than what is known of the users."""
    learner, progress, _ = prepared("distilled")
    *_, tasks = prepared("content_adapter")
    params = progress.state.params
    found = predicted(learner, params, tasks)
    taught = predicted(content_fold_in.adaptation, params["teacher"], tasks)
    nothing = tasks.support._replace(mask=jnp.zeros_like(tasks.support.mask))
    new_users = predicted(
        content_fold_in.adaptation, params["teacher"], tasks._replace(support=nothing)
    )
    known = np.sqrt(np.mean((taught - new_users) ** 2))
    assert np.sqrt(np.mean((found - taught) ** 2)) < 0.3 * known


def test_an_adapter_changes_the_target_alone(prepared, training):
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


@pytest.mark.slow
def test_source_tasks_have_supports_in_one_half_and_queries_in_the_other(prepared, training):
    *_, tasks = prepared("meta_transfer", tasks=40)
    group = content_groups(training)
    shown, queried = group[tasks.support.inputs.item], group[tasks.query.inputs.item]
    seen = np.asarray(tasks.support.mask)
    # 64 rows are shown of one half, up to 5 of the other.
    assert set(shown[:, :64][seen[:, :64]]) == {0}
    assert set(shown[:, 64:][seen[:, 64:]]) == {1}
    assert set(queried[np.asarray(tasks.query.mask)]) == {1}


def test_items_without_attributes_are_halved_at_random(training):
    bare = training._replace(item_features=np.zeros((len(training.item_features), 0), np.float32))
    halves = meta_transfer._sampler(registry.settings_for("meta_transfer"), shapes_of(bare))
    for table in halves.table(bare, seed=0):
        items = np.unique(table.item)[1:]  # 0 is the padding as well.
        assert len(items) > 5
        assert (training.item_domain[items] == 0).all()


def test_meta_transfer_takes_shrunk_steps_in_the_space_of_content(prepared, training):
    """One step from zero: z = 2 rate X'(y - e) / (30 + n), and a rating is e + x . z."""
    learner, progress, _ = prepared("meta_transfer", steps=1, inner_rate=2.0)
    *_, tasks = prepared("content_adapter")
    fitted = fit_content(training)
    features = np.concatenate([fitted.traits, training.item_features], axis=1)
    design, usual = features @ np.asarray(fitted.encoder), np.asarray(fitted.expected)
    one = jax.tree.map(lambda leaf: np.asarray(leaf[0]), tasks)
    seen = one.support.mask
    item, queried = one.support.inputs.item[seen], one.query.inputs.item
    z = 4 * design[item].T @ (one.support.labels[seen] - usual[item]) / (30 + seen.sum())
    found = predicted(learner, progress.state.params, tasks)[0]
    np.testing.assert_allclose(found, usual[queried] + design[queried] @ z, rtol=1e-4)


@pytest.mark.parametrize("name", ["content_adapter", "distilled", "meta_transfer", "semantic_map"])
def test_data_without_attributes_start_as_well(name, training):
    """What is left are the traits: how well an item is liked, and how popular it is."""
    bare = training._replace(
        user_features=training.user_features[:, :0], item_features=training.item_features[:, :0]
    )
    sizes = registry.changes_for(name, {"rank": 2, "width": 4, "embedding": 4})
    settings = registry.settings_for(name, **sizes)
    learner = registry.learner_of(settings, shapes_of(bare))
    params = registry.first_progress(settings, bare).state.params
    item = jnp.arange(len(training.item_domain))
    inputs = Inputs(jnp.zeros((len(item), 0)), jnp.zeros((len(item), 0)), item)
    labels = jnp.full(len(item), training.scale[1])
    pleased = Examples(inputs, labels, jnp.asarray(training.item_domain == 0))
    scores = [
        learner.predict(params, learner.adapt(params, pleased._replace(labels=label)), inputs)
        for label in (labels, labels - 1)
    ]
    # Who rates higher in the source is expected to in the target.
    assert (scores[0] - scores[1])[training.item_domain == 1].min() > 0.1
