import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import parameters, registry
from metajax.baselines import Baseline, eb_fold_in
from metajax.data import load
from metajax.data.cold_users import padded
from metajax.data.dataset import TrainingSet, shapes_of
from metajax.data.interactions import from_columns, select_rows, select_users
from metajax.data.splits import cold_user_tasks
from metajax.evaluation import evaluate, prepare, summarise, trained_expert
from metajax.evaluation.tuning import fits, tuned
from metajax.hybrid import engine, experts, hybrid, weights_by_number
from metajax.hybrid import ranking as gate
from metajax.hybrid.arrival import KNOTS
from metajax.hybrid.experts import EXPERTS, Shared, members_of
from metajax.hybrid.ranking import fit_blends, is_schedule
from metajax.hybrid.rating import blended
from metajax.hybrid.support import fit_tables
from metajax.hybrid.tastes import RATERS
from metajax.types import Examples, Inputs


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    ahead = gate._ahead

    def learned(found, default, lists):
        # Whether the gate of so few users is surely ahead would be a matter of rounding.
        users = np.unique(np.concatenate([part.user for part in lists]))
        return len(users) > 2 or ahead(found, default, lists)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "_ahead", learned)
        patch.setattr(gate, "_CONSTANT_STEPS", 60)
        patch.setattr(gate, "_STEPS", 30)
        patch.setattr(gate, "_PER_DISPATCH", 30)
        yield


@pytest.fixture(scope="module")
def split(small):
    return prepare("P1", load(small), fold=0, seed=0)


