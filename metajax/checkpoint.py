"""Verified storage of pytrees: checkpoints that are either whole or not there.

    folder/00000120/arrays.bin       the bytes of the leaves in order, each at a multiple of 64
    folder/00000120/manifest.json    their paths, dtypes, shapes and places; size and sha256 of all
    folder/00000130.tmp/...          left by a killed save; the next save removes it

Storage flips bits, copies stop halfway, disks fill up, and few formats notice. So a checkpoint is
written under another name, forced to the disk, read back, and appears under its own name in one
rename; and `restore` verifies every byte before it uses any, and falls back to the last step that
is whole. benchmarks/checkpoint_cost.py compares this with Orbax.

One process writes. Under `jax.distributed` call `save` on one process and `restore` on all.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["CheckpointError", "restore", "save", "steps", "write_file"]

_ARRAYS = "arrays.bin"
_MANIFEST = "manifest.json"
_ALIGNMENT = 64


class CheckpointError(RuntimeError):
    """No checkpoint could be written, or none that is whole could be read."""


def save(folder: str | os.PathLike[str], step: int, state: Any, *, keep: int = 3) -> Path:
    """Writes a checkpoint, and removes old ones once the new one has been read back.

    A checkpoint of the same step is replaced.

    Args:
        folder: Folder of the checkpoints of one run; made if absent.
        step: Number of updates behind `state`, >= 0.
        state: Any pytree of JAX arrays, NumPy arrays, PRNG keys and Python numbers. Arrays spread
            over several devices of this process are gathered; those spread over several processes
            must be replicated.
        keep: Number of the latest steps to keep, >= 1, the new one among them.

    Returns:
        The folder of the new checkpoint.

    Raises:
        ValueError: If `step` or `keep` is out of range.
        TypeError: If a leaf is neither an array nor a number.
        CheckpointError: If the checkpoint cannot be written, for instance for want of space on
            the disk; older ones are as they were.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> _ = save(folder, 120, {"w": np.arange(3.0), "rate": 0.1})
        >>> restore(folder, {"w": np.zeros(3), "rate": 0.0})
        (120, {'rate': 0.1, 'w': array([0., 1., 2.])})
    """
    if step < 0:
        raise ValueError(f"step must be >= 0, got {step}.")
    if keep < 1:
        raise ValueError(f"keep must be >= 1, got {keep}.")
    arrays, leaves, end = [], {}, 0
    for path, leaf in _named(state):
        arrays.append(_host(path, leaf))
        start = end + -end % _ALIGNMENT
        end = start + arrays[-1].nbytes
        leaves[path] = [*_description(leaf), start, end]
    digest = hashlib.sha256()
    for piece in _pieces(arrays):
        digest.update(piece)
    content = {"step": step, "leaves": leaves, "size": end, "sha256": digest.hexdigest()}
    # A digest of itself too: a flipped bit in a shape is damage like any other.
    manifest = json.dumps({**content, "digest": _digest(content)}, indent=1)

    final = Path(folder).absolute() / f"{step:08d}"
    partial = final.with_name(final.name + ".tmp")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(final.parent)
        _require_space(final.parent, end + len(manifest))
        partial.mkdir()
        _write_arrays(partial / _ARRAYS, arrays)
        _write_manifest(partial / _MANIFEST, manifest)
        _read(partial)
        _publish(partial, final)
        _prune(final.parent, step, keep)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(f"cannot save step {step} in {folder}: {_line(error)}") from error
    return final


def restore(
    folder: str | os.PathLike[str],
    like: Any,
    *,
    step: int | None = None,
    on_skip: Callable[[int, str], None] | None = None,
) -> tuple[int, Any]:
    """Reads the last checkpoint that is whole, or the one of a given step.

    Args:
        folder: Folder that `save` wrote to.
        like: A pytree of the structure, shapes and dtypes of the saved state, for instance a
            freshly initialized one, or what `jax.eval_shape` returns. Each leaf comes back as its
            counterpart's kind: JAX array (with its sharding), NumPy array, PRNG key or number.
        step: The step to read; None takes the last good one.
        on_skip: Called with the step and the reason for each damaged checkpoint passed over.

    Returns:
        The step and the state, bit for bit as it was saved.

    Raises:
        ValueError: If the checkpoint is whole but a leaf of `like` does not fit it.
        CheckpointError: If there is no good checkpoint, or the given step is not good.
    """
    root = Path(folder).absolute()
    found = sorted(_step_folders(root), reverse=True)
    if step is not None and step not in found:
        raise CheckpointError(f"no checkpoint of step {step} in {folder}, found {found or 'none'}.")
    skipped: list[str] = []
    for candidate in found if step is None else [step]:
        try:
            manifest, content = _read(root / f"{candidate:08d}")
            if manifest["step"] != candidate:
                raise OSError(f"it is a copy of step {manifest['step']}")
        except OSError as error:
            skipped.append(f"step {candidate}: {_line(error)}")
            if on_skip is not None:
                on_skip(candidate, _line(error))
            continue
        return candidate, _like(like, manifest["leaves"], content)
    raise CheckpointError(f"no good checkpoint in {folder} ({'; '.join(skipped) or 'none found'}).")


def steps(folder: str | os.PathLike[str]) -> list[int]:
    """Lists the steps of the checkpoints that look complete, in increasing order.

    Only `restore` verifies them.
    """
    root = Path(folder)
    return sorted(s for s in _step_folders(root) if (root / f"{s:08d}" / _MANIFEST).is_file())


def write_file(path: Path, content: str | bytes) -> None:
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


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path) or "state", leaf) for path, leaf in leaves]


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _description(leaf: Any) -> list[Any]:
    """Dtype and shape, which a saved leaf and its counterpart in `like` share."""
    return [type(leaf).__name__, []] if _is_number(leaf) else [str(leaf.dtype), list(leaf.shape)]


def _host(path: str, leaf: Any) -> np.ndarray:
    if _is_number(leaf) or hasattr(leaf, "dtype"):
        array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        # Python's whole numbers beyond 64 bits become unsigned or objects.
        if _is_number(leaf) and array.dtype in (np.uint64, object):
            raise TypeError(f"state must hold numbers of 64 bits, got {leaf!r:.40} at {path}.")
        if array.dtype != object:
            return array
    raise TypeError(f"state must hold arrays and numbers, got {type(leaf).__name__} at {path}.")


def _pieces(arrays: list[np.ndarray]) -> Iterator[memoryview]:
    """Yields the bytes of a file of arrays, with the zeros that align them."""
    end = 0
    for array in arrays:
        yield memoryview(bytes(-end % _ALIGNMENT))
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        end += -end % _ALIGNMENT + array.nbytes


def _write_arrays(path: Path, arrays: list[np.ndarray]) -> None:
    with path.open("wb") as file:
        for piece in _pieces(arrays):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _write_manifest(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _sync(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Forces a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the manifest and the bytes of the arrays, both as they were written, or raises."""
    for name in (_MANIFEST, _ARRAYS):
        if not (folder / name).is_file():
            raise OSError(f"{name} is missing")
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        digest = manifest.pop("digest")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OSError(f"{_MANIFEST} is damaged") from error
    if digest != _digest(manifest):
        raise OSError(f"{_MANIFEST} is damaged")
    content = np.fromfile(folder / _ARRAYS, np.uint8)
    if content.size != manifest["size"]:
        raise OSError(f"{_ARRAYS} has {content.size} bytes, {manifest['size']} were written")
    if hashlib.sha256(content.data).hexdigest() != manifest["sha256"]:
        raise OSError(f"{_ARRAYS} is not what was written (sha256 differs)")
    return manifest, content


