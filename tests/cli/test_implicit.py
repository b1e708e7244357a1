"""The commands on a log without ratings: views, and events with weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metajax import evaluation, runs
from metajax.cli.app import main
from metajax.data import load
from metajax.runs import judging

TINY = ["--updates=4", "--per-dispatch=2", "--validate-every=2", "--tasks=8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Events of forty users with 8 to 11 of 24 items, half of them with one half of the items."""
    folder, rng = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    views, events = ["user,item,timestamp"], ["time,user,item,event"]
    for u in range(40):
        weight = np.where(np.arange(24) // 12 == u % 2, 0.0, 2.0) - rng.gumbel(size=24)
        for t, i in enumerate(np.argsort(weight)[: rng.integers(8, 12)]):
            views += [f"u{u},p{i},{t}"] * (1 + t % 2)
            events.append(f"{t},u{u},p{i},{('view', 'buy')[t % 2]}")
    (folder / "views.csv").write_text("\n".join(views) + "\n")
    (folder / "events.csv").write_text("\n".join(events) + "\n")
    return folder


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs a command in an empty folder; returns standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, status=0):
        assert main(list(map(str, arguments))) == status
        return capsys.readouterr()

    return run


@pytest.mark.slow
def test_a_log_of_views_trains_and_recommends_with_the_defaults(folder, command):
    said = command("train", "--data", folder / "views.csv", "--no-report", *TINY)
    assert "rows repeat a pair of user and item: newest is taken" in said.err
    assert said.out.startswith("attentive_neighbours on")
    assert "Best validation loss (1 - NDCG@10) 0." in said.out
    assert _only("runs").name == "views-attentive_neighbours"
    settings = runs.settings_of(_only("runs"))
    assert (settings.method, settings.objective, settings.updates) == (
        "attentive_neighbours", "ndcg", 4,
    )  # fmt: skip
    clicked = command("recommend", _only("runs"), "--items", "p1, p2", "--top", 3, "--json").out
    found = json.loads(clicked)
    assert len(found) == 3
    assert not {"p1", "p2"} & {line["id"] for line in found}
    # In Python alike, also by strengths: any is a whole interaction here.
    recommender = runs.load(_only("runs"))
    for seen in (["p1", "p2"], {"p1": 1, "p2": 7}):
        assert [r.item_id for r in runs.recommend(recommender, seen, top=3)] == [
            line["id"] for line in found
        ]


def _only(folder):
    (path,) = [p for p in Path(folder).iterdir() if p.is_dir() and not p.name.startswith(".")]
    return path


@pytest.mark.slow
def test_weighted_events_keep_their_unit_outside(folder, command):
    options = ["--weights", "view=1,buy=10", "--relevant", "10"]
    named = ["--method", "maml", "--maml.rank=2", "--maml.width=4", "--maml.embedding=2"]
    said = command("train", "--data", folder / "events.csv", *options, *named, "--no-report", *TINY)
    assert said.out.startswith("maml on")
    recommender = runs.load(_only("runs"))
    assert recommender.grades == (10.0, "none")
    weak, strong = (runs.recommend(recommender, {"p1": strength}, top=24) for strength in (1, 10))
    more = runs.recommend(recommender, {"p1": 50}, top=24)
    assert weak != strong == more == runs.recommend(recommender, ["p1"], top=24)
    with pytest.raises(ValueError, match="the strength of an interaction must be above 0, got 0"):
        runs.recommend(recommender, {"p1": 0})


def test_data_and_compare_say_what_the_log_has(folder, command):
    options = ["--weights", "view=1,buy=10", "--relevant", "5"]
    described = command("data", folder / "events.csv", *options).out
    assert "none; strengths 1 to 10 (median" in described
    assert "% of the interactions, from 5 on" in described
    assert "every interaction" in command("data", folder / "views.csv").out
    chosen = ["--methods", "popularity,item_knn", "--folds", 1, "--trials", 1]
    table = command("compare", "--data", folder / "events.csv", *options, *chosen).out
    assert "NDCG@10" in table
    assert "RMSE" not in table
    for wrong, line in (
        (["--methods", "item_mean"], "method 'item_mean' needs ratings, and "),
        (["--relevant", "11"], "relevant (--relevant) must be above 0 and at most the strongest"),
    ):
        given = [*options[:2], *wrong]
        assert line in command("compare", "--data", folder / "events.csv", *given, status=2).err


def test_the_page_says_what_is_relevant_and_has_no_errors_of_ratings(folder, tmp_path):
    views = folder / "views.csv"
    weights: dict[str, Any] = {"weights": "view=1,buy=10", "relevant": 10}
    for name, options, sentence in (
        (views, {}, "The log has no ratings: every item that a user met is relevant."),
        (folder / "events.csv", weights, "the strength of the interaction is at least 10."),
    ):
        dataset = load(str(name), **options)
        found = evaluation.compare(dataset, ["popularity", "item_knn"], folds=[0], trials=1)
        page = judging.write_comparison(tmp_path, dataset, found, seeds=1).read_text()
        assert sentence in page
        assert "NDCG@10" in page
        for word in ("RMSE", "MAE", "within@50", "P2:"):
            assert word not in page


def test_what_needs_ratings_says_so_in_one_line_before_any_work(folder, command, tmp_path):
    views, rated = folder / "views.csv", tmp_path / "rated.csv"
    rows = [f"u{u},p{i},{1 + (u + i) % 5}" for u in range(12) for i in range(4)]
    rated.write_text("\n".join(["user,item,rating", *rows]) + "\n")
    for side, other, source, target in (
        ("source", "target", views, rated),
        ("target", "source", rated, views),
    ):
        err = command("transfer", "--source", source, "--target", target, status=2).err
        assert err.splitlines()[-1] == (
            f"metajax: source and target must both have ratings, or neither, and {views} has none: "
            f"give --{side}.rating-column, or read the {other} without: --{other}.ignore rating, "
            f"and to leave out what was not liked --{other}.drop 'rating<4'."
        )
        assert "Initialising" not in err
    command("fit", "--data", rated, "--method", "item_mean", "--output", "model")
    counts = tmp_path / "counts.csv"
    counts.write_text("user,item,plays\nann,p1,3\n")
    words = ["recommend", "model", "--users", counts, "--output", "lists.csv"]
    err = command(*words, status=2).err
    assert err.splitlines()[-1] == (
        f"metajax: {counts}: counts are no ratings, and the method has learned from ratings: give "
        "ratings, or leave the counts out, and the items count as liked."
    )
