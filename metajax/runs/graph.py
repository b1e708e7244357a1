"""Runs of training on a knowledge graph, each a folder that can be resumed and queried.

A run needs its source no more once it is created; its files are listed in `metajax.runs.run`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from metajax import fields
from metajax.knowledge import (
    Completion,
    Epoch,
    GraphSettings,
    GraphSplit,
    KnowledgeGraph,
    Ranks,
    begin_links,
    complete,
    filtered_ranks,
    frequency_baseline,
    index_of,
    predictor_of,
    ranking_metrics,
    score_of,
    split_from_json,
    split_graph,
    split_of_files,
    split_to_json,
    train_links,
    vocabulary_of,
)
from metajax.runs.folder import Claim, check_files, claim, make, read_json
from metajax.runs.folder import write_report as write_files
from metajax.runs.run import GRAPH, SETTINGS
from metajax.training import Progress
from metajax.types import Params

__all__ = [
    "GraphRun",
    "answers",
    "create",
    "judge",
    "open_run",
    "settings_of",
    "split_of",
    "write_report",
]


class GraphRun(NamedTuple):
    """An open run on a graph, trained by `metajax.runs.train_run`."""

    folder: Path
    """Folder of the run."""
    settings: GraphSettings
    """Its settings."""
    split: GraphSplit
    """Training, validation and test triples."""

    def progress_like(self) -> Progress:
        """Returns a progress of the shapes and dtypes of this run's."""
        return jax.eval_shape(lambda: begin_links(self.split.training, self.settings))

    def steps(self, progress: Progress) -> Iterable[tuple[Progress, Epoch]]:
        """Trains with the run's settings, as `Trainable.steps`: a row an epoch."""
        validation = self.split.validation if self.split.validation.count else None
        return train_links(self.split.training, validation, self.settings, progress)


def create(
    folder: Path | Claim,
    chosen: GraphSettings,
    graph: KnowledgeGraph,
    parts: Sequence[KnowledgeGraph] | None = None,
) -> tuple[GraphRun, Progress]:
    """Splits a graph, initialises training and creates the folder of a run.

    Everything is validated before anything is written.

    Args:
        folder: A folder that does not exist yet, or a claim to one.
        chosen: The settings.
        graph: The graph of `chosen.source`.
        parts: Training, validation (perhaps) and test triples, where the source has them in files.

    Returns:
        The open run, and its progress before the first epoch.

    Raises:
        KeyError: If a pattern of `chosen.without` matches no relation.
        ValueError: If nothing is left, the graph cannot be split, or a setting is out of range.
        OSError: If the folder exists or cannot be written.
    """
    if not isinstance(folder, Claim):
        with claim(folder) as claimed:
            return create(claimed, chosen, graph, parts)
    run = GraphRun(folder.folder, chosen, split_of(chosen, graph, parts))
    progress = begin_links(run.split.training, chosen)
    contents = {
        SETTINGS: fields.to_json(chosen),
        GRAPH: json.dumps(split_to_json(run.split)) + "\n",
    }
    make(folder, contents, progress)
    return run, progress


def split_of(
    chosen: GraphSettings, graph: KnowledgeGraph, parts: Sequence[KnowledgeGraph] | None = None
) -> GraphSplit:
    """Splits a graph as the settings say; arguments and errors as in `create`."""
    predictor_of(chosen)  # Checks its settings.
    if parts is None:
        return split_graph(
            graph,
            without=chosen.without,
            share=chosen.share,
            inverse_share=chosen.inverse_share,
            seed=chosen.seed,
        )
    first, *validation, last = parts
    return split_of_files(
        first, validation[0] if validation else None, last, without=chosen.without
    )


def open_run(folder: Path) -> GraphRun:
    """Opens a run that `create` made; the source is not read again.

    Raises:
        ValueError: If the folder holds no run on a graph, or a damaged one; names the file.
        CheckpointError: If it has no good checkpoint.
    """
    _check_kind(folder)
    check_files(folder)
    chosen, values = settings_of(folder), read_json(folder / GRAPH)
    try:
        return GraphRun(folder, chosen, split_from_json(values))
    except ValueError as error:
        raise ValueError(f"{folder / GRAPH}: not the graph of a run: {error}") from None


