"""Time and memory of an exact MAML step, here and in other implementations.

    python benchmarks/against_others.py --workload W1|W2 [--steps 1] [--repeats 15] [--json FILE]

The same 256 tasks of 5 support and 10 query rows, the same weights, the same outer Adam, and two
sizes of one network (see `workloads`): W1 has H = 64 and E = 32, W2 has H = 256 and E = 64.
`plain` is one supervised step on all the rows, what training costs without meta-learning.

Every method's meta-gradient is first compared with one in float64, parameter by parameter: on a
few tasks in float64 itself, where they must agree to 1e-9, and the timed program's in float32, to
.03. That is rounding of 1e-6, but for a rare user one of whose relu stands at its corner and falls
to the other side: in 1 task of 256 it moved the whole by .006. A first-order one is off by .1 and
more. A method that disagrees is named, not timed, and makes the script exit with 1.

Methods then take turns in one process, and ratios are medians within a turn; [low, high] are 10
and 90 % points. A package that is not installed is named and left out.
Where tasks are taken a part at a time, the gradient is the sum of the parts', to rounding.
torch_loop clones and moves the weights task by task as learn2learn does. Each method in PyTorch has
one thread or all, whichever it is faster with. On an accelerator both multiply in full float32.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

# Before jax starts: PyTorch shares the accelerator's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np
from measuring import Compiled, compiled, device, gradient_error, spread, taking_turns, write
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table
from workloads import (
    NAMED,
    Program,
    Work,
    in_float64,
    metajax_program,
    plain_program,
    reference_gradient,
    usual_program,
)

__all__ = ["METHODS", "main", "prepared"]

# The greatest relative errors of a parameter's meta-gradient: on `FEW` tasks in float64, and of
# the program that is timed.
EXACT, ROUNDED, FEW = 1e-9, 0.03, 8
# Tasks of a part, where not all are taken at once.
PART = 64
TORCH = ("torch_func", "torch_compile", "torch_loop", "higher", "torchopt")


class Method(NamedTuple):
    """A row of the table."""

    name: str
    program: Callable[[Work], Program] | None
    """None for PyTorch's."""
    form: str | None = "plain"
    adjoint: str | None = "reverse"
    microbatch: int | None = None
    """Tasks at once; None means all."""

    @property
    def label(self) -> str:
        """The name, for this package the form and the adjoint, and how many tasks at once."""
        name = f"metajax {self.form} {self.adjoint}" if self.name == "metajax" else self.name
        return name if self.microbatch is None else f"{name}, {self.microbatch} tasks at once"

    @property
    def packages(self) -> tuple[str, ...]:
        """Required packages."""
        if self.program is not None:
            return ()
        return ("torch", self.name) if self.name in ("higher", "torchopt") else ("torch",)


def _ours(adjoint: str, form: Any, microbatch: int | None = None) -> Method:
    def program(work: Work) -> Program:
        return metajax_program(work, adjoint, form, _at_once(microbatch, work))

    return Method("metajax", program, form, adjoint, microbatch)


