import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import registry
from metajax.baselines.factors import fit_factors
from metajax.cross_domain.domains import Domains
from metajax.cross_domain.tasks import cross_table
from metajax.cross_domain.users import HISTORY, cross_users
from metajax.data import synthetic
from metajax.data.cold_users import cold_users
from metajax.data.dataset import Shapes, shapes_of
from metajax.data.datasets import load
from metajax.data.sampler import task_table
from metajax.methods import Settings, objectives
from metajax.methods.two_tower import GradientOptions

# One of each way to look at a support.
KINDS = {"two_tower", "maml", "bayesian_ridge", "gcn_ridge", "sequential"}
EVERY_TIME = KINDS | {
    "attentive_neighbours", "attribute_prototypes", "cavia", "graph_light", "gru_embeddings",
    "imaml", "attentive_process", "prototypical", "semantic_map", "adversarial",
    "content_adapter", "emcdr", "informed_ridge", "shared_graph",
}  # fmt: skip


@pytest.fixture(scope="module")
def training(small):
    return cold_users(load(str(small))).training


@pytest.fixture(scope="module")
def of_two_domains():
    world = synthetic.world(users=40, items=60, seed=0)
    return cross_users(Domains(world.dataset, world.item_domain)).training


def tiny(name, quick, **changes):
    options = {
        field: getattr(quick.options, field) for field in ("rank", "width", "embedding", "steps")
    }
    kept = ("updates", "tasks", "query", "per_dispatch", "validate_every", "data")
    sizes = {**options, **{field: getattr(quick, field) for field in kept}, **changes}
    return registry.settings_for(name, **registry.changes_for(name, sizes))


def broadcasts_user(name):
    network = registry.trained_method_of(name).network
    found = network(
        registry.settings_for(name), Shapes(items=6, user_width=3, item_width=3, scale=None)
    )
    return getattr(found, "broadcasts_user", False)


def test_names_are_unique():
    assert len(set(registry.names())) == len(registry.all_methods())


@pytest.mark.parametrize("method", registry.all_methods(), ids=lambda method: method.name)
def test_every_change_of_a_grid_is_valid_and_the_first_is_empty(method):
    assert method.grid[0] == {}
    chosen = [registry.settings_for(method.name, **changes) for changes in method.grid]
    assert len(set(chosen)) == len(chosen)
    assert chosen[0] == registry.settings_for(method)


