"""Knowledge graphs for benchmarks: UMLS, Nations, and films of MovieLens-100K with their years."""

from typing import NamedTuple

import numpy as np

from metajax.data.datasets import load
from metajax.data.fetch import cache_folder, files_from_wheel, is_verified
from metajax.knowledge import (
    KnowledgeGraph,
    fold_inverses,
    item_entities,
    load_graph,
    without_relations,
)

__all__ = ["FilmGraph", "Split", "benchmark_graph", "film_graph"]

_WHEEL = "pykeen==1.11.1"
_WHEEL_SHA256 = "b6cc0ab012fc6ba4f37b58fb7081a409a5c1f04cbbb0e0e9c2256e911757d4ba"
_SHA256 = {
    "nations": {
        "train": "0830fa9da8e5bba2ccdaa45b7bdc9130451ba66b09ff2708f35fccaf82473e57",
        "valid": "2b337a62e51a2f45c283eac98a70d21b7e0e102136be1539b2a52c652a7b0530",
        "test": "3971085165b47b6aeaec68058c6d8d98b3005e929db81268410b95ae4db770ab",
    },
    "umls": {
        "train": "873ef4925516b83e7f6f8cc02b4be51d848828710a7f65a956f0ac4a9e452f35",
        "valid": "025c98f8a4891e2a6582ec5b40ee0d904031edad9c52554522f4b7904820c98e",
        "test": "a7eb529a3d2810fcc96341ccc97c625a5e202f8389673aa6bd317eeebbb79014",
    },
}


class Split(NamedTuple):
    """A graph as it is split by its publishers; triples are `[n, 3]` whole numbers."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    entities: tuple[str, ...]
    """Names by index."""
    relations: tuple[str, ...]

    @property
    def every(self) -> np.ndarray:
        """All triples."""
        return np.concatenate([self.train, self.valid, self.test])


class FilmGraph(NamedTuple):
    """A knowledge graph of films and their years."""

    graph: KnowledgeGraph
    year: np.ndarray
    """`[entities]` int64 when a film came out; 0 of what is no film, or one of unknown year."""


def film_graph() -> FilmGraph:
    """Loads the graph of MovieLens-100K, inverses folded and without awards.

    Raises:
        DataUnavailable: If it can be neither found nor fetched.
    """
    graph = without_relations(fold_inverses(load_graph("ml-100k")), "*award*")
    log = load("ml-100k")
    year = np.zeros(len(graph.entities.names), np.int64)
    entities = item_entities(graph, log.interactions.item_ids)
    for entity, text in zip(entities, log.items.columns["year"], strict=True):
        # Some films are two items.
        if entity >= 0 and text and not year[entity]:
            year[entity] = int(text)
    return FilmGraph(graph, year)


def benchmark_graph(name: str) -> Split:
    """Loads a graph; its files are fetched once, out of the wheel of PyKEEN, and verified.

    Args:
        name: umls or nations.

    Returns:
        The graph.

    Raises:
        DataUnavailable: If it can be neither found nor fetched.
    """
    folder = cache_folder() / "pykeen-1.11.1" / name
    files = {part: folder / f"{part}.txt" for part in _SHA256[name]}
    if not all(is_verified(file, _SHA256[name][part]) for part, file in files.items()):
        members = {f"pykeen/datasets/{name}/{p}.txt": s for p, s in _SHA256[name].items()}
        files_from_wheel(_WHEEL, members, folder, sha256=_WHEEL_SHA256)
    rows = {
        part: [line.split("\t") for line in file.read_text().splitlines() if line]
        for part, file in files.items()
    }
    every = [row for part in rows.values() for row in part]
    entities = tuple(sorted({row[place] for row in every for place in (0, 2)}))
    relations = tuple(sorted({row[1] for row in every}))
    of_entity = {name: n for n, name in enumerate(entities)}
    of_relation = {name: n for n, name in enumerate(relations)}
    train, valid, test = (
        np.array([(of_entity[h], of_relation[r], of_entity[t]) for h, r, t in rows[part]])
        for part in ("train", "valid", "test")
    )
    return Split(train, valid, test, entities, relations)