def _at_once(microbatch: int | None, work: Work) -> int | None:
    # At least two parts, of a few tasks too.
    return microbatch if microbatch is None else min(microbatch, max(work.tasks // 2, 1))


METHODS = (
    Method("plain", plain_program, None, None),
    Method("plain", lambda work: plain_program(work, _at_once(PART, work)), None, None, PART),
    _ours("reverse", "auto"),
    _ours("reverse", "auto", PART),
    _ours("linearized", "auto"),
    _ours("reverse", "plain"),
    Method("usual_jax", usual_program),
    Method("usual_jax", lambda work: usual_program(work, _at_once(PART, work)), microbatch=PART),
    *(Method(name, None) for name in TORCH),
)


def prepared(method: Method, work: Work) -> Any:
    """Compiles a method and checks its meta-gradient; the plain step has none to check.

    Raises:
        ValueError: If the meta-gradient is off by more than `EXACT` in float64 or `ROUNDED` in
            float32, or is not finite.
    """
    if method.name == "plain":
        return _ready(method, work)
    few = work._replace(tasks=min(FEW, work.tasks))
    _check(method, few, _in_float64(method, few), EXACT)
    ready = _ready(method, work)
    _check(method, work, ready.meta_gradient(), ROUNDED)
    return ready


def _ready(method: Method, work: Work, *, double: bool = False) -> Any:
    if method.program is not None:
        return compiled(method.program(work))
    import torch_peers

    return torch_peers.build(method.name, work, double=double)


def _in_float64(method: Method, work: Work) -> Any:
    if method.program is None:
        return _ready(method, work, double=True).meta_gradient()
    program = method.program(work)
    with jax.enable_x64(True):
        wide = program._replace(carry=in_float64(program.carry), data=in_float64(program.data))
        return compiled(wide).meta_gradient()


@cache
def _reference(work: Work) -> Any:
    return reference_gradient(work)


def _check(method: Method, work: Work, found: Any, most: float) -> None:
    error = gradient_error(found, _reference(work))
    if not error <= most:
        raise ValueError(
            f"{method.label} must have the meta-gradient of the reference to {most:g}, got a "
            f"relative error of {error:.3g} on {work.tasks} tasks."
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", choices=NAMED, default="W1", help="size of the network")
    parser.add_argument("--steps", type=int, default=1, help="inner steps")
    parser.add_argument("--repeats", type=int, default=15, help="turns")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="a method that took as long sits out, after 3"
    )
    parser.add_argument("--methods", help="names, separated by commas; all without it")
    parser.add_argument("--tasks", type=int, default=256, help="for a quick look, fewer")
    parser.add_argument("--width", type=int, help="H, in place of the workload's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    for name in ("steps", "repeats", "tasks"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be >= 1, got {getattr(options, name)}.")
    known = {method.name for method in METHODS}
    chosen = set(options.methods.split(",")) if options.methods else known
    if chosen - known:
        parser.error(f"--methods must be of {sorted(known)}, got {sorted(chosen - known)}.")
    options.chosen = chosen | {"plain"}
    return options


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    options = _options(arguments)
    # A cache of compiled programs would hide what compiling costs.
    jax.config.update("jax_enable_compilation_cache", False)
    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", "highest")
    work = NAMED[options.workload]._replace(steps=options.steps, tasks=options.tasks)
    if options.width is not None:
        work = work._replace(width=options.width)
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    chosen = []
    for method in METHODS:
        lacking = [name for name in method.packages if find_spec(name) is None]
        if method.name in options.chosen and lacking:
            screen.print(f"{method.name} left out: {lacking[0]} is not installed")
        elif method.name in options.chosen:
            chosen.append(method)

    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    ready: dict[Method, Any] = {}
    with Progress(*columns, console=screen) as bar:
        line = bar.add_task("compiling and checking", total=len(chosen))
        for method in chosen:
            bar.update(line, description=f"compiling and checking {method.label}")
            if not screen.is_terminal:
                screen.print(f"compiling and checking {method.label}")
            try:
                ready[method] = prepared(method, work)
            except ValueError as error:
                screen.print(f"{method.name} left out: {error}")
            bar.advance(line)
        calls = options.repeats * len(ready)
        line = bar.add_task("timing", total=calls)
        times = taking_turns(
            {method.label: one.run for method, one in ready.items()},
            repeats=options.repeats,
            seconds=options.seconds,
            on_call=lambda label: bar.update(line, advance=1, description=f"timing {label}"),
        )
        bar.update(line, completed=calls, description="timing")

    records = []
    for method, one in ready.items():
        is_jax = isinstance(one, Compiled)
        records.append(
            {
                "workload": options.workload,
                "method": method.name,
                "form": method.form,
                "adjoint": method.adjoint,
                "microbatch": method.microbatch,
                **work._asdict(),
                **spread(times[method.label], times["plain"]),
                "repeats": int(np.isfinite(times[method.label]).sum()),
                "compile_s": None if one.compile_s is None else round(one.compile_s, 2),
                "temp_bytes": one.temp_bytes if is_jax else None,
                "flops": one.flops if is_jax else None,
                "torch_threads": None if is_jax else one.threads,
            }
        )
    _show(records, f"{options.workload}, {work}, {device()}")
    if options.json is not None:
        write(options.json, records)
    if len(ready) < len(chosen):
        sys.exit(1)
    return records


def _show(records: list[dict[str, Any]], title: str) -> None:
    table = Table(title=title)
    for heading in ("method", "ms [10 %, 90 %]", "x plain", "MB", "GFLOP", "compile s", "turns"):
        justify = "left" if heading == "method" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for record in sorted(records, key=lambda record: record["median_ms"]):
        named = (record[key] for key in ("form", "adjoint", "microbatch"))
        label = Method(record["method"], None, *named).label
        table.add_row(
            label,
            "{median_ms:.4g} [{low_ms:.4g}, {high_ms:.4g}]".format(**record),
            f"{record['ratio_to_plain']:.2f}",
            "" if record["temp_bytes"] is None else f"{record['temp_bytes'] / 1e6:.0f}",
            "" if record["flops"] is None else f"{record['flops'] / 1e9:.2f}",
            "" if record["compile_s"] is None else f"{record['compile_s']:.1f}",
            str(record["repeats"]),
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    _compare(records)


def _compare(records: list[dict[str, Any]]) -> None:
    """Prints the ratios of the first row of this package to the others, for each size of a part."""
    peers = [record for record in records if record["method"] in TORCH]
    for size in (None, PART):
        alike: dict[str, dict[str, Any]] = {}
        for record in records:
            if record["microbatch"] == size:
                alike.setdefault(record["method"], record)
        ours, usual = alike.get("metajax"), alike.get("usual_jax")
        if ours is None:
            continue
        print("all tasks at once" if size is None else f"{size} tasks at once")
        if usual is not None:
            faster = usual["median_ms"] / ours["median_ms"]
            smaller = usual["temp_bytes"] / max(ours["temp_bytes"], 1)
            print(f"against usual_jax: {faster:.1f} times faster, {smaller:.1f} times less memory")
        if peers:
            best = min(peers, key=lambda record: record["median_ms"])
            faster = best["median_ms"] / ours["median_ms"]
            print(f"against {best['method']}, the fastest in PyTorch: {faster:.1f} times faster")


if __name__ == "__main__":
    main()
