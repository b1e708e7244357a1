import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import baselines
from metajax.data.datasets import load
from metajax.evaluation import prepare, protocols, tuning
from metajax.evaluation.evaluate import ConstantPredictionsError, evaluate
from metajax.evaluation.intervals import summarise
from metajax.evaluation.tuning import cross_fitted, judge, losses_of, trained, tuned
from metajax.methods import Method, Settings
from metajax.methods.tasks import rating_tasks
from metajax.methods.two_tower import GradientOptions
from metajax.registry import settings_for, with_changes
from metajax.training import DivergedError
from metajax.types import Adaptation, MetaLearner, MetaState, Model

TRAININGS = []


def climbing(settings: Settings, network: Model) -> MetaLearner:
    """Predicts the same of everything, higher by `inner_rate` after each update."""

    def init(key, tasks):
        if not isinstance(key, jax.core.Tracer):  # Beforehand its shapes are asked for.
            TRAININGS.append(settings.options.inner_rate)
        return MetaState(jnp.zeros(()), (), jnp.zeros((), jnp.int32))

    def update(state, tasks, key=None):
        level = state.params + settings.options.inner_rate
        metrics = {"loss": level - level, "gradient_norm": level - level}
        if settings.options.inner_rate > 1:
            metrics["loss"] = metrics["loss"] + jnp.nan
        return MetaState(level, (), state.step + 1), metrics

    def adapt(params, support, key=None):
        return ()

    # A hair apart, for the harness refuses to judge constants.
    return MetaLearner(
        init, update, Adaptation(adapt, lambda p, a, x: p + settings.options.steps + 1e-3 * x.item)
    )


def nothing(settings, shapes):
    return Model(lambda key, inputs: jnp.zeros(()), lambda params, inputs: inputs.item * 0.0)


CLIMBING = Method(
    "climbing",
    climbing,
    nothing,
    options=GradientOptions,
    grid=({}, {"inner_rate": 0.4}, {"inner_rate": 0.25}, {"inner_rate": 9.0}),
)
STEPPING = CLIMBING._replace(
    name="stepping", grid=({}, {"steps": 2}, {"steps": 9}), trained_as=CLIMBING
)


@pytest.fixture(scope="module")
def split(small):
    return prepare("P1", load(str(small)), fold=0, seed=0)


@pytest.fixture(autouse=True)
def scripted():
    TRAININGS.clear()


def settings_of(method):
    return settings_for(
        method, inner_rate=0.01, steps=1, tasks=2, updates=10, per_dispatch=2, validate_every=2
    )


def levels(methods):
    return {panel: float(method.params) for panel, method in methods.items()}


def test_the_setting_that_serves_validation_users_best_is_chosen(split):
    mean = np.concatenate([tasks.query_rating for tasks in split.validation.values()]).mean()
    methods = trained(CLIMBING, split, settings_of(CLIMBING), trials=3, refit=False)
    # One step up and ratings about 3: after ten updates of .25 it stands at 3.5, after six of .4
    # at 3.4, of .01 at 1.1. Whatever is nearest to the mean rating is best.
    reachable = [1 + rate * n for rate in (0.4, 0.25) for n in range(2, 11, 2)]
    nearest = min(reachable, key=lambda level: abs(level - mean))
    for method in methods.values():
        assert abs(float(method.params) + 1 - nearest) < 0.3
        assert method.settings["inner_rate"] in (0.4, 0.25)
        assert (method.name, method.kind) == ("climbing", "learned")
    assert TRAININGS == [0.01, 0.4, 0.25]


def test_one_trial_is_the_default(split):
    methods = trained(CLIMBING, split, settings_of(CLIMBING), trials=1, refit=False)
    assert {method.settings.get("inner_rate") for method in methods.values()} == {None}
    assert levels(methods) == pytest.approx(dict.fromkeys(split.test, 0.1))


def test_diverged_settings_are_not_chosen_and_raise_if_all_diverge(split):
    trained(CLIMBING, split, settings_of(CLIMBING), refit=False)
    wild = with_changes(settings_of(CLIMBING), inner_rate=2.0)
    with pytest.raises(DivergedError):
        trained(CLIMBING, split, wild, trials=1)


