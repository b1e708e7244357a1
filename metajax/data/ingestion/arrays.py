"""Arrays of one dimension in .npy files that are written a piece at a time."""

import io
import os
from pathlib import Path

import numpy as np

from metajax.storage import write_pieces

__all__ = [
    "finish_header",
    "header_of",
    "save_array",
]

HEADER = 128
"""Bytes of the header of a file, whatever the length of its array."""


def header_of(kind: np.dtype, rows: int) -> bytes:
    """Header of a .npy file of one dimension, of 128 bytes whatever the length."""
    data = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (rows,)}
    np.lib.format.write_array_header_1_0(data, facts)
    header = data.getvalue()
    assert len(header) == HEADER
    return header


def finish_header(path: Path, kind: np.dtype, rows: int) -> None:
    """Writes the header of a file whose content has grown to `rows`, in place of the blank one."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, header_of(kind, rows), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_array(path: Path, column: np.ndarray) -> None:
    """Writes an array at once, and forces it to the disk."""
    content = np.ascontiguousarray(column)
    write_pieces(path, [header_of(content.dtype, len(content)), content.tobytes()])
