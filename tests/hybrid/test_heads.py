import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.hybrid import experts, ranking, rating
from metajax.hybrid.arrival import KNOTS, arrived, between, fit_arrival
from metajax.hybrid.experts import ItemScores
from metajax.hybrid.ranking import (
    Lists,
    candidates,
    expert_weights,
    fit_blends,
    fit_ranking_head,
)
from metajax.hybrid.rating import Columns, Rows, fit_rating_head, head_scores, solve_positive


def test_weights_are_interpolated_in_the_logarithm_of_the_number_and_kept_beyond():
    table = jnp.arange(5.0)[:, None] ** 2
    found = [float(between(table, jnp.float32(k))[0]) for k in (0, 1, 2, 10, 500)]
    share = np.log(3 / 2) / np.log(4 / 2)
    np.testing.assert_allclose(found, [0, 1, 1 + share * (4 - 1), 16, 16], rtol=1e-5)


def test_arrivals_are_told_apart_where_statistics_differ_and_never_without_interactions():
    rng = np.random.default_rng(0)
    counts = [np.repeat(np.array(KNOTS, np.float32), 100)] * 2
    values = [rng.normal(size=(500, 2)) + np.array([shift, 0]) for shift in (-1.0, 1.0)]
    values = [v * (k > 0)[:, None] for v, k in zip(values, counts, strict=True)]
    fitted = fit_arrival(counts, values, 0)
    known, five, none = jnp.array(True), jnp.float32(5), jnp.float32(0)
    seen = [float(arrived(fitted, jnp.array([x, 0.0]), five, known)) for x in (-2, 0, 2)]
    assert seen[0] < 0.05
    assert 0.3 < seen[1] < 0.7
    assert seen[2] > 0.95
    late = jnp.array([2.0, 0.0])
    assert float(arrived(fitted, late, none, known)) == 0.5
    for order, expected in (("random", 0.0), ("time", 1.0)):
        one = fit_arrival(counts, values, 0, order)
        assert float(arrived(one, late, five, known)) == pytest.approx(expected, abs=1e-6)


def test_times_tell_arrivals_apart_where_they_are_known():
    rng = np.random.default_rng(0)
    counts = [np.full(200, 5.0)] * 2
    values = [rng.normal(size=(200, 2)) + np.array([shift / 2, shift]) for shift in (-1.0, 1.0)]
    fitted = fit_arrival(counts, values, 1)
    seen, five = jnp.array([0.0, 2.0]), jnp.float32(5)
    timed, not_timed = (float(arrived(fitted, seen, five, jnp.array(x))) for x in (True, False))
    assert timed > 0.9
    assert 0.3 < not_timed < 0.7
    # Without times, what stands in their place is not read.
    assert float(arrived(fitted, seen.at[1].set(-9.0), five, jnp.array(False))) == not_timed


def test_candidates_are_the_best_of_each_column_and_copies_are_marked():
    scores = jnp.array([[5.0, 0.0], [4.0, 1.0], [0.0, 9.0], [1.0, 8.0], [2.0, 2.0]])
    none = jnp.zeros((0, 2))
    alone = [ItemScores(scores.T)]
    item, first = candidates(alone, none, jnp.array([0, 4]), 2)
    assert item.tolist() == [0, 0, 1, 2, 3, 4]
    assert first.tolist() == [True, False, True, True, True, True]
    # By the sum of both columns the third and the fourth are the best, by -1 times the first too.
    item, first = candidates(alone, jnp.array([[1.0, 1.0], [-1.0, 0.0]]), jnp.array([0]), 1)
    assert item.tolist() == [0, 0, 2, 2, 2]
    assert first.tolist() == [True, False, True, False, False]


@pytest.mark.parametrize("known", [1, 20, 55])
def test_candidates_are_the_same_where_most_items_have_one_score(known):
    items, each = 60, experts.MOST_TOLD
    rng = np.random.default_rng(known)
    places = experts._places(np.sort(rng.choice(items, known, replace=False)), items)
    assert places is not None
    # Ties too, also with the score of the others.
    values = rng.integers(-1, 2, (3, known + 1)).astype(np.float32)
    some = ItemScores(jnp.asarray(values), places)
    everywhere = ItemScores(jnp.asarray(values[:, np.asarray(places.place)]))
    np.testing.assert_array_equal(some.of(jnp.arange(items)), everywhere.of(jnp.arange(items)))
    for count in (1, 4, each):
        best = ranking._best(everywhere, count)
        np.testing.assert_array_equal(ranking._best(some, count), best)
    every = ItemScores(jnp.asarray(rng.normal(size=(2, items)), jnp.float32))
    blends = jnp.asarray(rng.normal(size=(2, 5)), jnp.float32)
    found, expected = (
        candidates([every, part], blends, jnp.array([3]), 4) for part in (some, everywhere)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_blends_for_hard_negatives_follow_what_is_relevant_of_each_kind():
    rng = np.random.default_rng(0)
    kinds = [lists_of(rng, lambda k, w=w: np.array(w)) for w in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])]
    kinds = [
        found._replace(scores=found.scores * np.array([2, 1, 0], np.float16)) for found in kinds
    ]
    found = fit_blends(kinds, np.zeros((2, len(KNOTS), 3), np.float32))
    assert (found[0, :, 0] > 2 * np.abs(found[0, :, 1])).all()
    assert (found[1, :, 1] > 2 * np.abs(found[1, :, 0])).all()
    # Of a column that does not vary nothing is taken.
    assert not found[..., 2].any()
    # From there a second fit goes on: it keeps the order, and does not begin anew.
    again = fit_blends(kinds, found)
    assert (again[0, :, 0] > 2 * np.abs(again[0, :, 1])).all()
    assert np.abs(again - found).max() < np.abs(found).max()


