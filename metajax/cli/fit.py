"""The command `metajax fit`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from metajax import engine
from metajax.cli import console, sources
from metajax.data import datasets
from metajax.data.reading import Reading

__all__ = ["fit", "prepare"]

prepare = sources.of_reading


def fit(
    *,
    output: Path,
    data: str = "ml-100k",
    method: str | None = None,
    seed: int = 0,
    reading: Annotated[Reading | None, Parameter(name="*")] = None,
) -> None:
    """Fits a method to all users of a log; writes a model folder that needs no data to serve.

    Args:
        output: Folder of the model; must not exist.
        data: A name (ml-100k, ml-1m, ..., synthetic), or the path of a log.
        method: A closed form or a trained method; by default eb_fold_in, or ease for a log without
            ratings. Its setting, or number of updates, is chosen on held-out users.
        seed: Seed of the held-out users.
        reading: Options of reading a path.
    """
    if output.exists():
        raise ValueError(f"--output must not exist, got {output}.")
    with console.fetching(data) as fetched:
        options = {} if reading is None else reading.reading()
        dataset = datasets.load(data, progress=fetched, **options)
    console.notes(dataset)
    with console.stages("Fitting", 2) as begin:
        model = engine.fit(dataset, method, seed=seed, begin=begin)
    engine.save(model, output)
    log = dataset.interactions
    console.say(
        f"{model.method} is fitted to {len(log.users):,} users and {len(log.item):,} interactions: "
        f"{output}. Recommend: metajax recommend {output} --ratings 'TITLE=5'"
    )
