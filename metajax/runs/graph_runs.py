"""Training on a knowledge graph, and its folder: everything to go on with it or ask it.

RUN/settings.json     the settings
RUN/graph.json        names, triples by what they are for, links, what was left out
RUN/metrics.jsonl     a line an epoch
RUN/checkpoints/      the training progress, verified when read
RUN/report.json       how test triples rank
"""

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import optax

from metajax import checkpoint
from metajax.knowledge import (
    Completion,
    Epoch,
    GraphSplit,
    KnowledgeGraph,
    LinkPredictor,
    Ranks,
    begin_links,
    complete,
    filtered_ranks,
    frequency_baseline,
    index_of,
    link_predictor,
    ranking_metrics,
    split_from_json,
    split_graph,
    split_to_json,
    train_links,
    vocabulary_of,
)
from metajax.runs import graph_settings
from metajax.runs.folder import (
    CHECKPOINTS,
    GRAPH,
    SETTINGS,
    read_json,
    recorded,
    restored,
    warn_of_damage,
)
from metajax.runs.graph_settings import GraphSettings
from metajax.training import Progress
from metajax.types import Params

__all__ = [
    "GraphRun",
    "answers",
    "create",
    "judge",
    "open_run",
    "predictor_of",
    "resumed",
    "settings_of",
    "train_run",
]

_CHUNK = 32


class GraphRun(NamedTuple):
    """An open run on a graph."""

    folder: Path
    """Where it lives."""
    settings: GraphSettings
    """How it is trained."""
    split: GraphSplit
    """What on, and what is asked for."""


def predictor_of(settings: GraphSettings) -> LinkPredictor:
    """Builds what the settings describe; the same one for those that differ in other things.

    Raises:
        ValueError: If one of them is out of its range.
    """
    return _predictor(
        settings.score,
        settings.rate,
        settings.width,
        settings.margin,
        settings.negatives,
        settings.batch,
    )


def create(folder: Path, chosen: GraphSettings, graph: KnowledgeGraph) -> tuple[GraphRun, Progress]:
    """Folds and splits a graph, and makes the folder of a run on it.

    Nothing is made before everything that can be refused has been looked at.

    Args:
        folder: A folder that does not exist yet.
        chosen: The settings.
        graph: What `chosen.source` was loaded as.

    Returns:
        The open run, and its progress before the first epoch.

    Raises:
        KeyError: If a pattern of `chosen.without` fits no relation.
        ValueError: If nothing is left, the graph cannot be split, or a setting is out of range.
        OSError: If the folder exists or cannot be written.
    """
    predictor = predictor_of(chosen)
    split = split_graph(graph, without=chosen.without, share=chosen.share, seed=chosen.seed)
    run = GraphRun(folder, chosen, split)
    progress = begin_links(predictor, run.split.training, seed=chosen.seed)
    folder.mkdir(parents=True)
    checkpoint.write_file(folder / SETTINGS, graph_settings.to_json(chosen))
    checkpoint.write_file(folder / GRAPH, json.dumps(split_to_json(run.split)) + "\n")
    # So that a run that is killed before its first validation can be resumed.
    checkpoint.save(folder / CHECKPOINTS, 0, progress)
    return run, progress


def open_run(folder: Path) -> GraphRun:
    """Opens a run that `create` made; the source is not needed any more.

    Raises:
        ValueError: If the folder holds no run on a graph, or a damaged one.
    """
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
    if not (folder / GRAPH).is_file():
        raise ValueError(f"{folder}: no run on a graph is here (there is no {GRAPH}).")
    return graph_settings.from_json(folder / SETTINGS)


def resumed(run: GraphRun, *, on_skip: Callable[[int, str], None] = warn_of_damage) -> Progress:
    """Reads the last good checkpoint; arguments and errors as `run_folder.restored`."""
    predictor = predictor_of(run.settings)
    like = jax.eval_shape(lambda: begin_links(predictor, run.split.training))
    return restored(run.folder, like, on_skip=on_skip)


