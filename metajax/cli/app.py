"""The command line: train, transfer, compare, evaluate, recommend, data, graph."""

from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import App, Parameter

from metajax.cli import console, graph_commands, signals, sources, transfer_command
from metajax.methods.settings import Settings, check_numbers, check_whole
from metajax.runs.graph_settings import GraphSettings

__all__ = ["main"]

app = App(
    name="metajax",
    help="Meta-learning for cold-start recommendation.",
    help_format="plaintext",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.command(graph_commands.graph)
app.command(transfer_command.transfer)


def main(arguments: list[str]) -> int:
    """Runs one command.

    Args:
        arguments: What follows the program's name.

    Returns:
        The exit status: 0 done (or saved after SIGTERM), 2 a mistake that one line on standard
        error explains, 130 stopped by Ctrl-C.
    """
    from metajax.checkpoint import CheckpointError
    from metajax.data.fetch import DataUnavailable
    from metajax.training import DivergedError

    try:
        return app.meta(arguments, exit_on_error=False, print_error=False) or 0
    except cyclopts.CycloptsError as problem:
        console.error(str(problem))
    except (CheckpointError, DataUnavailable, DivergedError, ImportError, ValueError) as problem:
        console.error(str(problem))
    except KeyError as problem:
        console.error(str(problem.args[0]))
    except MemoryError as problem:
        console.error(f"out of memory: {problem}")
    except OSError as problem:
        console.error(f"{problem.filename or 'input/output'}: {problem.strerror or problem}")
    except KeyboardInterrupt:
        console.error("stopped before there was anything to save.")
        return 130
    return 2


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[
        Path | None, Parameter(help="TOML file of settings; the command line and METAJAX_* win.")
    ] = None,
) -> int | None:
    # Settings are those of training; other commands have them from the run.
    layers = []
    if tokens[:1] in (("train",), ("transfer",)):
        layers = sources.layers(config, tokens)
    if config is not None and tokens[:1] == ("compare",):
        tokens = (*tokens, f"--config={config}")
    elif config is not None and not layers:
        raise ValueError("--config belongs to train, transfer and compare.")
    kind = GraphSettings if tokens[:1] == ("graph",) else Settings
    given = sources.given(tokens)
    check_numbers(given, "command line", kind)
    check_whole(given.get("top"), "top", "command line")
    app.config = layers
    return app(tokens, exit_on_error=False, print_error=False)


@app.command
def train(
    settings: Annotated[Settings, Parameter(name="*")] = Settings(),  # noqa: B008
    *,
    run: Path | None = None,
    resume: Path | None = None,
    report: bool = True,
) -> int:
    """Meta-trains on one fold's users, then judges on its cold users.

    Args:
        settings: The settings.
        run: Folder of the run; must not exist. Default: runs/DATA-LEARNER, numbered if taken.
        resume: Folder of a run to go on with, with the settings it was begun with.
        report: Judge on the cold users in the end, beside the simple baselines.
    """
    with console.busy("Starting JAX"):
        from metajax import runs
        from metajax.cli import run_commands

    if report:
        run_commands.check_report()
    if resume is not None:
        if run is not None:
            raise ValueError(f"--resume writes to {resume}, so --run must be left out, got {run}.")
        if settings not in (Settings(), runs.settings_of(resume)):
            raise ValueError(f"--resume goes on with the settings of {resume}; give no others.")
        opened, progress = run_commands.resumed(resume)
    else:
        from metajax.data import datasets

        with console.fetching(settings.data) as fetched:
            dataset = datasets.load(settings.data, progress=fetched, **settings.reading())
        with console.busy("Pretraining item factors"):
            folder = run or run_commands.free_folder(
                f"{Path(settings.data).stem}-{settings.learner}"
            )
            opened, progress = runs.create(folder, settings, dataset)
    return run_commands.train_and_judge(opened, progress, report=report)


@app.command
def evaluate(run: Annotated[Path, Parameter(name="run")], /) -> int:
    """Judges a run on its fold's cold users, beside the simple baselines.

    Args:
        run: Folder of the run.
    """
    from metajax.cli import run_commands

    return run_commands.judge(run_commands.open_run(run))