def lists_of(rng, weight_of, users=80, length=30):
    """Lists in which what is relevant follows given weights of three columns."""
    count = np.tile(np.array(KNOTS, np.float32), users)
    scores = rng.normal(size=(len(count), length, 3)).astype(np.float16)
    true = np.einsum("tle,te->tl", scores.astype(float), np.stack([weight_of(k) for k in count]))
    relevant = true >= np.sort(true, axis=1)[:, [-8]]
    ones = np.ones((len(count), 2), np.float32)
    mask = np.ones(relevant.shape, bool)
    user = np.repeat(np.arange(users, dtype=np.int32), len(KNOTS))
    first = np.zeros(len(count), np.float32)
    return Lists(scores, relevant, mask, np.zeros_like(mask), ones, count, first, user)


@pytest.mark.slow
def test_a_gate_finds_the_expert_that_helps_at_each_number_and_drops_noise():
    def weights(k):
        return np.array([1.0, 0.0, 0.0]) if k <= 3 else np.array([0.0, 1.0, 0.0])

    head, figures = fit_ranking_head(lists_of(np.random.default_rng(0), weights), ["a", "b", "c"])
    assert figures["gate"] > figures["constant blend"] + 0.05
    assert np.isinf(head.scale[2])
    few, many = (expert_weights(head, jnp.float32(k), jnp.float32(0)) for k in (1, 10))
    assert few[0] > 4 * abs(few[1])
    assert many[1] > 4 * abs(many[0])
    assert few[2] == many[2] == 0


@pytest.mark.parametrize(("name", "kept"), [("popularity", True), ("noise", False)])
def test_popularity_stays_where_it_does_not_help(name, kept):
    lists = lists_of(np.random.default_rng(0), lambda k: np.array([1.0, 1.0, 0.0]))
    head, figures = fit_ranking_head(lists, ["a", "b", name], constant=True)
    assert figures[f"without {name}"] >= figures["constant blend"]
    assert np.isfinite(head.scale[2]) == kept


def test_a_gate_that_does_not_beat_the_constant_blend_is_replaced_by_it(monkeypatch):
    same = np.array([1.0, 1.0, 0.0])
    fitted = ranking._fitted

    def worse(scale, lists, seed, *, start=None):
        return fitted(scale, lists, seed) if start is None else -start

    with monkeypatch.context() as patch:
        patch.setattr(ranking, "_fitted", worse)
        head, figures = fit_ranking_head(lists_of(np.random.default_rng(1), lambda k: same), "abc")
    assert figures["gate"] < figures["constant blend"]
    np.testing.assert_array_equal(head.weights[0, 1], head.weights[0, 4])
    assert head.weights[0, 1, 0] > 0
    assert figures["constant blend"] > 0.9
    left_out, _ = fit_ranking_head(
        lists_of(np.random.default_rng(1), lambda k: same), "abc", without=["b"]
    )
    assert np.isinf(left_out.scale[1])


@pytest.mark.slow
def test_a_gate_that_is_not_surely_better_than_the_schedule_is_replaced_by_it():
    names = ["popularity", "noise", "content profile"]
    expected = np.array(ranking.SCHEDULE["content profile"])

    def other(k):
        return np.array([0.2, 1.0, 0.2])

    def same(k):
        return np.array([1.0, 0.0, expected[KNOTS.index(k)]])

    for users, true, learned in (
        (80, other, True),
        (80, same, False),
        (3, same, False),
        (1, other, False),
    ):
        lists = lists_of(np.random.default_rng(2), true, users)
        head, figures = fit_ranking_head(lists, names)
        assert np.isfinite(head.scale[1]) == learned
        if not learned:
            deviation = np.std(lists.scores[lists.count > 0].astype(float), axis=(0, 1))
            np.testing.assert_allclose(np.asarray(head.scale)[[0, 2]], deviation[[0, 2]], rtol=1e-3)
            np.testing.assert_allclose(head.weights[0, :, 2], expected, rtol=1e-6)
            np.testing.assert_array_equal(head.weights[1], head.weights[0])
        assert (figures == {}) == (users == 1)
        if true is same:
            assert figures["schedule"] > 0.99
    # What is left out is left out of the schedule too.
    head, _ = fit_ranking_head(lists, names, without=["content profile"])
    assert np.isinf(head.scale[2])


