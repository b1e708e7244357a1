import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import from_columns
from metajax.knowledge import graph_from_names

USERS, FILMS = 24, 40


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        names = ("cold_items", "cold_item_data")
        yield tuple(importlib.import_module(name) for name in names)


@pytest.fixture(scope="module")
def about(scripts):
    """Two directors; every user likes the films of one of them, independent of genres."""
    _, data = scripts
    rng = np.random.default_rng(0)
    director = rng.integers(2, size=FILMS)
    user, item = np.nonzero(rng.random((USERS, FILMS)) < 0.7)
    rating = np.where(director[item] == user % 2, 5.0, 2.0)
    ids = np.array([f"{n:02d}" for n in range(FILMS)])
    log = from_columns(
        user,
        item,
        rating,
        user_ids=np.array([f"{n:02d}" for n in range(USERS)]),
        item_ids=ids,
    )
    nothing = np.array([""] * USERS)
    genres = rng.choice(["Drama", "Crime"], FILMS)
    columns = {"genres": genres, "year": rng.choice(["1994", "1995"], FILMS)}
    items = Table(ids, columns, {"genres": "tokens", "year": "numeric"})
    users = Table(log.user_ids, {"name": nothing}, {"name": "text"})
    triples = [(f"m{n}", "directed_by", f"d{director[n]}") for n in range(FILMS)]
    triples += [(f"m{n}", "award_won", f"a{n % 3}") for n in range(0, FILMS, 2)]
    graph = graph_from_names(triples, links=[(name, f"m{int(name)}") for name in ids])
    return data.Described(Dataset("films", log, users, items, (1.0, 5.0)), graph)


def test_preferences_for_a_director_are_found_by_the_graph_alone(scripts, about):
    script, _ = scripts
    names = ("number of facts", "genre", "TF-IDF", "ridge: attributes, graph")
    found = {name: script.one_draw(about, name, 0)[0] for name in names}
    auc = {name: np.nanmean(values["AUC among cold films"]) for name, values in found.items()}
    # Without awards there is one fact about every film.
    assert auc["number of facts"] == 0.5
    # What a user would like and has not rated counts as not liked.
    assert auc["genre"] < 0.7 < 0.85 < min(auc["TF-IDF"], auc["ridge: attributes, graph"])
    among_all = found["ridge: attributes, graph"]["NDCG@10 among all films"]
    assert np.nanmean(among_all) > 0.5
    pair = ("TF-IDF", "number of facts")
    measured = {
        name: script.Measured({metric: [v] for metric, v in found[name].items()}, [])
        for name in pair
    }
    records = script.records_of(measured, 1)
    wanted = {"against": "TF-IDF", "metric": "AUC among cold films"}
    (record,) = (r for r in records if wanted.items() <= r.items())
    assert record["low"] < record["mean"] < record["high"] < 0


@pytest.mark.slow
def test_the_engine_ranks_cold_films_by_their_director(scripts, about):
    script, _ = scripts
    found, _ = script.one_draw(about, "hybrid: attributes, graph", 0)
    assert np.nanmean(found["AUC among cold films"]) > 0.85


def test_cold_films_are_out_of_the_log_and_of_the_graph_of_likes(about):
    log, cold = about.drawn(about.log, 3)
    assert len(cold) == 8
    assert not about.liked(log)[:, cold].any()
    less, queried = about.drawn(log, 3)
    assert not set(queried) & set(cold)
    assert not np.isin(less.item, cold).any()


def test_ratings_of_new_films_are_predicted_by_their_director(about, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    script = importlib.import_module("cold_item_ratings")
    records = {
        (r["method"], r["against"], r["metric"]): r for r in script.ratings(about, draws=[0])
    }
    assert len(records) == 10
    metric = "RMSE of unrated films, known users"
    result = records["factors: attributes, graph", "factors: attributes", metric]
    assert result["high"] < 0
    alone = records["factors: attributes", None, metric]["mean"]
    graph = records["factors: attributes, graph", None, metric]["mean"]
    assert graph - alone == pytest.approx(result["mean"], abs=2e-4)


def test_records_of_parts_that_were_not_measured_stay(scripts, about, monkeypatch, tmp_path):
    script, _ = scripts
    monkeypatch.setattr(script, "Described", lambda *_: about)
    monkeypatch.setattr(script, "load_graph", lambda name: None)
    monkeypatch.setattr(script, "load", lambda name: None)

    def part(method, mean):
        return [{"method": method, "metric": "NDCG@10", "mean": mean}]

    monkeypatch.setattr(script, "new_users", lambda *_: part("EASE", 0.1))
    monkeypatch.setattr(script, "ratings", lambda *_: part("factors", 0.2))
    path = tmp_path / "found.json"
    script.main(["--parts=users,ratings", "--json", str(path)])
    monkeypatch.setattr(script, "ratings", lambda *_: part("factors", 0.3))
    script.main(["--parts=ratings", "--json", str(path)])
    found = {record["method"]: record["mean"] for record in json.loads(path.read_text())}
    assert found == {"EASE": 0.1, "factors": 0.3}
