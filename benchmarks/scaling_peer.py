"""One process of `weak_scaling`: makes an update for each line read, and prints its loss.

Its arguments are numbers: inner steps, H, tasks in all, processes, the first one's port, and which
of them this is. How many devices it has is in XLA's flags.
"""

import sys

import jax


def main() -> None:
    steps, width, tasks, processes, port, rank = map(int, sys.argv[1:])
    if processes > 1:
        # Before anything touches a device.
        jax.distributed.initialize(f"localhost:{port}", processes, rank)
    if jax.process_count() != processes:
        sys.exit(f"processes must be {processes}, got {jax.process_count()}.")
    from workloads import Work, maml_of, metajax_program

    from metajax.distributed import replicated, sharded, task_mesh

    work = Work(steps, width, tasks)
    program, mesh = metajax_program(work), task_mesh()
    state = replicated(jax.device_get(program.carry), mesh)
    tasks = sharded(program.data, mesh)
    update = jax.jit(maml_of(work).update)
    for _ in sys.stdin:
        state, metrics = jax.block_until_ready(update(state, tasks))
        print("loss", float(metrics["loss"]), flush=True)


if __name__ == "__main__":
    main()
