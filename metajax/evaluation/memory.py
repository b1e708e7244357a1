"""Exhausted memory of the host or a device, as an error of the method that needed it."""

import contextlib
from collections.abc import Iterator

import jax

from metajax.data.memory import OutOfMemoryError

__all__ = ["naming_memory_errors"]


@contextlib.contextmanager
def naming_memory_errors(method: str) -> Iterator[None]:
    """Raises an error that names the method where the memory is exhausted.

    Compiled programs are dropped then: their constants and buffers take memory from the next
    method.

    Args:
        method: Its name.

    Raises:
        OutOfMemoryError: In place of `MemoryError`, and of JAX's error of an exhausted device.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        text = str(error) or "no memory is left"
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in text:
            raise
        jax.clear_caches()
        raise OutOfMemoryError(
            f"{method} needs more memory than there is: {text.splitlines()[0]}"
        ) from None
