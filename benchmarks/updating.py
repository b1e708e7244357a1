"""Cost and accuracy of a warm refit, beside a fit from scratch to the same data.

    python benchmarks/updating.py [--data NAME|PATH] [--method NAME] [--share N] [--held N]
        [--seed N] [--json FILE]

The log is cut by time: a model is fitted to the first 90 % of the interactions, then refitted warm
to all of them (`engine.refit`), and another is fitted to all of them from scratch. Some users,
drawn at random, are left out of all three, and are judged as cold users, in both orders of the
supports. Seconds are those of the clock and of the processor, compilation included. Records of
other data and methods that the file holds are kept.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import jax
import numpy as np
from records import markdown

from metajax import engine, evaluation
from metajax.data import load
from metajax.data.cold_users import POOL, support_sizes
from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import from_columns
from metajax.data.schema import encode
from metajax.data.splits import Order, cold_user_tasks, standardised_tasks
from metajax.evaluation.intervals import paired_difference

METRICS = ("rmse", "ndcg@10")


def part(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """Keeps some interactions, and the users and items that have one."""
    log = dataset.interactions
    columns, ids, tables = [], [], []
    for index, table in ((log.user, dataset.users), (log.item, dataset.items)):
        used, place = np.unique(index[rows], return_inverse=True)
        columns.append(place)
        ids.append(table.ids[used])
        tables.append(Table(ids[-1], {n: c[used] for n, c in table.columns.items()}, table.kinds))
    user, item = columns
    found = from_columns(
        user, item, log.rating[rows], log.time[rows], user_ids=ids[0], item_ids=ids[1]
    )
    return dataset._replace(interactions=found, users=tables[0], items=tables[1])


def timed(fit: Callable[[], engine.FittedModel]) -> tuple[engine.FittedModel, dict[str, float]]:
    """Returns a model, and the seconds of its fit."""
    clock, processor = time.perf_counter(), time.process_time()
    model = fit()
    jax.block_until_ready(model.recommender.params)
    found = {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}
    return model, {name: round(value, 1) for name, value in found.items()}


def judged(model: engine.FittedModel, held: Dataset, order: Order) -> evaluation.Evaluation:
    """Judges a model on users it has not seen, over the items that it knows."""
    found, log = model.recommender, held.interactions
    ids = found.catalogue.ids
    known = np.isin(log.item_ids, ids)[log.item]
    columns = (
        log.user[known],
        np.searchsorted(ids, log.item_ids)[log.item[known]],
        log.rating[known],
        log.time[known],
    )
    over = from_columns(*columns, user_ids=log.user_ids, item_ids=ids)
    tasks = cold_user_tasks(over, over.users, pool=POOL, order=order, seed=0)
    tasks = standardised_tasks(tasks, found.labels)
    return evaluation.evaluate(
        found.adaptation,
        found.params,
        tasks,
        encode(found.user_schema, held.users),
        found.catalogue.item_features,
        scale=model.shapes.scale,
        labels=found.labels,
        relevant=model.shapes.threshold,
        ks=support_sizes(tasks),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", default="ml-100k", help="name or path of the data")
    parser.add_argument("--method", help="the method; by default that of fit")
    parser.add_argument(
        "--share", type=float, default=0.9, help="of interactions, of the first fit"
    )
    parser.add_argument("--held", type=float, default=0.15, help="share of users left out")
    parser.add_argument("--seed", type=int, default=0, help="of the users left out")
    parser.add_argument("--json", type=Path, help="where to write the records")
    given = parser.parse_args()

    dataset = load(given.data)
    log = dataset.interactions
    users = np.random.default_rng(given.seed).permutation(log.users)
    out = np.isin(log.user, users[: round(given.held * len(users))])
    order = np.argsort(log.time, kind="stable")
    seen = order[~out[order]]
    first = seen[: round(given.share * len(seen))]
    held, every, early = (
        part(dataset, np.flatnonzero(out)),
        part(dataset, seen),
        part(dataset, first),
    )
    models, seconds = {}, {}
    for name, fit in (
        ("earlier model", lambda: engine.fit(early, given.method)),
        ("warm refit", lambda: engine.refit(models["earlier model"], every)),
        ("from scratch", lambda: engine.fit(every, given.method)),
    ):
        models[name], seconds[name] = timed(fit)
        print(f"{name}: {seconds[name]}", flush=True)
    counts = {
        name: [len(d.interactions.users), len(d.items.ids), len(d.interactions.item)]
        for name, d in (("earlier", early), ("all", every), ("held out", held))
    }
    rows: list[dict[str, Any]] = []
    for panel in ("random", "time"):
        found = {name: judged(model, held, panel) for name, model in models.items()}
        for metric in METRICS:
            warm, scratch = found["warm refit"], found["from scratch"]
            off = paired_difference(warm, scratch, metric)
            figures = {n: evaluation.summarise(one)[metric].tolist() for n, one in found.items()}
            rows.append(
                {
                    "order": panel,
                    "metric": metric,
                    "k": list(map(int, warm.ks)),
                    **figures,
                    "difference": off.mean.tolist(),
                    "low": off.low.tolist(),
                    "high": off.high.tolist(),
                }
            )
    record = {
        "data": Path(given.data).name,
        "method": models["warm refit"].method,
        "seed": given.seed,
        "share": given.share,
        "counts": counts,
        "seconds": seconds,
        "date": str(date.today()),
        "machine": f"{jax.devices()[0].device_kind} ({platform.machine()}), jax {jax.__version__}",
        "rows": rows,
    }
    show(record)
    if given.json:
        kept = json.loads(given.json.read_text()) if given.json.exists() else []
        key = ("data", "method", "seed", "share")
        kept = [one for one in kept if any(one[name] != record[name] for name in key)]
        given.json.write_text(json.dumps([*kept, record], indent=1) + "\n")


def show(record: dict[str, Any]) -> None:
    """Prints the tables of a record."""
    spent = record["seconds"]
    ratios = {
        kind: spent["warm refit"][kind] / spent["from scratch"][kind]
        for kind in ("clock", "processor")
    }
    print(f"{record['data']}, {record['method']}: users, items, interactions {record['counts']}")
    print(", ".join(f"{100 * value:.1f} % of the {kind}" for kind, value in ratios.items()))
    lines = []
    for row in record["rows"]:
        for name in ("earlier model", "warm refit", "from scratch"):
            cells = [f"{value:.4f}" for value in row[name]]
            lines.append([row["metric"], row["order"], name, *cells])
        cells = [
            f"{100 * off / whole:+.2f} % [{100 * low / whole:+.2f}, {100 * high / whole:+.2f}]"
            for off, low, high, whole in zip(
                row["difference"], row["low"], row["high"], row["from scratch"], strict=True
            )
        ]
        lines.append([row["metric"], row["order"], "warm less scratch", *cells])
    ks = [f"K={k}" for k in record["rows"][0]["k"]]
    print(markdown(["metric", "order", "model", *ks], lines))


if __name__ == "__main__":
    main()
