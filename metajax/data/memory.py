"""Memory that is still available to this process."""

from pathlib import Path

__all__ = ["available_memory"]

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Returns the bytes that this process may still allocate; None where they are not known.

    It is what Linux could free without swapping, or what is left of the limit of a container, if
    that is less.
    """
    found = []
    try:
        facts = Path("/proc/meminfo").read_text().split()
        found.append(int(facts[facts.index("MemAvailable:") + 1]) * 1024)
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            found.append(int(limit) - int((_CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # Another system, or no container.
    return min(found, default=None)
