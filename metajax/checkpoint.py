"""Checkpoints that are either whole or not there.

Orbax writes the arrays. It restores flipped bits without a word and takes an empty step folder
for the latest one, so each checkpoint here ends with a manifest of sha256 digests, appears under
its name in one rename, and is verified before it is trusted:

    folder/00000120/arrays/...       written by Orbax
    folder/00000120/manifest.json    digests of every file, shapes and dtypes of every leaf
    folder/00000130.tmp/...          what a killed save leaves; the next save removes it

One process writes. Under `jax.distributed` call `save` on one process and `restore` on all.
"""

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax import manifest, orbax_arrays

__all__ = ["CheckpointError", "restore", "save", "steps"]

_ARRAYS = "arrays"


class CheckpointError(RuntimeError):
    """No checkpoint could be written, or none that is whole could be read."""


def save(folder: str | os.PathLike[str], step: int, state: Any, *, keep: int = 3) -> Path:
    """Writes a checkpoint, and removes old ones once the new one has been read back.

    A checkpoint of the same step is replaced.

    Args:
        folder: Where the checkpoints of one run lie; made if absent.
        step: Number of updates behind `state`, >= 0.
        state: Any pytree of JAX arrays, NumPy arrays, PRNG keys and Python numbers. Arrays spread
            over several processes must be replicated.
        keep: How many of the latest steps to keep, >= 1, the new one among them.

    Returns:
        The folder of the new checkpoint.

    Raises:
        ValueError: If `step` or `keep` is out of range.
        TypeError: If a leaf is neither an array nor a number.
        CheckpointError: If the checkpoint cannot be written, for instance for want of space on
            the disk; older ones are as they were.
    """
    if step < 0:
        raise ValueError(f"step must be >= 0, got {step}.")
    if keep < 1:
        raise ValueError(f"keep must be >= 1, got {keep}.")
    leaves = {path: (_description(path, leaf), _host(leaf)) for path, leaf in _named(state)}
    arrays = {path: array for path, (_, array) in leaves.items() if array.size}
    described = {path: description for path, (description, _) in leaves.items()}

    final = Path(folder).absolute() / f"{step:08d}"
    partial = final.with_name(final.name + ".tmp")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(final.parent)
        _require_space(final.parent, arrays)
        partial.mkdir()
        orbax_arrays.write_arrays(partial / _ARRAYS, arrays)
        manifest.write(partial, {"step": step, "leaves": described})
        _read_back(partial, arrays)
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
        folder: Where `save` wrote.
        like: A pytree of the structure, shapes and dtypes of the saved state, for instance a
            freshly initialized one, or what `jax.eval_shape` returns. Each leaf comes back as its
            counterpart's kind: JAX array (with its sharding), NumPy array, PRNG key or number.
        step: The step to read; None takes the last good one.
        on_skip: Called with the step and the reason for each damaged checkpoint walked past.

    Returns:
        The step and the state, bit for bit as it was saved.

    Raises:
        ValueError: If the checkpoint is whole but a leaf of `like` does not fit it.
        CheckpointError: If there is no good checkpoint, or the asked-for step is not good.
    """
    root = Path(folder).absolute()
    found = sorted(_step_folders(root), reverse=True)
    if step is not None and step not in found:
        raise CheckpointError(f"no checkpoint of step {step} in {folder}, found {found or 'none'}.")
    skipped: list[str] = []
    for candidate in found if step is None else [step]:
        path = root / f"{candidate:08d}"
        try:
            facts = manifest.verify(path)
            if facts["step"] != candidate:
                raise OSError(f"it is a copy of step {facts['step']}")
            arrays = orbax_arrays.read_arrays(path / _ARRAYS)
        except Exception as error:  # whatever is wrong with the newest, an older one may be whole
            skipped.append(f"step {candidate}: {_line(error)}")
            if on_skip is not None:
                on_skip(candidate, _line(error))
            continue
        return candidate, _like(like, facts["leaves"], arrays)
    raise CheckpointError(f"no good checkpoint in {folder} ({'; '.join(skipped) or 'none found'}).")


def steps(folder: str | os.PathLike[str]) -> list[int]:
    """Lists the steps of the checkpoints that look complete, in increasing order.

    Only `restore` verifies them.
    """
    root = Path(folder)
    return sorted(s for s in _step_folders(root) if (root / f"{s:08d}" / "manifest.json").is_file())


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path) or "state", leaf) for path, leaf in leaves]


def _description(path: str, leaf: Any) -> list[Any]:
    """Returns what must agree between a saved leaf and the one it is restored into."""
    if isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic):
        return [type(leaf).__name__, []]
    if not hasattr(leaf, "dtype") or leaf.dtype == object:
        raise TypeError(f"state must hold arrays and numbers, got {type(leaf).__name__} at {path}.")
    return [str(leaf.dtype), list(leaf.shape)]


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _host(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _like(like: Any, described: dict[str, list[Any]], arrays: dict[str, np.ndarray]) -> Any:
    named = _named(like)
    wanted = {path: _description(path, leaf) for path, leaf in named}
    for path in [*wanted, *described]:
        if path not in described:
            raise ValueError(f"like must fit the checkpoint, but {path} was not saved.")
        if path not in wanted:
            raise ValueError(f"like must fit the checkpoint, but it lacks {path}.")
        if wanted[path] != described[path]:
            (dtype, shape), (saved_dtype, saved_shape) = wanted[path], described[path]
            raise ValueError(
                f"like must fit the checkpoint, but {path} is {dtype}{shape} "
                f"and was saved as {saved_dtype}{saved_shape}."
            )
    leaves = [_restored(leaf, arrays.get(path)) for path, leaf in named]
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), leaves)


def _restored(like: Any, array: np.ndarray | None) -> Any:
    if array is None:  # Orbax refuses arrays without elements, so they are not stored.
        array = np.zeros(like.shape, like.dtype)
    if isinstance(like, np.ndarray | np.generic):
        return array
    if not hasattr(like, "dtype"):
        return type(like)(array.item())
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=like.dtype)
    if isinstance(like, jax.Array) and like.committed:
        return jax.device_put(array, like.sharding)
    return jnp.asarray(array)


def _require_space(root: Path, arrays: dict[str, np.ndarray]) -> None:
    # Beside the arrays, metadata, manifest and half-full blocks were measured to take 57 kB with
    # 1 leaf, 82 kB with 20, 94 kB with 100 and 201 kB with 400.
    needed = sum(array.nbytes for array in arrays.values()) + 80 * 1024 + 512 * len(arrays)
    disk = shutil.disk_usage(root)
    if disk.total and disk.free < needed:  # some network disks say 0 of 0
        reason = f"needs about {needed:,} bytes, {disk.free:,} are free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({reason})")


def _read_back(partial: Path, arrays: dict[str, np.ndarray]) -> None:
    written = orbax_arrays.read_arrays(partial / _ARRAYS)
    for path, array in arrays.items():
        if written[path].dtype != array.dtype or written[path].tobytes() != array.tobytes():
            raise OSError(f"{path} does not read back as it was written")


def _publish(partial: Path, final: Path) -> None:
    if final.exists():
        # A folder cannot be renamed onto another; a kill between the two renames costs this step
        # and none of the others.
        os.rename(final, final.with_name(final.name + ".replaced.tmp"))
    os.rename(partial, final)
    manifest.sync(final.parent)
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
    """Says in one line what went wrong."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # TensorStore hides the system's reason at the end of a line of several paths.
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:
        return os.strerror(int(code[1]))
    return (str(error).splitlines() or [type(error).__name__])[0]
