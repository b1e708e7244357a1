"""Knowledge graphs: what is known of items beside who chose them."""

from metajax.knowledge.graph import (
    Attribute,
    KnowledgeGraph,
    Vocabulary,
    add_triples,
    graph_from_names,
    graph_from_triples,
    index_of,
    triples_of,
    vocabulary_of,
)
from metajax.knowledge.inverses import InversePair, fold_inverses, inverse_pairs
from metajax.knowledge.named import graph_names, item_entities, load_graph, repaired_links
from metajax.knowledge.readers import read_graph, read_link, write_turtle
from metajax.knowledge.selection import (
    about,
    in_use,
    keep_triples,
    prune_tails,
    with_triples,
    without_relations,
)
from metajax.knowledge.splits import check_seen, leaked, split_entities, split_triples
from metajax.knowledge.structure import degrees, relation_signatures

__all__ = [
    "Attribute",
    "InversePair",
    "KnowledgeGraph",
    "Vocabulary",
    "about",
    "add_triples",
    "check_seen",
    "degrees",
    "fold_inverses",
    "graph_from_names",
    "graph_from_triples",
    "graph_names",
    "in_use",
    "index_of",
    "inverse_pairs",
    "item_entities",
    "keep_triples",
    "leaked",
    "load_graph",
    "prune_tails",
    "read_graph",
    "read_link",
    "relation_signatures",
    "repaired_links",
    "split_entities",
    "split_triples",
    "triples_of",
    "vocabulary_of",
    "with_triples",
    "without_relations",
    "write_turtle",
]