def test_a_refit_makes_as_many_updates_as_validated_best(split):
    shared = {}
    settings = with_changes(settings_of(CLIMBING), inner_rate=0.5)
    methods = trained(CLIMBING, split, settings, trials=1, shared=shared)
    best = shared[settings, *split.fold.validation.tolist()]
    assert 2 <= best.updates < 10
    assert levels(methods) == pytest.approx(dict.fromkeys(split.test, 0.5 * best.updates))
    # Once to learn when to stop, once with the validation users.
    assert TRAININGS == [0.5, 0.5]


def test_methods_with_the_same_training_train_once(split):
    shared = {}
    trained(CLIMBING, split, settings_of(CLIMBING), trials=1, shared=shared)
    assert len(TRAININGS) == 2
    methods = trained(STEPPING, split, settings_of(STEPPING), shared=shared)
    assert len(TRAININGS) == 2
    # 1.1, 2.1 or 9.1: ratings are about 3.
    assert {method.settings["steps"] for method in methods.values()} == {2}
    scores = judge(methods["random"], split, "random")
    assert scores.method == "stepping"


def test_one_model_has_the_settings_with_the_lowest_mean_loss_of_all_panels(split):
    # Predictions are about 1.1, 2.1 or, clipped, 5.
    ratings = {"random": 2.0, "time": 4.5}
    opposed = split._replace(
        validation={
            panel: tasks._replace(query_rating=np.full_like(tasks.query_rating, ratings[panel]))
            for panel, tasks in split.validation.items()
        }
    )

    def steps(**options):
        methods = trained(STEPPING, opposed, settings_of(STEPPING), refit=False, **options)
        return {panel: method.settings.get("steps") for panel, method in methods.items()}

    assert steps() == {"random": 2, "time": 9}
    assert steps(one_model=True) == {"random": 2, "time": 2}

    def scored(**options):
        constant = baselines.global_mean._replace(
            fit=lambda training, level: jnp.float32(level),
            grid=({"level": 2.0}, {"level": 5.0}),
        )
        methods = tuned(constant, opposed, **options)
        return {panel: method.settings["level"] for panel, method in methods.items()}

    assert scored() == {"random": 2.0, "time": 5.0}
    assert scored(one_model=True) == {"random": 2.0, "time": 2.0}


def test_cross_fitting_holds_each_user_out_once_and_fits_the_choice_to_all(split):
    fitted = []

    def fit(training, *, level):
        fitted.append((level, set(training.interactions.users)))
        return jnp.float32(level)

    constant = baselines.global_mean._replace(fit=fit, grid=({"level": 1.0}, {"level": 3.0}))
    methods = cross_fitted(constant, split, folds=4)
    everyone = set(split.final.interactions.users)
    assert everyone == {*split.fold.train, *split.fold.validation}
    assert [level for level, _ in fitted] == [1.0, 3.0] * 4 + [3.0]
    held = [everyone - seen for _, seen in fitted]
    assert held[-1] == set()
    assert sorted(user for users in held[:-1:2] for user in users) == sorted(everyone)
    assert held[:-1:2] == held[1:-1:2]
    assert {method.settings["level"] for method in methods.values()} == {3.0}


def test_cross_fitting_chooses_by_all_users_where_tuning_chooses_by_validation_users(split):
    """Ratings of training users are near 3.4; here those of the validation users are 1."""
    own = split._replace(
        validation={
            panel: tasks._replace(query_rating=np.full_like(tasks.query_rating, 1.0))
            for panel, tasks in split.validation.items()
        }
    )
    constant = baselines.global_mean._replace(
        fit=lambda training, level: jnp.float32(level), grid=({"level": 1.0}, {"level": 3.0})
    )
    for choose, level in ((tuned, 1.0), (cross_fitted, 3.0)):
        assert {m.settings["level"] for m in choose(constant, own).values()} == {level}
    # A setting that fails is not chosen; a part in which all fail, here the first user's, counts
    # for none.
    for missing, levels in ((None, (3.0, 1.0)), (own.fold.train[0], (1.0, 3.0))):

        def fit(training, level, missing=missing):
            fails = level == 3.0 if missing is None else missing not in training.interactions.users
            return jnp.float32(jnp.nan if fails else level)

        grid = tuple({"level": level} for level in levels)
        found = cross_fitted(constant._replace(fit=fit, grid=grid), own)
        assert {m.settings["level"] for m in found.values()} == {levels[1]}


