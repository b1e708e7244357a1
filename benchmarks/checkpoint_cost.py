"""Time to save and restore a training state with a checksum of every byte.

    python benchmarks/checkpoint_cost.py [--megabytes 1 1024] [--json FILE]

Two kinds of verified storage take turns: that of `metajax.checkpoint` (the bytes of all arrays in
one file, a manifest with its sha256), and arrays written by Orbax with a manifest of the sha256 of
every file. Orbax alone, which restores flipped bits silently, is the reference. The state
is on one device, or sharded over a mesh of 8 virtual CPU devices. Blocked is how long a training
loop waits for a save that goes on in the background: `AsyncCheckpointer`, or a thread that is
given a copy of the state. Every save is read back and forced to the disk, but for Orbax alone.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before JAX: the mesh.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
)

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from measuring import write
from rich.console import Console
from rich.table import Table

from metajax import checkpoint

__all__ = ["main"]

LEAVES = 16


def state_of(megabytes: int, sharded: bool) -> dict[str, jax.Array]:
    """Draws float32 tables, on one device or with their rows on 8."""
    rng = np.random.default_rng(0)
    rows = megabytes * 2**20 // (LEAVES * 64 * 4)
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    where = NamedSharding(mesh, PartitionSpec("rows")) if sharded else jax.devices()[0]
    return {
        f"w{n}": jax.device_put(rng.standard_normal((rows, 64), np.float32), where)
        for n in range(LEAVES)
    }


def ours_save(folder: Path, state: Any) -> None:
    checkpoint.save(folder, 0, state)


def ours_restore(folder: Path, like: Any) -> Any:
    return checkpoint.restore(folder, like)[1]


@contextlib.contextmanager
def orbax() -> Iterator[ocp.Checkpointer]:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        yield checkpointer


def orbax_save(folder: Path, state: Any) -> None:
    """Saves by Orbax; where a save is to be verified, see `verified_save`."""
    with orbax() as checkpointer:
        checkpointer.save(folder / "arrays", state, force=True)


def orbax_restore(folder: Path, like: Any) -> Any:
    with orbax() as checkpointer:
        arguments = ocp.checkpoint_utils.construct_restore_args(like)
        return checkpointer.restore(folder / "arrays", restore_args=arguments)


def verified_save(folder: Path, state: Any) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    partial = folder.with_name(folder.name + ".tmp")
    partial.mkdir()
    host = jax.tree.map(np.asarray, state)
    orbax_save(partial, host)
    files = {}
    for path in sorted(partial.rglob("*")):
        sync(path)
        if path.is_file():
            files[path.relative_to(partial).as_posix()] = sha256(path)
    (partial / "manifest.json").write_text(json.dumps(files))
    sync(partial / "manifest.json")
    sync(partial)
    with orbax() as checkpointer:
        back = checkpointer.restore(partial / "arrays")
    if any(back[name].tobytes() != host[name].tobytes() for name in host):
        raise OSError("a state does not read back as it was written")
    os.rename(partial, folder)
    sync(folder.parent)


def verified_restore(folder: Path, like: Any) -> Any:
    for name, digest in json.loads((folder / "manifest.json").read_text()).items():
        if sha256(folder / name) != digest:
            raise OSError(f"{name} is damaged")
    return orbax_restore(folder, like)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ours_background(folder: Path, state: Any) -> Callable[[], object]:
    """Starts a save in a thread; returns what waits for it."""
    copied = jax.block_until_ready(jax.tree.map(np.array, state))
    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(ours_save, folder, copied)
    return future.result


def orbax_background(folder: Path, state: Any) -> Callable[[], object]:
    checkpointer = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())
    checkpointer.save(folder / "arrays", state, force=True)
    return lambda: (checkpointer.wait_until_finished(), checkpointer.close())


WAYS: dict[str, tuple[Any, Any, Any]] = {
    "arrays + sha256": (ours_save, ours_restore, ours_background),
    "Orbax + sha256": (verified_save, verified_restore, None),
    "Orbax alone": (orbax_save, orbax_restore, orbax_background),
}


def measured(root: Path, state: Any, turns: int) -> list[dict[str, Any]]:
    """Times saving, restoring and starting a save; the ways take turns, another first each time."""
    found: dict[str, dict[str, list[float]]] = {
        way: {"save_s": [], "restore_s": [], "blocked_s": []} for way in WAYS
    }
    for turn in range(turns + 1):
        names = list(WAYS)
        for way in names[turn % len(names) :] + names[: turn % len(names)]:
            save, restore, background = WAYS[way]
            folder = root / way.replace(" ", "_")
            start = time.perf_counter()
            save(folder, state)
            saved = time.perf_counter()
            back = jax.block_until_ready(restore(folder, state))
            times = {"save_s": saved - start, "restore_s": time.perf_counter() - saved}
            for name, leaf in state.items():
                assert back[name].sharding == leaf.sharding, way
                assert np.array_equal(back[name], leaf), way
            if background is not None:
                start = time.perf_counter()
                wait = background(folder, state)
                times["blocked_s"] = time.perf_counter() - start
                wait()
            if turn:  # the first is a warm-up
                for name, seconds in times.items():
                    found[way][name].append(seconds)
    records = []
    for way, times in found.items():
        first = found["arrays + sha256"]
        record: dict[str, Any] = {"way": way, "turns": turns}
        for name, seconds in times.items():
            if seconds:
                ratios = np.array(seconds) / np.array(first[name])
                record[name] = round(float(np.median(seconds)), 5)
                record[name.replace("_s", "_ratio")] = round(float(np.median(ratios)), 3)
        folder = root / way.replace(" ", "_")
        files = [path for path in folder.rglob("*") if path.is_file()]
        record["files"] = len(files)
        record["bytes"] = sum(path.stat().st_size for path in files)
        records.append(record)
    return records


def import_cost(repeats: int = 5) -> dict[str, Any]:
    """CPU seconds and modules that `import orbax.checkpoint` adds to `import jax`."""
    program = (
        "import sys, time, jax; t, n = time.process_time(), len(sys.modules); "
        "import orbax.checkpoint; print(time.process_time() - t, len(sys.modules) - n)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        for _ in range(repeats)
    ]
    seconds, modules = zip(*(run.stdout.split() for run in runs), strict=True)
    return {
        "way": "import orbax.checkpoint",
        "import_s": round(float(np.median(np.array(seconds, float))), 3),
        "modules": int(modules[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 1024])
    parser.add_argument("--turns", type=int, default=11, help="at 1 MB; a third of it above 100 MB")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.getLogger("absl").disabled = True

    records = [import_cost()]
    for megabytes in options.megabytes:
        turns = options.turns if megabytes <= 100 else max(1, options.turns // 3)
        for sharded in (False, True):
            with tempfile.TemporaryDirectory(dir=options.folder) as root:
                state = state_of(megabytes, sharded)
                where = "8 devices" if sharded else "1 device"
                records += [
                    {"megabytes": megabytes, "on": where, **record}
                    for record in measured(Path(root), state, turns)
                ]
    table = Table("MB", "on", "way", "save s", "ratio", "restore s", "ratio", "blocked s", "files")
    for record in records[1:]:
        names = ("megabytes", "on", "way", "save_s", "save_ratio", "restore_s", "restore_ratio")
        table.add_row(*(str(record.get(name, "-")) for name in (*names, "blocked_s", "files")))
    Console(width=120).print(table)
    print(f"import orbax.checkpoint: {records[0]['import_s']} s, {records[0]['modules']} modules")
    if options.json is not None:
        write(options.json, records)


if __name__ == "__main__":
    main()
