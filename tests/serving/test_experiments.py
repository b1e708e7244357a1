import json
from collections import Counter

import numpy as np
import pytest

from metajax.cli.app import main
from metajax.serving import Answer, Event, Item, Shown, Store, outcome_page, outcomes
from metajax.serving.experiments import Arm, Experiment, arm_of, read_experiment
from metajax.serving.scoring import scorer_of
from metajax.serving.service import Service, ServiceSettings
from metajax.serving.store import reading

EXPERIMENT = Experiment(
    "autumn", (Arm("autumn/plain", "greedy"), Arm("autumn/wide", "epsilon_greedy", 3.0))
)
DAY = 86_400.0


def test_users_are_split_by_shares_and_anew_by_another_experiment():
    users = [f"u{n}" for n in range(4000)]
    arms = [arm_of(EXPERIMENT, user).name for user in users]
    assert arms == [arm_of(EXPERIMENT, user).name for user in users]
    # 3 of 4, with a standard error of .0068.
    assert np.mean([arm == "autumn/wide" for arm in arms]) == pytest.approx(0.75, abs=0.025)
    again = [arm_of(EXPERIMENT._replace(name="winter"), user).name for user in users]
    same = np.mean([one == other for one, other in zip(arms, again, strict=True)])
    assert same == pytest.approx(0.75**2 + 0.25**2, abs=0.03)