def test_cross_fitting_sees_no_test_user(small):
    dataset = load(str(small))
    split = prepare("P1", dataset, fold=0, seed=0)
    log = dataset.interactions
    tested = np.isin(log.user, split.fold.test)
    noise = np.random.default_rng(1).integers(1, 6, len(log.item)).astype(log.rating.dtype)
    other = dataset._replace(interactions=log._replace(rating=np.where(tested, noise, log.rating)))
    method = baselines.eb_fold_in
    found = [cross_fitted(method, prepare("P1", d, fold=0, seed=0)) for d in (dataset, other)]
    for panel, own in found[0].items():
        assert own.settings == found[1][panel].settings
        jax.tree.map(np.testing.assert_array_equal, own.params, found[1][panel].params)


def test_cross_fitting_of_a_trained_method_takes_the_median_number_of_updates(split):
    shared = {}
    settings = with_changes(settings_of(CLIMBING), inner_rate=0.5)
    methods = cross_fitted(CLIMBING, split, folds=3, settings=settings, trials=2, shared=shared)
    runs = {key[0].options.inner_rate: [] for key in shared if key[0] != "refit"}
    for key, run in shared.items():
        if key[0] != "refit":
            assert not set(key[1:]) & set(split.fold.test)
            runs[key[0].options.inner_rate].append(run.updates)
    # Three trainings of each of two settings, and one of the choice for both panels.
    assert {rate: len(updates) for rate, updates in runs.items()} == {0.5: 3, 0.4: 3}
    chosen = methods["random"]
    rate = chosen.settings.get("inner_rate", 0.5)
    assert float(chosen.params) == pytest.approx(rate * sorted(runs[rate])[1])


def test_cross_fitting_is_refused_without_cold_users_by_number_of_shots(small):
    split = prepare("P2", load(str(small)), fold=0, seed=0)
    with pytest.raises(ValueError, match=r"as P1 does, got a split into .*cold_user_cold_item"):
        cross_fitted(baselines.item_mean, split)
    with pytest.raises(ValueError, match=r"folds must be in \[2, 32\] \(the users\), got 1"):
        cross_fitted(baselines.item_mean, prepare("P1", load(str(small)), fold=0, seed=0), folds=1)


def test_of_settings_with_the_same_loss_the_earliest_is_chosen(split):
    constant = baselines.global_mean._replace(
        fit=lambda training, level, name: jnp.float32(level),
        grid=tuple({"level": level, "name": name} for level, name in ((1, 0), (3, 1), (3, 2))),
    )
    assert {method.settings["name"] for method in tuned(constant, split).values()} == {1}


def test_an_empty_grid_is_refused(split):
    with pytest.raises(ValueError, match="grid must hold at least one setting, got none for item"):
        tuned(baselines.item_mean._replace(grid=()), split)


def test_a_protocol_of_ones_own_that_judges_ratings_alone_ranks_nothing():
    own = protocols["P1"]._replace(ranked=False)
    split = prepare(own, load("synthetic"), fold=0, seed=0)
    assert (split.ranked, split.unranked) == (False, "The protocol judges ratings alone.")
    assert prepare("P1", load("synthetic"), fold=0, seed=0).ranked
    method = tuned(baselines.eb_fold_in._replace(predicts="both"), split, trials=1)["random"]
    measured = {metric.name for metric in judge(method, split, "random").metrics}
    assert "rmse" in measured
    assert "ndcg@10" not in measured


