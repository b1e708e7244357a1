"""Verified storage of pytrees: checkpoints that are either whole or not there.

    folder/00000120/arrays.bin       the bytes of the leaves in order, each at a multiple of 64
    folder/00000120/manifest.json    their paths, dtypes, shapes and places; size and sha256 of all
    folder/00000130.tmp/...          left by a killed save; the next save removes it

Storage flips bits, copies stop halfway, disks fill up, and few formats notice. So a checkpoint is
written under another name, forced to the disk, read back, and appears under its own name in one
rename; and `restore` verifies every byte before it uses any, and falls back to the last step that
is whole. benchmarks/checkpoint_cost.py compares this with Orbax.

The manifest may also hold digests of files beside the folder, so that whoever restores a state can
tell whether the files that it belongs to are the ones that it was saved with.

One process writes. Under `jax.distributed` call `save` on one process and `restore` on all.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax import storage
from metajax.storage import Digest

__all__ = ["CheckpointError", "discard_after", "files_of", "restore", "save", "steps"]

_ARRAYS = "arrays.bin"
_MANIFEST = "manifest.json"
_ALIGNMENT = 64


class CheckpointError(RuntimeError):
    """No checkpoint could be written, or none that is whole could be read."""


def save(
    folder: str | os.PathLike[str],
    step: int,
    state: Any,
    *,
    keep: int = 3,
    files: Mapping[str, Digest] = MappingProxyType({}),
) -> Path:
    """Writes a checkpoint, and removes old ones once the new one has been read back.

    A checkpoint of the same step is replaced.

    Args:
        folder: Folder of the checkpoints of one run; made if absent.
        step: Number of updates behind `state`, >= 0.
        state: Any pytree of JAX arrays, NumPy arrays, PRNG keys, Python numbers and bytes. Arrays
            spread over several devices of this process are gathered; those spread over several
            processes must be replicated.
        keep: Number of the latest steps to keep, >= 1, the new one among them.
        files: Digests of files that the state belongs to, by name, for `files_of`.

    Returns:
        The folder of the new checkpoint.

    Raises:
        ValueError: If `step` or `keep` is out of range.
        TypeError: If a leaf is neither an array, a number nor bytes.
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
    content["files"] = {name: list(file) for name, file in files.items()}
    # A digest of itself too: a flipped bit in a shape is damage like any other.
    manifest = _manifest_of(content, _digest(content))

    final = Path(folder).absolute() / f"{step:08d}"
    partial = final.with_name(final.name + ".tmp")
    try:
        storage.make_folder(final.parent)
        _remove_leftovers(final.parent)
        _require_space(final.parent, end + len(manifest))
        os.mkdir(partial)
        _write_arrays(partial / _ARRAYS, arrays)
        _write_manifest(partial / _MANIFEST, manifest)
        _read(partial)
        _publish(partial, final)
        _prune(final.parent, step, keep)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(f"cannot save step {step} in {folder}: {_line(error)}") from error
    return final


