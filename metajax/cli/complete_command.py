"""The command line's part about what is missing in a knowledge graph."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from metajax.cli import console

if TYPE_CHECKING:
    from metajax.runs.graph_runs import GraphRun

__all__ = ["complete"]


def complete(
    run: Annotated[Path, Parameter(name="run")],
    /,
    *,
    entity: str,
    relation: str,
    side: Literal["tail", "head"] = "tail",
    top: int = 10,
    known: bool = False,
    data: str | None = None,
) -> None:
    """Prints what a graph most likely lacks: the best tails, or heads, of an entity and a relation.

    Args:
        run: Folder of a run of `metajax graph train`.
        entity: Name of the entity that is given, or title of the item that it is: the head, or
            with --side head the tail.
        relation: Name of the relation.
        side: What is asked for.
        top: How many candidates.
        known: Show known triples too, marked.
        data: A name or path of the log whose items the links are of, for their titles; by default
            that of the graph's name.
    """
    with console.busy(f"Loading {run}"):
        from metajax.cli import run_commands
        from metajax.runs import graph_runs

        opened = graph_runs.open_run(run)
        progress = graph_runs.resumed(opened, on_skip=run_commands.skipped)
    if not int(progress.best_step):
        raise ValueError(
            f"{run}: no epoch has been validated yet, so that nothing is known to be learned. "
            f"Go on: metajax graph train --resume {run}"
        )
    titles = _titles(opened, data)
    entity = _meant(opened, titles, entity)
    found = graph_runs.answers(
        opened,
        progress.best,
        entity=entity,
        relation=relation,
        side=side,
        top=top,
        keep_known=known,
    )
    margin = opened.settings.margin
    called = f"{entity} ({titles[entity]})" if entity in titles else entity
    ends = (called, "?") if side == "tail" else ("?", called)
    print(f" --{relation}--> ".join(ends))
    for answer in found.answers:
        notes = [titles[answer.entity]] if answer.entity in titles else []
        notes += ["known"] if answer.known else []
        print("  ".join([f"{answer.score + margin:6.2f}", answer.entity, *notes]))
    if found.known and not known:
        print(f"{found.known} known triples are left out; --known shows them.")


def _titles(run: "GraphRun", data: str | None) -> dict[str, str]:
    """Finds what people call the items that entities are."""
    from metajax.data import datasets
    from metajax.data.fetch import DataUnavailable
    from metajax.knowledge import item_entities
    from metajax.runs.recommendation import titles_of

    source, links = run.settings.source, run.parts.training.links
    if data is not None and not links:
        raise ValueError(f"--data names items, and no entity of {run.folder} is one; got {data}.")
    if data is None and (source not in datasets.names() or not links):
        return {}
    try:
        with console.fetching(data or source) as fetched:
            items = datasets.load(data or source, progress=fetched).items
    except DataUnavailable as problem:
        if data is not None:
            raise
        console.error(f"titles are left out: {problem}")
        return {}
    names = run.parts.training.entities.names
    entity = item_entities(run.parts.training, items.ids).tolist()
    return {names[at]: title for at, title in zip(entity, titles_of(items), strict=True) if at >= 0}


def _meant(run: "GraphRun", titles: dict[str, str], entity: str) -> str:
    """Finds an entity by its name, or by the title of its item."""
    import numpy as np

    from metajax.runs.recommendation import Catalogue, find_item

    names = run.parts.training.entities
    if not titles or entity in names.index or entity in run.parts.unseen["entity"]:
        return entity
    called = np.array([titles.get(name, name) for name in names.names])
    nothing = np.zeros((len(called), 0), np.float32)
    return names.names[find_item(Catalogue(np.array(names.names), called, nothing), entity)]