@pytest.mark.parametrize("protocol", protocols)
def test_a_protocol_and_its_splits_agree_on_rankings(protocol, ml100k):
    split = prepare(protocol, ml100k, fold=1, seed=2)
    assert split.ranked == protocols[protocol].ranks(ml100k) == (protocol == "P1")
    assert list(split.validation) == list(split.test)
    for training in (split.training, split.final):
        assert training.user_features.shape[1] % 8 == training.item_features.shape[1] % 8 == 0
    for panel, tasks in split.test.items():
        assert max(split.ks[panel]) <= tasks.support_mask.shape[1]


def test_baselines_may_be_constant_on_cold_items(small):
    """An item mean is constant over unrated items."""
    split = prepare("P2", load(str(small)), fold=0, seed=0)
    method = tuned(baselines.item_mean, split, trials=1)["cold_user_cold_item"]
    judged = judge(method, split, "cold_user_cold_item")
    assert (judged.per_user.values["mse"] >= 0).all()
    with pytest.raises(ConstantPredictionsError):
        judge(method._replace(kind="learned"), split, "cold_user_cold_item")


@pytest.mark.parametrize("rating", [True, False])
def test_the_validation_loss_sees_no_test_user(split, rating):
    adaptation = Adaptation(
        lambda params, support, key=None: jnp.sum(support.labels * support.mask),
        lambda params, adapted, x: params + 0.01 * adapted + 0.1 * x.item,
    )
    ruined = split._replace(
        test={
            panel: tasks._replace(query_rating=6 - tasks.query_rating)
            for panel, tasks in split.test.items()
        }
    )
    blind = split._replace(
        validation={
            panel: tasks._replace(query_rating=6 - tasks.query_rating)
            for panel, tasks in split.validation.items()
        }
    )
    losses = [losses_of(s, adaptation, rating=rating)(2.0) for s in (split, ruined, blind)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_the_validation_loss_is_the_error_of_the_validation_users(split):
    """Here of a constant, clipped to the scale; the mean over support sizes is the same."""
    constant = Adaptation(
        lambda params, support, key=None: (), lambda params, adapted, x: params + 0.0 * x.item
    )
    for panel, loss in losses_of(split, constant)(7.0).items():
        tasks = split.validation[panel]
        error = 5.0 - tasks.query_rating
        assert loss == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-6)


@pytest.mark.parametrize("most", [2, 1000])
def test_an_order_is_validated_on_so_many_users_with_something_relevant(split, monkeypatch, most):
    judged = []

    def noted(adaptation, params, tasks, *arguments, **options):
        judged.append(tasks)
        return evaluate(adaptation, params, tasks, *arguments, **options)

    monkeypatch.setattr(tuning, "_RANKED_USERS", most)
    monkeypatch.setattr(tuning, "evaluate", noted)
    by_index = Adaptation(
        lambda params, support, key=None: (), lambda params, adapted, x: params * x.item
    )
    disappointed = {}
    for panel, tasks in split.validation.items():
        owner = np.repeat(np.arange(len(tasks.user)), np.diff(tasks.query_offsets))
        rating = np.where(owner % 2, tasks.query_rating, np.float32(1))
        disappointed[panel] = tasks._replace(query_rating=rating)
    split = split._replace(validation=disappointed)
    losses_of(split, by_index, rating=False)(1.0)
    for tasks, whole in zip(judged, split.validation.values(), strict=True):
        if most >= len(whole.user):
            np.testing.assert_array_equal(tasks.user, whole.user)
            continue
        assert 1 <= len(tasks.user) <= most
        for user, start, end in zip(
            tasks.user, tasks.query_offsets, tasks.query_offsets[1:], strict=False
        ):
            row = np.flatnonzero(whole.user == user)[0]
            own = slice(*whole.query_offsets[row : row + 2])
            np.testing.assert_array_equal(tasks.query_item[start:end], whole.query_item[own])
            assert (tasks.query_rating[start:end] >= split.training.threshold).any()


