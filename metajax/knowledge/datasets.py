"""Knowledge graphs by name, downloaded and cached on first use, and links to the items of a log.

A new graph is one entry of `_GRAPHS`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metajax.data.datasets import RECBOLE, RECBOLE_SHA256
from metajax.data.fetch import Progress, Source, read_cached
from metajax.data.readers import DataError
from metajax.fields import suggestion
from metajax.knowledge.graph import KnowledgeGraph, add_triples, first_five
from metajax.knowledge.readers import ML_100K_LINK_SHA256, read_graph, read_link

__all__ = [
    "graph_names",
    "item_entities",
    "link_by_prefix",
    "load_graph",
    "repaired_links",
]


def graph_names() -> tuple[str, ...]:
    """Names that `load_graph` accepts."""
    return tuple(_GRAPHS)


def load_graph(
    name_or_path: str | Path, *, progress: Progress | None = None, **reading: Any
) -> KnowledgeGraph:
    """Loads a knowledge graph by name, or reads one from a path.

    `ml-100k` is the part of Freebase about the films of MovieLens-100K: 91,631 triples of 24
    relations, 10 of which are inverses of others. Fold them (`fold_inverses`) before anything else.
    Awards leak how well films were received, which is unknown for a new film
    (`without_relations(graph, "*award*")`).

    Args:
        name_or_path: One of `graph_names()`, or a path for `read_graph`.
        progress: Called as bytes are downloaded.
        **reading: Options of `read_graph`, for a path.

    Returns:
        The graph; one loaded by name has links to the items of the data set of that name.

    Raises:
        DataError: If it is neither a known name nor a path, or the file is malformed.
        ValueError: If there are options for a name.
        DataUnavailable: If it must be downloaded and cannot be.

    References:
        Zhao et al., KB4Rec: A Data Set for Linking Knowledge Bases with Recommender Systems, Data
        Intelligence 1(2), 2019, arXiv:1807.11141: source of the triples and links of `ml-100k`.
    """
    if isinstance(name_or_path, str) and name_or_path in _GRAPHS:
        if reading:
            raise ValueError(
                f"{name_or_path} takes no options, which are for paths; got {', '.join(reading)}."
            )
        name = f"the graph {name_or_path}"
        return read_cached(name, _GRAPHS[name_or_path], progress)
    if Path(name_or_path).exists():
        return read_graph(name_or_path, **reading)
    end = suggestion(name_or_path, graph_names())
    raise DataError(
        f"no such path, nor one of the names {', '.join(graph_names())}{end}", file=name_or_path
    )


def item_entities(graph: KnowledgeGraph, item_ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """Entity of each item of a log.

    Args:
        graph: With links.
        item_ids: `[I]` the items' ids in the log.

    Returns:
        `[I]` int32 entity indices, -1 for unlinked items.

    Raises:
        ValueError: If there are links of items that are not in the log.
    """
    place = {str(name): n for n, name in enumerate(item_ids)}
    unknown = [item for item, _ in graph.links if item not in place]
    if unknown:
        raise ValueError(
            f"links must be of items of the log, got {len(unknown)} unknown: {first_five(unknown)}."
        )
    found = np.full(len(place), -1, np.int32)
    for item, entity in graph.links:
        found[place[item]] = entity
    return found


def link_by_prefix(graph: KnowledgeGraph, prefix: str) -> KnowledgeGraph:
    """Links each item to the entity whose name is a prefix followed by the item's id.

    Args:
        graph: The graph.
        prefix: For instance `http://shop.example/item/`.

    Returns:
        The graph with these links added.

    Raises:
        ValueError: If no entity has the prefix.

    Example:
        >>> from metajax.knowledge import graph_from_names
        >>> graph = graph_from_names([("shop:7", "by", "shop:us"), ("x", "by", "shop:us")])
        >>> link_by_prefix(graph, "shop:").links
        (('7', 0), ('us', 1))
    """
    names = graph.entities.names
    links = [(name[len(prefix) :], name) for name in names if name.startswith(prefix)]
    if not links:
        raise ValueError(f"no entity name starts with {prefix!r}; there are {first_five(names)}.")
    return add_triples(graph, [], links=links)


def repaired_links(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Corrects RecBole's links of MovieLens-100K.

    The item ids of its file are those of MovieLens-20M, so that most films are linked to another
    one: item 56, Pulp Fiction, to film 56 of MovieLens-20M. The right entity is that of the same
    film in MovieLens-20M, `entity[i] = pairs[id in 20M of i]`.

    Args:
        pairs: Item ids and entities as in the file.

    Returns:
        Item ids of MovieLens-100K, and entities; films whose 20M id is beyond the file have none.
    """
    entity = dict(pairs)
    lines = Path(__file__).with_name("ml100k_to_ml20m_ids.tsv").read_text().splitlines()
    both = (line.split("\t") for line in lines[1:])
    return [(item, entity[other]) for item, other in both if other in entity]


def _read_recbole_graph(folder: Path) -> KnowledgeGraph:
    graph = read_graph(folder / "ml-100k.kg")
    return add_triples(graph, [], links=repaired_links(read_link(folder / "ml-100k.link")))


_GRAPHS: dict[str, tuple[Source, ...]] = {
    "ml-100k": (
        Source(
            RECBOLE,
            RECBOLE_SHA256,
            "ml-100k",
            _read_recbole_graph,
            members={
                "recbole/dataset_example/ml-100k/ml-100k.kg": (
                    "200a0636fa07c218119a42e5bac7aa3e26e3665a6f919c1b22909bd412b14779"
                ),
                "recbole/dataset_example/ml-100k/ml-100k.link": ML_100K_LINK_SHA256,
            },
        ),
    ),
}
