"""Trial reading of Parquet files in a process of its own, which may crash.

A damaged Parquet file can make polars panic, which prints a page, or ask for so much memory that
the process is ended, which nothing in it can prevent. So another one reads each file first, which
takes about half a second more, and the time to read the files.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from metajax.data.readers.contents import Content
from metajax.files import DataError, check_file

__all__ = ["check_parquet"]

_PROGRAM = """
import json, sys
import polars
for path in json.load(sys.stdin):
    print(flush=True)
    try:
        for _ in polars.scan_parquet(path, glob=False).collect_batches():
            pass
    except BaseException as error:
        print((str(error).splitlines() or [type(error).__name__])[0], end="")
        sys.exit(3)
"""
_SECONDS = 600


def check_parquet(contents: Sequence[Content]) -> None:
    """Checks that Parquet files can be read, in a process of its own.

    Args:
        contents: Files; those of other kinds are left out.

    Raises:
        DataError: If one cannot be read; it names the first.
    """
    contents = [content for content in contents if content.kind == ".parquet"]
    if not contents or not sys.executable:
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, content in enumerate(contents):
            path = Path(folder) / str(number) if content.path is None else check_file(content.path)
            if content.path is None:
                path.write_bytes(content.read())
            paths.append(str(path.absolute()))
        try:
            run = subprocess.run(
                [sys.executable, "-c", _PROGRAM],
                input=json.dumps(paths),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DataError(f"cannot be read in {_SECONDS} s.", file=contents[0].name) from None
    if run.returncode == 0:
        return
    # A line was begun for each file.
    *begun, error = run.stdout.split("\n")
    if run.returncode < 0:
        error = f"it ends the program that reads it ({signal.Signals(-run.returncode).name})"
    elif not begun:  # Polars itself cannot be imported there.
        return
    file = contents[max(len(begun) - 1, 0)].name
    raise DataError(f"not a Parquet file: {error.rstrip('.')}.", file=file)
