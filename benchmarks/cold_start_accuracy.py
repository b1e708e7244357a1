"""Accuracy for cold users by number of shots, and for cold items.

    python benchmarks/cold_start_accuracy.py [--quick] [--folds N] [--seeds N] [--trials N]
        [--jobs N] [--folder FOLDER] [--json FILE] [--curve FILE.svg]

Every simple baseline and every learned method on MovieLens-100K, under P1 (cold users by number of
shots; 5 folds over users, repeated by seed), P2 (warm and cold users by warm and cold items; 5
draws) and P2 with the newest films cold. All are tuned on validation users with the same number of
trials, for each order of the supports, and fitted again with them; where the orders choose
differently, "NAME, one model" has one setting for both. Rankings are judged by both readings, with
the rest of the pool left out (P1) and asked for (P1-natural). Finished parts are kept in the
folder: the same command resumes. It is `metajax compare` with these choices.

The grids of the baselines and the defaults of the learners were drawn up while looking at folds of
seed 0, which is one of the repetitions here.
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
from metajax.runs import judging

QUICK = {"updates": 20, "tasks": 32, "rank": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one fold, few updates, one trial")
    parser.add_argument("--folds", type=int, default=5, help="folds of each repetition, and draws")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions of the 5 folds of P1")
    parser.add_argument("--trials", type=int, default=2, help="settings that each method tries")
    parser.add_argument("--jobs", type=int, default=2, help="processes that judge at once")
    parser.add_argument("--methods", help="names, separated by commas; default: all")
    parser.add_argument("--protocols", default="P1,P2,P2-newest", help="separated by commas")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/cold-start-accuracy"), help="of finished parts"
    )
    parser.add_argument("--json", type=Path, help="where to write the records")
    parser.add_argument("--curve", type=Path, help="where to draw the support-size curve, SVG")
    given = parser.parse_args()

    began = time.monotonic()
    dataset = load("ml-100k")
    methods = given.methods.split(",") if given.methods else None
    protocols = given.protocols.split(",")
    folds, seeds = range(given.folds), range(given.seeds)
    if given.quick:
        protocols, folds, seeds = protocols[:1], range(1), range(1)
    folder = given.folder.with_name(given.folder.name + "-quick") if given.quick else given.folder
    # Five draws of P2 are five seeds.
    parts = [(methods, [p], folds, seeds if p == "P1" else range(1)) for p in protocols]
    records, notes = [], []
    stages = sum(len(evaluation.cells_of(*part)) + 1 for part in parts)
    with console.stages("Comparing", stages) as begin:
        for _, protocol, _, repetitions in parts:
            part = evaluation.compare(
                dataset,
                methods,
                protocols=protocol,
                folds=folds,
                seeds=repetitions,
                trials=1 if given.quick else given.trials,
                one_model=protocol == ["P1"],
                changes=QUICK if given.quick else {},
                folder=folder,
                jobs=given.jobs,
                on_stage=begin,
            )
            records += part.records
            notes += part.notes
    found = evaluation.Compared(records, notes)

    shown = report.terminal_table(found.records, ("rmse", "ndcg@10", "hr@1"), brief=True)
    Console(width=100).print(shown)
    for note in found.notes:
        print(note)
    print(judging.headline(found.records))
    minutes = (time.monotonic() - began) / 60
    machine = f"{jax.devices()[0].device_kind} ({platform.machine()}), jax {jax.__version__}"
    page = judging.write_comparison(folder, dataset, found, seeds=len(seeds))
    print(f"{minutes:.1f} minutes, {date.today()}, {machine}. Report: {page}")
    if given.json:
        given.json.write_text(json.dumps(found.to_json(), indent=1) + "\n")
    if given.curve:
        report.support_size_curve(found.records, given.curve)


if __name__ == "__main__":
    main()
