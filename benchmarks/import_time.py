"""CPU time of `import metajax; metajax.maml` relative to importing jax, flax and optax.

    python benchmarks/import_time.py [--repeats 10]

`import metajax` alone loads nothing; `metajax.maml` loads the library of adaptations and learners.
CPU time, of both imports in one fresh interpreter, so that a busy machine slows both alike; the
median of the ratios. Bytecode is cached, as after a first import.
"""

import argparse
import os
import statistics
import subprocess
import sys

PROGRAM = """
import sys, time
start = time.process_time()
import jax, flax.linen, optax
base = time.process_time()
import metajax
metajax.maml
end = time.process_time()
modules = sum(name.split(".")[0] == "metajax" for name in sys.modules)
print(base - start, end - start, modules)
"""


def measured() -> tuple[float, float, int]:
    """Returns the seconds without and with metajax, and the number of its modules loaded."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=env
    )
    base, both, modules = run.stdout.split()
    return float(base), float(both), int(modules)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    measured()  # compiled and cached
    runs = [measured() for _ in range(repeats)]
    base, both = (statistics.median(run[n] for run in runs) for n in (0, 1))
    ratios = [with_ours / without for without, with_ours, _ in runs]
    print(
        f"import jax, flax.linen, optax: {base:.2f} s of CPU; with metajax: {both:.2f} s; ratio "
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); "
        f"{runs[0][2]} modules of metajax"
    )


if __name__ == "__main__":
    main()