def test_a_trained_method_is_refitted_with_the_validation_users(split):
    seen = []

    def initial(settings, training):
        seen.append(("initial", training is split.final))
        return lambda params: params + 100.0 * (training is split.final)

    def learner(settings, network):
        learner = climbing(settings, network)

        def init(key, tasks):
            return learner.init(key, tasks)._replace(params=network.init(key, None))

        return learner._replace(init=init)

    def sampler(settings, shapes):
        tasks = rating_tasks(settings, shapes)

        def table(training, *, seed):
            seen.append(("table", training is split.final))
            return tasks.table(training, seed=seed)

        return tasks._replace(table=table)

    noted = CLIMBING._replace(name="noted", learner=learner, initial=initial, sampler=sampler)
    methods = trained(noted, split, settings_of(noted), trials=1)
    assert min(levels(methods).values()) > 100
    # Of the tables the first of each pair gives the shapes of the initial parameters.
    calls = ["initial", "table", "table"]
    assert seen == [(call, final) for final in (False, True) for call in calls]


def test_a_baseline_is_tuned_on_training_users_and_refitted_with_the_validation_users(split):
    fitted = []

    def fit(training, *, shift):
        fitted.append((shift, training is split.final))
        return np.float32(shift)

    rule = Adaptation(
        lambda params, support, key=None: (),
        lambda params, adapted, inputs: params + 0.01 * inputs.item,
    )
    baseline = baselines.Baseline(
        "noted", "rating", fit, rule, grid=({"shift": 9.0}, {"shift": 3.0})
    )
    methods = tuned(baseline, split)
    assert fitted == [(9.0, False), (3.0, False), (3.0, True)]
    assert {method.settings["shift"] for method in methods.values()} == {3.0}


@pytest.mark.parametrize(("loss", "diverges"), [(1500.0, False), (1700.0, True)])
def test_a_loss_beyond_ten_times_the_scale_counts_as_divergence(split, loss, diverges):
    def learner(settings, network):
        plain = climbing(settings, network)

        def update(state, tasks, key=None):
            state, metrics = plain.update(state, tasks, key)
            return state, metrics | {"loss": metrics["loss"] + loss}

        return plain._replace(update=update)

    # Ratings of 1 to 5: (10 * 4) ** 2 is 1600.
    method = CLIMBING._replace(name="wild", learner=learner)
    with pytest.raises(DivergedError) if diverges else contextlib.nullcontext():
        trained(method, split, settings_of(method), trials=1, refit=False)


def test_a_closed_form_of_two_heads_is_tuned_by_both():
    """Of three settings one is best in ratings, one in order, and the last nearly so in both."""
    split = prepare("P1", load("synthetic"), fold=0, seed=0)

    def fit(training, *, noise_of_ratings, noise_of_order):
        draw = np.random.default_rng(0).normal(size=len(training.item_features))
        mean = baselines.item_mean.fit(training)
        order = baselines.popularity.fit(training)
        noise = (noise_of_ratings * draw, 100.0 * noise_of_order * draw)
        return mean, order, *(jnp.asarray(leaf, jnp.float32) for leaf in noise)

    def predict(params, adapted, inputs):
        mean = baselines.item_mean.adaptation.predict(params[0], adapted, inputs)
        return mean + params[2][inputs.item]

    def rank(params, adapted, inputs):
        order = baselines.popularity.adaptation.predict(params[1], adapted, inputs)
        return order + params[3][inputs.item]

    grid = tuple(
        {"noise_of_ratings": ratings, "noise_of_order": order}
        for ratings, order in ((0.0, 100.0), (3.0, 0.0), (0.1, 0.0))
    )
    adaptation = Adaptation(baselines.item_mean.adaptation.adapt, predict, rank=rank)
    both = baselines.Baseline("both", "both", fit, adaptation, grid=grid, kind="learned")
    method = tuned(both, split)["random"]
    assert method.settings == grid[2]
    assert (method.kind, method.rating, method.ranking) == ("learned", True, True)
    assert {"rmse", "ndcg@10"} <= set(summarise(judge(method, split, "random")))
    # Where ratings alone are judged, the order counts for nothing.
    quadrants = prepare("P2", load("synthetic"), fold=0, seed=0)
    assert all(found.settings != grid[1] for found in tuned(both, quadrants).values())
