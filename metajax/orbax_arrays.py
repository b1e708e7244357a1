"""Named arrays in a folder, written and read by Orbax without a word on the terminal.

Whether they are whole is not looked at here: Orbax restores flipped bits, see `checkpoint`.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

__all__ = ["read_arrays", "silence", "write_arrays"]


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays by name into a new folder; of none at all it is empty.

    Raises:
        Exception: Whatever Orbax and TensorStore raise, and `OSError`.
    """
    if not arrays:
        path.mkdir()
        return
    with _orbax() as orbax:
        orbax.save(path, arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote.

    Raises:
        Exception: As `write_arrays`.
    """
    if not any(path.iterdir()):
        return {}
    with _orbax() as orbax:
        return orbax.restore(path)


@contextlib.contextmanager
def _orbax() -> Iterator[Any]:
    # Imported here: it takes longer than jax itself.
    import orbax.checkpoint as ocp

    # Alone with itself, so that Orbax waits for no other process.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    with silence(), ocp.Checkpointer(handler, multiprocessing_options=alone) as orbax:
        yield orbax


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps off the terminal what Orbax's threads print of a failure that it raises anyway.

    Orbax gives up at the first write that fails. What ends after that finds its event loop closed
    and its exception unread, at any time later; so only the logger is as it was in the end.
    """
    logging.getLogger("asyncio").addFilter(_not_of_orbax)
    if not isinstance(sys.unraisablehook, _WithoutLateWrites):
        sys.unraisablehook = _WithoutLateWrites(sys.unraisablehook)
    logger = logging.getLogger("absl")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.getMessage()


class _WithoutLateWrites:
    """Drops what TensorStore reports, of no object, when it finds Orbax's event loop closed."""

    def __init__(self, hook: Callable[[Any], object]):
        self._hook = hook

    def __call__(self, problem: Any) -> None:
        late = isinstance(problem.exc_value, RuntimeError) and problem.object is None
        if not (late and str(problem.exc_value) == "Event loop is closed"):
            self._hook(problem)