def test_a_lead_counts_once_for_each_user():
    rng = np.random.default_rng(0)
    lists = lists_of(rng, lambda k: np.ones(3), users=6)
    worse = np.zeros((2, len(lists.count)))
    lead = np.where(lists.user == 0, 1.0, 0.0)[None] * np.ones((2, 1))
    # One of six users, at every number of interactions: many lists, and no sure lead.
    assert not ranking._ahead([lead], [worse], [lists])
    everyone = rng.uniform(0.1, 0.2, worse.shape)
    assert ranking._ahead([everyone], [worse], [lists])
    assert not ranking._ahead([worse], [worse], [lists])
    # A user to whom nothing is relevant has no figure.
    assert ranking._ahead([np.where(lists.user == 5, np.nan, everyone)], [worse], [lists])


def rows_of(rng, effect, users=40, width=12):
    columns = Columns(
        rng.normal(size=(users, 2)),
        rng.normal(size=(users, width, 3)),
        rng.normal(size=(users, width, 1)),
        3.5 + rng.normal(size=(users, width, 2)),
    )
    off = effect * columns.user[:, None, 0] * columns.item[..., 1]
    labels = columns.experts.mean(axis=-1) + off + 0.3 * rng.normal(size=(users, width))
    mask = rng.random((users, width)) < 0.9
    variance = np.ones((users, width))
    return Rows(columns, np.full(users, 3.0), labels, mask, variance, np.ones(users))


def head_of(effect, seed=0):
    rng = np.random.default_rng(seed)
    parts = [{knot: rows_of(rng, effect) for knot in KNOTS} for _ in range(3)]
    return fit_rating_head([parts], np.zeros(6, bool), ["a", "b"])


def test_the_correction_finds_a_product_of_user_and_item():
    head, errors = head_of(0.5)
    assert errors["corrected blend"] < 0.75 * errors["constant blend"]
    rows = rows_of(np.random.default_rng(9), 0.5)
    one = Columns(*(jnp.asarray(leaf[0], jnp.float32) for leaf in rows.columns))
    scores = head_scores(head, one, jnp.float32(3), jnp.float32(0))
    off = np.asarray(scores) - np.asarray(one.experts).mean(axis=1)
    expected = 0.5 * float(one.user[0]) * np.asarray(one.item[:, 1])
    assert np.corrcoef(off, expected)[0, 1] > 0.8
    # What was fitted to any supports serves first ones too where there are no times.
    np.testing.assert_array_equal(head.weights[0], head.weights[1])
    np.testing.assert_allclose(head.variance, errors["corrected blend"], rtol=0.5)


@pytest.mark.parametrize("count", [0, 3])
def test_scores_are_the_expanded_columns_times_the_weights(count):
    rng = np.random.default_rng(0)
    rows = rows_of(rng, 0.5)
    shapes = jax.tree.map(lambda leaf: leaf[0], rows.columns)
    of_user, _ = rating._kinds(shapes._replace(experts=np.zeros((1, 2))))
    head = rating.RatingHead(
        jnp.asarray(rng.normal(size=6), jnp.float32),
        jnp.asarray(rng.uniform(0.5, 2, 6), jnp.float32),
        jnp.array([1.0, 0, 0, 0, 0, 1]),
        jnp.arange(2),
        jnp.asarray(rng.normal(size=(2, len(KNOTS), len(of_user))), jnp.float32),
        jnp.ones((2, len(KNOTS))),
    )
    for user in range(3):
        one = jax.tree.map(lambda leaf, user=user: jnp.asarray(leaf[user], jnp.float32), rows)
        k, first = jnp.float32(count), jnp.float32(0.3)
        mean, columns = rating.expanded(head, one.columns, k)
        expected = mean + columns @ rating.blended(head.weights, k, first)
        np.testing.assert_allclose(
            head_scores(head, one.columns, k, first), expected, rtol=2e-5, atol=2e-5
        )


