"""Models of `metajax serve --demo`: the engine and a baseline, fitted to MovieLens-100K once."""

import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from metajax import engine
from metajax.data import datasets
from metajax.data.fetch import Progress, cache_folder

__all__ = ["demo_folder", "demo_model"]

DATA = "ml-100k"
"""Data set of the demonstration."""


def demo_folder() -> Path:
    """Returns the folder of the demonstration, in that of cached data, and makes it.

    Raises:
        DataUnavailable: If there is no folder for data.
        OSError: If it cannot be made.
    """
    folder = cache_folder() / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def demo_model(
    data: str = DATA,
    method: str | None = None,
    progress: Progress | None = None,
    begin: Callable[[], None] = lambda: None,
) -> Path:
    """Returns the folder of the model, which is fitted if there is none that can be read.

    Args:
        data: Name or path of the data set.
        method: Name of the method; None: the engine.
        progress: Called as bytes arrive, if any have to be fetched.
        begin: Called before a model is fitted.

    Raises:
        DataUnavailable: If the data must be fetched and cannot be.
        OSError: If the model cannot be written.
    """
    name = Path(data).name if method is None else method
    folder = demo_folder() / f"{name}-{version('metajax')}"
    if folder.exists():
        try:
            engine.load(folder)
        except (ValueError, OSError):
            # Of an interrupted removal, or of other code of the same version.
            shutil.rmtree(folder)
        else:
            return folder
    dataset = datasets.load(data, progress=progress)
    begin()
    return engine.save(engine.fit(dataset, method), folder)
