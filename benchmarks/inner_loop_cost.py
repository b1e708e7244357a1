"""Time and memory of a meta-training step by adjoint and form of the inner loop.

    python benchmarks/inner_loop_cost.py [--quick | --full] [--json FILE] [--plot FILE.svg]
    python benchmarks/inner_loop_cost.py --steps 1,5 --tasks 64,1024 --form plain,auto

Each cell is one meta-step of MAML on the towers of `workloads`: adjoint, form, inner steps,
tasks, support rows and width H; 10 query rows, inner SGD, outer Adam. The forms of a cell and a
plain supervised step on the same rows take turns, and ratios are medians within a turn: to that
step, and to the plain form, which keeps every task's weights.
A form whose program is that of another, to the letter, shares its figures.

Cells are skipped, with the reason, if the compiled program needs more temporary memory than
`--memory`, or if `--minutes` are over before they begin.
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measuring import Compiled, compiled, device, spread, taking_turns, write
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from workloads import ADJOINTS, FORMS, Work, metajax_program, plain_program

__all__ = ["main"]

AXES = ("width", "tasks", "support", "steps", "adjoint", "form")
Grid = dict[str, tuple[Any, ...]]
FULL: Grid = {
    "width": (64, 256, 512),
    "tasks": (64, 256, 1024, 4096),
    "support": (1, 5, 20),
    "steps": (1, 3, 5, 10),
    "adjoint": tuple(ADJOINTS),
    "form": FORMS,
}
DEFAULT: Grid = {
    "width": (64, 256),
    "tasks": (256,),
    "support": (5,),
    "steps": (1, 5),
    "adjoint": ("reverse", "linearized", "mixed", "first_order"),
    "form": FORMS,
}
QUICK: Grid = {**DEFAULT, "tasks": (64,), "steps": (1, 3), "adjoint": ("reverse",)}


def _values(axis: str) -> Callable[[str], tuple[Any, ...]]:
    """Makes the reader of an axis's option: values separated by commas."""

    def read(text: str) -> tuple[Any, ...]:
        if axis in ("adjoint", "form"):
            known = ADJOINTS if axis == "adjoint" else FORMS
            values = tuple(text.split(","))
            if set(values) - set(known):
                raise argparse.ArgumentTypeError(f"must be of {', '.join(known)}, got {text}.")
            return values
        numbers = [value for value in text.split(",") if value.isdecimal() and int(value) > 0]
        if len(numbers) != len(text.split(",")):
            raise argparse.ArgumentTypeError(f"must be whole numbers >= 1, got {text}.")
        return tuple(map(int, numbers))

    return read


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="12 cells in 2 minutes")
    size.add_argument("--full", action="store_true", help="all 3,024 cells; raise --minutes too")
    for axis in AXES:
        parser.add_argument(f"--{axis}", type=_values(axis), metavar="A,B", help="of this axis")
    parser.add_argument("--query", type=int, default=10, help="query rows")
    parser.add_argument("--microbatch", type=int, help="tasks in memory at once; all without it")
    parser.add_argument("--repeats", type=int, default=11, help="turns")
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="a cell that took as long sits out, after 3"
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="no cell begins after these")
    parser.add_argument(
        "--memory", type=float, default=_half_the_memory(), metavar="GB", help="of a cell, at most"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the ratios here")
    options = parser.parse_args(arguments)
    for name in ("query", "microbatch", "repeats"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be >= 1, got {value}.")
    chosen = QUICK if options.quick else FULL if options.full else DEFAULT
    options.grid = {axis: getattr(options, axis) or chosen[axis] for axis in AXES}
    return options


def _half_the_memory() -> float:
    """Returns half of what the device has, in GB."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] / 2e9
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2e9


def _measured(work: Work, adjoint: str, plain: Compiled, options: Any) -> Iterator[dict[str, Any]]:
    """Compiles and times the forms of a cell, and yields a record of each."""
    ready: dict[str, Compiled] = {}
    twin: dict[str, str] = {}
    for form in options.grid["form"]:
        cell = compiled(metajax_program(work, adjoint, form, options.microbatch))
        if cell.temp_bytes <= options.memory * 1e9:
            same = (other for other, one in ready.items() if one.text == cell.text)
            twin[form] = next(same, form)
            ready[form] = cell
        else:
            need = f"{cell.temp_bytes / 1e9:.1f} GB"
            yield {
                **_costs(form, cell),
                "skipped": f"temporary memory {need} above --memory {options.memory:.1f}",
            }
    if not ready:
        return
    once = {form: one.run for form, one in ready.items() if twin[form] == form}
    times = taking_turns(
        {"step": plain.run, **once}, repeats=options.repeats, seconds=options.seconds
    )
    for form, cell in ready.items():
        timed = spread(times[twin[form]], times["step"])
        if "plain" in ready:
            ratios = times[twin[form]] / times[twin["plain"]]
            timed["ratio_to_plain_form"] = round(float(np.nanmedian(ratios)), 4)
        yield {
            **_costs(form, cell),
            **timed,
            "us_per_task_step": round(timed["median_ms"] * 1e3 / work.tasks / work.steps, 3),
            "tasks_per_s": round(work.tasks * 1e3 / timed["median_ms"]),
        }


def _costs(form: str, cell: Compiled) -> dict[str, Any]:
    return {
        "form": form,
        "compile_s": round(cell.compile_s, 2),
        "temp_bytes": cell.temp_bytes,
        "flops": cell.flops,
    }


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    options = _options(arguments)
    # A cache of compiled programs would hide what compiling costs.
    jax.config.update("jax_enable_compilation_cache", False)
    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", "highest")
    grid = options.grid
    cells = list(itertools.product(*(grid[axis] for axis in AXES[:-1])))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    records: list[dict[str, Any]] = []
    plain: tuple[Work, Compiled] | None = None
    with Progress(*columns, console=Console(stderr=True)) as bar:
        line = bar.add_task("", total=len(cells) * len(grid["form"]))
        for width, tasks, support, steps, adjoint in cells:
            work = Work(steps, width, tasks, support, options.query)
            bar.update(
                line,
                description=f"{adjoint}, {steps} steps, {tasks} tasks of {support}, H {width}",
            )
            found: Any = [{"form": form, "skipped": "--minutes"} for form in grid["form"]]
            if time.monotonic() - began < options.minutes * 60:
                rows = work._replace(steps=1)
                if plain is None or plain[0] != rows:
                    plain = rows, compiled(plain_program(rows))
                found = _measured(work, adjoint, plain[1], options)
            shared = {"workload": "towers", "method": "metajax", "adjoint": adjoint}
            for record in found:
                size = {**work._asdict(), "microbatch": options.microbatch}
                records.append({**shared, **size, **_NOTHING, **record})
                bar.advance(line)
            # After every cell: an interrupted run leaves what it has measured.
            if options.json is not None:
                write(options.json, records)
    _show(records)
    if options.plot is not None:
        from cost_figure import draw

        options.plot.write_text(draw(records))
    return records


_NOTHING = dict.fromkeys(
    ("median_ms", "low_ms", "high_ms", "ratio_to_plain", "compile_s", "temp_bytes", "flops")
)


def _show(records: list[dict[str, Any]]) -> None:
    table = Table(title=f"A meta-step on {device()}; [10 %, 90 %] of the turns")
    left = ("adjoint", "form")
    headings = (
        *("H", "tasks", "support", "steps", *left, "ms", "us/task/step", "tasks/s"),
        *("MB", "GFLOP", "compile s", "x plain step", "x plain form"),
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right", no_wrap=True)
    worst = 0.0, ""
    for record in records:
        cell = [str(record[axis]) for axis in AXES]
        if record["median_ms"] is None:
            table.add_row(*cell, f"skipped: {record['skipped']}")
            continue
        ratio = record.get("ratio_to_plain_form")
        if record["form"] == "auto" and ratio is not None:
            worst = max(worst, (ratio, ", ".join(f"{axis} {record[axis]}" for axis in AXES)))
        table.add_row(
            *cell,
            "{median_ms:.4g} [{low_ms:.4g}, {high_ms:.4g}]".format(**record),
            f"{record['us_per_task_step']:.3g}",
            f"{record['tasks_per_s']:,}",
            f"{record['temp_bytes'] / 1e6:.1f}",
            f"{record['flops'] / 1e9:.2f}",
            f"{record['compile_s']:.1f}",
            f"{record['ratio_to_plain']:.2f}",
            "" if ratio is None else f"{ratio:.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 180).print(table)
    if worst[0]:
        print(f"auto costs at most {worst[0]:.2f} times the plain form: {worst[1]}")


if __name__ == "__main__":
    main()
