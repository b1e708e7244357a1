"""Memory that is still available, and methods that need more."""

from collections.abc import Callable
from pathlib import Path

import jax

__all__ = ["OutOfMemoryError", "available_memory", "check_memory", "gigabytes"]

_CGROUP = Path("/sys/fs/cgroup")


class OutOfMemoryError(RuntimeError):
    """A method needs more memory than there is."""


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


def check_memory(
    method: str, need: Callable[[int], float], items: int, *, on_device: bool = False
) -> None:
    """Refuses a method whose largest arrays would not fit, before it makes them.

    Args:
        method: Its name.
        need: `need(items)`: about how many bytes they take, growing with the number of items.
        items: Size of the catalogue.
        on_device: True for arrays in the memory of the device, where that is not the host's.

    Raises:
        OutOfMemoryError: With what would fit.
    """
    device = jax.devices()[0].memory_stats() if on_device else None
    free = available_memory()
    if device is not None:
        free = device["bytes_limit"] - device["bytes_in_use"]
    if free is None or need(items) <= free:
        return
    fits, fails = 0, items
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if need(middle) <= free else (fits, middle)
    advice = f": a catalogue of at most {fits:,} items would fit" if fits else ""
    raise OutOfMemoryError(
        f"{method} needs more memory than there is: about {gigabytes(need(items))} for "
        f"{items:,} items, and {gigabytes(free)} are free{advice}."
    )


def gigabytes(count: float) -> str:
    """Returns a number of bytes in gigabytes, as in texts."""
    return f"{count / 1e9:.3g} GB"