def test_an_experiment_is_read_and_its_mistakes_are_named(tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text(
        'name = "autumn"\n[arms.plain]\npolicy = "greedy"\n'
        '[arms.wide]\npolicy = "epsilon_greedy"\nshare = 3\n'
    )
    assert read_experiment(path) == EXPERIMENT
    start = 'name = "a"\n[arms.x]\npolicy = "greedy"\n'
    for text, why in (
        ("", "name"),
        ('name = "a/b"\n', "slash"),
        (start, "2 to 20 tables"),
        (f"{start}[arms.y]\n", "y: policy"),
        (f'{start}[arms.y]\npolicy = "greedy"\nshare = 0\n', "share must be"),
        (f'{start}[arms.y]\npolicy = "greedy"\nshare = nan\n', "share must be"),
        (f'{start}[arms.y]\npolicy = "greedy"\nmodel = 3\n', "model must be"),
        (f'{start}[arms.y]\npolcy = "greedy"\n', "polcy"),
        (f"{start}arms.y = 3\n", "table"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=why) as found:
            read_experiment(path)
        assert "\n" not in str(found.value)


def test_arms_are_in_answers_and_events_and_a_named_policy_is_outside(serve):
    service, call = serve(experiment=EXPERIMENT)
    by_arm = {arm_of(EXPERIMENT, f"u{n}"): f"u{n}" for n in range(20)}
    for arm, user in by_arm.items():
        path = f"/v1/users/{user}/recommendations"
        found = call("GET", path).content
        assert (found["arm"], found["policy"]) == (arm.name, arm.policy)
        kept = service.store.answer(found["recommendation_id"])
        assert (kept.arm, kept.known) == (arm.name, 0)
        assert kept.chances[arm.name] == kept.items[0].propensity
        best = found["items"][0]["item"]
        assert set(kept.chances) == {one.name for one in EXPERIMENT.arms}
        if arm.policy == "greedy":
            items = len(service.scorer.ids)
            wide = kept.chances["autumn/wide"]
            assert wide == pytest.approx(0.9 + 0.1 / items, rel=1e-5)
        other = call("GET", path, query=[("policy", "thompson")]).content
        assert other["arm"] is None
        sent = [
            {"id": f"{user}1", "user": user, "item": best, "kind": "like"},
            {"id": f"{user}2", "user": user, "item": "9", "kind": "like",
             "recommendation_id": other["recommendation_id"]},
        ]  # fmt: skip
        call("POST", "/v1/events", {"events": sent})
        assert [one.arm for one in service.store.events_of(user, 9)] == [None, arm.name]
        again = service.store.answer(call("GET", path).content["recommendation_id"])
        assert again.known == 2
    body = {"events": []}
    assert call("POST", "/v1/recommendations", body).content["arm"] is None


def test_a_list_may_be_asked_of_a_model_beside_the_other(serve, model):
    other = scorer_of(model, policies=("greedy",))
    other.version = "other"
    names = {"beside": {"knn": "folder"}, "others": {"knn": other}}
    service, call = serve(experiment=EXPERIMENT, **names)
    assert call("GET", "/v1/model").content["beside"] == ["knn"]
    path = "/v1/users/ada/recommendations"
    found = call("GET", path, query=[("model", "knn")]).content
    # Who chooses the model is outside of the experiment.
    assert (found["model"], found["arm"]) == ("other", None)
    assert call("GET", path).content["model"] == service.scorer.version
    asked = call("POST", "/v1/recommendations", {"events": [], "model": "knn"})
    assert asked.content["model"] == "other"
    service.put_item("new", Item(available=True))
    assert other.knows("new")
    for name, line in (("knm", "there is no model 'knm' beside this one; did you mean 'knn'?"),
                       ("x" * 257, "model must")):  # fmt: skip
        refused = call("GET", path, query=[("model", name)])
        assert refused.status == 422
        assert line in refused.content["error"]


def test_an_arm_has_a_model_of_its_own(scorer, model, new_log):
    arms = (Arm("a/own", "greedy", 1.0, "folder"), Arm("a/plain", "epsilon_greedy"))
    experiment = Experiment("a", arms)
    other = scorer_of(model, policies=("greedy",))
    other.version = "other"
    loaded = []

    def load(name):
        loaded.append(name)
        return other if name else scorer

    with Store(new_log()) as store:
        service = Service(
            store, scorer, ServiceSettings(experiment=experiment), load, {"a/own": other}
        )
        for n in range(9):
            found = service.list_for(f"u{n}").result()
            expected = {"a/own": "other", "a/plain": scorer.version}
            assert found.model == expected[str(found.arm)]
            kept = store.answer(found.recommendation_id)
            assert kept is not None
            assert set(kept.chances) == {found.arm}
        assert service.reload() == scorer.version
        assert loaded == ["", "a/own"]
        wrong = Experiment("a", (arms[0]._replace(policy="softmax"), arms[1]))
        settings = ServiceSettings(experiment=wrong)
        with pytest.raises(ValueError, match="no policy 'softmax'"):
            Service(store, scorer, settings, None, {"a/own": other})
    scorer.set_items({})


@pytest.fixture
def log(new_log):
    """Twelve users of two arms: those of `x/b` succeed at the first position, half of `x/a` do."""
    url = new_log()
    with Store(url) as store:
        store.put_model("m", 10, (1.0, 5.0))
        for n in range(12):
            arm = "x/a" if n < 8 else "x/b"
            for visit in range(2 if n % 4 else 1):
                name = f"r{n}-{visit}"
                items = (Shown("p1", 4.0, 0.5), Shown("p2", 3.0, 0.5))
                chances = {"x/a": 0.5, "x/b": 0.25 if n % 2 else 0.75}
                time = 1e9 + n + visit * 2 * DAY
                store.add_answer(
                    Answer(name, f"u{n}", time, "softmax", "m", None, items, visit, arm, chances)
                )
                if arm == "x/b" or n % 2:
                    event = Event(f"e{name}", f"u{n}", "p1", "rating", 4.0, time, name)
                    store.add_events([event])
                elif visit:
                    bad = Event(f"e{name}", f"u{n}", "p2", "rating", 3.0, time, name)
                    store.add_events([bad])
        items = (Shown("p3", None, 1.0),)
        store.add_answer(Answer("s", None, 1e9 + 3 * DAY, "greedy", "m", None, items, 4))
        store.add_events([Event("es", "late", "p3", "like", None, 1e9, "s")])
    return url


def test_outcomes_are_those_counted_by_hand(log):
    with reading(log) as db:
        read = outcomes.read_log(db)
    found = {one.name: one for one in outcomes.summary(read, resamples=300)}
    assert list(found) == ["all", "x/a", "x/b", "none"]
    a, b = found["x/a"], found["x/b"]
    assert (a.users, a.lists, b.users, b.lists) == (8, 14, 4, 7)
    # Users 1, 3, 5 and 7 succeed twice, 2 and 6 fail twice, 0 and 4 fail once.
    assert a.success.value == a.at_first.value == pytest.approx(8 / 14)
    assert a.success.low < 8 / 14 < a.success.high
    assert (a.first.count, a.first.value, b.first.value) == (8, 0.5, 1.0)
    assert (a.day.count, a.day.value, a.week.count) == (8, 6 / 8, 0)
    assert [(one.label, one.share.count) for one in a.by_known] == [("0", 8), ("1", 6)]
    assert a.by_known[1].share.value == pytest.approx(4 / 6)
    assert (a.items, a.coverage, found["none"].coverage) == (2, 0.2, 0.1)
    assert (found["all"].users, found["all"].lists) == (12, 22)
    assert found["none"].success.value == 1.0
    assert (read.events, read.users, read.catalogue) == (18, 11, 10)
    assert read.liked == Counter(p1=15, p3=1)
    # b from the lists of a: weights 1/2 of odd users, who succeed, and 3/2 of the others.
    assert b.off_policy is not None
    assert b.off_policy.lists == 14
    assert b.off_policy.value.value == pytest.approx(8 * 0.5 / (8 * 0.5 + 6 * 1.5))
    assert b.off_policy.ess == pytest.approx(13**2 / (8 * 0.25 + 6 * 2.25))
    assert "effective lists" in b.off_policy.note
    assert found["all"].off_policy is None
    with reading(log) as db:
        newest = outcomes.read_log(db, most=1)
    assert newest.items == [["p3"]]


def test_a_report_is_printed_and_drawn_beside_the_service(log, new_log, tmp_path, capsys):
    page = tmp_path / "report.html"
    with Store(log):
        assert main(["report", log, "--output", str(page)]) == 0
    said = capsys.readouterr().out
    for text in ("18 events of 11 users", "x/a: 14 lists, 8 users", "57.1 %", "75.0 %",
                 "2 items, 20.0 % of the catalogue", "from 14 lists", "    1 "):  # fmt: skip
        assert text in said, text
    drawn = page.read_text()
    assert drawn.count("<circle") == 2 + 2 + 2 + 1 + 1
    assert "<script" not in drawn
    empty = new_log()
    Store(empty).close()
    for arguments, why in (
        ([log, "--output", str(page)], "must not exist"),
        ([log, "--last", "0"], "--last"),
        (["sqlite:////none/e.db"], "there is no such log"),
        ([f"sqlite:///{page}"], "is no log of events"),
        ([empty], "holds no list yet"),
        (["events.db"], "sqlite:///FILE"),
    ):
        assert main(["report", *arguments]) == 2
        assert why in capsys.readouterr().err


def test_names_in_a_page_are_text():
    share = outcomes.Share(1, 0.5, 0.0, 1.0)
    arm = outcomes.ArmOutcome(
        "<script>x</script>", 1, 1, share, share, share, share, share,
        (outcomes.ByKnown("0", share),), 1, None, None,
    )  # fmt: skip
    page = outcome_page.page_of([arm], "<img>")
    assert "<script" not in page
    assert "<img" not in page


def test_the_operator_is_told_what_happened(serve):
    _, call = serve(experiment=EXPERIMENT, admin_key="a" * 20, api_key="k" * 20)
    own, admin = ({"authorization": f"Bearer {key * 20}"} for key in "ka")
    new = {"content": {"title": "<b>New</b>", "class": "Drama"}, "categories": ["fresh"]}
    assert call("PUT", "/v1/items/new", new, headers=own).status == 200
    path = "/v1/users/ada/recommendations"
    only = [("filter", "category=fresh")]
    listed = call("GET", path, query=only, headers=own).content
    like = {"id": "e1", "user": "ada", "item": "new", "kind": "like",
            "recommendation_id": listed["recommendation_id"]}  # fmt: skip
    call("POST", "/v1/events", {"events": [like]}, headers=own)
    assert call("GET", "/v1/admin/activity", headers=own).status == 401
    found = call("GET", "/v1/admin/activity", headers=admin).content
    assert (sum(found["minutes"]), len(found["minutes"]), found["events"]) == (1, 60, 1)
    assert [one["arm"] for one in found["arms"]] == ["all", arm_of(EXPERIMENT, "ada").name]
    assert found["arms"][0]["success"] == {"count": 1, "share": 1.0, "low": 1.0, "high": 1.0}
    assert found["arms"][0]["day"]["share"] is None
    assert found["success"] == [{"interactions": "0", "lists": 1, "share": 1.0, "low": 1.0,
                                 "high": 1.0}]  # fmt: skip
    told = {"item": "new", "title": "<b>New</b>", "shown": 1, "successes": 1, "available": True}
    assert found["new_items"] == [told]
    json.dumps(found, allow_nan=False)


def test_minutes_are_counted_and_forgotten():
    now = [0.0]
    from metajax.serving.metrics import Metrics

    metrics = Metrics(lambda: now[0])
    for minute in range(100):
        now[0] = 60.0 * minute
        metrics.events(accepted=minute)
    assert metrics.minutes() == list(range(40, 100))
    assert len(metrics._counts["minutes"]) <= 61
