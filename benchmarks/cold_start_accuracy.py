"""How well is a user served of whom nothing, or almost nothing, is known?

    python benchmarks/cold_start_accuracy.py [--quick] [--json FILE] [--curve FILE.svg]

Protocol P1 on MovieLens-100K: 5 folds over users, one repetition a seed. Every simple baseline is
tuned on validation users, for each order of the supports, and refitted with them. MAML, first-order
MAML and the same network without meta-learning train on the training users and stop early on the
validation users.

The grids of the baselines and the defaults of `train` were drawn up while looking at folds of
seed 0, which is one of the repetitions here.
"""

import argparse
import json
import platform
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import jax
from rich.console import Console

from metajax import console, harness, report
from metajax.assembly import first_progress
from metajax.data import cold_users, load
from metajax.evaluation import concatenate
from metajax.settings import Settings

LEARNED = ("maml", "fomaml")


def judge_fold(settings: Settings, dataset, begin):
    users = cold_users(dataset, fold=settings.fold, seed=settings.seed)
    learners = []
    for learner in LEARNED:
        begin(f"seed {settings.seed}, fold {settings.fold}: training {learner}")
        chosen = replace(settings, learner=learner)
        *_, (last, _) = harness.train_on(users, chosen, first_progress(chosen, users.training))
        learners.append(harness.learned(chosen, users, last.best))
    begin(f"seed {settings.seed}, fold {settings.fold}: baselines")
    judged, left_out = harness.judge_all(users, learners, settings)
    if left_out:
        raise ValueError(" ".join(left_out))
    return judged


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, one fold, few updates")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions of the 5 folds")
    parser.add_argument("--json", type=Path, help="where to write the records")
    parser.add_argument("--curve", type=Path, help="where to draw the support-size curve, SVG")
    given = parser.parse_args()
    seeds, folds = range(given.seeds), range(5)
    if given.quick:
        seeds, folds = seeds[:1], folds[:1]
    settings = Settings(updates=50, rank=4) if given.quick else Settings()

    began = time.monotonic()
    dataset = load("ml-100k")
    rounds = len(seeds) * len(folds)
    with console.stages("Judging", rounds * (len(LEARNED) + 1) + 1) as begin:
        judged = [
            judge_fold(replace(settings, fold=fold, seed=seed), dataset, begin)
            for seed in seeds
            for fold in folds
        ]
        begin("intervals")
        methods = [
            harness.Judged(
                folds[0].kind,
                {o: concatenate([fold.by_order[o] for fold in folds]) for o in folds[0].by_order},
            )
            for folds in zip(*judged, strict=True)
        ]
        records = harness.table(methods, protocol="P1", seeds=list(seeds))

    Console(width=100).print(report.terminal_table(records, ("rmse", "ndcg@10", "hr@1")))
    machine = f"{jax.devices()[0].device_kind} ({platform.machine()}), jax {jax.__version__}"
    print(
        f"{rounds} folds, {(time.monotonic() - began) / 60:.1f} minutes, {date.today()}, {machine}"
    )
    if given.json:
        given.json.write_text(json.dumps(records, indent=1) + "\n")
    if given.curve:
        shown = {"maml", "eb_fold_in", "item_user_bias", "demographics", "two_tower_fine_tuned"}
        shown |= {"popularity", "item_knn_blend", "ease_blend"}
        report.support_size_curve([r for r in records if r["method"] in shown], given.curve)


if __name__ == "__main__":
    main()
