import gc
import weakref
from typing import Any

import numpy as np
import pytest

from metajax import runs
from metajax.runs import scores
from metajax.serving import scoring
from metajax.serving.scoring import ListRequest, RefusedError
from metajax.serving.state import FIRST, KeptLists
from metajax.serving.store import Item


def first(scorer, **options):
    asked: dict[str, Any] = {"labels": {}, **options}
    return scorer.lists([ListRequest(**asked)])[0]


def compiled():
    """Numbers of programs."""
    programs: list[Any] = [scoring._drawn, scores._scores]
    return [program._cache_size() for program in programs]


def classes_of(scorer):
    column = scorer.recommender.catalogue.attributes.columns["class"].tolist()
    return dict(zip(scorer.ids, column, strict=True))


def test_a_greedy_list_is_that_of_recommend(scorer):
    labels, user = {"3": 5.0, "4": 1.0}, {"age": 30, "gender": "F"}
    found = first(scorer, labels=labels, attributes=user, explain=True)
    # Labels come newest first, and methods see the oldest first.
    seen = dict(reversed(labels.items()))
    expected = runs.recommend(scorer.recommender, seen, user, top=10, explain=True)
    assert [line.item for line in found] == [line.item_id for line in expected]
    np.testing.assert_allclose(
        np.array([(line.score, line.standard_error) for line in found], float),
        np.array([(line.score, line.deviation) for line in expected], float),
        rtol=1e-5,
    )
    assert {line.propensity for line in found} == {1.0}
    titles = dict(zip(scorer.ids, scorer.recommender.catalogue.titles.tolist(), strict=True))
    for line, same in zip(found, expected, strict=True):
        assert [titles[item] for item, _ in line.reasons] == [title for title, _ in same.reasons]
        assert line.facts == same.facts


def test_users_of_one_call_are_those_of_many_and_nothing_more_is_compiled(scorer, monkeypatch):
    monkeypatch.setattr(scorer, "kept", KeptLists(0))
    asked = [
        ListRequest({str(n): 5.0, "7": 2.0}, policy=policy, n=n + 1, seed=n, explain=n == 2)
        for n in range(5)
        for policy in ("greedy", "epsilon_greedy", "thompson")
    ]
    scorer.warm_up()  # An earlier module may have dropped what was compiled.
    before = compiled()
    together = []
    for start in range(0, len(asked), scoring.AT_ONCE):
        together += scorer.lists(asked[start : start + scoring.AT_ONCE])
    many = dict.fromkeys(scorer.ids[1:], 3.0)
    assert len(scorer.lists([ListRequest(many)])[0]) == 1
    alone = [scorer.lists([one])[0] for one in asked]
    scorer.similar("9", 5)
    assert compiled() == before
    for one, other in zip(together, alone, strict=True):
        assert [line.item for line in one] == [line.item for line in other]
        np.testing.assert_allclose(
            [line.score for line in one], [line.score for line in other], rtol=1e-4
        )


def test_propensities_are_those_of_the_policy(scorer):
    lists = [first(scorer, policy="epsilon_greedy", seed=seed) for seed in range(40)]
    best = first(scorer)[0].item
    items = len(scorer.ids)
    for found in lists:
        expected = 0.9 + 0.1 / items if found[0].item == best else 0.1 / items
        assert found[0].propensity == pytest.approx(expected, rel=1e-5)
    assert 25 <= sum(found[0].item == best for found in lists) <= 40
    drawn = first(scorer, policy="thompson")
    assert all(0 < line.propensity <= 1 for line in drawn)


