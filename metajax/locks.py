"""Locks of folders: one process at a time writes to a folder, and names itself in it.

    FOLDER/lock    process id, host, and time of start of the process that writes here

A single file is locked likewise, by `FILE.owner` beside it.

The kernel releases the lock when its process ends, however it ends: what a killed process leaves is
an unlocked file, which the next process takes over. Where the file system has no locks, the process
that the file names is looked for on this host instead.
"""

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

__all__ = ["LockedError", "acquire", "holds", "locked", "release"]

_NAME = "lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class LockedError(ValueError):
    """A folder that another process writes to."""


@contextlib.contextmanager
def locked(folder: Path, name: str = _NAME) -> Iterator[None]:
    """Locks a folder for this process.

    Args:
        folder: A folder that exists.
        name: Name of the lock, `FILE.owner` for one file of the folder.

    Raises:
        LockedError: If another process holds it; names that process.
        OSError: If the lock cannot be written.
    """
    descriptor = acquire(folder, name)
    try:
        yield
    finally:
        release(folder, descriptor, name)


def acquire(folder: Path, name: str = _NAME) -> int:
    """Locks a folder until `release`, or until the process ends.

    Args:
        folder: A folder that exists.
        name: Name of the lock, `FILE.owner` for one file of the folder.

    Returns:
        The descriptor to release it by. The lock stays with the folder when that is renamed.

    Raises:
        LockedError: If another process holds it; names that process.
        OSError: If the lock cannot be written.
    """
    path = folder / name
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _try(descriptor, path):
                owner = json.dumps(_this_process()).encode()
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, owner, 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # Released between its opening and its locking: the file is another one now, or none.
        os.close(descriptor)


def release(folder: Path, descriptor: int, name: str = _NAME) -> None:
    """Removes a lock.

    Args:
        folder: The folder, by its present name.
        descriptor: From `acquire`.
        name: Name of the lock, `FILE.owner` for one file of the folder.
    """
    try:
        (folder / name).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def holds(folder: Path, descriptor: int, name: str = _NAME) -> bool:
    """True if a descriptor from `acquire` is of the lock of a folder."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder / name))
    except OSError:
        return False


def _try(descriptor: int, path: Path) -> bool:
    """Locks an open file; returns False if it is no longer the lock of its folder."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        supported = True
    except ImportError:  # Windows.
        supported = False
    except BlockingIOError:
        raise LockedError(_refusal(path, _read(descriptor))) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        supported = False
    if not holds(path.parent, descriptor, path.name):
        return False
    owner = _read(descriptor)
    if owner and (_runs(owner) if _here(owner) else not supported):
        raise LockedError(_refusal(path, owner))
    return True


def _refusal(path: Path, owner: dict[str, Any]) -> str:
    known = "process {pid} on {host}, since {since}".format_map(owner) if owner else "a process"
    rest = "" if not owner or _here(owner) else f"; if that is gone, delete {path}"
    locked = path.parent if path.name == _NAME else path.with_suffix("")
    return f"{locked}: in use by {known}{rest}."


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": _started(os.getpid()),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _read(descriptor: int) -> dict[str, Any]:
    """Returns the owner of a lock; nothing where a killed process has not written all of it."""
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
        return found if set(found) == {"pid", "host", "started", "since"} else {}
    except (TypeError, ValueError):
        return {}


def _here(owner: dict[str, Any]) -> bool:
    return owner["host"] == socket.gethostname()


def _runs(owner: dict[str, Any]) -> bool:
    """True if a process of this host, other than this one, still runs."""
    pid = owner["pid"]
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return False
    # A later process may have got the same number.
    return _started(pid) == owner["started"]


def _started(pid: int) -> str | None:
    """Returns when a process was started, since which boot; None where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The name of the program, in brackets, may hold spaces.
        after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return f"{boot} {after[19]}"
