"""What does `import metajax` cost beyond importing jax, flax and optax?

    python benchmarks/import_time.py [--repeats 10]

Interleaved fresh interpreters, so that a busy machine slows both alike; the median of the ratios.
"""

import argparse
import statistics
import subprocess
import sys
import time

BASE = "import jax, flax.linen, optax"


def seconds(program: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    for program in (BASE, "import metajax"):  # compiled and cached
        seconds(program)
    pairs = [(seconds(BASE), seconds("import metajax")) for _ in range(repeats)]
    base, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(own / other for other, own in pairs)
    print(f"{BASE}: {base:.2f} s; import metajax: {ours:.2f} s; ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
