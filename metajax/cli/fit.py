"""The command `metajax fit`."""

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from metajax import engine, registry, report
from metajax.cli import console, sources
from metajax.cli.train import studied
from metajax.data import datasets
from metajax.data.dataset import Dataset
from metajax.engine.fit import STAGES
from metajax.fields import names_of
from metajax.knowledge import KnowledgeGraph
from metajax.methods import Method, Settings
from metajax.methods.settings import reading_fields
from metajax.search import study
from metajax.training import DivergedError

__all__ = ["fit", "prepare"]

prepare = sources.of_training


def fit(
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
    *,
    output: Path,
    graph: str | None = None,
    link: Path | None = None,
    events: str | None = None,
    trials: int | None = None,
    earlier: Annotated[Path | None, Parameter(name="--from")] = None,
    replay: str | None = None,
    ewc: float | None = None,
    from_study: Path | None = None,
) -> None:
    """Fits a method to all users of a log; writes a model folder that needs no data to serve.

    The setting of a closed form, or the number of updates of a trained method, is chosen on users
    of one fold, who are then fitted to as well.

    Args:
        settings: The settings.
        output: Folder of the model; must not exist.
        graph: A knowledge graph of the items: a name (ml-100k), or a file (.ttl, .nt, .tsv, .kg,
            ...). Its facts join the items' attributes; methods that see none, such as eb_fold_in,
            ignore it.
        link: A RecBole .link file: the entity of each item; by default items are linked by their
            ids or titles.
        events: Log of events of a service, sqlite:///FILE or postgresql://HOST/DATABASE, that is
            added to the data; with the items, attributes and deletions that it holds. It may be in
            use.
        trials: Number of settings of its grid that a closed form tries; by default all.
        earlier: Folder of an earlier model, such as of the log as it was: the same method is fitted
            to these data, with the same setting and from what the model knows. Ids stay, new items
            are appended. A trained method makes --updates, by default a quarter of those of its
            first training.
        replay: The earlier data, by name or path, where --data are the new ones alone: a closed
            form is fitted to both, and a trained method draws half of its tasks from either.
        ewc: Of a trained method with --from, weight of the penalty for leaving its parameters, each
            as much as the earlier tasks depend on it.
        from_study: File of a study of `metajax tune`: its method, data and best settings.
    """
    if output.exists():
        raise ValueError(f"--output must not exist, got {output}.")
    if link is not None and graph is None:
        raise ValueError(f"--link belongs to --graph, which is missing; got {link}.")
    if earlier is not None and trials is not None:
        raise ValueError("--trials and --from exclude each other: with --from nothing is chosen.")
    if earlier is None and (replay is not None or ewc is not None):
        option = "--ewc" if replay is None else "--replay"
        raise ValueError(f"{option} belongs to --from, the earlier model, which is missing.")
    typed = getattr(settings, "typed", frozenset())
    named, settings = getattr(settings, "named", True), sources.plain(settings)
    found = None
    if from_study is not None:
        if earlier is not None or trials is not None:
            option = "--trials" if earlier is None else "--from"
            raise ValueError(f"{option} and --from-study exclude each other.")
        named, (found, settings) = True, studied(from_study, settings, typed)
    if earlier is not None:
        _check_typed(typed)
    with console.fetching(settings.data) as fetched:
        dataset = datasets.load(settings.data, progress=fetched, **settings.reading())
    if found is not None:
        study.check_data(found, dataset)
    if events is not None:
        dataset = _with_log(dataset, events)
    console.notes(dataset)
    if earlier is not None:
        method = settings.method if named else None
        old = None
        if replay is not None:
            with console.fetching(replay) as fetched:
                old = datasets.load(replay, progress=fetched, **settings.reading())
        changes = {"updates": settings.updates if "updates" in typed else None, "ewc": ewc}
        model = _refitted(earlier, method, dataset, graph, link, replay=old, **changes)
        _save(model, output, dataset, replayed=old)
        return
    # Where none is named the data choose.
    method = engine.chosen_method(dataset, settings.method if named else None)
    console.reductions(method.name, dataset)
    trained = isinstance(method, Method)
    chosen: Any = method.name
    if found is not None and not trained:
        # Whose grid is the setting of the study.
        chosen = registry.closed_form_of(settings)
    if trained and trials is not None:
        raise ValueError(f"--trials is for closed forms, the method is {method.name}.")
    described = None if graph is None else _linked(graph, link, dataset)
    with _stages(settings if trained else None) as (begin, on_row):
        try:
            model = engine.fit(
                dataset,
                chosen,
                settings=settings if trained else None,
                trials=trials,
                fold=settings.fold,
                seed=settings.seed,
                graph=described,
                begin=begin,
                on_row=on_row,
            )
        except DivergedError as problem:
            raise ValueError(f"{problem} Try a lower --rate, or another method.") from None
    _save(model, output, dataset)


