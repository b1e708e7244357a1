"""Tables of the benchmarks of growing graphs, from their records."""

from typing import Any

from records import markdown, read

__all__ = [
    "film_completion",
    "film_completion_differences",
    "film_growth_matrix",
    "growth",
]

_SNAPSHOTS = ("to 1994", "1995", "1996", "1997-98")


def growth(dataset: str) -> str:
    """MRR of new and old triples and cost by method."""
    rows = [
        [
            r["method"],
            *(f"{r[name]:.3f}" for name in ("new", "forgotten", "end")),
            f"{r['cpu_s']:.2f}",
        ]
        for r in read("knowledge_growth")
        if r["metric"] == "summary" and r["dataset"] == dataset
    ]
    return markdown(
        ["", "new triples", "old ones lost", "all at the end", "CPU s an arrival"], rows
    )


def film_growth_matrix() -> str:
    """MRR of each snapshot's triples after each, among old and new entities and among old ones."""
    at: dict[str, dict[tuple[int, int], dict[str, float]]] = {}
    for r in read("knowledge_growth"):
        if r["metric"] == "mrr" and r["dataset"] == "ml-100k":
            cell = at.setdefault(r["method"], {}).setdefault((r["after"], r["test"]), {})
            cell[r["candidates"]] = r["mean"]
    cells = [cell for cell in next(iter(at.values())) if cell[0]]
    header = [f"{_SNAPSHOTS[test]} after {_SNAPSHOTS[after]}" for after, test in cells]

    def shown(cell: tuple[int, int], found: dict[str, float]) -> str:
        if cell[0] == cell[1]:
            return f"{found['open']:.3f}"
        return f"{found['open']:.3f} ({found['closed']:.3f})"

    rows = [[method, *(shown(cell, of[cell]) for cell in cells)] for method, of in at.items()]
    return markdown(["", *header], rows)


def film_completion() -> str:
    """Hits by relation and method, of the findable facts and of all, and their numbers."""
    records = read("film_completion")
    names = _relations(records)
    findable = {r["relation"]: r for r in records if r["metric"] == "findable"}
    hits = {(r["method"], r["relation"]): r["mean"] for r in records if r["metric"] == "hits@10"}

    def shown(method: str, name: str) -> str:
        share = hits[method, name]
        if name not in findable:
            return f"{share:.3f}"
        return f"{share:.3f} ({share * findable[name]['mean']:.3f})"

    rows = [
        [method, *(shown(method, name) for name in names)]
        for method in dict.fromkeys(method for method, _ in hits)
    ]
    for what in ("candidates", "facts", "found"):
        label = "facts that can be found" if what == "found" else what
        cells = (f"{findable[name][what]:,}" if name in findable else "" for name in names)
        rows.append([label, *cells])
    return markdown(["", *names], rows)


def film_completion_differences() -> str:
    """Differences of methods, with intervals."""
    chosen = [r for r in read("film_completion") if " above " in r["metric"]]
    rows: dict[tuple[str, str], list[str]] = {}
    for r in chosen:
        pair = r["method"], r["metric"].partition(" above ")[2]
        rows.setdefault(pair, []).append("{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**r))
    return markdown(
        ["", "above", *_relations(chosen)], [[*pair, *cells] for pair, cells in rows.items()]
    )


def _relations(records: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(r["relation"] for r in records))