def train_run(
    run: GraphRun,
    progress: Progress,
    *,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Progress, bool]:
    """Trains as `train_links`, and writes down what happens as `run_folder.recorded`.

    Args:
        run: An open run.
        progress: From `create` or `resumed`.
        on_epoch: Called after each epoch.
        stop: Asked after each epoch; if it says so the run is saved and left.

    Returns:
        The last progress, and whether training has come to its end.

    Raises:
        DivergedError: What was saved before stays.
        CheckpointError: As in `recorded`.
        OSError: As in `recorded`.
    """
    chosen = run.settings
    steps = train_links(
        predictor_of(chosen),
        run.split.training,
        run.split.validation,
        progress,
        epochs=chosen.epochs,
        seed=chosen.seed,
        validate_every=chosen.validate_every,
        patience=chosen.patience,
    )
    return recorded(run.folder, progress, steps, on_row=on_epoch, stop=stop)


def judge(run: GraphRun, params: Params) -> dict[str, dict[str, float]]:
    """Ranks the test triples of a run, and writes that down.

    Args:
        run: An open run.
        params: Of its training.

    Returns:
        `ranking_metrics` of realistic, optimistic and pessimistic ranks; of the realistic ones
        those of heads and of tails; and of what `frequency` alone would say.
    """
    asked = {
        "triples": run.split.test.triples,
        "entities": len(run.split.training.entities.names),
        "relations": len(run.split.training.relations.names),
        "known": run.split.known,
    }
    ranks = filtered_ranks(predictor_of(run.settings).score, params, **asked)
    found = {
        "realistic": ranking_metrics(ranks),
        "optimistic": ranking_metrics(ranks._replace(pessimistic=ranks.optimistic)),
        "pessimistic": ranking_metrics(ranks._replace(optimistic=ranks.pessimistic)),
        "heads": ranking_metrics(Ranks(*(side[:1] for side in ranks))),
        "tails": ranking_metrics(Ranks(*(side[1:] for side in ranks))),
        "frequency": ranking_metrics(
            filtered_ranks(*frequency_baseline(run.split.training), **asked)
        ),
    }
    told = {"queries": ranks.realistic.size, "left_out": run.split.left_out, **found}
    checkpoint.write_file(run.folder / "report.json", json.dumps(told, indent=1) + "\n")
    return found


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
    """Asks a run what is missing, as `complete`, with what it knows of names left out.

    Args:
        run: An open run.
        params: Of its training.
        entity: As in `complete`.
        relation: As in `complete`.
        side: As in `complete`.
        top: As in `complete`.
        keep_known: As in `complete`.

    Returns:
        The answers; known are the facts of all parts of the graph.

    Raises:
        KeyError: If a name is unknown; the nearest is named.
        ValueError: If nothing was learned of a name, or as `complete`.
    """
    if relation in run.split.folded:
        other = "head" if side == "tail" else "tail"
        raise ValueError(
            f"relation {relation!r} says what {run.split.folded[relation]!r} says, the other way "
            f"round: ask for that, side {other}."
        )
    graph = run.split.training
    names = {"entity": graph.entities.names, "relation": graph.relations.names}
    for what, name in (("entity", entity), ("relation", relation)):
        # What was left out may have been meant as well.
        others = [*run.split.unseen[what], *(run.split.folded if what == "relation" else ())]
        index_of(vocabulary_of([*names[what], *others]), name, what)
        if name in others:
            raise ValueError(
                f"{what} {name!r} has no triple in training: nothing was learned of it."
            )
    return complete(
        predictor_of(run.settings).score,
        params,
        run.split.training,
        entity=entity,
        relation=relation,
        side=side,
        top=top,
        known=run.split.known,
        keep_known=keep_known,
    )


# What is compiled for one run serves the next one.
@functools.lru_cache(maxsize=8)
def _predictor(
    score: str, rate: float, width: int, margin: float, negatives: int, batch: int
) -> LinkPredictor:
    return link_predictor(
        score,
        optax.adam(rate),
        width=width,
        margin=margin,
        negatives=negatives,
        batch=batch,
        chunk=math.gcd(batch, _CHUNK),
    )