@pytest.mark.parametrize(
    ("name", "domains"),
    [
        pytest.param(name, domains, marks=() if name in EVERY_TIME else pytest.mark.slow)
        for domains, names in (
            (1, registry.names(domains=1)),
            # Of those that know nothing of domains, one of each kind.
            (2, KINDS | (set(registry.names()) - set(registry.names(domains=1)))),
        )
        for name in sorted(names)
    ],
)
def test_the_parts_of_every_method_fit_together(name, domains, training, of_two_domains, quick):
    """Shapes alone: what the numbers are is tested with each learner."""
    settings, training = tiny(name, quick), (training, of_two_domains)[domains - 1]
    learner = registry.learner_of(settings, shapes_of(training))
    sample, make = registry.sampler_of(settings, shapes_of(training))
    table = make(training, seed=0)

    def updated(key):
        tasks = sample(table, key)
        state, metrics = learner.update(progress.state, tasks, key)
        one = jax.tree.map(lambda leaf: leaf[0], tasks)
        adapted = learner.adapt(state.params, one.support)
        scores = learner.predict(state.params, adapted, one.query.inputs)
        return state, metrics, scores, one.query.labels

    progress = registry.progress_like(settings, training)
    # What a run is served by is known without its data.
    assert registry.params_like(settings, shapes_of(training)) == progress.best
    progress = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), progress)
    state, metrics, scores, labels = jax.eval_shape(updated, jax.random.key(0))
    assert scores.shape == labels.shape
    assert metrics["loss"].shape == metrics["gradient_norm"].shape == ()
    # Another type or shape after an update would be compiled again.
    before, after = (
        [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
        for tree in (progress.state, state)
    )
    assert before == after


@pytest.mark.parametrize(
    "method",
    [method for method in registry.all_methods() if method.trained_as is not None],
    ids=lambda method: method.name,
)
def test_methods_that_share_a_training_differ_in_adaptation_alone(method, training, quick):
    for changes in method.grid:
        own = registry.first_progress(tiny(method.name, quick, **changes), training)
        other = registry.first_progress(tiny(method.trained_as.name, quick), training)
        jax.tree.map(np.testing.assert_array_equal, own.state, other.state)


def test_one_learner_serves_all_folds_and_seeds(of_two_domains, quick):
    shapes = shapes_of(of_two_domains)
    for name in registry.names():
        one = tiny(name, quick)
        other = dataclasses.replace(one, fold=3, seed=7, data="elsewhere.csv", scale=(0.0, 9.0))
        assert registry.learner_of(one, shapes) is registry.learner_of(other, shapes)
        assert registry.sampler_of(one, shapes) is registry.sampler_of(other, shapes)
    unlike = tiny("maml", quick, inner_rate=0.07)
    assert registry.learner_of(unlike, shapes) is not registry.learner_of(
        tiny("maml", quick), shapes
    )


@pytest.mark.slow
def test_a_pretrained_start_predicts_the_items_biases_before_it_has_learned(training, quick):
    settings = tiny("maml", quick)
    factors = fit_factors(training.interactions, rank=settings.options.rank, seed=settings.seed)
    x = np.insert(np.asarray(factors.item_factors), 0, 1.0, axis=1)
    expected = factors.mean + factors.item_bias + x @ factors.prior_mean
    state = registry.first_progress(settings, training).state
    np.testing.assert_allclose(
        state.params["item_bias"]["embedding"][:, 0], expected, rtol=1e-6, atol=1e-6
    )


@pytest.mark.slow
def test_random_initial_values_predict_the_mean_rating(training, quick):
    learner = registry.learner_of(tiny("maml_from_random", quick), shapes_of(training))
    params = registry.first_progress(tiny("maml_from_random", quick), training).state.params
    sampler = registry.sampler_of(tiny("maml", quick), shapes_of(training))
    tasks = jax.jit(sampler.sample)(task_table(training), jax.random.key(0))
    one = jax.tree.map(lambda leaf: leaf[0], tasks)
    unseen = one.support._replace(mask=jnp.zeros_like(one.support.mask))
    scores = learner.predict(params, learner.adapt(params, unseen), one.query.inputs)
    mean = np.mean(training.interactions.rating)
    np.testing.assert_allclose(scores, np.full(len(scores), mean), rtol=1e-6)


@pytest.mark.slow
def test_the_relevance_threshold_depends_on_the_rating_scale(training, quick):
    """Three quarters up: 4 of 1 to 5, 3 of 0 to 4."""
    settings = tiny("maml", quick, objective="ranking", tasks=64)
    wanted = {}
    for scale in ((1.0, 5.0), (0.0, 4.0)):
        sampler = registry.sampler_of(settings, shapes_of(training)._replace(scale=scale))
        tasks = jax.jit(sampler.sample)(task_table(training), jax.random.key(0))
        wanted[scale] = float(np.sum(np.where(tasks.query.mask, tasks.query.labels > 0, 0)))
    # A rating of 3 is relevant where 4 is the best of all.
    assert 0 < wanted[1.0, 5.0] < wanted[0.0, 4.0]


@pytest.mark.parametrize("objective", ["sampled_ranking", "bpr"])
def test_objectives_of_a_sample_score_few_items(training, quick, objective):
    settings = tiny("maml", quick, objective=objective, negatives=30, query=4, tasks=8)
    shapes = shapes_of(training)
    table = task_table(training)
    sampler = registry.sampler_of(settings, shapes)
    tasks = jax.jit(sampler.sample)(table, jax.random.key(0))
    assert tasks.query.labels.shape == (8, 34)
    expected = -30 / shapes.items if objective == "sampled_ranking" else 0
    np.testing.assert_allclose(tasks.query.labels[:, 4:], expected)
    assert set(np.unique(tasks.query.labels[:, :4])) <= {0, 1}
    one = jax.tree.map(
        lambda leaf: np.asarray(leaf[0], np.float64), tasks.query._replace(inputs=None)
    )
    scores = np.random.default_rng(0).normal(size=34)
    own, drawn = np.arange(34) < 4, np.arange(34) >= 4
    liked, there = one.labels > 0, one.mask > 0
    assert (liked & there).any()
    assert (drawn & there).any()
    if objective == "bpr":
        pairs = [
            np.log1p(np.exp(scores[j] - scores[i]))
            for i in np.flatnonzero(liked & there)
            for j in np.flatnonzero(~liked & there)
        ]
        found = np.mean(pairs)
    else:
        # Each sampled item stands for the catalogue's items over the number of draws.
        weight = np.where(own, 1, shapes.items / 30) * there
        found = np.mean(np.log(weight @ np.exp(scores)) - scores[liked & there])
    loss = objectives[objective].loss
    labels, mask = tasks.query.labels[0], tasks.query.mask[0]
    np.testing.assert_allclose(loss(jnp.array(scores), labels, where=mask), found, rtol=1e-5)


@pytest.mark.slow
def test_larger_supports_are_truncated_to_the_trained_size(training, quick):
    shapes = shapes_of(training)
    settings = tiny("maml", quick, support=3)
    params = registry.first_progress(settings, training).state.params
    sampler = registry.sampler_of(tiny("maml", quick, support=6), shapes)
    tasks = jax.jit(sampler.sample)(task_table(training), jax.random.key(1))
    longest = int(jnp.argmax(tasks.support.mask.sum(1)))
    one = jax.tree.map(lambda leaf: leaf[longest], tasks)
    assert one.support.mask.sum() > 3
    first = jax.tree.map(lambda leaf: leaf[:3], one.support)
    adapt, judged = registry.adaptation_of(settings, shapes), registry.judged_adaptation_of
    shown = judged(settings, shapes).adapt(params, one.support)
    jax.tree.map(np.testing.assert_array_equal, shown, adapt.adapt(params, first))
    assert any(
        np.any(a != b)
        for a, b in zip(
            jax.tree.leaves(shown), jax.tree.leaves(adapt.adapt(params, one.support)), strict=True
        )
    )
    # The same object each time: what was compiled for it is found again.
    assert judged(settings, shapes) is judged(settings, shapes)
    ridge = tiny("bayesian_ridge", quick)
    assert judged(ridge, shapes) == registry.adaptation_of(ridge, shapes)


def test_a_methods_defaults_are_its_own_and_can_be_changed():
    assert registry.settings_for("maml") == Settings(options=GradientOptions())
    assert not registry.settings_for("maml_from_random").options.pretrained
    assert registry.settings_for("maml_from_random", pretrained=True).options.pretrained


def test_an_unknown_method_is_named_with_the_nearest():
    for ask in (registry.trained_method_of, registry.settings_for, registry.method_of):
        with pytest.raises(ValueError, match="got 'mmal'; did you mean 'maml'"):
            ask("mmal")
    with pytest.raises(ValueError, match=r"method must be a known name, got 'x'; known are two_"):
        registry.trained_method_of("x")


def test_of_two_domains_the_first_of_each_are_shown(of_two_domains, quick):
    settings, shapes = tiny("maml", quick), shapes_of(of_two_domains)
    adaptation = registry.adaptation_of(settings, shapes)
    params = registry.first_progress(settings, of_two_domains).state.params
    source, target = 64, 5
    sample = jax.jit(registry.sampler_of(settings, shapes).sample)
    support = sample(cross_table(of_two_domains), jax.random.key(0)).support
    one = jax.tree.map(lambda leaf: leaf[0], support)
    assert len(one.mask) == source + target

    def widened(leaf):
        """As tests lay supports out: more room for the source, here for other labels."""
        between = jnp.ones((HISTORY - source, *leaf.shape[1:]), leaf.dtype)
        return jnp.concatenate([leaf[:source], between, leaf[source:]])

    shown = registry.judged_adaptation_of(settings, shapes).adapt(
        params, jax.tree.map(widened, one)
    )
    jax.tree.map(np.testing.assert_array_equal, shown, adaptation.adapt(params, one))


def test_learners_of_two_domains_refuse_one(training, quick):
    of_two = set(registry.names()) - set(registry.names(domains=1))
    assert of_two
    for name in of_two:
        with pytest.raises(ValueError, match=f"method '{name}' needs two domains"):
            registry.first_progress(tiny(name, quick), training)


@pytest.mark.parametrize("name", ["emcdr", "content_adapter", "maml"])
def test_across_two_domains_no_order_is_learned(name, of_two_domains, quick):
    settings = tiny(name, quick, objective="ndcg")
    with pytest.raises(ValueError, match=r"objective must be 'rating' where .*, got 'ndcg'\."):
        registry.first_progress(settings, of_two_domains)


@pytest.mark.parametrize(
    "name",
    [
        name if name in EVERY_TIME else pytest.param(name, marks=pytest.mark.slow)
        for name in registry.names(1)
        if broadcasts_user(name)
    ],
)
def test_one_row_of_a_user_scores_a_catalogue_as_a_row_for_each_item(training, quick, name):
    settings, shapes = tiny(name, quick, objective="ndcg"), shapes_of(training)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(leaf.dtype),
        registry.first_progress(settings, training).best,
    )
    sampler = registry.sampler_of(settings, shapes)
    tasks = sampler.sample(sampler.table(training, seed=0), jax.random.key(0))
    task = jax.tree.map(lambda leaf: leaf[0], tasks)
    judged, plain = (
        found(settings, shapes) for found in (registry.judged_adaptation_of, registry.adaptation_of)
    )
    one, each = (
        rule.predict(params, rule.adapt(params, task.support, None), task.query.inputs)
        for rule in (judged, plain)
    )
    assert one.shape == each.shape == (shapes.items,)
    assert np.std(each) > 0.1
    np.testing.assert_allclose(one, each, rtol=1e-4, atol=1e-4)
