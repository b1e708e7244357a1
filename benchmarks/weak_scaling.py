"""Weak scaling: cost of sharding tasks over devices at a fixed number a device.

    python benchmarks/weak_scaling.py [--workload W1] [--devices 1,2,4,8] [--json FILE]

One update of exact MAML on the towers of `workloads`, tasks sharded over CPU devices that XLA
simulates, parameters replicated: by one process with n devices, and by two processes of n / 2
each over `jax.distributed`. The control is the same work, all tasks, on a single device. Each has
fresh processes of its own; all take turns, and ratios are medians within a turn:

- to one device with its share of the tasks. Weak scaling is perfect where this is 1, which takes n
  times the hardware;
- to the control: what sharding itself costs.

Simulated devices share the machine's cores, and a single device uses all of them already. So here
the first ratio grows with n whatever is done, and the second is the one to read: at 1 sharding is
free. Every form's first loss is compared with its control's before anything is timed.

With `--pin` each process keeps to a core of its own, and of devices only two are measured, in two
processes: then two have twice the hardware of one, and the first ratio is the one to read: its
inverse is the efficiency. `--local N` adds two processes that make N updates alone between two
exchanges, and several `--tasks` show what a longer step makes of the exchange.
"""

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from measuring import spread, taking_turns, write
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table
from workloads import NAMED, Work

__all__ = ["main"]

# The greatest relative difference between a loss and the control's: the sums' order differs.
ROUNDED = 1e-5


class Cell(NamedTuple):
    """A row of the table."""

    tasks: int
    """In all."""
    devices: int
    """In all."""
    processes: int = 1
    local: int = 1
    """Updates between two exchanges of the processes; each call makes as many."""

    @property
    def control(self) -> "Cell":
        """The same work on a single device."""
        return Cell(self.tasks, 1)


class Peers:
    """The processes of a cell, which make an update together on request."""

    def __init__(self, work: Work, cell: Cell, *, pinned: bool = False):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        numbers = (work.steps, work.width, cell.tasks, cell.processes, port)
        shared, pin = [str(number) for number in numbers], str(int(pinned))
        script = Path(__file__).with_name("scaling_peer.py")
        devices = cell.devices // cell.processes
        given = os.environ.get("XLA_FLAGS", "")
        flags = f"{given} --xla_force_host_platform_device_count={devices}"
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(script), *shared, str(rank), str(cell.local), pin],
                env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(cell.processes)
        ]

    def update(self) -> float:
        """Makes an update, waits for it, and returns its loss.

        Raises:
            RuntimeError: If a process has stopped.
        """
        for process in self.processes:
            stdin = cast(IO[str], process.stdin)
            stdin.write("\n")
            stdin.flush()
        losses = [_answer(process) for process in self.processes]
        return losses[0]

    def stop(self) -> None:
        """Ends the processes."""
        for process in self.processes:
            # A stopped process takes no input.
            with suppress(BrokenPipeError):
                cast(IO[str], process.stdin).close()
        for process in self.processes:
            process.wait()
            cast(IO[str], process.stdout).close()


def _answer(process: subprocess.Popen[str]) -> float:
    for line in cast(IO[str], process.stdout):
        # Libraries print there too.
        if line.startswith("loss "):
            return float(line.split()[1])
    raise RuntimeError("a process of the measurement has stopped; see its error above.")


def cells_of(devices: Sequence[int], tasks: int) -> list[Cell]:
    """Lists what is measured, each cell after its control; the first is one device's share."""
    cells = []
    for n in sorted({1, *devices}):
        cells.append(Cell(n * tasks, 1))
        cells += [Cell(n * tasks, n)] if n > 1 else []
        cells += [Cell(n * tasks, n, 2)] if n % 2 == 0 else []
    return cells