def _like(like: Any, leaves: dict[str, list[Any]], content: np.ndarray) -> Any:
    named = _named(like)
    wanted = {path: _description(leaf) for path, leaf in named}
    for path in [*wanted, *leaves]:
        if path not in leaves:
            raise ValueError(f"like must fit the checkpoint, but {path} was not saved.")
        if path not in wanted:
            raise ValueError(f"like must fit the checkpoint, but it lacks {path}.")
        (dtype, shape), (saved_dtype, saved_shape, *_) = wanted[path], leaves[path]
        if (dtype, shape) != (saved_dtype, saved_shape):
            raise ValueError(
                f"like must fit the checkpoint, but {path} is {dtype}{shape} "
                f"and was saved as {saved_dtype}{saved_shape}."
            )
    restored = [_restored(leaf, content[slice(*leaves[path][2:])]) for path, leaf in named]
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), restored)


def _restored(like: Any, content: np.ndarray) -> Any:
    if _is_number(like):
        return type(like)(content.view(np.asarray(like).dtype)[0].item())
    if _is_key(like):
        data = jax.eval_shape(jax.random.key_data, like)
        array = content.view(data.dtype).reshape(data.shape)
        return jax.random.wrap_key_data(jnp.asarray(array), impl=like.dtype)
    array = content.view(like.dtype).reshape(like.shape)
    if isinstance(like, np.ndarray | np.generic):
        return array.copy()
    if isinstance(like, jax.Array) and like.committed:
        return jax.device_put(array, like.sharding)
    return jnp.asarray(array)


def _require_space(root: Path, size: int) -> None:
    # Besides the two files: their last blocks and the entries of their folder.
    needed = size + 16 * 1024
    disk = shutil.disk_usage(root)
    if disk.total and disk.free < needed:  # some network disks say 0 of 0
        reason = f"needs about {needed:,} bytes, {disk.free:,} are free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({reason})")


def _publish(partial: Path, final: Path) -> None:
    if final.exists():
        # A folder cannot be renamed onto another; a kill between the two renames costs this step
        # and none of the others.
        os.rename(final, final.with_name(final.name + ".replaced.tmp"))
    os.rename(partial, final)
    _sync(final.parent)
    _remove_leftovers(final.parent)


def _prune(root: Path, step: int, keep: int) -> None:
    others = [s for s in reversed(steps(root)) if s != step]
    kept = {step, *others[: keep - 1]}
    for old in _step_folders(root):
        if old not in kept:
            # Renamed first: half a removed folder must not look like a checkpoint.
            doomed = root / f"{old:08d}.pruned.tmp"
            os.rename(root / f"{old:08d}", doomed)
            shutil.rmtree(doomed)


def _remove_leftovers(root: Path) -> None:
    for path in root.glob("*.tmp"):
        if path.name[:8].isdecimal():
            shutil.rmtree(path)


def _step_folders(root: Path) -> list[int]:
    if not root.is_dir():
        return []
    numbered = [path.name for path in root.iterdir() if path.name.isdecimal()]
    return [int(name) for name in numbered if name == f"{int(name):08d}"]


def _line(error: Exception) -> str:
    """One line about an error."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]
