"""Files that are either whole or not there."""

import os
from pathlib import Path

__all__ = ["write"]


def write(path: Path, content: str | bytes) -> None:
    """Replaces a file in one step, so that no reader ever sees half of it.

    Args:
        path: The file; its folder exists.
        content: Text, written as UTF-8, or bytes.

    Raises:
        OSError: If it cannot be written; what was there before stays.
    """
    # Of this process alone: another one may be writing the same file.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
