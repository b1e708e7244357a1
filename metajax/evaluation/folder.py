"""The folder of a comparison: which data it is about, and its finished cells.

FOLDER/experiment.json   which data
FOLDER/cells/            a file for each finished cell
FOLDER/report.json, report.html
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metajax import files

__all__ = ["open_folder"]

_NAME = "experiment.json"


def open_folder(folder: Path, data: Mapping[str, Any]) -> Path:
    """Makes the folder of a comparison, or makes sure that it is one of the same data.

    Args:
        folder: New, empty, or that of an earlier comparison.
        data: What `data.dataset.fingerprint` says of the data.

    Returns:
        The folder of the finished cells.

    Raises:
        ValueError: If something else is there, or a comparison of other data.
        OSError: If it cannot be written.
    """
    cells = folder / "cells"
    if folder.is_dir() and any(folder.iterdir()):
        try:
            found = json.loads((folder / _NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise ValueError(
                f"{folder}: holds no comparison; give a new or an empty folder."
            ) from None
        if found != {"data": dict(data)}:
            raise ValueError(f"{folder}: holds a comparison on other data; give another folder.")
    cells.mkdir(parents=True, exist_ok=True)
    files.write(folder / _NAME, json.dumps({"data": dict(data)}, indent=1) + "\n")
    return cells
