"""Facts extracted from texts: how right they are, and whether they help the engine.

    python benchmarks/extraction.py [--parts texts,engine] [--seeds 3] [--json FILE]
    python benchmarks/extraction.py --parts texts --model NAME --endpoint URL
    python benchmarks/extraction.py --parts facts --facts FOLDER [--json FILE]

Texts: precision and recall of the triples that are accepted at a confidence of .9, of sixty
descriptions of films that were written and labelled by hand for this repository
(`tests/knowledge/extraction/films`), by the rules of their schema, from the answers that are
recorded for the tests, and by a model where one is named. The recorded answers were written by hand
too, with the mistakes that models make: they measure the checks and the resolution of names, and no
model. The rules were written by who wrote the texts, which flatters them.

Facts: the same triples of directors and genres against what others know of these films: the genres
of MovieLens-1M and the graph about its films, in a folder with `movies.dat`, `ratings.dat` and
`graph.tsv`. A text does not state every fact, so that recall is also that of the labels.

Engine: MovieLens-100K and its graph without awards. A fifth of the films that the graph knows,
drawn by seed, have no rating in training, and are ranked for each user among themselves; relevant
are ratings of four stars or more (as in `cold_items.py`). No texts of these films are at hand, so
that extracted facts are simulated: of the relations that descriptions state (director, actors,
genre, writer), facts are lost at random and wrong ones added until precision and recall are those
of --precision and --recall. A wrong fact has the relation of a true one and the entity of another.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cold_item_data import Described, Source, evened
from cold_item_methods import METHODS
from cold_items import intervals
from measuring import write
from rich.console import Console
from rich.table import Table

from metajax.data import load
from metajax.knowledge import (
    KnowledgeGraph,
    content_vectors,
    drop_unused,
    fold_inverses,
    item_entities,
    load_graph,
    prune_tails,
    with_triples,
    without_relations,
)
from metajax.knowledge.extraction import (
    Answer,
    Claim,
    EndpointSettings,
    Schema,
    Text,
    Usage,
    extract,
    open_journal,
    precision_recall,
    read_schema,
    read_texts,
)
from metajax.knowledge.extraction.answers import content_key, record
from metajax.knowledge.extraction.extract import journal_file
from metajax.knowledge.extraction.prompt import prompt_version
from metajax.knowledge.extraction.schema import folded

__all__ = ["main"]

FILMS = Path(__file__).parents[1] / "tests" / "knowledge" / "extraction" / "films"
AUTHORED = "recorded answers, authored"
ACCEPTED = 0.9
SPELLED = {"sci fi": "science fiction", "childrens": "children", "family": "children"}
STATED = ("directed_by", "actor", "genre", "written_by")
WRONG = 0.1
PLAIN, CURATED = "attributes", "curated graph"
HALF = "curated graph of half the films"


def of_texts(settings: EndpointSettings | None) -> list[dict[str, Any]]:
    """Measures precision and recall of accepted triples by extractor and relation."""
    records = []
    for name, triples in _extracted(settings):
        for relation, values in precision_recall(triples, _labels()).items():
            shared = {"dataset": "sixty descriptions of films", "extractor": name}
            figures = {n: round(v, 4) for n, v in values._asdict().items()}
            records.append({**shared, "relation": relation, **figures})
    return records


def of_facts(folder: Path, settings: EndpointSettings | None) -> list[dict[str, Any]]:
    """Measures accepted triples, and the labels, by the facts that a data set has of the films.

    Args:
        folder: MovieLens-1M with `graph.tsv`, whose entities are `film:` and the id of the film.
        settings: A model to be measured besides.

    Returns:
        Precision, recall, and recall of those facts that are labelled, by extractor and relation,
        over films of which the data set knows that relation.
    """
    facts = _facts(folder)
    known = {(item, relation) for item, relation, _ in facts}
    records = []
    for name, triples in [("labels", _labels()), *_extracted(settings)]:
        found = {
            (item, relation, _spelled(tail))
            for item, relation, tail in triples
            if (item, relation) in known
        }
        stated = {(i, r, _spelled(tail)) for i, r, tail in _labels()} & facts
        of_stated = precision_recall(found, stated)
        for relation, values in precision_recall(found, facts).items():
            films = len({item for item, own in known if own == relation})
            shared = {"dataset": f"MovieLens-1M, {films} films", "extractor": name}
            figures = {n: round(v, 4) for n, v in values._asdict().items()}
            figures["stated_recall"] = round(of_stated[relation].recall, 4)
            records.append({**shared, "relation": relation, **figures})
    return records


def _facts(folder: Path) -> set[tuple[str, str, str]]:
    """Directors and genres of the described films, by the id of the description."""
    items, graph = load(folder).items, load_graph(folder / "graph.tsv")
    columns = (items.columns["title"], items.columns["year"], items.columns["genres"])
    films: dict[str, tuple[str, str]] = {
        f"{title} ({year})": (f"film:{item}", genres)
        for item, title, year, genres in zip(items.ids, *columns, strict=True)
    }
    of_head: dict[str, list[tuple[str, str]]] = {}
    for head, relation, tail in graph.triples.tolist():
        pair = graph.relations.names[relation], graph.entities.names[tail]
        of_head.setdefault(graph.entities.names[head], []).append(pair)
    facts = set()
    for text in read_texts(FILMS / "descriptions.csv").texts:
        head, genres = films.get(text.title, ("", ""))
        facts |= {(text.item, "genre", _spelled(genre)) for genre in genres.split()}
        for relation, tail in of_head.get(head, ()):
            if relation in ("directed_by", "genre"):
                facts.add((text.item, relation, _spelled(tail)))
    return facts


def _spelled(tail: str) -> str:
    """Normalised name; a genre by the schema's word."""
    name = folded(tail)
    return SPELLED.get(name, name)


