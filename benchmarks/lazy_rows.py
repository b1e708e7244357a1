"""Validation losses by updates of touched rows and of all rows, on MovieLens-100K.

    python benchmarks/lazy_rows.py [--method maml two_tower] [--seeds 3]

A catalogue of 1,682 films needs no lazy updates; here they are forced, with few enough users in an
update that most films are in none of its tasks.
"""

import argparse

from metajax.data import cold_users, load
from metajax.evaluation import train_on
from metajax.registry import first_progress, settings_for

TASKS = 8


def losses(method: str, seed: int) -> list[float]:
    """Lowest validation losses with all rows updated, and with those touched."""
    split = cold_users(load("ml-100k"), seed=seed)
    found = []
    for lazy_from in (10_000, 1):
        settings = settings_for(
            method, tasks=TASKS, seed=seed, updates=1000, patience=20, lazy_from=lazy_from
        )
        *_, (last, _) = train_on(split, settings, first_progress(settings, split.training))
        found.append(float(last.best_loss))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--method", nargs="+", default=["maml", "two_tower"], help="methods")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    options = parser.parse_args()
    print("| method | seed | all rows | touched rows | difference |")
    print("| --- | --- | --- | --- | --- |")
    for method in options.method:
        for seed in range(options.seeds):
            whole, touched = losses(method, seed)
            figures = f"{whole:.4f} | {touched:.4f} | {touched - whole:+.4f}"
            print(f"| {method} | {seed} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
