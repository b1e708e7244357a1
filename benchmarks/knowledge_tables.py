"""Tables of the benchmarks of knowledge graphs, from their records."""

from collections.abc import Mapping
from typing import Any

from records import markdown, read

__all__ = [
    "cold_items",
    "extraction",
    "extraction_engine",
    "extraction_facts",
    "graph_for_new_users",
    "graph_for_ratings",
    "knowledge_graph",
    "relation_clusters",
]


def cold_items() -> str:
    """Each method among cold films, and its difference from TF-IDF of the graph."""
    metrics, methods, found = _cold("cold films", "among all", "same size")
    rows = []
    for method in methods:
        figures = [f"{found[method, None, metric]['mean']:.3f}" for metric in metrics]
        pair = [found.get((method, "TF-IDF", metrics[n])) for n in (0, 3)]
        rows.append([method, *figures, *map(_difference, pair)])
    added = [f"{metrics[n]}, less TF-IDF's" for n in (0, 3)]
    return markdown(["", *metrics, *added], rows)


def extraction() -> str:
    """Precision and recall of triples from texts, by extractor and relation."""
    return _of_triples("extraction", {})


def extraction_facts() -> str:
    """The same by the facts of a data set, with recall of those that the texts state."""
    return _of_triples("extraction_facts", {"stated_recall": "recall of the stated"})


def _of_triples(name: str, further: Mapping[str, str]) -> str:
    shown = ("precision", "recall", *further)
    rows = [
        [
            r["extractor"],
            f"`{r['relation']}`",
            *(f"{r[one]:.3f}" for one in shown),
            f"{r['found']:,}",
            f"{r['true']:,}",
        ]
        for r in read(name)
    ]
    columns = ("precision", "recall", *further.values())
    return markdown(["extractor", "relation", *columns, "found", "true"], rows)


def extraction_engine() -> str:
    """NDCG@10 of cold films by each graph, and differences from other graphs."""
    found = read("extraction_engine")
    against = ("attributes", "curated graph", "curated graph of half the films")
    cells: dict[str, dict[str | None, str]] = {}
    for r in found:
        sign = "+" if r["against"] else ""
        cell = f"{r['mean']:{sign}.3f} [{r['low']:{sign}.3f}, {r['high']:{sign}.3f}]"
        cells.setdefault(r["graph"], {})[r["against"]] = cell
    rows = [[name, *(own.get(key, "") for key in (None, *against))] for name, own in cells.items()]
    return markdown(["", "NDCG@10", *(f"less {name}" for name in against)], rows)


def graph_for_new_users() -> str:
    """EASE for users of whom one or five ratings are known."""
    return _with_differences("EASE", "new users, K")


def graph_for_ratings() -> str:
    """RMSE of unrated films."""
    return _with_differences("factors: attributes", "unrated films")


def _with_differences(reference: str, *parts: str) -> str:
    """Figures of each method, and their differences to a reference."""
    metrics, methods, found = _cold(*parts)
    rows = [
        [
            method,
            *(f"{found[method, None, metric]['mean']:.3f}" for metric in metrics),
            *(_difference(found.get((method, reference, metric))) for metric in metrics),
        ]
        for method in methods
    ]
    return markdown(["", *metrics, *(f"{metric}: less {reference}" for metric in metrics)], rows)


def _cold(*parts: str) -> tuple[list[str], list[str], dict[tuple[str, str | None, str], Any]]:
    """Returns metrics named so, methods, and records by method, reference and metric."""
    records = [r for r in read("cold_items") if any(part in r["metric"] for part in parts)]
    metrics, methods = (
        list(dict.fromkeys(r[name] for r in records)) for name in ("metric", "method")
    )
    return metrics, methods, {(r["method"], r["against"], r["metric"]): r for r in records}


def _difference(record: dict[str, float] | None) -> str:
    return "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**record) if record else ""


def knowledge_graph() -> str:
    """Accuracy, time and memory of each package in each setting."""
    settings = ("dataset", "setting", "method")
    runs: dict[tuple[str, ...], dict[str, dict[str, float]]] = {}
    for r in read("knowledge_graph"):
        runs.setdefault(tuple(r[name] for name in settings), {})[r["metric"]] = r
    rows = [
        [
            *run,
            "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**found["mrr"]),
            f"{found['hits@10']['mean']:.3f}",
            f"{found['epoch_cpu_ms']['median']:.1f}",
            f"{found['peak_bytes']['mean'] / 1e6:.0f}",
        ]
        for run, found in runs.items()
    ]
    return markdown(
        ["", "false", "", "MRR [lowest, highest]", "hits@10", "CPU ms an epoch", "peak, MB"], rows
    )


def relation_clusters() -> str:
    """MRR with each kind of labels, and their agreement with the true ones."""
    records = read("relation_clusters")
    rows = []
    for of, weight in dict.fromkeys((r["labels"], r["weight"]) for r in records):
        own = [r for r in records if (r["labels"], r["weight"]) == (of, weight)]
        mrr = [r["value"] for r in own]
        agreement = sum(r["agreement"] for r in own) / len(own)
        rows.append(
            [
                of,
                f"{weight:g}",
                f"{agreement:.2f}" if weight else "",
                f"{sum(mrr) / len(mrr):.3f} [{min(mrr):.3f}, {max(mrr):.3f}]",
            ]
        )
    return markdown(["labels", "weight", "of the right kind", "MRR [lowest, highest]"], rows)
