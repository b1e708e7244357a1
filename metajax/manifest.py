"""A list of what a folder must hold, written last: how a damaged folder is told from a whole one.

Storage flips bits, copies stop halfway, disks fill up; few formats notice. The manifest holds the
size and the sha256 of every file, a few facts of its owner, and a digest of itself.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

__all__ = ["sync", "verify", "write"]

_NAME = "manifest.json"


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Writes `manifest.json` for all files under a folder, and forces everything to the disk.

    Args:
        folder: What to describe; it holds no manifest yet.
        facts: What `verify` gives back; anything that JSON holds.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        sync(path)
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = _fingerprint(path)
    content = {"facts": facts, "files": files}
    # Its own digest too: a flipped bit in the facts is damage like any other.
    text = json.dumps({**content, "sha256": _digest(content)}, indent=1)
    (folder / _NAME).write_text(text, encoding="utf-8")
    sync(folder / _NAME)
    sync(folder)


def verify(folder: Path) -> dict[str, Any]:
    """Checks every file that the manifest lists, and returns the facts given to `write`.

    Files that it does not list are nobody's concern.

    Raises:
        OSError: If the manifest or a file is missing, or is not what was written.
    """
    if not (folder / _NAME).is_file():
        raise OSError(f"{_NAME} is missing")
    try:
        content = json.loads((folder / _NAME).read_text(encoding="utf-8"))
        digest = content.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OSError(f"{_NAME} is damaged") from error
    if digest != _digest(content):
        raise OSError(f"{_NAME} is damaged")
    for name, (size, digest) in content["files"].items():
        if not (folder / name).is_file():
            raise OSError(f"{name} is missing")
        found_size, found_digest = _fingerprint(folder / name)
        if found_size != size:
            raise OSError(f"{name} has {found_size} bytes, {size} were written")
        if found_digest != digest:
            raise OSError(f"{name} is not what was written (sha256 differs)")
    return content["facts"]


def sync(path: Path) -> None:
    """Forces a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fingerprint(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
