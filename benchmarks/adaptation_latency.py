"""Time to adapt to one user, in process and compiled.

    python benchmarks/adaptation_latency.py [--users 400] [--json FILE]

Methods on MovieLens-100K, fold 0, closed forms fitted with the first settings of their grid,
trained ones after 20 updates, as the time does not depend on what was learned. Each call adapts to
a cold user of ten interactions, who is another one every time, on the host until then, and waits
for the result.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measuring import write

from metajax.baselines import Baseline
from metajax.data import load
from metajax.data.cold_users import padded
from metajax.evaluation import FittedMethod, prepare, trained, tuned
from metajax.registry import method_of, settings_for

# Settings that are not the defaults, by method. Inner steps are five.
METHODS: dict[str, dict[str, Any]] = {
    "item_knn": {},
    "ease": {},
    "eb_fold_in": {},
    "implicit_als": {},
    "hybrid": {},
    "bayesian_ridge": {},
    "attentive_neighbours": {},
    "conditional_process": {},
    "anil": {},
    "maml": {"adapts": ("*",)},
}


def latency(method: FittedMethod, supports: Any, users: int) -> dict[str, float]:
    """Measures `users` calls after some unmeasured ones, in ms."""
    adapt = jax.jit(lambda params, support: method.adaptation.adapt(params, support, None))
    params = jax.device_put(method.params)
    seconds = []
    for call in range(users + 20):
        row = call % len(supports.labels)
        support = jax.tree.map(lambda leaf, row=row: leaf[row], supports)
        start = time.perf_counter()
        jax.block_until_ready(adapt(params, support))
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.percentile(1e3 * np.array(seconds[20:]), (50, 99))
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args()
    split = prepare("P1", load("ml-100k"), fold=0, seed=0)
    tasks = padded(split.test["random"], split.training, query=1)
    supports = jax.tree.map(np.asarray, tasks.support)
    records = []
    for name, changes in METHODS.items():
        method = method_of(name)
        if isinstance(method, Baseline):
            fitted = tuned(method, split, trials=1)
        else:
            few = settings_for(name, updates=20, validate_every=20, **changes)
            fitted = trained(method, split, few, trials=1, refit=False)
        record = {"method": name, **changes, **latency(fitted["random"], supports, options.users)}
        print(record, flush=True)
        records.append(record)
    if options.json is not None:
        write(options.json, records)


if __name__ == "__main__":
    main()