def _with_log(dataset: Dataset, events: str) -> Dataset:
    try:
        from metajax.serving import databases, refitting, store
    except ModuleNotFoundError as problem:
        raise ImportError(
            f"--events needs {problem.name}: install the extra, 'metajax[serve]'."
        ) from None
    before = len(dataset.interactions.item)
    name = databases.database_of(events).name
    with store.reading(events) as db:
        found = refitting.with_log(dataset, db)
    console.say(f"{name}: {before:,} interactions become {len(found.interactions.item):,}.")
    return found


def _check_typed(typed: Collection[str]) -> None:
    """Refuses settings that an earlier model has.

    Raises:
        ValueError: If one is given.
    """
    free = {"data", "method", "updates", *reading_fields}
    for name in typed:
        if name in set(names_of(Settings)) - free or "." in name:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be left out: --from keeps the setting of its model.")


def _refitted(
    earlier: Path,
    method: str | None,
    dataset: Dataset,
    graph: str | None,
    link: Path | None,
    **changes: Any,
) -> engine.FittedModel:
    """Fits the method of an earlier model to other data, with its setting."""
    with console.busy(f"Loading {earlier}"):
        model = engine.load(earlier)
    if method not in (None, model.method):
        raise ValueError(
            f"--method must be left out: {earlier} is of {model.method}, got {method}."
        )
    if graph is None and model.shapes.item_width > model.item_schema.width:
        raise ValueError(f"--graph is missing: {earlier} was fitted with one.")
    described = None
    if graph is not None:
        described = _linked(graph, link, engine.over_items_of(model, dataset))
    with console.busy(f"Fitting {model.method}"):
        try:
            return engine.refit(model, dataset, graph=described, **changes)
        except DivergedError as problem:
            raise ValueError(f"{problem} Try fewer --updates.") from None


def _save(
    model: engine.FittedModel, output: Path, dataset: Dataset, *, replayed: Dataset | None = None
) -> None:
    engine.save(model, output)
    log, scale = dataset.interactions, model.recommender.scale
    seen = "--items 'TITLE, TITLE'" if scale is None else f"--ratings 'TITLE={scale[1]:g}'"
    for line in report.weight_lines(model.weights):
        console.say(line)
    told = f"{len(log.users):,} users and {len(log.item):,} interactions"
    if replayed is not None:
        told += f", with {len(replayed.interactions.item):,} replayed"
    console.say(
        f"{model.method} is fitted to {told}: {output}. "
        f"Recommend: metajax recommend {output} {seen}"
    )


def _linked(graph: str, link: Path | None, dataset: Dataset) -> KnowledgeGraph:
    """Loads a graph, and links it to the items of the data."""
    with console.fetching(graph) as fetched:
        found = engine.read_linked(graph, dataset, link=link, progress=fetched)
    console.say(f"{graph}: {len(found.links):,} of {len(dataset.items.ids):,} items are linked.")
    return found


@contextlib.contextmanager
def _stages(settings: Settings | None) -> Any:
    """Shows the two stages of a fit: of a trained method the first by a bar over its updates.

    Args:
        settings: Of a trained method; None: of a closed form.

    Yields:
        The `begin` and `on_row` of `engine.fit`.
    """
    if settings is None:
        with console.stages("Fitting", 2) as begin:
            yield begin, lambda row: None
            begin("done")
        return
    on_row: Callable[[Any], None] = lambda row: None  # noqa: E731
    with contextlib.ExitStack() as shown:

        def begin_trained(stage: str) -> None:
            nonlocal on_row
            shown.close()
            if stage == STAGES[0]:
                bar = console.training(settings.updates, settings.tasks)
                on_row = shown.enter_context(bar)
            else:
                shown.enter_context(console.busy("Fitting everyone"))

        yield begin_trained, lambda row: on_row(row)
