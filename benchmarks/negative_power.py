"""Sampled lists by the popularity of what is sampled: validation losses of a log without ratings.

    python benchmarks/negative_power.py [--data NAME] [--methods NAMES] [--powers P,P,...]
        [--negatives N,N,...] [--seeds N] [--json FILE]

Ratings are dropped: that a user met an item is all that is kept. Each method is trained with the
objective sampled_ranking on fold 0, with negatives drawn by each power of popularity, and judged by
1 - NDCG@10 on the validation users, lower is better; test users are not looked at. Differences to
uniform draws are paired by seed.
"""

import argparse
import json
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import jax
import numpy as np
from cold_clicks import clicks
from records import markdown

from metajax import registry
from metajax.data.cold_users import cold_users
from metajax.evaluation.tuning import train_on


def loss(method: str, data: str, power: float, negatives: int, seed: int) -> float:
    """The lowest validation loss of a training."""
    dataset = clicks(data)
    settings = registry.settings_for(
        method,
        objective="sampled_ranking",
        negatives=negatives,
        negative_power=power,
        seed=seed,
    )
    settings = registry.settings_on(settings, dataset)
    split = cold_users(dataset, fold=0, seed=seed)
    first = registry.first_progress(settings, split.training)
    *_, (last, _) = train_on(split, settings, first)
    return float(last.best_loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", default="ml-100k", help="a data set")
    parser.add_argument("--methods", default="two_tower", help="separated by commas")
    parser.add_argument("--powers", default="0,0.75,1", help="separated by commas")
    parser.add_argument("--negatives", default="32,256", help="separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the records")
    given = parser.parse_args()
    records = []
    for method in given.methods.split(","):
        for negatives in map(int, given.negatives.split(",")):
            for power in map(float, given.powers.split(",")):
                began = time.perf_counter()
                losses = [
                    loss(method, given.data, power, negatives, seed) for seed in range(given.seeds)
                ]
                record: dict[str, Any] = {
                    "data": given.data,
                    "method": method,
                    "negatives": negatives,
                }
                record |= {"power": power, "losses": np.round(losses, 5).tolist()}
                record["seconds"] = round(time.perf_counter() - began, 1)
                print(record, flush=True)
                records.append(record)
    if given.json:
        shared = {
            "machine": f"{jax.devices()[0].device_kind}, {platform.machine()}",
            "jax": jax.__version__,
            "date": str(date.today()),
        }
        text = json.dumps([{**record, **shared} for record in records], indent=1)
        given.json.write_text(text + "\n")
    print(table(records))


def table(records: list[dict[str, Any]]) -> str:
    """Mean losses, and paired differences to uniform draws with their range over seeds."""
    rows = []
    for record in records:
        (plain,) = (
            other["losses"]
            for other in records
            if other["power"] == 0
            and all(other[name] == record[name] for name in ("data", "method", "negatives"))
        )
        more = np.subtract(record["losses"], plain)
        cell = f"{np.mean(record['losses']):.4f}"
        if record["power"]:
            cell += f" ({more.mean():+.4f} [{more.min():+.4f}, {more.max():+.4f}])"
        told = (f"{record[name]}" for name in ("negatives", "power"))
        rows.append([f"`{record['method']}`", *told, cell])
    return markdown(["method", "negatives", "power", "1 - NDCG@10"], rows)


if __name__ == "__main__":
    main()
