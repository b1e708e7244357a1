"""Accuracy of the hybrid engine for cold users, beside tuned baselines on the same users.

    python benchmarks/hybrid_accuracy.py [--data NAME|PATH] [--folds N] [--seeds N]
        [--by-order] [--methods A,B] [--against A,B] [--folder FOLDER] [--json FILE]

P1 with both readings of rankings. `hybrid` is one engine for both orders of supports, which is what
`fit` uses; it chooses nothing on validation users. With --by-order there is another row, which
chooses for each order on validation users, as the baselines do. Differences are to the best
baseline; methods named by --against count as baselines. Finished parts are kept in the folder: the
same command resumes.
"""

import argparse
import json
import platform
import time
from datetime import date
from pathlib import Path

import jax
from rich.console import Console

from metajax import evaluation, report
from metajax.cli import console
from metajax.data import load
from metajax.hybrid import BY_ORDER, hybrid
from metajax.registry import method_of
from metajax.runs import judging

BASELINES = "popularity,item_knn,ease,item_knn_blend,ease_blend,eb_fold_in"
BESIDE = "attentive_neighbours"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", default="ml-100k", help="name or path of the data")
    parser.add_argument("--folds", type=int, default=5, help="folds of each repetition")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions")
    parser.add_argument("--by-order", action="store_true", help="a row chosen for each order too")
    parser.add_argument("--methods", default=f"{BASELINES},{BESIDE}", help="beside the engine")
    parser.add_argument("--against", help="learned methods that the differences are to as well")
    parser.add_argument("--folder", type=Path, default=Path("runs/hybrid-accuracy"))
    parser.add_argument("--json", type=Path, help="where to write the records")
    given = parser.parse_args()

    began = time.monotonic()
    against = given.against.split(",") if given.against else []
    methods = ["hybrid", *(name for name in given.methods.split(",") if name not in against)]
    # A known method keeps its kind: these are others of the same parts.
    methods += [
        method_of(name)._replace(name=f"{name}, tuned", kind="baseline") for name in against
    ]
    if given.by_order:
        methods.append(hybrid("hybrid, by order", grid=BY_ORDER))
    folds, seeds = range(given.folds), range(given.seeds)
    stages = len(evaluation.cells_of(methods, ["P1"], folds, seeds)) + 1
    dataset = load(given.data)
    with console.stages("Comparing", stages) as begin:
        found = evaluation.compare(
            dataset,
            methods,
            protocols=["P1"],
            folds=folds,
            seeds=seeds,
            folder=given.folder,
            on_stage=begin,
        )
    shown = report.terminal_table(found.records, ("rmse", "ndcg@10", "hr@1"), brief=True)
    Console(width=100).print(shown)
    print(judging.headline(found.records))
    minutes = (time.monotonic() - began) / 60
    machine = f"{jax.devices()[0].device_kind} ({platform.machine()}), jax {jax.__version__}"
    page = judging.write_comparison(given.folder, dataset, found, seeds=len(seeds))
    print(f"{minutes:.1f} minutes, {date.today()}, {machine}. Report: {page}")
    if given.json:
        given.json.write_text(json.dumps(found.to_json(), indent=1) + "\n")


if __name__ == "__main__":
    main()
