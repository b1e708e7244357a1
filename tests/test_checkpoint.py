import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import checkpoint
from metajax.checkpoint import (
    CheckpointError,
    discard_after,
    files_of,
    restore,
    save,
    steps,
)
from metajax.storage import Digest
from metajax.types import MetaState


class Everything(NamedTuple):
    half: jax.Array
    whole: jax.Array
    flag: jax.Array
    scalar: jax.Array
    host: np.ndarray
    nothing: jax.Array
    odd: np.ndarray
    key: jax.Array
    count: int
    rate: float
    nested: Any


def everything(seed: int = 0) -> Everything:
    values = np.random.default_rng(seed).normal(size=(2, 3)).astype(np.float32)
    return Everything(
        half=jnp.asarray(values, jnp.bfloat16),
        whole=jnp.arange(3) + seed,
        flag=jnp.array([True, False]),
        scalar=jnp.float32(values[0, 0]),
        host=np.array([2**40 + seed, -1]),
        nothing=jnp.zeros((0, 4)),
        odd=np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
        key=jax.random.split(jax.random.key(seed), 2),
        count=7 + seed,
        rate=0.1,
        nested={"a": (None, [jnp.ones(1)]), "a/b": jnp.zeros(1)},
    )


def bits(tree: Any) -> list[bytes]:
    leaves = jax.tree.leaves(tree)
    return [np.asarray(jax.random.key_data(x) if _is_key(x) else x).tobytes() for x in leaves]


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def flip(file: Path, position: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


STATE = {"w": jnp.arange(6.0).reshape(2, 3), "step": 4}


def test_every_kind_of_leaf_comes_back_bit_for_bit_and_as_its_own_kind(tmp_path):
    saved = everything()
    save(tmp_path, 3, saved)
    step, state = restore(tmp_path, everything(1))
    assert step == 3
    assert jax.tree.structure(state) == jax.tree.structure(saved)
    assert bits(state) == bits(saved)
    assert [type(a) for a in jax.tree.leaves(state)] == [type(a) for a in jax.tree.leaves(saved)]
    for got, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(saved), strict=True):
        if hasattr(wanted, "dtype"):
            assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    assert jax.random.bits(state.key[1]) == jax.random.bits(saved.key[1])


def test_a_training_state_is_restored_into_shapes_of_eval_shape(tmp_path):
    def init() -> MetaState:
        params = {"w": jnp.full((2, 2), 0.3)}
        return MetaState(params, optax.adam(1e-3).init(params), jnp.int32(5))

    save(tmp_path, 5, init())
    _, state = restore(tmp_path, jax.eval_shape(init))
    assert bits(state) == bits(init())
    assert jax.tree.structure(state) == jax.tree.structure(init())


SHARDED = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from metajax.checkpoint import restore, save

mesh = Mesh(np.array(jax.devices()), ("rows",))
place = lambda spec, value: jax.device_put(value, NamedSharding(mesh, spec))
rows, everywhere = PartitionSpec("rows"), PartitionSpec()
state = {
    "sharded": place(rows, jnp.arange(12.0).reshape(4, 3)),
    "replicated": place(everywhere, jnp.arange(3)),
    "key": place(everywhere, jax.random.key(3)),
}
like = {
    "sharded": place(rows, jnp.zeros((4, 3))),
    "replicated": place(everywhere, jnp.zeros(3, int)),
    "key": jax.random.key(0),
}
save(sys.argv[1], 1, state)
_, found = restore(sys.argv[1], like)
for name in ("sharded", "replicated"):
    assert found[name].sharding == state[name].sharding, name
    np.testing.assert_array_equal(found[name], state[name])
