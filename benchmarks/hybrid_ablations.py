"""What each part of the hybrid engine contributes: the engine against itself with a part left out.

    python benchmarks/hybrid_ablations.py [--data NAME|PATH] [--folds N] [--more A,B]
        [--folder FOLDER] [--json FILE]

P1, both orders of supports, seed 0, one engine for both. Experts are cross-fitted once a fold, and
the heads are fitted anew without some of them, with a gate that is the same at every number of
interactions, and without the correction of ratings. Attributes of users are left out of the whole
fit. Methods that are trained by updates (--more) are put in as experts: those of which the order of
supports in training is a setting, for each order; those that stop early, with the number of updates
that validates best on the fold's validation users. Their reference is the same engine with all of
them left out again, so that both have the same columns.

A difference is the variant less its reference, paired by user, with a 95 % bootstrap interval: a
part helps where RMSE without it is higher, and NDCG@10 lower. Finished parts are kept in the
folder: the same command resumes, with more folds too.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metajax import evaluation, registry
from metajax.baselines import Baseline
from metajax.data import load
from metajax.data.dataset import TrainingSet, fingerprint, shapes_of
from metajax.data.splits import Split
from metajax.evaluation import Evaluation, Record
from metajax.evaluation.cells import Cell, Outcome, cell_file, open_folder, read_cell, write_cell
from metajax.evaluation.evaluate import natural_reading
from metajax.evaluation.records import to_json
from metajax.evaluation.tuning import fits
from metajax.hybrid import hybrid
from metajax.hybrid.tastes import RATERS

PARTS = {
    "item statistics": ("popularity", "reach", "approval"),
    "content profile": ("content profile",),
    "similar users": ("similar users", "most similar users", "users of similar attributes"),
    "EASE": ("EASE", "EASE of favourites"),
    "denoising EASE": (
        "denoising EASE",
        "strongly denoising EASE",
        "strongly denoising EASE of favourites",
    ),
    "ItemKNN": ("ItemKNN", "ItemKNN of favourites"),
    "next item": ("next item",),
    "after the first items": ("after the first items",),
    "personal rating as an order": ("predicted rating",),
    "EB fold-in": ("EB fold-in",),
    "tempered EB fold-in": ("tempered EB fold-in",),
    "users as mixture": ("users as mixture",),
}
"""Columns of experts and models of ratings that are left out together."""

WHOLE, NONE = "hybrid", "with none"
METRICS = ("rmse", "ndcg@10", "hr@1")

Variants = Mapping[str, Mapping[str, Any]]
"""Settings of the engine's fit by variant."""

