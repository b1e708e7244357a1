"""Accuracy for users who are new to a target domain and known in a source domain.

    python benchmarks/cross_domain_accuracy.py [--quick] [--pairs A,B,...] [--synthetic] [--clicks]
        [--overlaps 1,0.5,...] [--methods ...] [--others ...] [--trials N] [--jobs N]
        [--folder FOLDER] [--json FILE]

Domains are genres of MovieLens-100K: a film belongs to one only if its genres fall on one side.
Users with ten ratings on both sides are tested, 5 folds; their source history is shown, of the
target 0, 1, 3 or 5 ratings, and the rest of the target is the query. Overlap is the share of the
training users who are linked in both domains. Two controls: each
user gets the source history of another (`shuffled`), and items are split by a coin (`random`).
`--others` are methods that are judged at full overlap and at none alone, and in no control.
`--synthetic` evaluates on two generated data sets with a known Bayes-optimal predictor, and reports
the share of the possible gain that each method recovers. `--clicks` drops the ratings: lists of the
target's items are judged, of methods that need no ratings. Finished parts are kept in the folder:
the same command resumes, and the JSON file keeps what is there of other pairs.
"""

import argparse
import json
import platform
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import jax
import numpy as np
import synthetic_domains
from rich.console import Console

from metajax import cross_domain, data, evaluation, registry, report
from metajax.cli import console
from metajax.cross_domain.users import PANEL
from metajax.data.synthetic import World
from metajax.data.synthetic import world as generate

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
METHODS = "item_mean,target_only,item_user_bias,eb_fold_in,linear_map,joint_fold_in,informed_ridge"
CLICKS = "popularity,target_only_item_knn,target_only_ease,item_knn,ease,graph_filter,implicit_als"
METRICS = ("rmse", "mae", "ndcg@10")
_ANY_DOMAINS = (
    "content_fold_in",
    "bayesian_ridge",
    "semantic_map",
    "attribute_prototypes",
    "light_gcn_ridge",
    "gcn_ridge",
    "gat_ridge",
    "sage_ridge",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one fold of one pair, one trial")
    parser.add_argument(
        "--pairs", default="A,B,C,random", help="of genres, and random; separated by commas"
    )
    parser.add_argument("--synthetic", action="store_true", help="a world that is known, instead")
    parser.add_argument("--clicks", action="store_true", help="without the ratings of MovieLens")
    parser.add_argument("--overlaps", default="1,0.5,0.2,0.05,0", help="shares, by commas")
    parser.add_argument("--methods", help="names, separated by commas")
    parser.add_argument("--others", help="by default every other one that knows two domains")
    parser.add_argument("--trials", type=int, default=2, help="settings that each method tries")
    parser.add_argument("--jobs", type=int, default=2, help="processes that judge at once")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/cross-domain-accuracy"), help="of finished parts"
    )
    parser.add_argument("--json", type=Path, help="where to write the records")
    given = parser.parse_args()
    began = time.monotonic()
    pairs, overlaps = given.pairs.split(","), [float(o) for o in given.overlaps.split(",")]
    if given.synthetic:
        pairs = ["synthetic"]
    folds = range(5)
    if given.quick:
        pairs, overlaps, folds = pairs[:1], overlaps[:1], range(1)
    named: str = given.methods or (CLICKS if given.clicks else METHODS)
    methods = named.split(",")
    others = [name for name in _others() if name not in methods and not given.clicks]
    if given.others is not None:
        others = [name for name in given.others.split(",") if name]

    records = []
    with console.stages("Comparing", len(pairs)) as begin, tempfile.TemporaryDirectory() as folder:
        for pair in pairs:
            begin(pair)
            domains = _domains(pair, Path(folder))
            if given.clicks:
                domains = domains._replace(dataset=_unrated(domains.dataset))
            ends, between = [(overlap, False) for overlap in overlaps], [(1.0, True)]
            if pair == "synthetic":
                ends, between = [(1.0, False)], []
            if pair == "random":
                ends, between = [], [(1.0, False)]
            between += [end for end in ends if end[0] not in (0, 1)]
            ends = [end for end in ends if end not in between]
            for kinds, chosen in ((ends, methods + others), (between, methods)):
                if kinds:
                    records += _compared(pair, domains, kinds, chosen, folds, given)
    minutes = (time.monotonic() - began) / 60
    machine = f"{jax.devices()[0].device_kind} ({platform.machine()}), jax {jax.__version__}"
    print(f"{minutes:.1f} minutes, {date.today()}, {machine}.")
    if given.json:
        # What was found of other pairs stays.
        kept = json.loads(given.json.read_text()) if given.json.exists() else []
        kept = [record for record in kept if record["pair"] not in pairs]
        given.json.write_text(json.dumps(kept + records, indent=1) + "\n")


def _others() -> list[str]:
    """Lists what else is for two domains, and what knows items by attributes or by a graph."""
    of_two = [method.name for method in registry.all_methods() if method.two_domains]
    return [*_ANY_DOMAINS, *of_two]


def _compared(
    pair: str,
    domains: cross_domain.Domains,
    kinds: list[tuple[float, bool]],
    methods: list[str],
    folds: range,
    given: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Compares methods at each overlap, with the source shuffled or not."""
    protocols = {
        f"overlap {overlap:g}{', shuffled' if shuffled else ''}": (overlap, shuffled)
        for overlap, shuffled in kinds
    }
    preparations = {
        name: evaluation.cross_domain(domains, overlap=overlap, shuffled=shuffled)
        for name, (overlap, shuffled) in protocols.items()
    }
    part = "quick" if given.quick else "whole"
    found = evaluation.compare(
        domains.dataset,
        methods,
        protocols=preparations,
        folds=folds,
        trials=1 if given.quick else given.trials,
        folder=given.folder / (part + "-clicks" * given.clicks) / pair,
        jobs=given.jobs,
    )
    rows = found.to_json()
    if pair == "synthetic":
        splits = [
            evaluation.prepare(preparation, domains.dataset, fold=fold, seed=0)
            for preparation in preparations.values()
            for fold in folds
        ]
        best = synthetic_domains.best_possible(_world(), domains, splits, PANEL)
        synthetic_domains.add_recovered(rows, best, print)
    for note in found.notes:
        print(f"{pair}: {note}")
    shown = ("ndcg@10",) if given.clicks else ("rmse",)
    Console(width=120).print(report.terminal_table(found.records, shown, brief=True))
    return [
        {**record, "pair": pair, "overlap": overlap, "shuffled_source": shuffled}
        for record in rows
        for overlap, shuffled in [protocols[record["protocol"].removesuffix("-natural")]]
        if record["metric"] in METRICS
    ]


def _domains(pair: str, folder: Path) -> cross_domain.Domains:
    if pair == "synthetic":
        world = _world()
        folders = synthetic_domains.write_domains(folder, world.dataset, world.item_domain)
        return synthetic_domains.read_domains(folders, scale=world.dataset.scale)
    if pair == "random":
        return cross_domain.random_domains(data.load("ml-100k"))
    return cross_domain.split_domains(data.load("ml-100k"), "genres", *PAIRS[pair])


def _unrated(dataset: data.Dataset) -> data.Dataset:
    """Returns who met what."""
    log = dataset.interactions
    return dataset._replace(
        interactions=log._replace(rating=np.ones_like(log.rating)), scale=None, relevant=None
    )


def _world() -> World:
    """About 900 ratings an item, so that what cannot be gained is not what items hide."""
    return generate(users=3000, items=200, overlap=1.0, cold=0.0, interactions=60.0)


if __name__ == "__main__":
    main()
