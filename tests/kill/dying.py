"""Death at a given call that changes files, in this process, as SIGKILL or a power failure has it.

From that call on nothing that would change a file does anything but die once more, so that no
`finally` and no context manager tidies up what a killed process leaves. Calls go through `os`, by
which `metajax.storage` and `metajax.locks` write; whoever writes otherwise is not seen here, and is
found by `killed` of `tests.kill.__main__`, which kills processes.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Killed", "Watched", "dying"]

_CHANGING = ("mkdir", "rename", "replace", "unlink", "rmdir", "truncate", "ftruncate", "fsync")
_WRITING = ("write", "pwrite")


class Killed(BaseException):
    """The death of the process."""


class Watched:
    """The calls that were made under a folder."""

    def __init__(self, root: Path, last: int | None):
        self.root, self.last = root, last
        self.calls: list[str] = []
        """Name and file of each call."""
        self.open: set[int] = set()
        """Descriptors that are open."""

    def happens(self, name: str, place: str | int | os.PathLike[str]) -> bool:
        """Counts a call; returns True where it is the one that is died at, or comes later."""
        path = os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else str(place)
        if os.path.isabs(path) and not path.startswith(str(self.root)):
            return False
        self.calls.append(f"{name} {Path(path).name}")
        return self.last is not None and len(self.calls) >= self.last


@contextlib.contextmanager
def dying(root: Path, at: int | None) -> Iterator[Watched]:
    """Lets this process die at a call that changes files under a folder.

    Args:
        root: The folder.
        at: Number of the call, from 1, in place of which it dies; a write is cut in half. None: it
            lives, and calls are counted.

    Yields:
        What was called.

    Raises:
        Killed: At that call.
    """
    watched = Watched(root, at)
    before = {name: getattr(os, name) for name in (*_CHANGING, *_WRITING, "open", "close")}

    def changing(name: str) -> Callable[..., object]:
        def call(place, *rest, **options):
            if watched.happens(name, place):
                raise Killed(watched.calls[-1])
            return before[name](place, *rest, **options)

        return call

    def writing(name: str) -> Callable[..., object]:
        def call(descriptor, content, *rest):
            if watched.happens(name, descriptor):
                if len(watched.calls) == at:
                    before[name](descriptor, content[: len(content) // 2], *rest)
                raise Killed(watched.calls[-1])
            return before[name](descriptor, content, *rest)

        return call

    def opening(path, flags, *rest, **options):
        creates = flags & (os.O_CREAT | os.O_TRUNC)
        if creates and watched.happens("open", path):
            raise Killed(watched.calls[-1])
        descriptor = before["open"](path, flags, *rest, **options)
        watched.open.add(descriptor)
        return descriptor

    def closing(descriptor):
        watched.open.discard(descriptor)
        before["close"](descriptor)

    replaced = {name: changing(name) for name in _CHANGING}
    replaced |= {name: writing(name) for name in _WRITING}
    replaced |= {"open": opening, "close": closing}
    for name, function in replaced.items():
        setattr(os, name, function)
    try:
        yield watched
    finally:
        for name, function in before.items():
            setattr(os, name, function)
        # As the kernel does for a dead process, and with them its locks.
        for descriptor in watched.open:
            with contextlib.suppress(OSError):
                os.close(descriptor)
