"""How well is a user served in a domain they are new to, who is known in another?

    python benchmarks/cross_domain_accuracy.py [--quick] [--pairs A,B,C] [--overlaps 1,0.5,...]
        [--methods ...] [--trials N] [--jobs N] [--folder FOLDER] [--json FILE]

Domains are genres of MovieLens-100K: a film belongs to one only if its genres fall on one side.
Users with ten ratings on both sides are asked, 5 folds; their source history is shown, of the
target 0, 1, 3 or 5 ratings, and the rest of the target is asked. Overlap is the share of the
training users of whom it is known that they are one person in both domains. Two controls: each
user gets the source history of another (`shuffled`), and items are split by a coin (`random`).
Finished parts are kept in the folder: the same command goes on where it was stopped.
"""

import argparse
import json
import platform
import time
from datetime import date
from pathlib import Path

import jax
from rich.console import Console

from metajax import console, data, harness, report

PAIRS = {
    "A": (
        {"Action", "Sci-Fi", "Thriller", "Horror", "War", "Adventure"},
        {"Comedy", "Romance", "Children's", "Musical", "Drama"},
    ),
    "B": (
        {"Drama", "Romance", "War", "Musical"},
        {"Action", "Sci-Fi", "Thriller", "Horror", "Adventure", "Comedy"},
    ),
    "C": (
        {"Comedy", "Children's", "Animation", "Musical"},
        {"Action", "Thriller", "Sci-Fi", "Horror", "Crime", "War"},
    ),
}
METHODS = "item_mean,target_only,item_user_bias,eb_fold_in,linear_map,joint_fold_in,bayesian_ridge"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one fold of one pair, one trial")
    parser.add_argument("--pairs", default="A,B,C", help="of genres, separated by commas")
    parser.add_argument("--overlaps", default="1,0.5,0.2,0.05,0", help="shares, by commas")
    parser.add_argument("--methods", default=METHODS, help="names, separated by commas")
    parser.add_argument("--trials", type=int, default=2, help="settings that each method tries")
    parser.add_argument("--jobs", type=int, default=2, help="processes that judge at once")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/cross-domain-accuracy"), help="of finished parts"
    )
    parser.add_argument("--json", type=Path, help="where to write the records")
    given = parser.parse_args()
    began = time.monotonic()
    dataset = data.load("ml-100k")
    pairs, overlaps = given.pairs.split(","), [float(o) for o in given.overlaps.split(",")]
    folds = range(5)
    if given.quick:
        pairs, overlaps, folds = pairs[:1], overlaps[:1], range(1)
    methods = given.methods.split(",")

    records = []
    with console.stages("Comparing", len(pairs) + (not given.quick)) as begin:
        for pair in [*pairs, *(["random"] if not given.quick else [])]:
            begin(pair)
            if pair == "random":
                domains = data.random_domains(dataset)
            else:
                domains = data.split_domains(dataset, "genres", *PAIRS[pair])
            kinds = [(overlap, False) for overlap in overlaps] + [(1.0, True)]
            if pair == "random":
                kinds = [(1.0, False)]
            protocols = {
                f"overlap {overlap:g}{', shuffled' if shuffled else ''}": (overlap, shuffled)
                for overlap, shuffled in kinds
            }
            found = harness.compare(
                domains.dataset,
                methods,
                protocols={
                    name: harness.cross_domain(domains, overlap=overlap, shuffled=shuffled)
                    for name, (overlap, shuffled) in protocols.items()
                },
                folds=folds,
                trials=1 if given.quick else given.trials,
                folder=given.folder / ("quick" if given.quick else "whole") / pair,
                jobs=given.jobs,
            )
            for record in found.records:
                overlap, shuffled = protocols[record["protocol"]]
                records.append(
                    {**record, "pair": pair, "overlap": overlap, "shuffled_source": shuffled}
                )
            for note in found.notes:
                print(f"{pair}: {note}")
            Console(width=120).print(report.terminal_table(found.records, ("rmse",), brief=True))
    minutes = (time.monotonic() - began) / 60
    machine = f"{jax.devices()[0].device_kind} ({platform.machine()}), jax {jax.__version__}"
    print(f"{minutes:.1f} minutes, {date.today()}, {machine}.")
    if given.json:
        given.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
