"""The command `metajax recommend` on a model folder: selections, reasons, many users."""

import json

import polars as pl
import pytest

from metajax import engine
from metajax.cli.app import main
from metajax.cli.recommend import shares_of
from metajax.data import load as load_data
from metajax.runs import lists, recommend, scores


@pytest.fixture(scope="module")
def model(small, tmp_path_factory):
    fitted = engine.fit(load_data(small), "eb_fold_in", trials=1)
    return engine.save(fitted, tmp_path_factory.mktemp("models") / "films")


@pytest.fixture
def run(model, capsys):
    """Recommends from the model; returns the status, and the one or the other output."""

    def run(*arguments):
        status = main(["recommend", str(model), *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def users(tmp_path):
    """Three users, the first of whom rates in another order than that of the ids; attributes."""
    rows = ["user,item,rating,timestamp", "b,Film 4,1,20", "b,film 3,5,10", "a,7,4,1", "c,7,2,1"]
    path = tmp_path / "asked.csv"
    path.write_text("\n".join(rows) + "\n")
    (tmp_path / "people.csv").write_text("user,age,city\na,20,Rome\nb,50,Oslo\nc,,Rome\n")
    return path


def test_items_are_selected_and_left_out(run):
    asked = ["--ratings", "Film 3=5", "--json", "--top", "40"]
    everything = json.loads(run(*asked)[1])
    without = json.loads(run(*asked, "--exclude", "Film 5, 7")[1])
    assert [one for one in everything if one["id"] not in ("5", "7")] == without
    assert len(without) == 27
    chosen = json.loads(run(*asked, "--only", "Film 5, 7", "--category", "class=drama")[1])
    comedies = json.loads(run(*asked, "--category", "class=comedy")[1])
    assert {one["id"] for one in chosen} <= {"5", "7"}
    assert 0 < len(comedies) < 29
    assert not {one["id"] for one in chosen} & {one["id"] for one in comedies}


def test_reasons_are_printed_beneath_and_in_json(run):
    asked = ["--ratings", "Film 3=5, Film 4=1", "--top", "2", "--explain"]
    found = json.loads(run(*asked, "--json")[1])
    reasons = [reason for one in found for reason in one["reasons"]]
    assert {reason["title"] for reason in reasons} <= {"Film 3", "Film 4"}
    assert all(reason["change"] > 0 for reason in reasons)
    lines = run(*asked)[1].splitlines()
    shown = [line for line in lines if line.startswith("       +")]
    assert shown == [f"       {r['change']:+.2f} by {r['title']}" for r in reasons]
    facts = [line for line in lines if line.startswith("       same ")]
    assert facts == [
        f"       same {f['relation']} as {', '.join(f['titles'])}: {f['value']}"
        for one in found
        for f in one["facts"]
    ]
    assert len(lines) == 2 + len(shown) + len(facts) > 2


def test_shares_of_experts_are_of_the_sizes_of_all_parts():
    experts = (("EASE", 1.0), ("similar users", 0.6), ("reach", -0.3), ("a", -0.05), ("b", 0.05))
    assert shares_of(experts) == "EASE 50 %, similar users 30 %, reach \u221215 %, 2 others 5 %"
    assert shares_of(()) == shares_of([("EASE", 0.0)]) == ""


def test_many_users_get_lists_in_a_file(run, users, model, tmp_path):
    output = tmp_path / "lists.csv"
    people = ["--attributes", tmp_path / "people.csv"]
    status, out, err = run("--users", users, *people, "--output", output, "--top", "3")
    assert (status, out) == (0, f"3 users: {output}.\n"), err
    found = pl.read_csv(output, schema_overrides={"id": pl.String})
    assert found.columns == ["user", "rank", "id", "title", "score", "deviation"]
    assert found["user"].to_list() == [user for user in "abc" for _ in range(3)]
    assert found["rank"].to_list() == [1, 2, 3] * 3
    recommender = engine.load(model).recommender
    expected = recommend(recommender, {"film 3": 5, "Film 4": 1}, {"age": 50}, top=3)
    own = found.filter(pl.col("user") == "b")
    assert own["id"].to_list() == [line.item_id for line in expected]
    assert own["score"].to_list() == pytest.approx([line.score for line in expected], rel=1e-5)
    parquet = tmp_path / "lists.parquet"
    assert run("--users", users, *people, "--output", parquet, "--top", "3")[0] == 0
    assert pl.read_parquet(parquet)["score"].to_list() == found["score"].to_list()


def test_ratings_of_a_log_are_shown_in_the_order_of_their_times(users, model, monkeypatch):
    shown = []
    monkeypatch.setattr(lists, "recommend_batch", lambda r, *seen, **o: shown.append(seen) or [])
    recommender = engine.load(model).recommender
    people = str(users.with_name("people.csv"))
    list(lists.recommend_log(recommender, load_data(users, users=people)))
    ratings, attributes = shown.pop()
    assert ratings == [{"7": 4.0}, {"film 3": 5.0, "Film 4": 1.0}, {"7": 2.0}]
    assert list(ratings[1]) == ["film 3", "Film 4"]
    # The model knows of no cities.
    assert attributes == [{"age": "20"}, {"age": "50"}, {"age": ""}]
    # Without ratings, and with counts of how often.
    implicit = recommender._replace(scale=None)
    for column, expected in (("", ["7", "9"]), (",count", {"7": 1.0, "9": 3.0})):
        users.write_text(f"user,item{column}\nann,7{column and ',1'}\nann,9{column and ',3'}\n")
        list(lists.recommend_log(implicit, load_data(users)))
        assert shown.pop()[0] == [expected]


def test_items_of_a_log_without_ratings_are_liked(run, model, tmp_path):
    clicks, liked = tmp_path / "clicks.csv", engine.load(model).recommender.labels.liked
    clicks.write_text("user,item\nann,Film 3\nann,4\nbob,7\n")
    status, _, err = run("--users", clicks, "--output", tmp_path / "lists.csv", "--top", "3")
    assert status == 0
    assert f"note: the items have no ratings and count as rated {liked:g}, the median of" in err
    rated = tmp_path / "rated.csv"
    rated.write_text(f"user,item,rating\nann,Film 3,{liked}\nann,4,{liked}\nbob,7,{liked}\n")
    assert (
        "note: the items"
        not in run("--users", rated, "--output", tmp_path / "r.csv", "--top", "3")[2]
    )
    assert (tmp_path / "lists.csv").read_text() == (tmp_path / "r.csv").read_text()


def test_items_of_a_log_are_ids_where_all_are(model, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(lists, "recommend_batch", lambda *a, **o: asked.append(o["by_id"]) or [])
    for name, items in (("ids", "7 4"), ("both", "7 film-4")):
        log = tmp_path / f"{name}.csv"
        rows = [f"ann,{item.replace('-', ' ')},4" for item in items.split()]
        log.write_text("\n".join(["user,item,rating", *rows]) + "\n")
        list(lists.recommend_log(engine.load(model).recommender, load_data(log)))
    assert asked == [True, False]


def test_a_batch_more_changes_nothing(users, model, monkeypatch):
    recommender, log = engine.load(model).recommender, load_data(users)
    begun = []
    whole = list(lists.recommend_log(recommender, log, begin=begun.append))
    monkeypatch.setattr(scores, "_HOST_SCORES", 60)  # Two users of 30 items.
    parts = list(lists.recommend_log(recommender, log, begin=begun.append))
    assert [one.user for one in parts] == [one.user for one in whole]
    for one, other in zip(parts, whole, strict=True):
        assert [line.item_id for line in one.items] == [line.item_id for line in other.items]
    assert begun == ["users 1 to 3 of 3", "users 1 to 2 of 3", "users 3 to 3 of 3"]


def test_mistakes_are_one_line(run, users, tmp_path):
    output, there = tmp_path / "lists.csv", tmp_path / "there.csv"
    there.write_text("")
    unknown, high = (tmp_path / f"{name}.csv" for name in ("unknown", "high"))
    unknown.write_text("user,item,rating\nann,Flim 3,5\n")
    high.write_text("user,item,rating\nann,Film 3,4\nann,Film 4,6\n")
    for arguments, words in (
        (["--users", users], "--users needs --output"),
        (["--output", output], "--output needs --users"),
        (["--attributes", users], "--attributes are those of --users"),
        (["--users", users, "--output", there], "--output must not exist"),
        (["--users", users, "--output", tmp_path / "a.txt"], "must end in .csv or .parquet"),
        (["--users", users, "--output", tmp_path / "no" / "a.csv"], "a folder that exists"),
        (["--users", users, "--output", output, "--json"], "--json must be left out"),
        (["--users", users, "--output", output, "--ratings=7=5"], "--ratings must be left out"),
        (["--users", tmp_path / "no.csv", "--output", output], "no such file or folder"),
        (["--users", unknown, "--output", output], "unknown.csv: user ann: no item has the title"),
        (
            ["--users", high, "--output", output],
            "high.csv: user ann: rating of 'Film 4' must be in [1, 5]",
        ),
        (["--category", "genre=Comedy"], "'genre'"),
        (["--only", "Flim 3"], "nearest are 'Film 3'"),
        (["--exclude", "Film 3", "--only", "Film 3"], "leave no item to recommend"),
    ):
        status, out, err = run(*arguments)
        assert (status, out) == (2, ""), words
        assert words in err.splitlines()[-1]
        assert not output.exists()
