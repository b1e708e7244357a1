"""Runs the fuzzer; see `tests.fuzz`."""

import argparse
import faulthandler
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.case import Case, judged
from tests.fuzz.folders import folder_case
from tests.fuzz.graphs import graph_case
from tests.fuzz.logs import log_case, overlap_case
from tests.fuzz.settings import settings_case

TARGETS: list[tuple[int, Callable[[random.Random], Case]]] = [
    (60, log_case),
    (20, graph_case),
    (3, overlap_case),
    (3, settings_case),
    (12, folder_case),
]


def case_of(seed: int, number: int) -> Case:
    """Returns a case, which its number and the seed determine."""
    rng = random.Random(f"{seed}:{number}")
    weights, makers = zip(*TARGETS, strict=True)
    return rng.choices(makers, weights)[0](rng)


def main(arguments: list[str]) -> int:
    """Runs cases; returns the number of failures, 100 at most."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="number of cases")
    parser.add_argument("--seed", type=int, default=0, help="of all of them")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no case after them")
    parser.add_argument("--show", type=int, default=10, help="failures to print")
    parser.add_argument("--strict", action="store_true", help="print also what is too strict")
    parser.add_argument("--target", default="", help="name of the one kind of cases to run")
    chosen = parser.parse_args(arguments)
    warnings.simplefilter("error")
    counts: Counter[str] = Counter()
    failures, began, slowest = 0, time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "case"
        for number in range(chosen.first, chosen.first + chosen.cases):
            if time.monotonic() - began > chosen.seconds:
                break
            # Should the process end or hang in a library, its last words are the case.
            faulthandler.dump_traceback_later(300, exit=True)
            (Path(scratch) / "number").write_text(str(number))
            case = case_of(chosen.seed, number)
            if chosen.target not in ("", case.target):
                continue
            start = time.monotonic()
            verdict = judged(case, folder)
            slowest = max(slowest, time.monotonic() - start)
            counts[f"{case.target}: {verdict.result}"] += 1
            if chosen.strict and verdict.result == "too strict":
                print(f"{number} {case.target}: too strict: {verdict.why}")
            if verdict.result == "failed":
                failures += 1
                if failures <= chosen.show:
                    again = f"python -m tests.fuzz --seed {chosen.seed} --first {number} --cases 1"
                    print(f"{case.target}: {verdict.why}\n    {again}", flush=True)
    faulthandler.cancel_dump_traceback_later()
    for name, count in sorted(counts.items()):
        print(f"{name:<28} {count:>7,}")
    took = time.monotonic() - began
    print(
        f"{counts.total():,} cases of seed {chosen.seed} from {chosen.first} in {took:.0f} s, the "
        f"slowest {slowest:.2f} s; failures: {failures}"
    )
    return min(failures, 100)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
