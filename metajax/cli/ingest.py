"""The command `metajax ingest`."""

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from metajax.cli import console, signals, sources
from metajax.data import ingest as ingested
from metajax.data.reading import Reading
from metajax.data.store import read_manifest

__all__ = ["ingest", "prepare"]

prepare = sources.of_reading


def ingest(
    *paths: Path,
    output: Path,
    reading: Annotated[Reading, Parameter(name="*")] = Reading(),  # noqa: B008
) -> None:
    """Ingests a log of any size into a store, which every command reads as --data STORE.

    The log is read in batches, so that memory does not grow with it. Stopped or killed, the same
    command goes on.

    Args:
        paths: Files or folders of CSV, TSV, JSON lines or Parquet, of one format and the same
            columns.
        output: Folder of the store.
        reading: Options of reading it.
    """
    began = time.monotonic()
    with (
        signals.stoppable(f"what was read is in {output}: the same command goes on."),
        console.preparing("Ingesting"),
    ):
        ingested(paths, output, **reading.reading())
    found, seconds = read_manifest(output), time.monotonic() - began
    for note in found.notes:
        console.error(f"note: {note}.")
    size = sum(size for size, _ in found.files.values())
    console.say(
        f"{found.rows:,} interactions of {found.users:,} users with {found.items:,} items in "
        f"{output}, {size / 1e6:,.0f} MB, in {seconds:,.0f} s."
    )