def test_the_newest_rows_count_and_wrong_requests_are_refused_alone(scorer):
    many = dict.fromkeys(scorer.ids, 3.0)
    many |= dict.fromkeys(("unknown",), 3.0)
    assert first(scorer, labels=many) == []  # Nothing is left.
    found = scorer.lists(
        [
            ListRequest({}, policy="gredy"),
            ListRequest({}, attributes={"aeg": 3}),
            ListRequest({}, having=[("class", "Comdy")]),
            ListRequest({}, having=[("class", "Comedy")]),
        ]
    )
    assert "did you mean 'greedy'" in str(found[0])
    assert "'age'" in str(found[1])
    assert "Comdy" in str(found[2])
    assert [isinstance(one, RefusedError) for one in found] == [True, True, True, False]
    classes = classes_of(scorer)
    assert {classes[line.item] for line in found[3]} == {"Comedy"}


def test_items_that_are_not_to_be_shown_never_are(scorer):
    best = [line.item for line in first(scorer, n=3)]
    scorer.set_items({best[0]: Item(available=False), best[1]: Item(expires=1.0)})
    try:
        for policy in scorer.policies:
            shown = first(scorer, policy=policy, n=100, exclude=[best[2]], met=["9"])
            assert len(shown) == len(scorer.ids) - 4
            assert not {line.item for line in shown} & {*best, "9"}
        assert best[0] not in {name for name, _, _ in scorer.similar("9", 100)}
    finally:
        scorer.set_items({})
    assert [line.item for line in first(scorer, n=3)] == best


def test_a_new_item_is_scored_by_its_content(scorer):
    """The users' scores regressed on the class of the items, by least squares."""
    scorer.set_items({f"new {kind}": Item(content={"class": kind}) for kind in ("Drama", "Comedy")})
    try:
        found = first(scorer, labels={"3": 5.0}, n=100, exclude=["3"])
        score = {line.item: line.score for line in found}
        kinds = classes_of(scorer)
        for kind in ("Drama", "Comedy"):
            mean = np.mean([score[i] for i in score if kinds.get(i) == kind])
            assert score[f"new {kind}"] == pytest.approx(mean, abs=0.1)
        assert score["new Drama"] > score["new Comedy"] + 0.2
        error = {line.item: line.standard_error for line in found}
        assert error["new Drama"] >= np.mean([error[i] for i in scorer.ids if i in error])
        near = scorer.similar("new Drama", 3)
        assert {kinds[name] for name, _, _ in near} == {"Drama"}
        with pytest.raises(RefusedError, match="'class'"):
            scorer.check_content({"clas": "Drama"})
    finally:
        scorer.set_items({})


def test_content_changes_the_score_of_an_item_that_the_model_knows(scorer):
    """By the difference that the regression makes, as between two new items."""
    kinds = classes_of(scorer)
    item = next(name for name in scorer.ids if kinds[name] == "Drama" and name != "3")

    def scores():
        found = first(scorer, labels={"3": 5.0}, n=100)
        return {line.item: line.score for line in found}

    before = scores()
    try:
        scorer.set_items({item: Item(content={"class": "Drama"})})
        assert scores()[item] == pytest.approx(before[item], abs=1e-5)
        news = {f"new {kind}": Item(content={"class": kind}) for kind in ("Drama", "Comedy")}
        scorer.set_items({item: Item(content={"class": "Comedy"}), **news})
        after = scores()
        change = after["new Comedy"] - after["new Drama"]
        assert after[item] == pytest.approx(before[item] + change, abs=1e-4)
        assert change < -0.2
        others = set(before) - {item}
        assert {name: after[name] for name in others} == {name: before[name] for name in others}
        comedies = first(scorer, having=[("class", "Comedy")], n=100)
        assert item in {line.item for line in comedies}
    finally:
        scorer.set_items({})


