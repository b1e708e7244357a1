"""One process of `weak_scaling`: makes an update for each line read, and prints its loss.

Its arguments are numbers: inner steps, H, tasks in all, processes, the first one's port, which of
them this is, updates between two exchanges, and 1 to keep to a core of its own. How many devices it
has is in XLA's flags.

With one update between exchanges the gradients of all tasks are summed in each. With more, each
process makes updates of its own, on its share of the tasks, and then the parameters and moments of
Adam are averaged: local steps.
"""

import os
import sys

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec


def main() -> None:
    steps, width, tasks, processes, port, rank, local, pinned = map(int, sys.argv[1:])
    if pinned:
        # Before JAX starts as many threads as there are cores for it.
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    if processes > 1:
        # Before anything touches a device.
        jax.distributed.initialize(f"localhost:{port}", processes, rank)
    if jax.process_count() != processes:
        sys.exit(f"processes must be {processes}, got {jax.process_count()}.")
    from workloads import Work, maml_of, metajax_program

    from metajax.distributed import replicated, sharded, task_mesh

    work = Work(steps, width, tasks)
    program, mesh = metajax_program(work), task_mesh()
    state, update = jax.device_get(program.carry), maml_of(work).update
    if local == 1:
        state, data = replicated(state, mesh), sharded(program.data, mesh)
        run = jax.jit(update)
    else:
        share = tasks // processes
        data = jax.tree.map(lambda leaf: leaf[rank * share :][:share], program.data)
        alone = jax.jit(lambda state, data: jax.lax.scan(
            lambda state, _: update(state, data), state, length=local
        ))  # fmt: skip
        mean = jax.jit(
            lambda states: jax.tree.map(lambda leaf: leaf.mean(0).astype(leaf.dtype), states),
            out_shardings=NamedSharding(mesh, PartitionSpec()),
        )
        spread = NamedSharding(mesh, PartitionSpec("task"))

        def run(state, data):
            state, metrics = alone(state, data)
            rows = jax.tree.map(lambda leaf: np.asarray(leaf)[None], (state, metrics))
            found = mean(jax.tree.map(
                lambda row: jax.make_array_from_process_local_data(spread, row), rows
            ))  # fmt: skip
            state, metrics = jax.tree.map(lambda leaf: leaf.addressable_data(0), found)
            return state, jax.tree.map(lambda leaf: leaf[0], metrics)

    for _ in sys.stdin:
        state, metrics = jax.block_until_ready(run(state, data))
        print("loss", float(metrics["loss"]), flush=True)


if __name__ == "__main__":
    main()
