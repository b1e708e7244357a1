"""The command line's part about knowledge graphs."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from metajax import console

__all__ = ["graph"]

graph = App(name="graph", help="Knowledge graphs: what is in one, and what may be wrong with it.")


@graph.default
def inspect(
    source: Annotated[str, Parameter(name="source")],
    /,
    *,
    link: Path | None = None,
    item_prefix: str | None = None,
    data: str | None = None,
    literals: Literal["error", "attributes"] = "error",
) -> None:
    """Tells what is in a knowledge graph: counts, its relations, problems.

    Args:
        source: A name (ml-100k) or a file: .ttl, .nt, .kg, or .tsv of head, relation, tail.
        link: A .link file of RecBole: which entity each item is.
        item_prefix: What stands before an item's id in the name of its entity.
        data: A name or path of the log whose items the links are of.
        literals: What texts and numbers are where an entity could stand: an error, or attributes.
    """
    from rich.console import Console
    from rich.table import Table

    from metajax.data import datasets
    from metajax.knowledge import (
        graph_names,
        inspection,
        item_entities,
        link_by_prefix,
        load_graph,
        readers,
    )

    statements = None
    if source in graph_names():
        if link is not None:
            raise ValueError(f"--link belongs to a file; {source} has its own links.")
        with console.fetching(source) as fetched:
            found = load_graph(source, progress=fetched)
    elif Path(source).exists():
        statements = readers.read_statements(source)
        found = readers.linked(readers.graph_of(statements, literals=literals), link)
    else:
        found = load_graph(source)  # Tells what else it could be.
    if item_prefix is not None:
        found = link_by_prefix(found, item_prefix)
    item_ids = None
    if data is not None:
        with console.fetching(data) as fetched:
            item_ids = datasets.load(data, progress=fetched).interactions.item_ids
        item_entities(found, item_ids)

    for name, value in inspection.summary(found).items():
        print(f"{name:<14} {value}")
    table = Table("relation", box=None, pad_edge=False)
    for heading in ("triples", "heads", "tails", "tails of one triple"):
        table.add_column(heading, justify="right")
    for name, *counts in inspection.relation_table(found):
        table.add_row(name, *(f"{count:,}" for count in counts))
    Console().print(table, highlight=False)
    lines = inspection.problems(found, statements, item_ids)
    print(f"{'problems':<14} {len(lines) or 'none'}")
    for line in lines:
        print(f"  - {line}")