@app.command
def compare(
    *,
    data: str = "ml-100k",
    methods: str = "",
    protocols: str = "P1,P2",
    folds: int = 5,
    seeds: int = 1,
    trials: int | None = None,
    folder: Path | None = None,
    jobs: int = 1,
    config: Annotated[Path | None, Parameter(show=False)] = None,
    quick: bool = False,
) -> int:
    """Tunes and judges methods on the same users, baselines included; goes on where it stopped.

    Args:
        data: Data set: a name (ml-100k, synthetic) or a path.
        methods: Names, separated by commas; by default every baseline and every learner.
        protocols: P1 (cold users by number of shots), P2 (warm and cold users by warm and cold
            items), P2-newest (the newest items are cold).
        folds: How many of the five folds, or draws.
        seeds: How many repetitions.
        trials: How many settings each method may try on validation users; by default all it has.
        folder: Where finished parts are kept. Default: runs/DATA-compare.
        jobs: How many processes judge at once.
        config: TOML file of settings of the learners, and of reading the data.
        quick: One fold, few updates, no tuning: to see that everything runs.
    """
    with console.busy("Starting JAX"):
        from metajax import evaluation
        from metajax.cli import run_commands
        from metajax.data import datasets
        from metajax.runs import judging

    options = {
        "methods": _listed(methods) or evaluation.method_names(),
        "protocols": _listed(protocols),
        "folds": range(1 if quick else folds),
        "seeds": range(seeds),
    }
    cells = evaluation.cells_of(**options)
    changes: dict[str, Any] = {"updates": 50, "rank": 4} if quick else {}
    reading: dict[str, Any] = {}
    if config is not None:
        given, reading = sources.of_comparison(config)
        changes |= given
    with console.fetching(data) as fetched:
        dataset = datasets.load(data, progress=fetched, **reading)
    target = folder or Path("runs") / f"{Path(data).stem}-compare"
    try:
        with signals.terminable(), console.stages("Comparing", len(cells) + 1) as begin:
            found = evaluation.compare(
                dataset,
                **options,
                trials=1 if quick and trials is None else trials,
                changes=changes,
                folder=target,
                jobs=jobs,
                on_stage=begin,
            )
    except KeyboardInterrupt as stopped:
        console.error(f"stopped; finished parts are in {target}. The same command goes on.")
        return 0 if isinstance(stopped, signals.Terminated) else 130
    page = judging.write_comparison(target, dataset, found, seeds=seeds)
    run_commands.show(found.records, found.notes, page, brief=True)
    return 0


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


@app.command
def recommend(
    run: Annotated[Path, Parameter(name="run")],
    /,
    *,
    ratings: str = "",
    user: str = "",
    top: int = 10,
    source: bool = False,
) -> None:
    """Adapts to a new user and prints what to recommend.

    Args:
        run: Folder of the run.
        ratings: "Star Wars=5, Fargo=4": titles or ids, and the user's ratings of them. After a
            transfer, "source:Emma=5, target:Emma=4" where both domains have the title.
        user: "age=30, gender=F": the user's attributes; those left out count as missing.
        top: How many items.
        source: After a transfer, recommend items of the source as well.
    """
    from metajax import runs
    from metajax.cli import run_commands
    from metajax.runs.recommendation import parse_numbers, parse_pairs
    from metajax.runs.recommendation import recommend as recommend_items

    rated = parse_numbers(parse_pairs(ratings, "--ratings"), "--ratings")
    attributes = parse_pairs(user, "--user")
    with console.busy(f"Loading {run}"):
        recommender = runs.load(run, on_skip=run_commands.skipped)
    for line in recommend_items(recommender, rated, attributes, top=top, source=source):
        print(f"{line.score:5.2f}  {line.title}")


@app.command
def data(
    source: Annotated[str, Parameter(name="source")],
    /,
    *,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    time_column: str | None = None,
    duplicates: Literal["error", "last"] = "error",
    scale: tuple[float, float] | None = None,
    support: int = 10,
) -> None:
    """Tells what is in a data set: counts, density, cold users and items, problems.

    Args:
        source: A name (ml-100k, synthetic) or a path.
        user_column: Column of the user in a table, where it is not recognised.
        item_column: Column of the item.
        rating_column: Column of the rating.
        time_column: Column of the time.
        duplicates: What to do with a user's second rating of an item: error, or last.
        scale: Lowest and highest rating.
        support: Users with no more interactions than this count as cold.
    """
    from metajax.data import datasets
    from metajax.data.readers import problems

    reading = Settings(
        user_column=user_column,
        item_column=item_column,
        rating_column=rating_column,
        time_column=time_column,
        duplicates=duplicates,
        scale=scale,
    ).reading()
    with console.fetching(source) as fetched:
        dataset = datasets.load(source, progress=fetched, **reading)
    for name, value in datasets.facts(dataset, support=support).items():
        print(f"{name:<14} {value}")
    found = problems(dataset, support)
    print(f"{'problems':<14} {len(found) or 'none'}")
    for line in found:
        print(f"  - {line}")
