"""Folders of runs: claimed by one process, made whole, locked while they are written, verified.

    RUN.tmp/         a run that is being made, and becomes RUN in one rename
    RUN/lock         the process that trains, while it does
    RUN/checkpoints/ the training progress; each manifest holds digests of the run's other files
    RUN/metrics.jsonl

A file of a run is written once, when the run is made; only the metrics grow. So a checkpoint knows
how each of them must look: a changed setting or a flipped bit is refused by the name of the file.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from metajax import checkpoint, files, locks, storage
from metajax.checkpoint import CheckpointError
from metajax.storage import Digest
from metajax.training import Progress

__all__ = [
    "CHECKPOINTS",
    "Claim",
    "Metrics",
    "check_files",
    "check_report",
    "claim",
    "last_good",
    "last_written",
    "make",
    "open_metrics",
    "publish",
    "read_json",
    "read_metrics",
    "write_report",
]

CHECKPOINTS = "checkpoints"
"""Name of the folder of checkpoints in a run."""
METRICS = "metrics.jsonl"
_REPORT_DIGESTS = "report.sha256"


class Claim(NamedTuple):
    """The name of a run that this process alone may make."""

    folder: Path
    """The folder that the run will have."""
    building: Path
    """The folder that it is built in, locked by this process."""
    lock: int
    """Descriptor of the lock."""


@contextlib.contextmanager
def claim(folder: Path, *, numbered: bool = False) -> Iterator[Claim]:
    """Claims the name of a new run, before any work is done for it.

    Two processes never get one name. What a killed process has left half made is removed; where no
    run is made under the claim, nothing stays.

    Args:
        folder: The folder of the run.
        numbered: True to take the next free name, `folder-2` and so on, where that is taken.

    Yields:
        The claim, for `make`.

    Raises:
        LockedError: If another process is making this run.
        OSError: If the folder exists or cannot be made.
    """
    made = _missing_parents(folder)
    held = _claimed(folder) if not numbered else _next_free(folder)
    try:
        yield held
    finally:
        if locks.holds(held.folder, held.lock):
            locks.release(held.folder, held.lock)
        else:
            shutil.rmtree(held.building, ignore_errors=True)
            os.close(held.lock)
            with contextlib.suppress(OSError):  # Others may use them by now.
                for parent in made:
                    parent.rmdir()


def make(held: Claim, contents: Mapping[str, str | bytes], progress: Progress) -> None:
    """Makes the folder of a run, whole or not at all.

    Args:
        held: From `claim`.
        contents: Content of each file by name.
        progress: The progress before the first update, saved so that a run that is killed before
            its first validation can be resumed.

    Raises:
        OSError: If the folder exists or cannot be written.
        CheckpointError: If the progress cannot be saved.
    """
    contents = {**contents, METRICS: ""}
    for name, content in contents.items():
        storage.write_file(held.building / name, content)
    digests = {name: storage.digest_of(content) for name, content in contents.items()}
    checkpoint.save(held.building / CHECKPOINTS, 0, progress, files=digests)
    publish(held)


def publish(held: Claim) -> None:
    """Gives the folder that was built under a claim its name, in one rename.

    Raises:
        OSError: If the folder exists or cannot be renamed.
    """
    _refuse_existing(held.folder)
    os.rename(held.building, held.folder)
    storage.sync(held.folder.parent)


def check_files(folder: Path) -> None:
    """Verifies the files of a run by its last good checkpoint.

    Args:
        folder: Folder of a run.

    Raises:
        ValueError: If a file is missing or damaged; names it.
        CheckpointError: If no checkpoint is there to verify them by.
    """
    _, known = checkpoint.files_of(folder / CHECKPOINTS)
    for name, digest in known.items():
        storage.check(folder / name, digest, beginning=name == METRICS)


class Metrics(NamedTuple):
    """The metrics of a run, which grow, and the digests of its other files, which stay."""

    path: Path
    """The file of metrics."""
    files: dict[str, Digest]
    """Digests of the other files, by name."""
    hashed: Any
    """Hash of what the file of metrics holds."""

    def add(self, row: Any) -> None:
        """Appends a row of figures, a NamedTuple, as a line of JSON.

        Raises:
            OSError: If it cannot be written.
        """
        line = json.dumps(row._asdict()) + "\n"
        storage.append(self.path, line)
        self.hashed.update(line.encode())

    def synced(self) -> dict[str, Digest]:
        """Forces the metrics to the disk; returns the digests that a checkpoint holds.

        Raises:
            OSError: If the disk refuses.
        """
        storage.sync(self.path)
        size = self.path.stat().st_size
        return {**self.files, METRICS: Digest(size, self.hashed.hexdigest())}


def open_metrics(folder: Path, step: int) -> Metrics:
    """Opens the metrics of a run as they were at a checkpoint.

    Rows and checkpoints after it are dropped: a killed run wrote them past its last good
    checkpoint, and what follows writes them again.

    Args:
        folder: Folder of a run that this process has locked.
        step: Step of the checkpoint.

    Returns:
        The metrics, to add to.

    Raises:
        ValueError: If a file is missing or damaged; names it.
        CheckpointError: If there is no such checkpoint.
        OSError: If a file cannot be written.
    """
    storage.remove_leftovers(folder)
    _, known = checkpoint.files_of(folder / CHECKPOINTS, step=step)
    for name, digest in known.items():
        storage.check(folder / name, digest, beginning=name == METRICS)
    if METRICS not in known:
        raise CheckpointError(f"the checkpoint of step {step} in {folder} is of no run.")
    path, size = folder / METRICS, known.pop(METRICS).size
    # First: the manifests of later checkpoints know longer metrics.
    checkpoint.discard_after(folder / CHECKPOINTS, step)
    storage.cut(path, size)
    return Metrics(path, known, hashlib.sha256(path.read_bytes()))


def last_good(folder: Path) -> str:
    """One sentence that names the last checkpoint of a run."""
    found = checkpoint.steps(folder / CHECKPOINTS)
    if not found:
        return "There is no checkpoint yet."
    return f"The last good checkpoint is of update {found[-1]}, in {folder / CHECKPOINTS}."


def last_written(folder: Path) -> datetime:
    """Time at which the last checkpoint of a run was written.

    Raises:
        CheckpointError: If there is none.
    """
    step, _ = checkpoint.files_of(folder / CHECKPOINTS)
    written = (folder / CHECKPOINTS / f"{step:08d}").stat().st_mtime
    return datetime.fromtimestamp(written, UTC)


def read_json(path: Path) -> Any:
    """Reads a file of a run.

    Raises:
        ValueError: If it cannot be read; names it.
    """
    try:
        return files.read_json(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}.") from None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Reads the rows of figures of a run.

    Raises:
        OSError: If they cannot be read.
    """
    return [json.loads(line) for line in files.read_text(folder / METRICS).splitlines()]