Fit = Callable[[Split, Variants], dict[str, Outcome]]
"""Fits an engine with each of the settings, and judges it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", default="ml-100k", help="name or path of the data")
    parser.add_argument("--folds", type=int, default=1, help="folds of cold users")
    parser.add_argument("--more", default="maml,attentive_neighbours", help="methods to put in")
    parser.add_argument("--folder", type=Path, default=Path("runs/hybrid-ablations"))
    parser.add_argument("--json", type=Path, help="where to write the records")
    given = parser.parse_args()
    more = [name for name in given.more.split(",") if name]

    began = time.monotonic()
    dataset = load(given.data)
    folds: list[dict[str, Outcome]] = []
    with open_folder(given.folder, fingerprint(dataset)) as kept:
        for fold in range(given.folds):
            split = evaluation.prepare("P1", dataset, fold=fold, seed=0)
            groups: list[tuple[Variants, Fit]] = [(of_parts(), whole), (of_attributes(), blind)]
            if more:
                groups.append((of_methods(more), with_methods(more)))
            found: dict[str, Outcome] = {}
            for variants, fit in groups:
                found |= finished(kept, fold, split, variants, fit)
                minutes = (time.monotonic() - began) / 60
                print(f"fold {fold}: {', '.join(variants)}: {minutes:.1f} minutes", flush=True)
            folds.append(found)
    records = compared(folds)
    print_table(records)
    weights = [{v: outcome.settings for v, outcome in fold.items()} for fold in folds]
    for fold, of_fold in enumerate(weights):
        for variant, table in of_fold.items():
            if variant.startswith("with "):
                print(f"fold {fold}, {variant}: {json.dumps(table)}")
    machine = f"{jax.devices()[0].device_kind} ({platform.machine()}), jax {jax.__version__}"
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.1f} minutes, {date.today()}, {machine}.")
    if given.json:
        content = {"records": to_json(records), "weights": weights}
        given.json.write_text(json.dumps(content, indent=1) + "\n")


def of_parts() -> Variants:
    return {
        WHOLE: {},
        **{f"without {part}": {"without": names} for part, names in PARTS.items()},
        "gate the same at every number": {"constant_gate": True},
        "without correction of ratings": {"correction": False},
    }


def of_attributes() -> Variants:
    return {"without attributes of users": {}}


def of_methods(names: Sequence[str]) -> Variants:
    """Leaves out all of the methods, all but one, and none; `with_methods` has their columns."""
    one = {f"with {name}": {"without": [n for n in names if n != name]} for name in names}
    both = {f"with {' and '.join(names)}": {}} if len(names) > 1 else {}
    return {NONE: {"without": list(names)}, **one, **both}


def whole(split: Split, variants: Variants) -> dict[str, Outcome]:
    return judged(hybrid(), split, variants)


def blind(split: Split, variants: Variants) -> dict[str, Outcome]:
    def without(training: TrainingSet) -> TrainingSet:
        return training._replace(user_features=np.zeros_like(training.user_features))

    other = split._replace(training=without(split.training), final=without(split.final))
    return judged(hybrid(), other, variants)


def with_methods(names: Sequence[str]) -> Fit:
    """Returns the fit of an engine that has trained methods as experts."""

    def fit(split: Split, variants: Variants) -> dict[str, Outcome]:
        experts = {name: experts_of(name, split) for name in names}
        engine = hybrid(more=[(e, {}) for own in experts.values() for e in own])
        columns = {
            variant: {"without": [e.name for n in left.get("without", ()) for e in experts[n]]}
            for variant, left in variants.items()
        }
        more = [e.name for own in experts.values() for e in own if e.predicts_ratings]
        return judged(engine, split, columns, more)

    return fit


def experts_of(name: str, split: Split) -> list[Baseline]:
    """Makes an expert of a trained method; one for each order of supports that it trains on."""
    orders = [registry.settings_for(name).order]
    if "order" in registry.trained_method_of(name).settings:
        orders = list(split.test)
    made = []
    for order in orders:
        settings = registry.settings_for(name, order=order)
        updates = settings.updates
        if settings.validate_every < updates:
            first = registry.first_progress(settings, split.training)
            *_, (last, _) = evaluation.train_on(split, settings, first)
            updates = max(int(last.best_step), 1)
        expert = evaluation.trained_expert(
            name, shapes_of(split.final), stop=False, order=order, updates=updates
        )
        made.append(expert._replace(name=name if len(orders) == 1 else f"{name}, {order}"))
    return made


def judged(
    engine: Baseline, split: Split, variants: Variants, more: Sequence[str] = ()
) -> dict[str, Outcome]:
    """Fits the engine with each of several settings and judges it; `more` are models of ratings."""
    found = {}
    assert engine.blend is not None
    for (variant, settings), params in zip(
        variants.items(), fits(engine, split.final, list(variants.values())), strict=True
    ):
        method = evaluation.fitted(engine, split, params, settings)
        table: dict[str, Any] = {
            kind: {expert: rounded(by_number) for expert, by_number in own.items()}
            for kind, own in engine.blend.weights(params).items()
        }
        if params.rating is not None:
            names = (*RATERS, *more)
            table["models of ratings"] = {names[n]: n for n in params.rating.kept.tolist()}
        by_order = {panel: evaluation.judge(method, split, panel) for panel in split.test}
        found[variant] = Outcome("learned", by_order, {}, table, None, "")
    return found


def rounded(by_number: Mapping[int, float]) -> dict[str, float]:
    return {str(k): round(weight, 4) for k, weight in by_number.items()}


def finished(
    kept: Path, fold: int, split: Split, variants: Variants, fit: Fit
) -> dict[str, Outcome]:
    """Reads what is finished, or fits and judges a group of variants."""
    every = {v: dict(settings) for v, settings in variants.items()}
    files = {v: cell_file(kept, Cell(v, "P1", fold, 0), {"variants": every}) for v in variants}
    found = {v: read_cell(file) for v, file in files.items()}
    outcomes = {v: outcome for v, outcome in found.items() if outcome is not None}
    if len(outcomes) < len(files):
        outcomes = fit(split, variants)
        for variant, outcome in outcomes.items():
            write_cell(files[variant], outcome)
        jax.clear_caches()
    return outcomes


def compared(folds: Sequence[Mapping[str, Outcome]]) -> list[Record]:
    """Lists the figures of every variant, and the differences to its reference."""
    records = []
    for variant in folds[0]:
        reference = NONE if variant.startswith("with ") and variant != NONE else WHOLE
        for order in folds[0][variant].by_order:
            own, other = (
                evaluation.concatenate([fold[name].by_order[order] for fold in folds])
                for name in (variant, reference)
            )
            records += figures("P1", variant, order, own, reference, other)
            natural, beside = natural_reading(own), natural_reading(other)
            if natural is not None and beside is not None:
                records += figures("P1-natural", variant, order, natural, reference, beside)
    return records


def figures(
    protocol: str, variant: str, order: str, own: Evaluation, reference: str, other: Evaluation
) -> list[Record]:
    found, levels = [], evaluation.summarise(own)
    for metric in (name for name in METRICS if name in levels):
        level = evaluation.interval(own, metric)
        paired = evaluation.paired_difference(own, other, metric)
        for at, k in enumerate(own.ks):
            numbers: dict[str, Any] = {}
            if variant != reference:
                numbers = {
                    "best_baseline": reference,
                    "difference": float(paired.mean[at]),
                    "difference_low": float(paired.low[at]),
                    "difference_high": float(paired.high[at]),
                }
            found.append(
                Record(
                    method=variant,
                    protocol=protocol,
                    order=order,
                    k=k,
                    metric=metric,
                    mean=float(level.mean[at]),
                    low=float(level.low[at]),
                    high=float(level.high[at]),
                    seeds=(0,),
                    kind="learned",
                    **numbers,
                )
            )
    return found


def print_table(records: Sequence[Record]) -> None:
    """Prints differences by variant, with a star where the interval excludes 0."""
    for protocol, metric in (("P1", "rmse"), ("P1", "ndcg@10"), ("P1-natural", "ndcg@10")):
        rows = [r for r in records if (r.protocol, r.metric) == (protocol, metric)]
        columns = list(dict.fromkeys((r.order, r.k) for r in rows))
        print(f"\n{metric}, {protocol}\n|  | {' | '.join(f'{o} {k}' for o, k in columns)} |")
        print(f"| --- |{' --- |' * len(columns)}")
        for variant in dict.fromkeys(r.method for r in rows):
            own = [r for r in rows if r.method == variant]
            print(f"| {variant} | {' | '.join(map(_cell, own))} |")


def _cell(record: Record) -> str:
    if record.difference is None:
        return f"{record.mean:.4f}"
    low, high = record.difference_low or 0.0, record.difference_high or 0.0
    return f"{record.difference:+.4f}{'*' if low > 0 or high < 0 else ''}"


if __name__ == "__main__":
    main()
