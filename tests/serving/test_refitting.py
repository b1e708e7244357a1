import numpy as np
import pytest

from metajax import engine
from metajax.cli.app import main
from metajax.data import load as load_data
from metajax.serving import Event, Item, Store, outcomes
from metajax.serving.refitting import with_log
from metajax.serving.store import reading


def event(number, user, item, kind, value=None):
    return Event(f"e{number}", user, item, kind, value, 1e9 + number)


@pytest.fixture
def log(new_log):
    url = new_log()
    with Store(url) as store:
        store.add_events(
            [
                event(1, "ada", "3", "rating", 2.0),
                event(2, "ada", "3", "rating", 5.0),
                event(3, "ada", "new", "like"),
                event(4, "ada", "4", "dislike"),
                event(5, "0", "5", "rating", 1.0),
                event(6, "0", "6", "rating", 99.0),
                event(7, "1", "3", "like"),
            ]
        )
        store.put_item("new", Item(content={"title": "New film", "class": ["Drama", "War"]}))
        store.put_item("7", Item(content={"class": "War"}))
        store.put_user("ada", {"age": 50, "gender": "F"})
        store.put_user("0", {"age": 99})
        store.delete_user("1")
    return url


def rating_of(dataset, user, item):
    log = dataset.interactions
    rows = (log.user_ids[log.user] == user) & (log.item_ids[log.item] == item)
    return log.rating[rows].tolist()


def test_a_log_joins_the_data_and_the_deleted_leave_them(small, log):
    before = load_data(small)
    with reading(log) as db:
        found = with_log(before, db)
    liked = float(np.median(before.interactions.rating[before.relevant_rows]))
    assert rating_of(found, "ada", "3") == [5.0]
    assert rating_of(found, "ada", "new") == [liked]
    assert rating_of(found, "ada", "4") == [1.0]
    assert rating_of(found, "0", "5") == [1.0]
    ids = found.interactions.user_ids.tolist()
    assert found.interactions.user_counts[ids.index("1")] == 0
    assert found.users.columns["age"][ids.index("1")] == ""
    assert found.users.columns["age"][ids.index("0")] == "99"
    assert found.users.columns["age"][ids.index("ada")] == "50"
    items = found.items.ids.tolist()
    assert found.items.columns["movie_title"][items.index("new")] == "New film"
    assert found.items.columns["class"][items.index("new")] == "Drama War"
    assert found.items.columns["class"][items.index("7")] == "War"
    assert any("off the scale" in note for note in found.notes)
    others = [name for name in before.interactions.user_ids.tolist() if name not in ("0", "1")]
    for name in others[:5]:
        for item in before.interactions.item_ids.tolist():
            assert rating_of(found, name, item) == rating_of(before, name, item)


def test_a_service_is_refitted_from_the_command_line(small, log, new_log, tmp_path, capsys):
    arguments = ["fit", "--data", str(small), "--method", "eb_fold_in", "--trials", "1"]
    assert main([*arguments, "--events", log, "--output", str(tmp_path / "next")]) == 0
    assert "interactions become" in capsys.readouterr().out
    assert "new" in engine.load(tmp_path / "next").recommender.catalogue.ids.tolist()
    empty = new_log()
    Store(empty).close()
    for url, why in (
        (empty, "nothing that can be learned"),
        ("sqlite:////none.db", "no such log"),
        ("none", "sqlite:///FILE"),
    ):
        assert main([*arguments, "--events", url, "--output", str(tmp_path / "no")]) == 2
        assert why in capsys.readouterr().err


def test_first_positions_are_a_log_for_off_policy_evaluation(new_log):
    from metajax.exploration import evaluate
    from metajax.serving import Answer, Shown

    with Store(new_log()) as store:
        for n in range(20):
            item, chance = ("a", 0.2) if n % 5 == 0 else ("b", 0.8)
            items = (Shown(item, 1.0, chance), Shown("c", 1.0, 1.0))
            store.add_answer(Answer(f"r{n}", None, float(n), "softmax", "m", None, items))
            if item == "a":
                store.add_events([Event(f"e{n}", "u", "a", "like", None, 1.0, f"r{n}")])
        store.add_answer(Answer("none", None, 1.0, "softmax", "m", None, ()))
        found, ids = store.read(lambda db: outcomes.feedback(outcomes.read_log(db)))
    assert ids == ["a", "b"]
    assert evaluate(found, [1.0, 0.0], "ips").value == pytest.approx(1.0)
    assert evaluate(found, [0.5, 0.5], "snips").value == pytest.approx(0.5)