def test_kept_lists_are_those_of_an_adaptation_from_scratch_and_are_bounded(scorer):
    rng = np.random.default_rng(0)
    computed = []

    def compute(seen):
        computed.append(len(seen))
        return scorer._firsts(seen, scorer._items)

    kept = KeptLists(10_100)
    users = []
    for n in range(40):
        items = rng.choice(scorer.ids, n % 12, replace=False).tolist()
        labels = {item: float(rng.integers(1, 6)) for item in items}
        users.append(scorer._seen(ListRequest(labels, attributes={"age": n})))
    for start in (*range(0, 40, 4), *range(36, -4, -4), 36):
        own = users[start : start + 4]
        found = kept.of(own, b"", compute)
        for first, one in zip(found, own, strict=True):
            scratch = scorer._of_known([one])
            scores, ranks = (np.array(part)[0] for part in (scratch.scores, scratch.ranks))
            kind = {"rtol": 1e-6, "atol": 1e-6}
            ranks[one.items] = -np.inf  # One's own items are not recommended.
            best = np.argsort(-ranks, kind="stable")[: len(ranks) - len(one.items)]
            first = first[first["item"] >= 0]
            assert len(first) == len(best)  # A small catalogue.
            np.testing.assert_allclose(ranks[first["item"]], ranks[best], **kind)
            np.testing.assert_allclose(first["score"], scores[first["item"]], **kind)
            deviations = np.asarray(scratch.deviations)[0]
            np.testing.assert_allclose(first["deviation"], deviations[first["item"]], **kind)
        assert kept.size <= 10_100
        assert 4 <= kept.users <= 10
    # Those of the last call and of the one before were there, when the order was turned round.
    assert computed.count(4) < 21
    assert kept.of(users[36:37] * 2, b"", compute).shape == (2, FIRST)
    before = sum(computed)
    # The same items in another order, or other labels, are another user.
    labels = {"3": 5.0, "4": 2.0}
    turned = dict(reversed(labels.items()))
    for one in (labels, turned, {"3": 5.0, "4": 3.0}, labels):
        kept.of([scorer._seen(ListRequest(one))], b"", compute)
    assert sum(computed) == before + 3
    # So are they when clients have told something else of items.
    kept.of([scorer._seen(ListRequest(labels))], b"other", compute)
    assert sum(computed) == before + 4


def test_a_list_that_the_kept_items_cannot_fill_is_drawn_from_all(scorer, monkeypatch):
    whole = [line.item for line in first(scorer, n=100)]
    assert len(whole) == len(scorer.ids) < FIRST
    monkeypatch.setattr(scoring, "FIRST", 16)
    monkeypatch.setattr(scorer, "kept", KeptLists(2**20, 16))
    met = whole[:13]
    for n in (3, 4, 10, 100):
        found = first(scorer, n=n, met=met)
        assert [line.item for line in found] == whole[len(met) :][:n]
        assert {line.propensity for line in found} == {1.0}


def test_scores_that_are_not_finite_are_refused_and_not_kept(scorer, monkeypatch):
    scored, ranked = scorer._of_known, scorer._best_known
    for part in ("scores", "ranks"):
        kept = KeptLists(2**20)
        monkeypatch.setattr(scorer, "kept", kept)

        def broken(seen, part=part):
            found = scored(seen)
            rows = np.array(getattr(found, part))
            rows[0, -1] = np.nan
            return found._replace(**{part: rows})

        def broken_first(seen):
            found = ranked(seen)
            return found._replace(finite=np.arange(len(found.finite)) > 0)

        monkeypatch.setattr(scorer, "_of_known", broken)
        monkeypatch.setattr(scorer, "_best_known", broken_first)
        asked = [ListRequest({"3": 5.0}), ListRequest({"4": 5.0})]
        refused, drawn = scorer.lists(asked)
        assert isinstance(refused, RefusedError)
        assert "NaN" in str(refused)
        assert len(drawn) == 10
        assert kept.users == 1
        scorer.set_items({"new": Item()})
        try:
            assert [isinstance(one, RefusedError) for one in scorer.lists(asked)] == [True, False]
        finally:
            scorer.set_items({})


def test_a_scorer_is_freed_without_a_collection(model):
    """What is there when a service starts is not collected, and a reload must not keep it."""
    scorer = scoring.scorer_of(model, policies=("greedy",))
    gone = weakref.ref(scorer)
    gc.disable()
    try:
        del scorer
        assert gone() is None
    finally:
        gc.enable()