def test_a_user_of_weight_two_counts_like_two_users():
    rng = np.random.default_rng(0)
    parts = [rows_of(rng, 0.5, users=16) for _ in range(3)]
    weighted = [part._replace(weight=1 + (np.arange(16) < 4)) for part in parts]
    twice = [jax.tree.map(lambda leaf: np.concatenate([leaf, leaf[:4]]), part) for part in parts]
    (one, errors), (two, same), (plain, _) = (
        fit_rating_head([[dict.fromkeys(KNOTS, rows) for rows in found]], np.zeros(6, bool), "ab")
        for found in (weighted, twice, parts)
    )
    for leaf, other in zip(one, two, strict=True):
        np.testing.assert_allclose(leaf, other, rtol=2e-4, atol=2e-5)
    assert errors == pytest.approx(same, rel=1e-5)
    assert not np.allclose(one.weights, plain.weights, rtol=0.01, atol=1e-3)


def test_a_correction_that_does_not_help_is_left_out(monkeypatch):
    _, errors = head_of(0.0, seed=3)
    assert errors["corrected blend"] == pytest.approx(errors["constant blend"], rel=0.05)
    ridge = rating._ridge
    monkeypatch.setattr(rating, "_ridge", lambda *sums: (ridge(*sums)[0], 1e9))
    head, _ = head_of(0.0, seed=3)
    assert not np.any(head.weights)


def test_a_model_that_adds_nothing_to_the_blend_is_dropped():
    rng = np.random.default_rng(0)
    parts = [{knot: rows_of(rng, 0.0) for knot in KNOTS} for _ in range(2)]
    for part in parts:
        for knot, rows in part.items():
            good = rows.labels + 0.1 * rng.normal(size=rows.labels.shape)
            noise = good + 2 * rng.normal(size=rows.labels.shape)
            experts = np.stack([good, noise], axis=-1)
            part[knot] = rows._replace(columns=rows.columns._replace(experts=experts))
    head, _ = fit_rating_head([parts], np.zeros(6, bool), ["good", "noise"])
    assert head.kept.tolist() == [0]
    head, _ = fit_rating_head([parts], np.zeros(6, bool), ["good", "noise"], without=["good"])
    assert head.kept.tolist() == [1]


def test_penalties_are_chosen_by_cross_validation():
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(60, 4)) for _ in range(3)]
    y = [a @ np.array([0, 1.0, 0, 0]) + rng.normal(size=60) for a in x]
    sums = [rating._Sums(a.T @ a, a.T @ b, b @ b, 60, 1.0) for a, b in zip(x, y, strict=True)]
    of_user, main = np.array([0, 1, 0, 0], bool), np.array([1, 1, 1, 0], bool)
    gram, cross = sum(s.gram for s in sums), sum(s.cross for s in sums)

    def penalty(user, crossed):
        return 180 * np.array([1e-3, user, 0.1 * user, crossed])

    def held_out(user, crossed):
        total = 0.0
        for a, b, s in zip(x, y, sums, strict=True):
            left = gram - s.gram + 2 / 3 * np.diag(penalty(user, crossed))
            total += np.sum((b - a @ np.linalg.solve(left, cross - s.cross)) ** 2)
        return total

    weights, error = rating._ridge(sums, of_user, main)
    user = min((0.3, 1.2, 5.0), key=lambda user: held_out(user, 2.4))
    crossed = min((0.6, 2.4, 10.0), key=lambda crossed: held_out(user, crossed))
    expected = np.linalg.solve(gram + np.diag(penalty(user, crossed)), cross)
    np.testing.assert_allclose(weights, expected)
    assert error == pytest.approx(held_out(user, crossed))


@pytest.mark.parametrize("size", [1, 7, 130, 300])
def test_packed_factors_solve_what_general_ones_do(size):
    rng = np.random.default_rng(size)
    rows, right = rng.normal(size=(2 * size, size)), rng.normal(size=size)
    matrix = rows.T @ rows + np.diag(rng.uniform(0.03, 10, size))
    expected = np.linalg.solve(matrix, right)
    found = solve_positive(matrix, right)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    if size > 1:
        with pytest.raises(np.linalg.LinAlgError, match="not positive definite in row 2"):
            solve_positive(np.ones((size, size)), right)


def test_the_weights_are_those_of_general_solves(monkeypatch):
    rng, parts = np.random.default_rng(0), []
    of_user, main = np.arange(120) % 3 == 1, np.arange(120) < 40
    truth = rng.normal(size=120) * main
    for _ in range(4):
        x = rng.normal(size=(300, 120))
        y = x @ truth + rng.normal(size=300)
        parts.append(rating._Sums(x.T @ x, x.T @ y, y @ y, 300.0, 300.0))
    weights, error = rating._ridge(parts, of_user, main)
    monkeypatch.setattr(rating, "solve_positive", np.linalg.solve)
    expected, other = rating._ridge(parts, of_user, main)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    assert error == pytest.approx(other, rel=1e-10)