@pytest.fixture(scope="module")
def watched(split, few_steps):
    """The fitted engine, and what the parts of its fit were given, in the order of the calls."""
    pairs, inside, axes, mined, followed = [], [], [], [], []
    base, columns = engine._base, engine._columns

    def fitting(training, experts, earlier=None):
        inside.append(set(training.interactions.users))
        fitted = base(training, experts, earlier)
        axes.append(np.concatenate([fitted.tables.item_axes.ravel(), fitted.tables.centre]))
        return fitted

    def predicting(given, experts, training, tasks, batch, knot, blends):
        pairs.append((set(tasks.user), inside[-1]))
        mined.append((knot, blends))
        return columns(given, experts, training, tasks, batch, knot, blends)

    def blending(kinds, start):
        followed.append((start, fit_blends(kinds, start)))
        return followed[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_base", fitting)
        patch.setattr(engine, "_columns", predicting)
        patch.setattr(engine, "fit_blends", blending)
        return engine.hybrid().fit(split.training), pairs, inside, axes, mined, followed


@pytest.fixture(scope="module")
def fitted(watched):
    return watched[0]


def judged(method, params, split, panel="random", **options):
    seen = split.training
    return evaluate(
        method.adaptation,
        params,
        split.validation[panel],
        seen.user_features,
        seen.item_features,
        scale=seen.scale,
        ks=split.ks[panel],
        **options,
    )


@pytest.mark.slow
def test_the_registry_finds_it_as_a_learned_closed_form_with_two_heads(split, fitted):
    found = registry.method_of("hybrid")
    assert isinstance(found, Baseline)
    assert (found.kind, found.predicts) == ("learned", "both")
    figures = summarise(judged(found, fitted, split))
    assert {"rmse", "ndcg@10", "within@90"} <= set(figures)
    assert np.isfinite(figures["rmse"]).all()
    state, inputs = state_of(found, fitted, split)
    ratings = found.adaptation.predict(fitted, state, inputs)
    assert found.adaptation.rank is not None
    order = found.adaptation.rank(fitted, state, inputs)
    assert not np.allclose(ratings, order)
    assert found.adaptation.predict_variance is not None
    variance = found.adaptation.predict_variance(fitted, state, inputs)
    assert (np.asarray(variance) > 0).all()


def test_its_expectations_leave_out_the_noise_of_a_rating(split, fitted):
    found = engine.hybrid().adaptation
    state, inputs = state_of(engine.hybrid(), fitted, split)
    assert found.expectation is not None
    assert found.predict_variance is not None
    mean, root, own = found.expectation(fitted, state, inputs)
    np.testing.assert_array_equal(mean, found.predict(fitted, state, inputs))
    factor = blended(fitted.rating.variance, state.summary.count, state.first)
    np.testing.assert_allclose(own, factor * fitted.tastes.doubt)
    spread = jnp.sum(root**2, axis=1) + own
    noisy = found.predict_variance(fitted, state, inputs)
    np.testing.assert_allclose(spread + factor * state.taste.noise, noisy, rtol=1e-4)
    unrated = fitted._replace(tastes=None)
    with pytest.raises(ValueError, match="hybrid was fitted without ratings"):
        found.expectation(unrated, state, inputs)


def test_the_table_of_weights_names_who_speaks_at_each_number(fitted):
    table = weights_by_number(fitted)
    assert set(table) == {"any", "first"}
    kept = np.isfinite(fitted.ranking.scale)
    assert len(table["any"]) == kept.sum()
    for of_kind in table.values():
        for k in (0, 10):
            shares = [abs(weights[k]) for weights in of_kind.values()]
            assert sum(shares) == pytest.approx(1, rel=1e-5)
    weights = np.asarray(fitted.ranking.weights)[1, 3]
    column = int(np.flatnonzero(kept)[0])
    name = next(iter(table["first"]))
    expected = weights[column] / np.abs(weights[kept]).sum()
    assert table["first"][name][5] == pytest.approx(expected)
    # Nothing tells the kinds apart without interactions: half of each kind's weights speak.
    changed = fitted.ranking.weights.at[1, 0].set(jnp.arange(1.0, 1 + len(kept)))
    table = weights_by_number(fitted._replace(ranking=fitted.ranking._replace(weights=changed)))
    at_none = [{name: w[0] for name, w in table[kind].items()} for kind in ("any", "first")]
    assert at_none[0] == at_none[1]
    halves = np.asarray(changed)[:, 0].mean(axis=0)
    expected = halves[column] / np.abs(halves[kept]).sum()
    assert at_none[0][name] == pytest.approx(expected, rel=1e-5)


def state_of(method, params, split, items=(3, 1), labels=(5.0, 2.0)):
    seen = split.training
    support = Examples(
        Inputs(
            jnp.asarray(seen.user_features[[0] * len(items)]),
            jnp.asarray(seen.item_features[list(items)]),
            jnp.asarray(items),
        ),
        jnp.asarray(labels),
        jnp.ones(len(items), bool),
    )
    everything = jnp.arange(len(seen.item_features))
    user = seen.user_features[0]
    features = jnp.broadcast_to(user, (len(everything), len(user)))
    inputs = Inputs(features, jnp.asarray(seen.item_features), everything)
    return method.adaptation.adapt(params, support), inputs


def test_held_out_users_are_in_no_fit_that_they_are_predicted_by(split, watched):
    _, pairs, inside, axes, mined, followed = watched
    everyone = set(split.training.interactions.users)
    assert inside[0] == everyone
    # Columns along axes of attributes mean the same in all parts.
    assert len(axes) == 6
    assert all(np.array_equal(one, axes[0]) for one in axes)
    assert all(held and not held & seen and seen < everyone for held, seen in pairs)
    assert set().union(*(held for held, _ in pairs)) <= everyone
    assert len(pairs) == 5 * 2 * 5
    # The lists of each part but the first hold what a gate would lift by those before it.
    starts, blends = zip(*followed, strict=True)
    assert len(blends) == 4
    assert not starts[0].any()
    assert all(one is other for one, other in zip(starts[1:], blends, strict=False))
    for at, (knot, given) in enumerate(mined):
        expected = np.zeros_like(given) if at < 10 else blends[at // 10 - 1][:, KNOTS.index(knot)]
        np.testing.assert_array_equal(given, expected)


def test_the_parts_of_many_users_share_a_fit_without_all_who_are_judged(split, monkeypatch):
    inside, pairs = [], []

    def fitting(training, experts, earlier):
        inside.append(set(training.interactions.users))
        return inside[-1]

    def predicting(base, experts, training, tasks, batch, knot, blends):
        pairs.append((set(tasks.user), base))
        return None, gate.Lists(*np.zeros((8, 0))), np.zeros((0, 1))

    monkeypatch.setattr(engine, "_base", fitting)
    monkeypatch.setattr(engine, "_columns", predicting)
    monkeypatch.setattr(engine, "fit_blends", lambda kinds, start: start)
    monkeypatch.setattr(engine, "_of_support", lambda rows: None)
    everyone = split.training.interactions.users
    monkeypatch.setattr(engine, "_MOST_USERS", 10)
    tables = fit_tables(Shared(split.training))
    for many, fits_made in ((len(everyone), 1), (len(everyone) + 1, 5)):
        monkeypatch.setattr(engine, "_MANY_USERS", many)
        inside.clear()
        pairs.clear()
        engine._cross_fitted(split.training, EXPERTS, 0, tables)
        assert len(inside) == fits_made
        judged = set().union(*(held for held, _ in pairs))
        assert len(judged) == 10
        assert all(not held & seen for held, seen in pairs)
        if fits_made == 1:
            assert inside[0] == set(everyone) - judged


@pytest.mark.slow
def test_ratings_of_a_user_who_is_not_trained_on_change_nothing(split, fitted):
    log = split.training.interactions
    others = select_users(log, log.users)
    again = engine.hybrid().fit(split.training._replace(interactions=others))
    jax.tree.map(np.testing.assert_array_equal, again, fitted)


@pytest.mark.slow
def test_settings_of_one_grid_share_the_evidence_and_differ_in_the_gate(split, monkeypatch):
    calls = []
    collect = engine._cross_fitted
    monkeypatch.setattr(engine, "_cross_fitted", lambda *args: calls.append(1) or collect(*args))
    method = engine.hybrid()
    both, first = fits(method, split.training, [{}, {"order": "time"}])
    assert len(calls) == 1
    jax.tree.map(np.testing.assert_array_equal, both.rating, first.rating)
    assert not np.allclose(both.ranking.weights, first.ranking.weights)
    state, _ = state_of(method, first, split)
    assert float(state.first) == pytest.approx(1)
    for bad, message in (({"order": "newest"}, "order"), ({"ordr": "time"}, "ordr")):
        with pytest.raises(ValueError, match=message):
            method.fit(split.training, **bad)


@pytest.mark.slow
def test_further_methods_are_experts_and_columns_can_be_left_out(split):
    shapes = shapes_of(split.training)
    maml = trained_expert("maml", shapes, stop=False, updates=5, tasks=4, rank=2, per_dispatch=5)
    method = hybrid(more=[(maml, {}), (eb_fold_in, {"rank": 2})])
    left_out = ["EASE", *RATERS, "maml"]
    settings = [
        {"order": "random", "without": left_out},
        {"without": RATERS[1:], "constant_gate": True, "correction": False},
    ]
    params, blend = fits(method, split.training, settings)
    columns = [name for expert in engine.EXPERTS for name in expert.columns]
    assert len(params.ranking.scale) == len(columns) + 3
    scale = np.asarray(params.ranking.scale)
    assert np.isinf(scale[[columns.index("EASE"), len(columns)]]).all()
    # A closed form that predicts ratings is a model of the rating head, here the only one.
    assert list(params.rating.kept) == [4]
    own = eb_fold_in.fit(split.training, rank=2)
    rating = params._replace(
        rating=params.rating._replace(weights=jnp.zeros_like(params.rating.weights))
    )
    state, inputs = state_of(method, rating, split)
    alone = eb_fold_in.adaptation.predict(own, state.experts[-1], inputs)
    np.testing.assert_allclose(method.adaptation.predict(rating, state, inputs), alone, rtol=1e-6)
    assert np.any(params.rating.weights)
    assert not np.any(blend.rating.weights)
    assert set(blend.rating.kept.tolist()) <= {0, 3, 4}
    gate = np.asarray(blend.ranking.weights)
    np.testing.assert_array_equal(gate[:, 1:], np.broadcast_to(gate[:, 1:2], gate[:, 1:].shape))
    with pytest.raises(ValueError, match="without must be a known name, got 'EASY'; did you mean"):
        method.fit(split.training, without=["EASY"])
    assert method.blend is not None
    assert method.blend.names(params)[-2:] == ("eb_fold_in", "predicted rating")
    table = method.blend.weights(params)
    assert list(table) == ["any"]  # It was fitted to no first interactions.
    assert "EASE" not in table["any"]
    kept = np.isfinite(params.ranking.scale)[columns.index("EASE") : len(columns)]
    assert params.experts[3].kinds.tolist() == np.flatnonzero(kept).tolist()
    assert set(table["any"]) <= set(method.blend.names(params))


def test_parts_of_the_experts_sum_to_the_score(split, fitted):
    method = engine.hybrid()
    assert method.blend is not None
    assert method.adaptation.rank is not None
    state, inputs = state_of(method, fitted, split)
    parts = method.blend.parts(fitted, state, inputs)
    assert parts.shape == (len(inputs.item), len(method.blend.names(fitted)))
    score = method.adaptation.rank(fitted, state, inputs)
    np.testing.assert_allclose(np.sum(parts, axis=1), score, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("speaking", [[], [1, 6]])
def test_without_weights_of_dropped_experts_predictions_are_the_same(split, fitted, speaking):
    method, experts = engine.hybrid(), engine.EXPERTS
    base = engine._base(split.training, experts)
    first = len(fitted.ranking.scale) - 1 - len(experts[-1].columns)
    silent = [first + kind for kind in range(len(experts[-1].columns)) if kind not in speaking]
    # Whatever the gate itself has dropped.
    scale = jnp.ones_like(fitted.ranking.scale).at[jnp.array(silent)].set(jnp.inf)
    ranking = fitted.ranking._replace(scale=scale)
    whole = fitted._replace(experts=base.experts, ranking=ranking)
    small = engine._without_dropped(experts, whole)
    assert small.experts[-1].weights.shape == (len(speaking), *base.experts[-1].weights.shape[1:])
    found = []
    for params in (small, whole):
        state, inputs = state_of(method, params, split)
        assert method.adaptation.rank is not None
        functions = (method.adaptation.rank, method.adaptation.predict)
        found.append([np.asarray(function(params, state, inputs)) for function in functions])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_logs_without_ratings_are_ordered(split):
    log = split.training.interactions
    implicit = split.training._replace(
        interactions=log._replace(rating=np.ones_like(log.rating)), scale=None, relevant=1.0
    )
    method = engine.hybrid()
    params = method.fit(implicit, order="random")
    assert params.tastes is params.rating is None
    state, inputs = state_of(method, params, split, labels=(1.0, 1.0))
    assert method.adaptation.rank is not None
    order = method.adaptation.rank(params, state, inputs)
    np.testing.assert_array_equal(method.adaptation.predict(params, state, inputs), order)
    assert np.isfinite(order).all()
    assert np.ptp(order) > 0
    without = split._replace(training=implicit, final=implicit)
    chosen = tuned(method._replace(grid=({"order": "random"},)), without)
    assert not any(found.rating for found in chosen.values())


@pytest.mark.parametrize(
    ("items", "told"),
    [
        (6_000, []),
        (6_001, ["weights between items are of the 6"]),
        (1_000_000, ["weights between items are of the 6", "at most 134 users are remembered"]),
    ],
)
def test_a_large_catalogue_is_told_and_takes_less(items, told):
    lines = registry.reductions("hybrid", items)
    assert [line.partition(",")[0].partition(" and not")[0] for line in lines] == told
    assert members_of(items) * items <= max(1 << 27, 2048 * 20_001)


def test_lists_are_scored_a_few_users_at_a_time_where_items_are_many(split, monkeypatch):
    shared = Shared(split.training)
    base = engine._base(split.training, EXPERTS)
    tasks = cold_user_tasks(split.training.interactions, shared.members[:5], pool=10)
    batch = padded(tasks, split.training, query=8)
    none = np.zeros((2, len(engine._names(EXPERTS))), np.float32)
    arguments = base, EXPERTS, split.training, tasks, batch, 3, none
    whole = engine._columns(*arguments)
    sizes, score = [], engine._scored
    monkeypatch.setattr(
        engine, "_MOST_SCORES", 2 * len(split.training.item_features) * (len(none[0]) + 2)
    )

    def counted(*args):
        sizes.append(len(args[2].support.mask))
        return score(*args)

    monkeypatch.setattr(engine, "_scored", counted)
    parts = engine._columns(*arguments)
    assert sizes == [2, 2, 2]
    assert len(parts[2]) == 5
    np.testing.assert_allclose(parts[2], whole[2], rtol=1e-5, atol=1e-5)
    # What a blend lifts is in every list: the items that fewest have.
    lifting = none.copy()
    lifting[:, engine._names(EXPERTS).index("reach")] = -1
    _, lists, _ = engine._columns(*arguments[:-1], lifting)
    least = np.asarray(base.experts[0][:, 1]).min()
    assert (np.isclose(lists.scores[..., 1], least, atol=1e-2).sum(axis=1) >= 8).all()


@pytest.mark.parametrize("knot", [0, 2, 5])
def test_lists_tell_what_is_relevant_shown_and_in_the_pool(split, knot):
    training = split.training
    base = engine._base(training, EXPERTS)
    tasks = cold_user_tasks(training.interactions, Shared(training).members[:6], pool=5)
    batch = padded(tasks, training, query=8)
    everywhere = np.zeros((2, len(engine._names(EXPERTS))), np.float32)
    _, lists, _ = engine._columns(base, EXPERTS, training, tasks, batch, knot, everywhere)
    # All items are in the lists, as there are fewer than popular ones: each once but for copies.
    items = len(training.item_features)
    for user in range(6):
        mine = slice(*tasks.query_offsets[user : user + 2])
        rated = dict(zip(tasks.query_item[mine], tasks.query_rating[mine], strict=True))
        real = tasks.support_mask[user]
        pool = list(zip(tasks.support_item[user], tasks.support_rating[user], strict=True))
        pool = [pair for pair, there in zip(pool, real, strict=True) if there]
        later = dict(pool[knot:])
        liked = {item for item, label in {**rated, **later}.items() if label >= 4}
        assert lists.mask[user].sum() == items - len(pool[:knot])
        assert lists.relevant[user].sum() == len(liked)
        assert (lists.mask & lists.pooled)[user].sum() == len(later)
        unpooled = len(liked - set(later))
        assert (lists.relevant & ~lists.pooled)[user].sum() == unpooled
        reach = [float(len(liked) > 0), float(unpooled > 0)]
        np.testing.assert_allclose(lists.reach[user], reach, rtol=1e-6)


@pytest.mark.parametrize("users", [1, 2])
def test_one_user_or_two_are_served_by_popularity_or_close(users):
    user, item = np.nonzero(np.ones((users, 3)))
    log = from_columns(
        user,
        item,
        1.0 + (user + item) % 5,
        user_ids=np.array(["a", "b"][:users]),
        item_ids=np.array(["x", "y", "z"]),
    )
    nothing = np.zeros((3, 0), np.float32)
    method = engine.hybrid()
    params = method.fit(TrainingSet(log, nothing[:users], nothing, (1.0, 5.0)))
    inputs = Inputs(jnp.zeros((3, 0)), jnp.zeros((3, 0)), jnp.arange(3))
    support = Examples(inputs, jnp.array([4.0, 0, 0]), jnp.array([True, False, False]))
    state = method.adaptation.adapt(params, support)
    for function in (method.adaptation.predict, method.adaptation.rank):
        assert function is not None
        assert np.isfinite(function(params, state, inputs)).all()


def test_a_refit_to_the_same_users_predicts_the_same(split, fitted):
    method = engine.hybrid()
    again = refitted(method, fitted, split.training)
    for rule in ("predict", "rank", "predict_variance"):
        found, expected = (scores_by(method, params, split, rule) for params in (again, fitted))
        np.testing.assert_allclose(found, expected, atol=1e-4)


def refitted(method, params, training, **setting):
    assert method.refit is not None
    return method.refit(params, training, **setting)


@pytest.mark.slow
def test_a_gate_that_was_not_learned_is_learned_when_more_users_have_come(split, fitted):
    log = split.training.interactions
    few = split.training._replace(interactions=select_users(log, log.users[:2]))
    method = engine.hybrid()
    names = engine._names(EXPERTS)
    earlier = method.fit(few)
    assert is_schedule(earlier.ranking, names)
    assert not is_schedule(fitted.ranking, names)
    again = refitted(method, earlier, split.training)
    for found, expected in zip(again.ranking, fitted.ranking, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def scores_by(method, params, split, rule):
    state, inputs = state_of(method, params, split)
    return np.asarray(getattr(method.adaptation, rule)(params, state, inputs))


def test_columns_keep_their_axes_whatever_those_of_more_data_are(split, fitted):
    log = split.training.interactions
    rows = np.isin(log.user, log.users[::3]) & (log.item < 13)
    fewer = split.training._replace(interactions=select_rows(log, rows))
    method = engine.hybrid()
    found, fresh = refitted(method, fitted, fewer).tables, fit_tables(Shared(fewer))
    kept = ("item_centre", "item_axes", "axes", "direction", "edges", "cell", "centre", "user_axes")
    for name in kept:
        expected = getattr(fitted.tables, name)
        np.testing.assert_allclose(getattr(found, name), expected, atol=1e-5, err_msg=name)
    assert fresh.user_axes.shape != found.user_axes.shape or not np.allclose(
        fresh.user_axes, found.user_axes, atol=0.1
    )
    assert np.abs(fresh.item_centre - found.item_centre).max() > 0.01
    # What is counted is that of the data at hand.
    np.testing.assert_allclose(found.reach, fresh.reach)
    # An axis has no sign of its own: by the other one the heads would say something else.
    turned = fitted._replace(tables=fitted.tables._replace(axes=-fitted.tables.axes))
    scores = [scores_by(method, params, split, "predict") for params in (turned, fitted)]
    assert np.abs(scores[0] - scores[1]).max() > 1e-3


def test_a_refit_to_data_without_the_earlier_columns_is_refused(split, fitted):
    method = engine.hybrid()
    unrated = split.training._replace(scale=None)
    fewer = fitted._replace(ranking=fitted.ranking._replace(scale=jnp.ones(3)))
    for params, training, words in (
        (fitted, unrated, "fitted with ratings and the data have none"),
        (fewer, split.training, "fitted with 3 columns of experts, these data have 17"),
    ):
        with pytest.raises(ValueError, match=words):
            refitted(method, params, training)
    with pytest.raises(ValueError, match="settings of hybrid"):
        refitted(method, fitted, split.training, folds=3)


def test_weights_among_some_items_are_refitted_saved_and_loaded(split, fitted, monkeypatch):
    method = engine.hybrid()
    # As if the gate had kept every column.
    ranking = fitted.ranking._replace(scale=jnp.ones_like(fitted.ranking.scale))
    fitted = fitted._replace(ranking=ranking)
    whole = refitted(method, fitted, split.training)
    monkeypatch.setattr(experts, "MOST_WEIGHED", 10)
    few = refitted(method, fitted, split.training)
    assert few.experts[3].weights.shape == (9, 10, 10)
    _, inputs = state_of(method, few, split)
    assert method.blend is not None
    parts = [
        method.blend.parts(params, state_of(method, params, split)[0], inputs)
        for params in (few, whole)
    ]
    between = [method.blend.names(few).index(name) for name in EXPERTS[3].columns]
    outside = np.asarray(few.experts[3].places.place)[np.asarray(inputs.item)] == 10
    assert 0 < outside.sum() < len(outside)
    assert not np.any(parts[0][outside][:, between])
    assert np.any(parts[1][outside][:, between])
    # The rest of the engine orders them as ever.
    rest = np.setdiff1d(np.arange(parts[0].shape[1]), between)
    np.testing.assert_array_equal(parts[0][:, rest], parts[1][:, rest])
    arrays: dict[str, np.ndarray] = {}
    loaded = parameters.restored(parameters.described(few, "params", arrays), arrays)
    for rule in ("predict", "rank", "predict_variance"):
        found, expected = (scores_by(method, params, split, rule) for params in (loaded, few))
        np.testing.assert_array_equal(found, expected)