def write_report(folder: Path, contents: Mapping[str, str]) -> None:
    """Writes the files of a report, and their digests beside them.

    Args:
        folder: Folder of a run or a comparison.
        contents: Text of each file by name.

    Raises:
        OSError: If they cannot be written.
    """
    # Without digests while old and new files are mixed.
    (folder / _REPORT_DIGESTS).unlink(missing_ok=True)
    for name, text in contents.items():
        storage.write_file(folder / name, text)
    lines = [f"{storage.digest_of(text).sha256}  {name}\n" for name, text in contents.items()]
    storage.write_file(folder / _REPORT_DIGESTS, "".join(lines))


def check_report(folder: Path) -> None:
    """Verifies the files of a report, where it was written to its end.

    Args:
        folder: Folder of a run.

    Raises:
        ValueError: If one is missing or damaged; names it.
    """
    path = folder / _REPORT_DIGESTS
    if not path.exists():
        return
    try:
        for line in files.read_bytes(path).splitlines():
            digest, _, name = line.decode(errors="replace").partition("  ")
            if name not in ("report.html", "report.json"):
                raise ValueError(f"{path}: is damaged: it names {name!r}.")
            file = folder / name
            storage.check(file, Digest(file.stat().st_size if file.exists() else 0, digest))
    except ValueError as error:
        raise ValueError(f"{error} Judging the run again writes its report anew.") from None


def _claimed(folder: Path) -> Claim:
    """Locks the folder that a run is built in, and empties it."""
    building = folder.with_name(f"{folder.name}.tmp")
    while True:
        _refuse_existing(folder)
        storage.make_folder(building)
        try:
            lock = locks.acquire(building)
        except FileNotFoundError:
            continue  # Renamed or removed meanwhile by the process that held it.
        try:
            _refuse_existing(folder)
            for path in building.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != "lock":
                    path.unlink()
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            os.close(lock)
            raise
        return Claim(folder, building, lock)


def _next_free(folder: Path) -> Claim:
    n = 1
    while True:
        candidate = folder if n == 1 else folder.with_name(f"{folder.name}-{n}")
        with contextlib.suppress(FileExistsError, locks.LockedError):
            return _claimed(candidate)
        n += 1


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))


def _missing_parents(folder: Path) -> list[Path]:
    """Lists the parents that are to be made, the innermost first."""
    missing, parent = [], folder.parent
    while not parent.exists():
        missing.append(parent)
        parent = parent.parent
    return missing