assert len(found["sharded"].addressable_shards) == 4
assert jax.random.bits(found["key"]) == jax.random.bits(jax.random.key(3))
"""


def test_sharded_and_replicated_arrays_come_back_where_they_were(tmp_path):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SHARDED, str(tmp_path)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr


def test_a_state_without_arrays_is_accepted(tmp_path):
    save(tmp_path, 0, {"empty": (), "none": np.zeros((0, 2))})
    step, state = restore(tmp_path, {"empty": (), "none": np.ones((0, 2))})
    assert step == 0
    assert state["none"].shape == (0, 2)


def test_the_latest_step_is_the_default_and_any_other_can_be_restored(tmp_path):
    for step in (9, 10, 100):
        save(tmp_path, step, step)
    assert steps(tmp_path) == [9, 10, 100]
    assert restore(tmp_path, 0) == (100, 100)
    assert restore(tmp_path, 0, step=9) == (9, 9)
    with pytest.raises(CheckpointError, match=r"of step 11 in .*found \[100, 10, 9\]"):
        restore(tmp_path, 0, step=11)


def test_a_step_saved_again_is_replaced(tmp_path):
    save(tmp_path, 1, 1)
    save(tmp_path, 1, 2)
    assert restore(tmp_path, 0) == (1, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["00000001"]


def test_old_steps_go(tmp_path):
    for step in range(1, 5):
        save(tmp_path, step, step, keep=2)
    assert steps(tmp_path) == [3, 4]


def test_the_new_step_stays_even_where_later_ones_are_left_from_before(tmp_path):
    for step in (10, 20):
        save(tmp_path, step, step)
    save(tmp_path, 5, 5, keep=1)
    assert steps(tmp_path) == [5]


def test_an_old_step_is_not_removed_for_a_folder_without_manifest(tmp_path):
    save(tmp_path, 1, 1)
    (tmp_path / "00000002").mkdir()
    save(tmp_path, 3, 3, keep=2)
    assert steps(tmp_path) == [1, 3]


def _flipped(folder: Path) -> None:
    flip(folder / "arrays.bin", 9)


def _truncated(folder: Path) -> None:
    file = folder / "arrays.bin"
    file.write_bytes(file.read_bytes()[:-1])


def _missing(folder: Path) -> None:
    (folder / "arrays.bin").unlink()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _flipped_manifest(folder: Path) -> None:
    file = folder / "manifest.json"
    flip(file, file.read_bytes().index(b"float32"))


def _half_manifest(folder: Path) -> None:
    file = folder / "manifest.json"
    file.write_bytes(file.read_bytes()[:40])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_flipped, "sha256 differs"),
        (_truncated, r"has \d+ bytes, \d+ were written"),
        (_missing, "arrays.bin is missing"),
        (_empty, "manifest.json is missing"),
        (_no_manifest, "manifest.json is missing"),
        (_flipped_manifest, "manifest.json is damaged"),
        (_half_manifest, "manifest.json is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_reported_and_passed_over(tmp_path, damage, reason):
    save(tmp_path, 1, STATE)
    damage(save(tmp_path, 2, jax.tree.map(lambda x: 2 * x, STATE)))
    skipped = []
    step, state = restore(tmp_path, STATE, on_skip=lambda *args: skipped.append(args))
    assert step == 1
    assert bits(state) == bits(STATE)
    assert [step for step, _ in skipped] == [2]
    with pytest.raises(CheckpointError, match=f"^no good checkpoint in .*step 2: .*{reason}"):
        restore(tmp_path, STATE, step=2)


def test_the_manifest_holds_the_digest_of_the_bytes_in_order(tmp_path):
    # FIPS 180-2, appendix B.1, gives the digest of "abc".
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hashlib.sha256(b"abc").hexdigest() == abc
    folder = save(tmp_path, 4, {"a": np.frombuffer(b"abc", np.uint8)})
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (folder / "arrays.bin").read_bytes() == b"abc"
    assert (manifest["step"], manifest["size"], manifest["sha256"]) == (4, 3, abc)
    assert manifest["leaves"] == {"['a']": ["uint8", [3], 0, 3]}


def test_every_flipped_bit_is_found(tmp_path):
    folder = save(tmp_path, 1, STATE)
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        before = file.read_bytes()
        for position in range(0, len(before), max(1, len(before) // 4)):
            flip(file, position)
            with pytest.raises(CheckpointError):
                restore(tmp_path, STATE)
        file.write_bytes(before)
    assert restore(tmp_path, STATE)[0] == 1


def test_a_checkpoint_under_the_name_of_another_step_is_refused(tmp_path):
    save(tmp_path, 1, STATE).rename(tmp_path / "00000002")
    with pytest.raises(CheckpointError, match="step 2: it is a copy of step 1"):
        restore(tmp_path, STATE)


def test_an_empty_folder_is_one_clear_line(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match=r"^no good checkpoint in .* \(none found\)\.$"):
            restore(folder, STATE)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": jnp.zeros((2, 4)), "step": 0}, r"\['w'\] is float32\[2, 4\] and was .*32\[2, 3\]"),
        ({"w": jnp.zeros((2, 3), jnp.int32), "step": 0}, r"\['w'\] is int32\[2, 3\] and was saved"),
        ({"w": jnp.zeros((2, 3)), "step": 0, "b": 0}, r"\['b'\] was not saved"),
        ({"w": jnp.zeros((2, 3))}, r"lacks \['step'\]"),
    ],
)
def test_a_misfit_names_the_leaf(tmp_path, like, message):
    save(tmp_path, 1, STATE)
    with pytest.raises(ValueError, match=message):
        restore(tmp_path, like)


def test_invalid_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"^step must be >= 0, got -1\.$"):
        save(tmp_path, -1, STATE)
    with pytest.raises(ValueError, match=r"^keep must be >= 1, got 0\.$"):
        save(tmp_path, 1, STATE, keep=0)
    with pytest.raises(TypeError, match=r"got str at \['name'\]"):
        save(tmp_path, 1, {"name": "x"})
    for count in (2**63, 2**64):
        with pytest.raises(TypeError, match=rf"of 64 bits, got {count} at \['count'\]"):
            save(tmp_path, 1, {"count": count})
    assert steps(tmp_path) == []


def _fail_after(monkeypatch, name: str, error: Exception) -> None:
    """Lets one step of a save do its work and then fail."""
    work = getattr(checkpoint, name)

    def failing(*args: Any) -> None:
        work(*args)
        raise error

    monkeypatch.setattr(checkpoint, name, failing)


@pytest.mark.parametrize("name", ["_write_arrays", "_write_manifest", "_read"])
def test_a_full_disk_is_one_line_and_leaves_older_checkpoints(tmp_path, monkeypatch, name):
    save(tmp_path, 1, STATE)
    with monkeypatch.context() as patch:
        _fail_after(patch, name, OSError(28, "No space left on device"))
        with pytest.raises(CheckpointError, match=r"^cannot save step 2 in .*: No space left on d"):
            save(tmp_path, 2, STATE, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["00000001"]
    assert restore(tmp_path, STATE)[0] == 1


def test_a_defect_while_saving_keeps_its_name(tmp_path, monkeypatch):
    save(tmp_path, 1, STATE)
    with monkeypatch.context() as patch:
        _fail_after(patch, "_write_arrays", TypeError("a bug"))
        with pytest.raises(TypeError, match="a bug"):
            save(tmp_path, 2, STATE)
    assert restore(tmp_path, STATE)[0] == 1
    save(tmp_path, 2, STATE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000001", "00000002"]


# A program that saves until nothing fits any more. Its arguments: the folder, how many values each
# of 30 arrays has, and the largest file it may write in bytes (0: any size).
SAVE_UNTIL_FULL = """
import sys
import numpy as np
from metajax.checkpoint import CheckpointError, restore, save

