"""Graphs of what is known of items beside who chose them, and of what is going on right now."""

from metajax.knowledge.completion import Answer, Completion, complete
from metajax.knowledge.facts import Facts, facts
from metajax.knowledge.fisher import normalised_fisher
from metajax.knowledge.frequency import frequency
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
from metajax.knowledge.growth import Anchor, anchored, grown, new_rows, placed
from metajax.knowledge.hypergraph import LiveVectors, edge_vectors, folded, node_vectors
from metajax.knowledge.inverses import InversePair, fold_inverses, inverse_pairs
from metajax.knowledge.item_vectors import (
    ItemFacts,
    entities_as_users,
    item_facts,
    relation_vectors,
    tfidf,
)
from metajax.knowledge.link_prediction import LinkPredictor, link_predictor
from metajax.knowledge.live import (
    Arrivals,
    LiveBuffer,
    LiveGraph,
    add_arrivals,
    arrivals_of,
    bipartite_edges,
    live_buffer,
    live_graph,
)
from metajax.knowledge.named import (
    graph_names,
    item_entities,
    link_by_prefix,
    load_graph,
    repaired_links,
)
from metajax.knowledge.objective import self_adversarial
from metajax.knowledge.parts import Parts, parts_from_json, parts_of, parts_to_json
from metajax.knowledge.ranking import Ranks, filtered_ranks, ranking_metrics
from metajax.knowledge.readers import read_graph, read_link, write_turtle
from metajax.knowledge.relation_clusters import relation_clusters
from metajax.knowledge.scores import Score, score_names, score_of
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
from metajax.knowledge.training import Epoch, begin_links, train_links

__all__ = [
    "Anchor",
    "Answer",
    "Arrivals",
    "Attribute",
    "Completion",
    "Epoch",
    "Facts",
    "InversePair",
    "ItemFacts",
    "KnowledgeGraph",
    "LinkPredictor",
    "LiveBuffer",
    "LiveGraph",
    "LiveVectors",
    "Parts",
    "Ranks",
    "Score",
    "Vocabulary",
    "about",
    "add_arrivals",
    "add_triples",
    "anchored",
    "arrivals_of",
    "begin_links",
    "bipartite_edges",
    "check_seen",
    "complete",
    "degrees",
    "edge_vectors",
    "entities_as_users",
    "facts",
    "filtered_ranks",
    "fold_inverses",
    "folded",
    "frequency",
    "graph_from_names",
    "graph_from_triples",
    "graph_names",
    "grown",
    "in_use",
    "index_of",
    "inverse_pairs",
    "item_entities",
    "item_facts",
    "keep_triples",
    "leaked",
    "link_by_prefix",
    "link_predictor",
    "live_buffer",
    "live_graph",
    "load_graph",
    "new_rows",
    "node_vectors",
    "normalised_fisher",
    "parts_from_json",
    "parts_of",
    "parts_to_json",
    "placed",
    "prune_tails",
    "ranking_metrics",
    "read_graph",
    "read_link",
    "relation_clusters",
    "relation_signatures",
    "relation_vectors",
    "repaired_links",
    "score_names",
    "score_of",
    "self_adversarial",
    "split_entities",
    "split_triples",
    "tfidf",
    "train_links",
    "triples_of",
    "vocabulary_of",
    "with_triples",
    "without_relations",
    "write_turtle",
]
