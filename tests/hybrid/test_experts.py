import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.baselines import eb_fold_in
from metajax.baselines.ease import autoencoder_weights
from metajax.baselines.eb_fold_in import fold_in_of
from metajax.baselines.factors import user_posteriors
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.interactions import from_columns, select_rows
from metajax.hybrid import experts
from metajax.hybrid.experts import Shared
from metajax.hybrid.support import described, fit_tables
from metajax.hybrid.tastes import adapt_taste, fit_tastes, predicted
from metajax.types import Examples, Inputs

USERS, ITEMS = 24, 9


@pytest.fixture(scope="module")
def training():
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((USERS, ITEMS)) < 0.7)
    log = from_columns(
        user,
        item,
        rng.integers(1, 6, len(user)),
        rng.permutation(len(user)),
        user_ids=np.array([f"u{u:02}" for u in range(USERS)]),
        item_ids=np.array([f"i{i}" for i in range(ITEMS)]),
    )
    users = np.stack([rng.normal(size=USERS), rng.integers(0, 2, USERS)], axis=1)
    return TrainingSet(log, users.astype(np.float32), np.eye(ITEMS, dtype=np.float32), (1.0, 5.0))


def dense(training, sharpness=1.0):
    log = training.interactions
    table = np.zeros((USERS, ITEMS))
    table[log.user, log.item] = ((log.rating - 1) / 4) ** sharpness
    return table


def test_a_denoising_autoencoder_is_a_ridge_regression_on_the_other_items(training):
    x, dropout, ridge = dense(training), 0.8, 5.0
    weights = autoencoder_weights(x.T @ x, ridge=ridge, dropout=dropout)
    penalty = ridge + dropout / (1 - dropout) * np.sum(x**2, axis=0)
    for j in range(ITEMS):
        others = [i for i in range(ITEMS) if i != j]
        a = x[:, others]
        expected = np.linalg.solve(a.T @ a + np.diag(penalty[others]), a.T @ x[:, j])
        np.testing.assert_allclose(weights[others, j], expected, rtol=2e-3, atol=1e-5)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got 1"):
        autoencoder_weights(x.T @ x, ridge=ridge, dropout=1.0)
    with pytest.raises(ValueError, match=r"ridge 1e-09 is lost beside 1e\+06 in float32"):
        autoencoder_weights(np.full((2, 2), 1e6), ridge=1e-9)


def test_fewer_users_are_remembered_of_a_large_catalogue(training, monkeypatch):
    monkeypatch.setattr(experts, "_MOST_PREFERENCES", 5 * ITEMS)
    members = Shared(training).members
    assert len(members) == 5 < USERS
    assert len(np.unique(members)) == 5