def _labels() -> list[tuple[str, str, str]]:
    lines = (FILMS / "labels.tsv").read_text().splitlines()[1:]
    return [(item, relation, tail) for item, relation, tail in (one.split("\t") for one in lines)]


def _extracted(
    settings: EndpointSettings | None,
) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Extracts from the texts by each extractor; gives its name and the accepted triples."""
    schema, texts = read_schema(FILMS / "schema.toml"), read_texts(FILMS / "descriptions.csv").texts
    extractors = {
        "rules": None,
        AUTHORED: EndpointSettings("recorded", endpoint="http://localhost"),
    }
    if settings is not None:
        extractors[settings.model] = settings
    for name, its in extractors.items():
        with tempfile.TemporaryDirectory() as folder:
            if name == AUTHORED:
                _answer(Path(folder), texts, schema)
            found = extract(texts, schema, folder, settings=its, accept_above=ACCEPTED)
        yield name, found.review.triples


def _answer(folder: Path, texts: Sequence[Text], schema: Schema) -> None:
    """Puts the recorded answers into a folder, as if they had been paid for."""
    recorded = json.loads((FILMS / "answers.json").read_text())
    journal, version = open_journal(folder / journal_file), prompt_version(schema)
    for text in texts:
        claims = [
            Claim(one["relation"], one["value"], one["quote"], one["confidence"])
            for one in recorded[text.item]
        ]
        key = content_key(text, "recorded", version)
        record(journal, Usage(), [key], [Answer(tuple(claims), "", "2026-11-29T00:00:00+00:00")])


def with_wrong(
    graph: KnowledgeGraph, triples: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Adds wrong triples to some of a graph's.

    Args:
        graph: Gives the true triples.
        triples: `[n, 3]` some of them.
        share: Wrong ones for each of these.
        rng: Draws them.

    Returns:
        `[n + round(share n), 3]` these, then the wrong ones: a true triple whose tail is that of
        another triple of its relation, and which is not in the graph.
    """
    wanted = round(share * len(triples))
    true = {tuple(triple) for triple in graph.triples.tolist()}
    tails = {int(r): triples[triples[:, 1] == r][:, 2] for r in np.unique(triples[:, 1])}
    wrong: dict[tuple[int, int, int], None] = {}
    while len(wrong) < wanted:
        head, relation, _ = triples[rng.integers(len(triples))].tolist()
        triple = head, relation, int(rng.choice(tails[relation]))
        if triple not in true:
            wrong[triple] = None
    added = np.array(list(wrong), np.int32).reshape(-1, 3)
    return np.concatenate([triples, added])


