import hashlib

import numpy as np
import pytest

from metajax.data import DataError, DataUnavailable, fetch
from metajax.knowledge import (
    datasets,
    drop_unused,
    fold_inverses,
    graph_from_names,
    graph_names,
    item_entities,
    keep_triples,
    leaked_triples,
    load_graph,
    neighbourhood,
    prune_tails,
    read_graph,
    readers,
    repaired_links,
    split_triples,
    without_relations,
)
from metajax.knowledge.readers import read_link

KG = "head_id:token\trelation_id:token\ttail_id:token\nm.toy\tfilm.genre\tm.fun\nm.2\tr\tm.toy\n"
LINK = "item_id:token\tentity_id:token\n1\tm.toy\n2\tm.2\n10\tm.fun\n"


def lift(graph, links, genres):
    """The mean over genres of Freebase of how much one makes its nearest MovieLens genre likelier.

    Of both, genres of at least 50 linked films.

    Args:
        graph: With "film.film.genre".
        links: Item to entity index.
        genres: Item to the genres that MovieLens gives it.
    """
    is_genre = graph.triples[:, 1] == graph.relations.index["film.film.genre"]
    freebase = {}
    for film, _, genre in graph.triples[is_genre].tolist():
        freebase.setdefault(film, set()).add(genre)

    def table(sets):
        kinds = sorted(set().union(*sets))
        found = np.array([[kind in one for kind in kinds] for one in sets], float)
        return found[:, found.sum(axis=0) >= 50]

    own = table([genres[item] for item in links])
    theirs = table([freebase.get(entity, set()) for entity in links.values()])
    given = theirs.T @ own / theirs.sum(axis=0)[:, None]
    return (given / own.mean(axis=0)).max(axis=1).mean()


def test_repaired_links_agree_on_genres_and_shipped_ones_only_by_chance(film_graph, ml100k):
    ids, genres = ml100k.items.ids.tolist(), ml100k.items.columns["genres"].tolist()
    genres = {item: set(text.split()) for item, text in zip(ids, genres, strict=True)}
    repaired = dict(film_graph.links)
    assert lift(film_graph, repaired, genres) > 5
    pairs = read_link(fetch.cache_folder() / "ml-100k" / "ml-100k.link")
    shipped = {item: film_graph.entities.index[entity] for item, entity in pairs}
    shuffled = np.random.default_rng(0).permutation(list(shipped.values())).tolist()
    chance = lift(film_graph, dict(zip(shipped, shuffled, strict=True)), genres)
    assert 1.3 < chance < 1.9
    assert abs(lift(film_graph, shipped, genres) - chance) < 0.3


def test_the_film_graph_has_the_documented_counts(film_graph, ml100k):
    assert (film_graph.count, len(film_graph.entities.names)) == (91_631, 34_628)
    folded = fold_inverses(film_graph)
    assert (folded.count, len(drop_unused(folded).relations.names)) == (72_535, 14)
    assert "film.film.genre" in drop_unused(folded).relations.names
    entities = item_entities(film_graph, ml100k.items.ids)
    assert np.sum(entities >= 0) == 1526
    assert np.mean(entities[ml100k.interactions.item] >= 0) == pytest.approx(0.958, abs=5e-4)
    linked = neighbourhood(folded, np.unique(entities[entities >= 0]))
    assert linked.count == 70_620
    assert prune_tails(linked).count == 47_000
    assert prune_tails(without_relations(linked, "*award*")).count == 38_495


def test_a_random_split_of_the_film_graph_leaks_and_ours_does_not(film_graph):
    drawn = np.random.default_rng(0).random(film_graph.count) < 0.1
    naive = keep_triples(film_graph, ~drawn), keep_triples(film_graph, drawn)
    assert leaked_triples(*naive).mean() == pytest.approx(0.38, abs=0.01)
    training, test = split_triples(film_graph, share=0.1)
    assert test.count == pytest.approx(9163, abs=10)
    assert not leaked_triples(training, test).any()


def test_links_are_repaired_by_the_ids_of_the_larger_set():
    # Items 2 and 755 of MovieLens-100K, GoldenEye and Jumanji, are 10 and 2 of MovieLens-20M.
    assert repaired_links([("1", "m.toy"), ("2", "m.two"), ("10", "m.golden")]) == [
        ("1", "m.toy"),
        ("2", "m.golden"),
        ("755", "m.two"),
    ]


def test_the_graph_is_downloaded_once_and_verified(tmp_path, monkeypatch):
    fetched = []

    def from_wheel(requirement, members, folder, *, sha256, progress):
        fetched.append(requirement)
        folder.mkdir(parents=True, exist_ok=True)
        for text, member in zip((KG, LINK), members, strict=True):
            (folder / member.split("/")[-1]).write_text(text)

    monkeypatch.setenv("METAJAX_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch, "files_from_wheel", from_wheel)
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (KG, LINK)]
    (source,) = datasets._GRAPHS["ml-100k"]
    members = dict(zip(source.members or {}, digests, strict=True))
    monkeypatch.setitem(datasets._GRAPHS, "ml-100k", (source._replace(members=members),))
    graph = load_graph("ml-100k")
    assert {item: graph.entities.names[entity] for item, entity in graph.links} == {
        "1": "m.toy",
        "2": "m.fun",
        "755": "m.2",
    }
    load_graph("ml-100k")
    assert fetched == ["recbole==1.2.1"]
    (tmp_path / "ml-100k" / "ml-100k.kg").write_text("damaged")
    assert load_graph("ml-100k").count == 2

    def offline(*args, **options):
        raise DataUnavailable("no network")

    (tmp_path / "ml-100k" / "ml-100k.link").unlink()
    monkeypatch.setattr(fetch, "files_from_wheel", offline)
    with pytest.raises(
        DataUnavailable, match=r"put ml-100k\.kg and ml-100k\.link .* no network\.$"
    ):
        load_graph("ml-100k")


def test_the_shipped_link_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.kg").write_text(KG)
    (tmp_path / "a.link").write_text(LINK)
    assert len(read_graph(tmp_path / "a.kg", link=tmp_path / "a.link").links) == 3
    digest = hashlib.sha256(LINK.encode()).hexdigest()
    monkeypatch.setattr(readers, "ML_100K_LINK_SHA256", digest)
    with pytest.raises(
        DataError, match="its item ids are MovieLens-20M's; the graph named 'ml-100k'"
    ):
        read_graph(tmp_path / "a.kg", link=tmp_path / "a.link")


def test_items_without_a_link_have_no_entity_and_unknown_items_are_refused():
    links = [(str(n), "ab"[n % 2]) for n in range(7)]
    graph = graph_from_names([("a", "r", "b")], links=links[:3])
    assert item_entities(graph, ["2", "x", "0", "1"]).tolist() == [0, -1, 0, 1]
    graph = graph_from_names([("a", "r", "b")], links=links)
    with pytest.raises(
        ValueError, match=r"of the log, got 6 unknown: '1', '2', '3', '4', '5', \.\.\."
    ):
        item_entities(graph, ["0"])


def test_an_unknown_name_is_refused_with_a_suggestion(tmp_path):
    assert graph_names() == ("ml-100k",)
    with pytest.raises(DataError, match="nor one of the names ml-100k; did you mean 'ml-100k'"):
        load_graph("ml-10k")
    with pytest.raises(ValueError, match="ml-100k takes no options, which are for paths; got link"):
        load_graph("ml-100k", link="x")