def test_next_items_and_lifts_by_hand(training, monkeypatch):
    monkeypatch.setattr(experts, "_FIRST", 3)
    log, shared = training.interactions, Shared(training)
    turns = shared.turns
    assert turns is not None
    x, like = dense(training, 3.0), dense(training) >= 0.75
    place = np.full((USERS, ITEMS), 99)
    place[log.user, log.item] = turns
    for u, count in enumerate(log.user_counts):
        assert sorted(place[u][place[u] < 99]) == list(range(count))
    by_time = [np.argsort(log.time[log.user == u]) for u in range(USERS)]
    assert all((np.argsort(turns[log.user == u]) == by_time[u]).all() for u in range(USERS))
    pairs, lift = np.zeros((2, ITEMS, ITEMS))
    first, later = place < 3, like & (place >= 3) & (place < 99)
    share = later.sum(axis=0) / USERS
    norm = np.sqrt(np.sum(x**2, axis=0))
    for i in range(ITEMS):
        for j in range(ITEMS):
            ordered = place[:, i] < place[:, j]
            pairs[i, j] = np.sum(x[:, i] * x[:, j] * ordered) / (norm[i] * norm[j] + 100)
            both = np.sum(first[:, i] & later[:, j])
            lift[i, j] = (both + 20 * share[j]) / (first[:, i].sum() + 20) - share[j]
    np.testing.assert_allclose(experts._following(shared), pairs, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(experts._lifts(shared), lift, rtol=1e-5, atol=1e-6)


def test_without_times_nothing_follows(training):
    log = training.interactions
    timeless = training._replace(interactions=log._replace(time=np.zeros_like(log.time)))
    shared = Shared(timeless)
    assert shared.turns is None
    assert not experts._following(shared).any()
    assert not experts._lifts(shared).any()
    assert not np.any(fit_tables(shared).turn)


def test_the_first_model_is_the_fold_in_and_the_mixture_is_bayes_over_users(training):
    shared = Shared(training)
    tastes = fit_tastes(shared)
    item, rating = jnp.array([2, 5, 0]), jnp.array([5.0, 2.0, 0.0])
    present = jnp.array([1.0, 1.0, 0.0])
    found = adapt_taste(tastes, item, rating, present)
    scores, spread = predicted(tastes, found, jnp.arange(ITEMS))
    inputs = Inputs(jnp.zeros((3, 2)), jnp.zeros((3, ITEMS)), item)
    support = Examples(inputs, rating, present > 0)
    params = fold_in_of(shared.factors[0])
    rule = eb_fold_in.adaptation
    everything = Inputs(jnp.zeros((ITEMS, 2)), jnp.zeros((ITEMS, ITEMS)), jnp.arange(ITEMS))
    expected = rule.predict(params, rule.adapt(params, support), everything)
    np.testing.assert_allclose(scores[:, 0], expected, rtol=1e-4)
    # Components: the training users' posteriors, widened.
    leaves = (tastes.member_mean, tastes.member_covariance, tastes.member_noise)
    mean, covariance, noise = (np.moveaxis(np.asarray(leaf, np.float64), -1, 0) for leaf in leaves)
    users, own = user_posteriors(shared.factors[0], training.interactions)
    at = np.searchsorted(users, shared.members)
    np.testing.assert_allclose(mean, own.mean[at], rtol=1e-5, atol=1e-6)
    wide = own.covariance[at] + 0.3 * np.asarray(tastes.covariance)
    np.testing.assert_allclose(covariance, wide, rtol=1e-4, atol=1e-6)
    x = np.asarray(tastes.design, np.float64)[[2, 5]]
    y = np.array([5.0, 2.0]) - np.asarray(tastes.expected)[[2, 5]]
    logs, means, spreads = [], [], []
    for m, s, n in zip(mean, covariance, noise, strict=True):
        k = x @ s @ x.T + n * np.eye(2)
        off = y - x @ m
        logs.append(-0.5 * (off @ np.linalg.solve(k, off) + np.log(np.linalg.det(k))))
        gain = np.linalg.solve(k, x @ s).T
        means.append(m + gain @ off)
        spreads.append(s - gain @ x @ s)
    weight = np.exp(0.7 * (np.array(logs) - max(logs)))
    weight /= weight.sum()
    average = weight @ np.array(means)
    np.testing.assert_allclose(found.means[2], average, rtol=1e-3, atol=1e-4)
    off = np.array(means) - average
    moments = np.einsum("m,mab->ab", weight, np.array(spreads)) + (weight[:, None] * off).T @ off
    np.testing.assert_allclose(found.covariances[1], moments, rtol=1e-2, atol=1e-3)
    assert float(found.effective) == pytest.approx(-np.log(np.sum(weight**2)), rel=1e-3)
    assert (np.asarray(spread) > 0).all()


def test_attributes_of_users_are_divided_into_cells(training):
    tables = fit_tables(Shared(training))
    cells = described(training.user_features, tables.edges, tables.cell)
    # Five cells of the first, which has many values; the value of the second, which has two.
    assert cells.shape == (USERS, 6)
    assert (np.asarray(cells[:, :5]).sum(axis=1) == 1).all()
    assert np.asarray(cells[:, :5]).sum(axis=0).tolist() == [5, 5, 4, 5, 5]
    np.testing.assert_array_equal(cells[:, 5], training.user_features[:, 1])


def test_columns_do_not_depend_on_padding_or_on_the_other_candidates(training):
    shared = Shared(training)

    def support(padding):
        item = jnp.array([1, 4, *[10**6] * padding])
        label = jnp.array([5.0, 2.0, *[jnp.nan] * padding])
        rows = len(item)
        features = jnp.tile(jnp.array([0.5, 1.0]), (rows, 1))
        inputs = Inputs(features, jnp.zeros((rows, ITEMS)), item)
        return Examples(inputs, label, jnp.arange(rows) < 2)

    everything = Inputs(jnp.zeros((ITEMS, 2)), jnp.zeros((ITEMS, ITEMS)), jnp.arange(ITEMS))
    some = jax.tree.map(lambda leaf: leaf[jnp.array([5, 3])], everything)
    for expert in experts.EXPERTS:
        params = expert.fit(shared)
        plain = expert.scores(params, expert.adapt(params, support(0)), everything)
        assert plain.shape == (ITEMS, len(expert.columns))
        assert np.isfinite(plain).all()
        padded = expert.scores(params, expert.adapt(params, support(3)), everything)
        np.testing.assert_allclose(padded, plain, rtol=1e-5, atol=1e-6)
        few = expert.scores(params, expert.adapt(params, support(0)), some)
        np.testing.assert_allclose(few, plain[jnp.array([5, 3])], rtol=1e-5, atol=1e-6)


def test_the_content_column_is_the_cosine_of_the_content_profile(training):
    rng = np.random.default_rng(0)
    described = training._replace(item_features=rng.normal(size=(ITEMS, 3)).astype(np.float32))
    expert = next(e for e in experts.EXPERTS if e.columns == ("content profile",))
    features = jnp.asarray(described.item_features)
    everything = Inputs(jnp.zeros((ITEMS, 2)), features, jnp.arange(ITEMS))
    item = jnp.array([1, 4])
    seen = Inputs(jnp.zeros((2, 2)), features[item], item)
    support = Examples(seen, jnp.array([5.0, 2.0]), jnp.ones(2, bool))
    params = expert.fit(Shared(described))
    found = expert.scores(params, expert.adapt(params, support), everything)[:, 0]
    x = described.item_features - described.item_features.mean(axis=0)
    profile = 1.0 * x[1] + 0.25 * x[4]
    expected = x @ profile / (np.linalg.norm(x, axis=1) * np.linalg.norm(profile))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    nothing = support._replace(mask=jnp.zeros(2, bool))
    assert not np.any(expert.scores(params, expert.adapt(params, nothing), everything))


def scores_of(params, item, label, mask=None, items=ITEMS):
    """`[I, C]` columns of the weights between items."""
    expert = experts.EXPERTS[-1]
    item, label = jnp.asarray(item), jnp.asarray(label)
    seen = Inputs(jnp.zeros((len(item), 2)), jnp.zeros((len(item), items)), item)
    mask = jnp.ones(len(item), bool) if mask is None else mask
    every = Inputs(jnp.zeros((items, 2)), jnp.zeros((items, items)), jnp.arange(items))
    return expert.scores(params, expert.adapt(params, Examples(seen, label, mask)), every)


def test_a_large_catalogue_has_the_weights_of_its_most_frequent_items(training, monkeypatch):
    monkeypatch.setattr(experts, "_FIRST", 3)
    shared, expert = Shared(training), experts.EXPERTS[-1]
    whole = list(experts._item_weights(shared))
    grams = [dense(training, power).T @ dense(training, power) for power in (1.0, 3.0)]
    full = expert.fit(shared)
    assert full.places is None
    monkeypatch.setattr(experts, "MOST_WEIGHED", 4)
    count = training.interactions.item_counts
    chosen = np.sort(np.argsort(-count, kind="stable")[:4])
    among = np.ix_(chosen, chosen)
    params = expert.fit(Shared(training))
    assert params.weights.shape == (9, 4, 4)
    place = np.full(ITEMS, 4)
    place[chosen] = range(4)
    assert params.places.place.tolist() == place.tolist()
    # An autoencoder of these items alone; pairs are what they are among all.
    settings = [(0, 3000.0, 0.0), (1, 10000.0, 0.0), (0, 5.0, 0.8), (0, 5.0, 0.95), (1, 5.0, 0.95)]
    for kind, (sharp, ridge, dropout) in enumerate(settings):
        own = autoencoder_weights(grams[sharp][among], ridge=ridge, dropout=dropout)
        np.testing.assert_allclose(params.weights[kind], own, rtol=2e-3, atol=2e-6)
    for kind in range(5, 9):
        np.testing.assert_allclose(params.weights[kind], whole[kind][among], rtol=2e-3, atol=1e-6)
    # Shares are of all users, also of those who have none of the items.
    rarest = np.argsort(count)[:1]
    assert Shared(training).among(rarest).people == USERS > count[rarest[0]]
    # Other items score 0, and say nothing in a support.
    rare = [item for item in range(ITEMS) if item not in chosen]
    item, label = [rare[0], chosen[2], rare[1], chosen[0]], [5.0, 4.0, 5.0, 5.0]
    found = scores_of(params, item, label)
    known = scores_of(params, item, label, mask=jnp.array([False, True, False, True]))
    np.testing.assert_array_equal(found, known)
    assert not np.any(found[np.array(rare)])
    expected = scores_of(full, [chosen[2], chosen[0]], [4.0, 5.0])[chosen][:, 5:]
    assert np.any(expected)
    np.testing.assert_allclose(found[chosen][:, 5:], expected, rtol=2e-3, atol=1e-6)
    # So it is of columns that are kept alone.
    kept = np.isin(np.arange(9), [2, 6])
    few = experts.trimmed(expert, params, kept)
    trimmed = np.where(kept, np.asarray(found), 0)
    np.testing.assert_allclose(scores_of(few, item, label), trimmed, rtol=1e-6)


def test_a_large_catalogue_has_the_columns_of_items_that_members_have(training, monkeypatch):
    expert = experts.EXPERTS[2]
    monkeypatch.setattr(experts, "_MOST_PREFERENCES", 2 * ITEMS)
    whole = expert.fit(Shared(training))
    assert whole.places is None
    monkeypatch.setattr(experts, "MOST_WEIGHED", ITEMS - 1)
    shared = Shared(training)
    params = expert.fit(shared)
    log = training.interactions
    assert set(shared.met) == set(log.item[np.isin(log.user, shared.members)])
    unmet = np.setdiff1d(np.arange(ITEMS), shared.met)
    assert params.likes.shape == (2, ITEMS - len(unmet)) != whole.likes.shape
    every = Inputs(jnp.zeros((ITEMS, 2)), jnp.zeros((ITEMS, ITEMS)), jnp.arange(ITEMS))
    item = jnp.array([unmet[0], *shared.met[:3]])
    support = Examples(
        Inputs(jnp.ones((4, 2)), jnp.zeros((4, ITEMS)), item), jnp.full(4, 5.0), jnp.ones(4, bool)
    )
    found, expected = (
        expert.scores(own, expert.adapt(own, support), every) for own in (params, whole)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # New items are expected to be liked by each member.
    new = training._replace(new_items=np.arange(ITEMS) == 8)
    new = new._replace(interactions=select_rows(log, log.item != 8))
    assert Shared(new).met.tolist() == list(range(ITEMS))


def test_new_items_have_weights_where_few_others_are_known(training, monkeypatch):
    features = np.zeros((ITEMS, 2))
    features[:, 0] = np.arange(ITEMS) % 2 * 3.0
    fewer = with_new_items(training, [0, 7, 8], features)
    told = fewer._replace(new_items=np.arange(ITEMS) > 6)
    monkeypatch.setattr(experts, "MOST_WEIGHED", 8)
    shared = Shared(told)
    assert shared.weighed.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    params = experts.EXPERTS[-1].fit(shared)
    found = scores_of(params, [2, 5], [5.0, 5.0], items=ITEMS)
    assert np.all(found[np.array([7, 8]), 5] != 0)
    assert not np.any(found[0])


def test_the_memory_of_weights_is_bounded():
    most = experts.MOST_WEIGHED
    kept, fitting = np.array(
        [
            # A member of one interaction: what is left grows as the catalogue.
            experts.memory_of(Shapes(items, 1, 0, None, users=1, rows=1))
            for items in (most, 2 * most, 3 * most)
        ]
    ).T
    assert kept[0] == pytest.approx(18 * most**2, rel=1e-3)
    assert fitting[0] == pytest.approx(46 * most**2, rel=1e-3)
    assert np.all(kept[1:] - kept[0] < 2 * most * 100)
    # A million items take gigabytes, not hundreds of them.
    kept, fitting = experts.memory_of(Shapes(1_000_000, 1, 0, None, users=20_000, rows=1_000_000))
    assert 6e8 < kept < 1e9
    assert 1.5e9 < fitting < 3e9


@pytest.mark.parametrize(("weighed", "length"), [(700, 3), (60, 40)])
def test_the_memory_of_a_fit_is_about_what_is_said(weighed, length, monkeypatch):
    monkeypatch.setattr(experts, "MOST_WEIGHED", weighed)
    users, items = 640, 4000
    rng = np.random.default_rng(0)
    pair = np.unique(np.repeat(np.arange(users), length) * items
                     + rng.integers(0, items, users * length))  # fmt: skip
    ids = [np.array([f"{kind}{n:04}" for n in range(count)])
           for kind, count in (("u", users), ("i", items))]  # fmt: skip
    log = from_columns(*np.divmod(pair, items), user_ids=ids[0], item_ids=ids[1])
    none = np.zeros((users, 0), np.float32), np.zeros((items, 0), np.float32)
    clicks = TrainingSet(log, *none, None)
    kept, most = experts.memory_of(Shapes(items, 0, 0, None, users=users, rows=len(pair)))

    def fitted():
        shared = Shared(clicks)
        return [expert.fit(shared) for expert in experts.EXPERTS]

    fitted()  # What is compiled and imported is not of the fit.
    tracemalloc.start()
    params = fitted()
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = [sum(leaf.nbytes for leaf in jax.tree.leaves(own)) for own in params]
    assert 0.8 * sum(held) < kept < 1.25 * sum(held)
    # Arrays of JAX are not traced: those of the members are there before the weights are.
    taken = traced + held[2]
    assert 0.7 * taken < most < 1.4 * taken


def with_new_items(training, new, features):
    """Removes the interactions of some items and gives all items attributes."""
    log = training.interactions
    kept = select_rows(log, ~np.isin(log.item, new))
    return training._replace(interactions=kept, item_features=features.astype(np.float32))


def test_new_items_have_the_columns_of_items_of_the_same_attributes(training):
    features = np.zeros((ITEMS, 2))
    features[:, 0] = np.arange(ITEMS) % 2 * 3.0
    shared = Shared(with_new_items(training, [7, 8], features))
    assert shared.new.tolist() == [7, 8]
    known = np.arange(7)
    values = np.stack([np.arange(ITEMS) % 2 * 1.0, np.ones(ITEMS)], axis=1)
    found = shared.filled(values)
    np.testing.assert_array_equal(found[known], values[known])
    # Item 8 has the attributes of the even ones, item 7 of the odd ones.
    assert found[8, 0] < 0.3
    assert found[7, 0] > 0.7
    np.testing.assert_allclose(found[7:, 1], 1, rtol=1e-6)
    assert shared.filled(np.zeros((ITEMS, 0))).shape == (ITEMS, 0)
    factors, doubt = shared.factors
    assert np.all(doubt[7:] > 0)
    assert not doubt[known].any()
    assert np.all(np.asarray(factors.item_bias)[7:] != 0)
    seen = Inputs(jnp.zeros((2, 2)), jnp.zeros((2, 2)), jnp.array([2, 5]))
    support = Examples(seen, jnp.array([5.0, 2.0]), jnp.ones(2, bool))
    everything = Inputs(jnp.zeros((ITEMS, 2)), jnp.zeros((ITEMS, 2)), jnp.arange(ITEMS))
    for expert in experts.EXPERTS:
        params = expert.fit(shared)
        columns = expert.scores(params, expert.adapt(params, support), everything)
        assert np.isfinite(columns).all()


def test_a_new_item_is_expected_to_be_as_popular_as_the_average_item_not_interaction(training):
    log = training.interactions
    most = np.argmax(log.item_counts)
    # One item has nearly all interactions.
    kept = (log.item == most) | np.isin(np.arange(len(log.item)), np.unique(log.item, True)[1])
    skewed = training._replace(interactions=select_rows(log, kept))
    # Far from all others, it is expected to be what they are in the mean.
    features = np.arange(ITEMS)[:, None] * 1.0
    features[8] = 1e3
    told = with_new_items(skewed, [7, 8], features)
    shared = Shared(told._replace(new_items=np.arange(ITEMS) > 6))
    count = shared.training.interactions.item_counts
    mean, by_interaction = count[:7].mean(), count @ count / count.sum()
    assert by_interaction > 2 * mean
    assert shared.filled(count.astype(float))[8] == pytest.approx(mean)


def test_items_that_nobody_took_are_no_new_ones(training):
    features = np.eye(ITEMS)
    log = training.interactions
    once = [np.flatnonzero(log.item == item)[1:] for item in (5, 6)]
    rare = select_rows(log, ~np.isin(np.arange(len(log.item)), np.concatenate(once)))
    shared = Shared(with_new_items(training._replace(interactions=rare), [7, 8], features))
    assert np.bincount(shared.training.interactions.item_counts)[:2].tolist() == [2, 2]
    assert not len(shared.new)
    factors, doubt = shared.factors
    assert not np.asarray(factors.item_bias)[7:].any()
    assert not np.asarray(factors.item_factors)[7:].any()
    assert not doubt.any()
    # Unless the training set tells; what only its other users lack is not new.
    told = shared.training._replace(new_items=np.arange(ITEMS) % 7 == 1)
    assert Shared(told).new.tolist() == [8]
    factors, doubt = Shared(told).factors
    assert np.asarray(factors.item_bias)[8] != 0
    assert not np.asarray(factors.item_bias)[7]
    assert np.flatnonzero(doubt).tolist() == [8]
    assert Shared(told).filled(np.arange(ITEMS) * 1.0)[7] == 7
    # Nor are there any where nothing is known of them.
    alike = with_new_items(training, [7, 8], np.ones((ITEMS, 1)))
    assert not len(Shared(alike).new)