def variants(
    graph: KnowledgeGraph, films: np.ndarray, precision: float, recall: float, seed: int
) -> dict[str, KnowledgeGraph]:
    """Makes the graphs that are compared.

    Args:
        graph: Folded, without awards.
        films: Entities of the films.
        precision: Of simulated extraction.
        recall: Of simulated extraction.
        seed: Of the draw.
    """
    rng, triples = np.random.default_rng([seed, 2]), graph.triples
    stated = [n for n, r in enumerate(graph.relations.names) if r.split(".")[-1] in STATED]
    told = triples[np.isin(triples[:, 1], stated) & np.isin(triples[:, 0], films)]
    if not len(told):
        raise ValueError(f"the graph must have triples of {', '.join(STATED)} about films.")
    kept = told[rng.random(len(told)) < recall]
    extracted = with_wrong(graph, kept, 1 / precision - 1, rng)
    half = rng.permutation(films)[: len(films) // 2]
    left_out = np.isin(films, half, invert=True)
    covered = triples[~np.isin(triples[:, [0, 2]], films[left_out]).any(axis=1)]
    exact = f"{100 * precision:.0f} % right, {100 * recall:.0f} % found"
    return {
        CURATED: graph,
        f"{CURATED}, 10 % wrong added": with_triples(graph, with_wrong(graph, triples, WRONG, rng)),
        f"extracted ({exact})": with_triples(graph, extracted),
        f"{CURATED} and extracted": with_triples(graph, np.concatenate([triples, extracted])),
        HALF: with_triples(graph, covered),
        f"{HALF} and extracted": with_triples(graph, np.concatenate([covered, extracted])),
    }


def vectors_of(graph: KnowledgeGraph, item_ids: np.ndarray) -> np.ndarray:
    kept = drop_unused(prune_tails(graph))
    source = Source(kept, item_entities(kept, item_ids))
    return evened(content_vectors(source.graph, source.entity))


def of_engine(
    about: Described, graph: KnowledgeGraph, method: str, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Ranks cold films with each graph; returns means and differences with 95 % intervals."""
    folded = without_relations(fold_inverses(graph), "*award*")
    entity = item_entities(folded, about.log.item_ids)
    films = np.unique(entity[entity >= 0])
    values: dict[str, list[np.ndarray]] = {}
    for seed in range(options.seeds):
        log, cold = about.drawn(about.log, seed)
        graphs = variants(folded, films, options.precision, options.recall, seed)
        for name, one in {PLAIN: None, **graphs}.items():
            sources = "attributes" if one is None else "attributes, graph"
            if one is not None:
                about.vectors["graph"] = vectors_of(one, about.log.item_ids)
            fit, grid = METHODS[f"{method}: {sources}"]
            scores = fit(about, log, seed, **grid[0])
            values.setdefault(name, []).append(about.judged(scores, cold)[0])
            print(f"seed {seed}, {name}: {np.nanmean(values[name][-1]):.4f}", flush=True)
    user = np.tile(np.arange(about.users), options.seeds)
    records = []
    for name, own in values.items():
        for reference in (None, PLAIN, CURATED, HALF):
            if reference == name:
                continue
            figures = np.concatenate(own)
            if reference:
                figures = figures - np.concatenate(values[reference])
            some = ~np.isnan(figures)
            mean, low, high = (round(v, 4) for v in intervals(figures[some], user[some]))
            shared = {"dataset": "ml-100k", "method": method, "graph": name, "against": reference}
            shared |= {"metric": "NDCG@10 among cold films", "seeds": options.seeds}
            records.append({**shared, "mean": mean, "low": low, "high": high})
    return records


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--parts", default="texts,engine", help="what to measure")
    parser.add_argument("--facts", type=Path, metavar="FOLDER", help="MovieLens-1M with a graph")
    parser.add_argument("--model", help="name of a model, to measure it on the texts")
    parser.add_argument("--endpoint", help="address of its endpoint")
    parser.add_argument("--method", default="hybrid", help="hybrid, or ridge")
    parser.add_argument("--precision", type=float, default=0.95, help="of simulated extraction")
    parser.add_argument("--recall", type=float, default=0.8, help="of simulated extraction")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the cold films")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    if not (0 < options.precision <= 1 and 0 < options.recall <= 1):
        parser.error("--precision and --recall must be above 0, and at most 1")
    parts = options.parts.split(",")
    if "facts" in parts and options.facts is None:
        parser.error("--parts facts needs --facts FOLDER")
    named = EndpointSettings(options.model, endpoint=options.endpoint) if options.model else None
    records = []
    if "texts" in parts:
        records += of_texts(named)
        _show(records, ("extractor", "relation", "precision", "recall", "found", "true"))
    if "facts" in parts:
        known = of_facts(options.facts, named)
        columns = ("precision", "recall", "stated_recall", "found", "true")
        _show(known, ("dataset", "extractor", "relation", *columns))
        records += known
    if "engine" in parts:
        graph = load_graph("ml-100k")
        ranked = of_engine(Described(load("ml-100k"), graph), graph, options.method, options)
        _show(ranked, ("graph", "against", "mean", "low", "high"))
        records += ranked
    if options.json:
        write(options.json, records)
    return records


def _show(records: list[dict[str, Any]], columns: Sequence[str]) -> None:
    table = Table(*columns)
    for row in records:
        table.add_row(*("" if row[name] is None else str(row[name]) for name in columns))
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