def settings_of(folder: Path) -> GraphSettings:
    """Reads the settings of a run.

    Raises:
        ValueError: If the folder holds no run on a graph.
    """
    _check_kind(folder)
    return fields.from_json(folder / SETTINGS, GraphSettings, "the settings of a run on a graph")


def _check_kind(folder: Path) -> None:
    if not (folder / GRAPH).is_file():
        raise ValueError(f"{folder}: no run on a graph is here (there is no {GRAPH}).")


def judge(run: GraphRun, params: Params) -> dict[str, dict[str, float]]:
    """Ranks the test triples of a run.

    Args:
        run: An open run.
        params: Of its training.

    Returns:
        `ranking_metrics` of realistic, optimistic and pessimistic ranks; of the realistic ranks of
        heads and of tails alone; and of the `frequency_baseline`.

    Raises:
        ValueError: If the run has no test triples.
    """
    if not run.split.test.count:
        raise ValueError(f"{run.folder}: trained on all triples, none is left to rank.")
    shared = {
        "triples": run.split.test.triples,
        "entities": len(run.split.training.entities.names),
        "relations": len(run.split.training.relations.names),
        "known": run.split.known,
    }
    ranks = filtered_ranks(score_of(run.settings.score), params, **shared)
    return {
        "realistic": ranking_metrics(ranks),
        "optimistic": ranking_metrics(ranks._replace(pessimistic=ranks.optimistic)),
        "pessimistic": ranking_metrics(ranks._replace(optimistic=ranks.pessimistic)),
        "heads": ranking_metrics(Ranks(*(side[:1] for side in ranks))),
        "tails": ranking_metrics(Ranks(*(side[1:] for side in ranks))),
        "frequency": ranking_metrics(
            filtered_ranks(*frequency_baseline(run.split.training), **shared)
        ),
    }


def write_report(run: GraphRun, found: Mapping[str, Mapping[str, float]]) -> None:
    """Writes the report of a run.

    Args:
        run: An open run.
        found: What `judge` returned.

    Raises:
        OSError: If it cannot be written.
    """
    report = {"queries": 2 * run.split.test.count, "left_out": run.split.left_out, **found}
    write_files(run.folder, {"report.json": json.dumps(report, indent=1) + "\n"})


def answers(
    run: GraphRun,
    params: Params,
    *,
    entity: str,
    relation: str,
    side: str = "tail",
    top: int = 10,
    keep_known: bool = False,
) -> Completion:
    """Completes a query on a run, as `complete`, with errors for names that were left out.

    Args:
        run: An open run.
        params: Of its training.
        entity: Name of the known entity.
        relation: Name of the relation.
        side: The missing element.
        top: Most answers.
        keep_known: Keep known answers.

    Returns:
        The answers; the triples of all parts of the split are known.

    Raises:
        KeyError: If a name is unknown; the nearest is suggested.
        ValueError: If a name has no training triple, or as `complete`.
    """
    if relation in run.split.folded:
        other = "head" if side == "tail" else "tail"
        raise ValueError(
            f"relation {relation!r} is the inverse of {run.split.folded[relation]!r}: query that "
            f"with --side {other}."
        )
    graph = run.split.training
    names = {"entity": graph.entities.names, "relation": graph.relations.names}
    for what, name in (("entity", entity), ("relation", relation)):
        # Names left out are suggested as well.
        others = [*run.split.unseen[what], *(run.split.folded if what == "relation" else ())]
        index_of(vocabulary_of([*names[what], *others]), name, what)
        if name in others:
            raise ValueError(f"{what} {name!r} has no training triple, and so no embedding.")
    return complete(
        score_of(run.settings.score),
        params,
        run.split.training,
        entity=entity,
        relation=relation,
        side=side,
        top=top,
        known=run.split.known,
        keep_known=keep_known,
    )