def restore(
    folder: str | os.PathLike[str],
    like: Any,
    *,
    step: int | None = None,
    part: str = "",
    on_skip: Callable[[int, str], None] | None = None,
) -> tuple[int, Any]:
    """Reads the last checkpoint that is whole, or the one of a given step.

    Args:
        folder: Folder that `save` wrote to.
        like: A pytree of the structure, shapes and dtypes of the saved state, for instance a
            freshly initialized one, or what `jax.eval_shape` returns. Each leaf comes back as its
            counterpart's kind: JAX array (with its sharding), NumPy array, PRNG key, number, or
            bytes, of any length.
        step: The step to read; None takes the last good one.
        part: Path of the subtree that `like` describes, such as `.best` or `['w']`, as
            `jax.tree_util.keystr` has it; empty for all of the state.
        on_skip: Called with the step and the reason for each damaged checkpoint passed over.

    Returns:
        The step and the state, or that part of it, bit for bit as it was saved.

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
        return candidate, _like(like, _part(manifest["leaves"], part), content)
    raise CheckpointError(f"no good checkpoint in {folder} ({'; '.join(skipped) or 'none found'}).")


def steps(folder: str | os.PathLike[str]) -> list[int]:
    """Lists the steps of the checkpoints that look complete, in increasing order.

    Only `restore` verifies them.
    """
    root = Path(folder)
    return sorted(s for s in _step_folders(root) if (root / f"{s:08d}" / _MANIFEST).is_file())


def files_of(
    folder: str | os.PathLike[str], *, step: int | None = None
) -> tuple[int, dict[str, Digest]]:
    """Reads the digests of files that a manifest holds; arrays are left unread.

    Args:
        folder: Folder that `save` wrote to.
        step: The step to read; None takes the last one whose manifest is whole.

    Returns:
        The step, and the `files` it was saved with.

    Raises:
        CheckpointError: If there is no such manifest, or none that is whole.
    """
    root = Path(folder).absolute()
    found = sorted(_step_folders(root), reverse=True)
    if step is not None:
        found = [candidate for candidate in found if candidate == step]
    reasons = []
    for candidate in found:
        try:
            manifest = _read_manifest(root / f"{candidate:08d}")
        except OSError as error:
            reasons.append(f"step {candidate}: {_line(error)}")
            continue
        return candidate, {name: Digest(*held) for name, held in manifest["files"].items()}
    which = "good checkpoint" if step is None else f"good checkpoint of step {step}"
    raise CheckpointError(f"no {which} in {folder} ({'; '.join(reasons) or 'none found'}).")


def discard_after(folder: str | os.PathLike[str], step: int) -> None:
    """Removes the checkpoints of later steps, from which training does not continue.

    Raises:
        CheckpointError: If they cannot be removed.
    """
    root = Path(folder).absolute()
    try:
        later = [found for found in _step_folders(root) if found > step]
        if later:
            _remove_leftovers(root)
            for found in sorted(later, reverse=True):
                _remove(root, found)
            storage.sync(root)
    except OSError as error:
        raise CheckpointError(f"cannot continue in {folder}: {_line(error)}") from error


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path) or "state", leaf) for path, leaf in leaves]


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _description(leaf: Any) -> list[Any]:
    """Dtype and shape, which a saved leaf and its counterpart in `like` share."""
    if isinstance(leaf, bytes):
        return ["bytes", []]
    return [type(leaf).__name__, []] if _is_number(leaf) else [str(leaf.dtype), list(leaf.shape)]


def _host(path: str, leaf: Any) -> np.ndarray:
    if isinstance(leaf, bytes):
        return np.frombuffer(leaf, np.uint8)
    if _is_number(leaf) or hasattr(leaf, "dtype"):
        array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        # Python's whole numbers beyond 64 bits become unsigned or objects.
        if _is_number(leaf) and array.dtype in (np.uint64, object):
            raise TypeError(f"state must hold numbers of 64 bits, got {leaf!r:.40} at {path}.")
        if array.dtype != object:
            return array
    raise TypeError(
        f"state must hold arrays, numbers and bytes, got {type(leaf).__name__} at {path}."
    )


def _pieces(arrays: list[np.ndarray]) -> Iterator[memoryview]:
    """Yields the bytes of a file of arrays, with the zeros that align them."""
    end = 0
    for array in arrays:
        yield memoryview(bytes(-end % _ALIGNMENT))
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        end += -end % _ALIGNMENT + array.nbytes


def _write_arrays(path: Path, arrays: list[np.ndarray]) -> None:
    storage.write_pieces(path, _pieces(arrays))


def _write_manifest(path: Path, content: bytes) -> None:
    storage.write_pieces(path, [content])
    storage.sync(path.parent)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the manifest and the bytes of the arrays, both as they were written, or raises."""
    manifest = _read_manifest(folder)
    if not (folder / _ARRAYS).is_file():
        raise OSError(f"{_ARRAYS} is missing")
    content = np.fromfile(folder / _ARRAYS, np.uint8)
    if content.size != manifest["size"]:
        raise OSError(f"{_ARRAYS} has {content.size} bytes, {manifest['size']} were written")
    if hashlib.sha256(content.data).hexdigest() != manifest["sha256"]:
        raise OSError(f"{_ARRAYS} is not what was written (sha256 differs)")
    return manifest, content


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not (folder / _MANIFEST).is_file():
        raise OSError(f"{_MANIFEST} is missing")
    text = (folder / _MANIFEST).read_bytes()
    try:
        manifest = json.loads(text)
        digest = manifest.pop("digest")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OSError(f"{_MANIFEST} is damaged") from error
    # Byte by byte: what JSON reads alike, such as another space, is damage too.
    if digest != _digest(manifest) or text != _manifest_of(manifest, digest):
        raise OSError(f"{_MANIFEST} is damaged")
    return manifest


def _manifest_of(content: dict[str, Any], digest: str) -> bytes:
    return json.dumps({**content, "digest": digest}, indent=1).encode()


def _part(leaves: dict[str, list[Any]], part: str) -> dict[str, list[Any]]:
    if not part:
        return leaves
    return {
        path.removeprefix(part) or "state": leaf
        for path, leaf in leaves.items()
        if path == part or path.startswith((f"{part}.", f"{part}["))
    }


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
    if isinstance(like, bytes):
        return content.tobytes()
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
    storage.sync(final.parent)
    _remove_leftovers(final.parent)


def _prune(root: Path, step: int, keep: int) -> None:
    others = [s for s in reversed(steps(root)) if s != step]
    kept = {step, *others[: keep - 1]}
    for old in _step_folders(root):
        if old not in kept:
            _remove(root, old)


def _remove(root: Path, step: int) -> None:
    # Renamed first: half a removed folder must not look like a checkpoint.
    doomed = root / f"{step:08d}.pruned.tmp"
    os.rename(root / f"{step:08d}", doomed)
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
