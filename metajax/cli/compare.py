"""The command `metajax compare`."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from metajax import evaluation
from metajax.cli import console, signals, sources
from metajax.cli.evaluate import conclude, failure_of
from metajax.data import datasets
from metajax.data.reading import Reading
from metajax.runs import judging

__all__ = ["compare", "prepare"]


def prepare(config: Path | None, tokens: tuple[str, ...]) -> tuple[list[Any], tuple[str, ...]]:
    """Prepares the command, which reads settings of methods from the file itself."""
    # Cyclopts leaves an option to the command that has one of its name.
    named = sources.given(tokens).get("config")
    layers, tokens = sources.of_reading(Path(named) if named else config, tokens)
    return layers, tokens if config is None else (*tokens, f"--config={config}")


def compare(
    reading: Annotated[Reading, Parameter(name="*")] = Reading(),  # noqa: B008
    *,
    data: str = "ml-100k",
    methods: str = "",
    protocols: str = "",
    folds: int = 5,
    seeds: int = 1,
    trials: int | None = None,
    one_model: bool = False,
    cross_fit: bool = False,
    folder: Path | None = None,
    jobs: int = 1,
    ray: str | None = None,
    config: Annotated[Path | None, Parameter(show=False)] = None,
    quick: bool = False,
) -> int:
    """Tunes and evaluates methods and baselines on the same users; resumes where it stopped.

    Args:
        reading: Options of reading the data.
        data: Data set: a name (ml-100k, ml-1m, ..., synthetic) or a path.
        methods: Names, separated by commas; by default every baseline and trained method that
            suits the data.
        protocols: P1 (cold users by number of shots), P2 (warm and cold users by warm and cold
            items), P2-newest (the newest items are cold). Default: P1,P2, or P1 where the log has
            no ratings.
        folds: Number of folds, of five, or of draws.
        seeds: Number of repetitions.
        trials: Number of settings each method tries on validation users; by default its grid.
        one_model: Add a row, "NAME, one model", for each method that chose different settings for
            the orders of the supports: one setting for all.
        cross_fit: Choose settings by cross-fitting over training and validation users, instead of
            on validation users alone; under P1, which is then the default.
        folder: Folder of finished parts. Default: runs/DATA-compare.
        jobs: Number of processes.
        ray: Ray cluster whose CPUs judge instead: HOST:PORT of its head, auto for the one of this
            machine, or local for one that is started here.
        config: TOML file of settings of trained methods, and of reading the data.
        quick: One fold, few updates, no tuning: a smoke test.
    """
    options: dict[str, Any] = {
        "methods": _listed(methods) or None,
        "protocols": _listed(protocols) or None,
        "folds": range(1 if quick else folds),
        "seeds": range(seeds),
    }
    if cross_fit and options["protocols"] is None:
        options["protocols"] = ["P1"]
    evaluation.cells_of(**options)  # Refuses what is unknown before data are loaded.
    changes: dict[str, Any] = {"updates": 50, "rank": 4} if quick else {}
    if config is not None:
        changes |= sources.of_comparison(config)
    with console.fetching(data) as fetched:
        dataset = datasets.load(data, progress=fetched, **reading.reading())
    console.notes(dataset)
    if dataset.parts is not None:
        console.error("note: the data come with their own split: P1 on it, and no folds.")
        options |= {"protocols": ["P1"], "folds": [0]}
    cells = evaluation.cells_of(**options, dataset=dataset)
    for method in dict.fromkeys(cell.method for cell in cells):
        console.reductions(method, dataset)
    target = folder or Path("runs") / f"{Path(data).stem}-compare"
    saved = f"stopped; finished parts are in {target}. The same command resumes."
    with signals.collected() as caught:
        with (
            signals.stoppable(saved),
            console.stages("Comparing", len(cells) + 1) as begin,
        ):
            found = evaluation.compare(
                dataset,
                **options,
                trials=1 if quick and trials is None else trials,
                one_model=one_model,
                cross_fit=cross_fit,
                changes=changes,
                folder=target,
                jobs=jobs,
                ray=ray,
                on_lost=console.error,
                on_stage=begin,
            )
        unwritten = failure_of(
            lambda: judging.write_comparison(
                target, dataset, found, seeds=seeds, cross_fit=cross_fit
            )
        )
    return conclude(found.records, found.notes, target, caught, unwritten, brief=True)


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