def pinned_cells(tasks: Sequence[int], local: int) -> list[Cell]:
    """Lists one process and two, and two with local steps, for each number of tasks a process."""
    cells = []
    for share in tasks:
        cells += [Cell(share, 1), Cell(2 * share, 1), Cell(2 * share, 2, 2)]
        cells += [Cell(2 * share, 2, 2, local)] if local > 1 else []
    return cells


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    options = _options(arguments)
    work = NAMED[options.workload]._replace(steps=options.steps)
    if options.width is not None:
        work = work._replace(width=options.width)
    cells = cells_of(options.devices, options.tasks[0])
    if options.pin:
        cells = pinned_cells(options.tasks, options.local)
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(*columns, console=Console(stderr=True)))
        line = bar.add_task("starting and checking", total=len(cells))
        peers: dict[Cell, Peers] = {}
        losses: dict[Cell, float] = {}
        for cell in cells:
            peers[cell] = Peers(work, cell, pinned=options.pin)
            stack.callback(peers[cell].stop)
            losses[cell] = peers[cell].update()
            _check(cell, losses)
            bar.advance(line)
        calls = options.repeats * len(cells)
        line = bar.add_task("timing", total=calls)
        times = taking_turns(
            {str(cell): peers[cell].update for cell in cells},
            repeats=options.repeats,
            seconds=options.seconds,
            on_call=lambda name: bar.update(line, advance=1),
        )
        bar.update(line, completed=calls)
    records = []
    for cell in cells:
        own, control = times[str(cell)] / cell.local, times[str(cell.control)]
        one = Cell(cell.tasks // cell.devices, 1)
        timed = spread(own, times[str(one if one in peers else cells[0])])
        to_one_device = timed.pop("ratio_to_plain")
        records.append(
            {
                "workload": options.workload,
                "method": "metajax",
                "form": "auto",
                "adjoint": "reverse",
                **work._asdict(),
                **cell._asdict(),
                **({"pinned": True} if options.pin else {}),
                **timed,
                "ratio_to_one_device": to_one_device,
                "ratio_to_same_work": round(float(np.nanmedian(own / control)), 4),
                "loss": losses[cell],
            }
        )
    _show(records)
    if options.json is not None:
        write(options.json, records)
    return records


def _check(cell: Cell, losses: dict[Cell, float]) -> None:
    # Local steps are another algorithm from the second update on; the first loss is the same.
    expected = losses[cell.control]
    error = abs(losses[cell] / expected - 1)
    if not error <= ROUNDED:
        sys.exit(f"{cell} must have its control's loss, {expected}, got {losses[cell]}.")


def _numbers(text: str) -> list[int]:
    if not all(part.isdecimal() and int(part) > 0 for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"must be whole numbers >= 1, got {text}.")
    return [int(part) for part in text.split(",")]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--workload", choices=NAMED, default="W1", help="size of the network")
    parser.add_argument("--width", type=int, help="H, in place of the workload's")
    parser.add_argument("--steps", type=int, default=1, help="inner steps")
    parser.add_argument(
        "--tasks", type=_numbers, default=[128], metavar="N,M", help="users a device"
    )
    parser.add_argument("--pin", action="store_true", help="a core for each process")
    parser.add_argument(
        "--local", type=int, default=1, help="updates between exchanges; with --pin"
    )
    parser.add_argument("--devices", type=_numbers, default=[1, 2, 4, 8], metavar="N,M")
    parser.add_argument("--repeats", type=int, default=15, help="turns")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="a cell that took as long sits out, after 3"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    for name in ("steps", "local", "repeats"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be >= 1, got {getattr(options, name)}.")
    return options


def _show(records: list[dict[str, Any]]) -> None:
    table = Table(title="an update, tasks spread over simulated devices that share the cores")
    headings = (
        "devices",
        "processes",
        "local",
        "tasks",
        "ms [10 %, 90 %]",
        "x one device",
        "x same work",
    )
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for record in records:
        table.add_row(
            *(str(record[key]) for key in ("devices", "processes", "local", "tasks")),
            "{median_ms:.4g} [{low_ms:.4g}, {high_ms:.4g}]".format(**record),
            f"{record['ratio_to_one_device']:.2f}",
            f"{record['ratio_to_same_work']:.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 100).print(table)


if __name__ == "__main__":
    main()