folder, values, limit = sys.argv[1], *map(int, sys.argv[2:])
state = lambda step: {f"w{i}": np.random.default_rng([i, step]).normal(size=values)
                      for i in range(30)}
save(folder, 1, state(1))
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # Python ignores SIGXFSZ
for step in range(2, 99):
    try:
        save(folder, step, state(step))
    except CheckpointError as error:
        print(error, file=sys.stderr)
        break
found, last = restore(folder, state(0))
exact = all((last[name] == array).all() for name, array in state(step - 1).items())
sys.exit(2 if found == step - 1 and exact else 3)
"""


def _save_until_full(folder: Path, values: int, limit: int) -> str:
    """Returns the line that the program printed."""
    command = [sys.executable, "-c", SAVE_UNTIL_FULL, str(folder), str(values), str(limit)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


def test_a_disk_that_fills_during_a_write_is_one_line_and_costs_no_older_step(tmp_path):
    pytest.importorskip("resource")
    line = _save_until_full(tmp_path, 4096, 500_000)  # the arrays take 983,040 bytes
    assert re.fullmatch(r"cannot save step 2 in .*: File too large", line)
    assert [p.name for p in tmp_path.iterdir()] == ["00000001"]


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_the_only_error(small_disk):
    result = r"cannot save step \d+ in .*: No space left on device \(needs about .* are free\)"
    assert re.fullmatch(result, _save_until_full(small_disk, 640, 0))


def test_a_full_disk_is_reported_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=9**9, free=1234))
    _fail_after(monkeypatch, "_write_arrays", AssertionError("written"))
    with pytest.raises(CheckpointError, match=r"No space left on device \(needs about") as error:
        save(tmp_path, 1, STATE)
    assert str(error.value).endswith("1,234 are free)")
    assert not list(tmp_path.iterdir())


def test_a_disk_of_unknown_size_is_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=0, free=0))
    save(tmp_path, 1, STATE)
    assert steps(tmp_path) == [1]


@pytest.mark.parametrize("name", ["_write_arrays", "_write_manifest", "_read", "_publish"])
def test_a_kill_at_any_point_leaves_a_good_checkpoint(tmp_path, monkeypatch, name):
    save(tmp_path, 1, 1)
    with monkeypatch.context() as patch:
        # Not an Exception: nothing in `save` cleans up after it, as after SIGKILL.
        _fail_after(patch, name, KeyboardInterrupt())  # pyrefly: ignore[bad-argument-type]
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 2, 2)
    assert restore(tmp_path, 0) == ((2, 2) if name == "_publish" else (1, 1))
    save(tmp_path, 3, 3)
    assert not list(tmp_path.glob("*.tmp"))
    assert restore(tmp_path, 0) == (3, 3)


def test_a_checkpoint_that_reads_back_differently_is_not_published(tmp_path, monkeypatch):
    save(tmp_path, 1, STATE)
    write = checkpoint._write_arrays
    wrong = lambda path, arrays: write(path, [array + 1 for array in arrays])  # noqa: E731
    monkeypatch.setattr(checkpoint, "_write_arrays", wrong)
    with pytest.raises(CheckpointError, match="sha256 differs"):
        save(tmp_path, 2, jnp.ones(2), keep=1)
    assert steps(tmp_path) == [1]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"^cannot save step 1 in .*file: File exists$"):
        save(tmp_path / "file", 1, STATE)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    save(tmp_path, 1, STATE)
    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(CheckpointError, match=r"^cannot save step 2 in .*: Permission denied$"):
        save(tmp_path, 2, STATE)
    assert restore(tmp_path, STATE)[0] == 1


FILES = {"settings.json": Digest(7, "ab" * 32), "metrics.jsonl": Digest(0, "cd" * 32)}


def test_digests_of_files_come_back_from_the_last_whole_manifest(tmp_path):
    save(tmp_path, 1, STATE)
    save(tmp_path, 2, STATE, files=FILES)
    assert files_of(tmp_path) == (2, FILES)
    assert files_of(tmp_path, step=1) == (1, {})
    _flipped_manifest(tmp_path / "00000002")
    assert files_of(tmp_path) == (1, {})
    with pytest.raises(CheckpointError, match=r"no good checkpoint of step 2 .*manifest.json is d"):
        files_of(tmp_path, step=2)


def test_another_space_in_a_manifest_is_damage_too(tmp_path):
    file = save(tmp_path, 1, STATE) / "manifest.json"
    text = file.read_bytes()
    file.write_bytes(text.replace(b"\n", b"\r", 1))
    assert json.loads(file.read_bytes()) == json.loads(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        restore(tmp_path, STATE)


def test_a_part_of_a_state_is_restored_alone(tmp_path):
    state = {"w": STATE, "wide": jnp.ones(3), "n": 5}
    save(tmp_path, 1, state)
    step, found = restore(tmp_path, STATE, part="['w']")
    assert step == 1
    assert bits(found) == bits(STATE)
    assert restore(tmp_path, 0, part="['n']") == (1, 5)
    with pytest.raises(ValueError, match="was not saved"):
        restore(tmp_path, STATE, part="['wid']")


def test_later_steps_are_discarded(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step, step)
    discard_after(tmp_path, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["00000010"]
    discard_after(tmp_path, 10)
    assert restore(tmp_path, 0) == (10, 10)
