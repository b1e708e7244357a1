"""Sharding of the task axis over devices, with replicated parameters.

A learner's `update` is written for a batch of tasks. Under `jit`, sharding its inputs is enough:
the compiler splits the tasks and inserts the one sum that the meta-gradient needs.

`shard_map` looks like the tool and is a trap: in its obvious form `jax.grad` of a replicated input
sums over the devices in the inner loop too, and the result depends on their number. Where the mesh
is set, `with jax.set_mesh(mesh):`, learners use it around the gradient of each device's own tasks,
and sum it in one exchange, which between processes costs less than one for each parameter.
"""

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from metajax.types import Sampler

__all__ = ["TASK_AXIS", "device_of", "replicated", "sampled", "sharded", "task_mesh"]

TASK_AXIS = "task"
"""Name of the axis of a mesh that the tasks of an update are spread over."""


def device_of(name: str) -> jax.Device:
    """Returns the JAX device of a name.

    Args:
        name: A platform, `cpu`, `gpu`, `cuda`, `rocm` or `tpu`, for its first device; or the
            platform and the number of one, such as `cuda:1`.

    Raises:
        TypeError: If it is no text.
        ValueError: If there is no such device; names those that there are.

    Example:
        >>> device_of("cpu").platform
        'cpu'
    """
    if not isinstance(name, str):
        raise TypeError(f"device must be a name such as 'cpu' or 'cuda:0', got {name!r}.")
    parts = re.fullmatch(r"(cpu|gpu|cuda|rocm|tpu)(?::([0-9]+))?", name.strip().lower())
    found = _devices(parts[1]) if parts else []
    number = int(parts[2] or 0) if parts else 0
    if number >= len(found):
        there = [f"{p}:{n}" for p in ("cpu", "gpu", "tpu") for n in range(len(_devices(p)))]
        raise ValueError(
            f"device must be one of this machine's, which are {', '.join(there)}, got {name!r}."
        )
    return found[number]


def _devices(platform: str) -> list[jax.Device]:
    try:
        return jax.local_devices(backend=platform)
    except RuntimeError:  # JAX has no such platform here.
        return []


def task_mesh(devices: int | None = None) -> Mesh:
    """Mesh of devices along the task axis.

    Args:
        devices: Number of devices; None means all, those of other processes included.

    Returns:
        A mesh with the one axis `task`.

    Raises:
        ValueError: If there are fewer.
    """
    found = jax.devices()
    if devices is None:
        devices = len(found)
    if not 1 <= devices <= len(found):
        raise ValueError(f"devices must be in [1, {len(found)}], got {devices}.")
    # Explicit axes, the default, refuse plain gathers.
    return jax.make_mesh(
        (devices,), (TASK_AXIS,), axis_types=(AxisType.Auto,), devices=found[:devices]
    )


def sharded(tasks: Any, mesh: Mesh) -> Any:
    """Shards a batch over the mesh by its leading axis.

    Args:
        tasks: A pytree of arrays that lead with T, the same on every process.
        mesh: From `task_mesh`.

    Returns:
        The same arrays, each device holding T / devices tasks.

    Raises:
        ValueError: If the mesh has no axis `task`, or T is not a multiple of its devices.
    """
    if TASK_AXIS not in mesh.axis_names:
        raise ValueError(
            f"mesh must have the axis {TASK_AXIS!r}, as from task_mesh, got "
            f"{', '.join(map(repr, mesh.axis_names)) or 'none'}."
        )
    count = len(jax.tree.leaves(tasks)[0])
    if count % mesh.size:
        raise ValueError(f"tasks must be a multiple of the devices ({mesh.size}), got {count}.")
    return _placed(tasks, NamedSharding(mesh, PartitionSpec(TASK_AXIS)))


def sampled(sample: Sampler, mesh: Mesh) -> Sampler:
    """Makes a sampler whose tasks are spread over the mesh, for use under `jit`.

    Args:
        sample: `sample(table, key) -> tasks`.
        mesh: From `task_mesh`.

    Returns:
        A sampler that draws the same tasks; each device makes its own. The compiler refuses a
        number of tasks that is no multiple of the devices.
    """

    def sample_here(table: Any, key: jax.Array) -> Any:
        tasks = sample(table, key)
        return jax.lax.with_sharding_constraint(
            tasks, NamedSharding(mesh, PartitionSpec(TASK_AXIS))
        )

    return sample_here


def replicated(state: Any, mesh: Mesh) -> Any:
    """Replicates a pytree on every device of the mesh."""
    return _placed(state, NamedSharding(mesh, PartitionSpec()))


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    def place(leaf: Any) -> jax.Array:
        if jax.process_count() == 1 or jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.device_put(leaf, sharding)
        # Each process fills in the shards that are its own, from its own copy.
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(place, tree)
