"""Errors for cold users of whom all ratings but ten are shown.

    python benchmarks/all_but_ten.py [--data NAME|PATH] [--seeds N] [--methods A,B] [--json FILE]

The split of published cold-start methods on MovieLens-1M: the users with 13 to 100 ratings, of whom
a fifth, drawn by seed, are cold. The others train with all of their ratings. Of a cold user ten
ratings, drawn at random, are predicted from all others. Methods have their defaults: nothing is
tuned. MAE and RMSE are those of each user, averaged over the users of all seeds, with 95 %
bootstrap intervals over users.
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
from records import markdown
from updating import part

from metajax import engine, evaluation
from metajax.data import load
from metajax.data.dataset import Dataset
from metajax.data.schema import encode
from metajax.data.splits import ColdTasks, standardised_tasks

__all__ = ["all_but_ten", "main"]

LEAST, MOST, ASKED = 13, 100, 10
METRICS = {"mae_user": "MAE", "rmse_user": "RMSE"}


def all_but_ten(dataset: Dataset, users: np.ndarray, ids: np.ndarray, seed: int) -> ColdTasks:
    """Shows all ratings of each user but ten drawn at random, over the items of a model.

    Args:
        dataset: The log.
        users: `[T]` the users, each with more than ten ratings.
        ids: `[I]` of the items that the model knows, sorted; ratings of others are neither shown
            nor asked for.
        seed: Of the draw.
    """
    log, rng = dataset.interactions, np.random.default_rng(seed)
    known = np.isin(log.item_ids, ids)
    place = np.searchsorted(ids, log.item_ids)
    item, rating, mask = (np.zeros((len(users), MOST), kind) for kind in (int, float, bool))
    asked, offsets = [], [0]
    for n, user in enumerate(users):
        own = rng.permutation(np.flatnonzero(log.user == user))
        query, shown = (rows[known[log.item[rows]]] for rows in (own[:ASKED], own[ASKED:]))
        query = query[np.argsort(place[log.item[query]])]
        item[n, : len(shown)] = place[log.item[shown]]
        rating[n, : len(shown)], mask[n, : len(shown)] = log.rating[shown], True
        asked.append(query)
        offsets.append(offsets[-1] + len(query))
    rows = np.concatenate(asked)
    return ColdTasks(
        np.asarray(users, np.int64),
        item.astype(np.int32),
        rating.astype(np.float32),
        mask,
        np.array(offsets, np.int64),
        place[log.item[rows]].astype(np.int32),
        log.rating[rows].astype(np.float32),
    )


def judged(model: engine.FittedModel, dataset: Dataset, tasks: ColdTasks) -> evaluation.Evaluation:
    found = model.recommender
    judged = evaluation.evaluate(
        found.adaptation,
        found.params,
        standardised_tasks(tasks, found.labels),
        encode(found.user_schema, dataset.users),
        found.catalogue.item_features,
        scale=model.shapes.scale,
        labels=found.labels,
        relevant=model.shapes.threshold,
        ks=(MOST,),
        ranking=False,
    )
    # Catalogues of the seeds differ by a few items, which is nothing to errors of ratings.
    return judged._replace(items=len(dataset.items.ids))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", default="ml-1m", help="name or path of the data")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the cold users")
    parser.add_argument("--methods", default="item_mean,eb_fold_in,hybrid")
    parser.add_argument("--json", type=Path, help="where to write the records")
    given = parser.parse_args()

    whole = load(given.data)
    count = whole.interactions.user_counts
    rows = np.flatnonzero(((count >= LEAST) & (count <= MOST))[whole.interactions.user])
    dataset = part(whole, rows)
    log = dataset.interactions
    methods, found = given.methods.split(","), {}
    for seed in range(given.seeds):
        users = np.random.default_rng(seed).permutation(log.users)
        cold = np.sort(users[: len(users) // 5])
        warm = part(dataset, np.flatnonzero(~np.isin(log.user, cold)))
        for method in methods:
            began = time.monotonic()
            model = engine.fit(warm, method)
            tasks = all_but_ten(dataset, cold, model.recommender.catalogue.ids, seed)
            found.setdefault(method, []).append(judged(model, dataset, tasks))
            print(f"seed {seed}, {method}: {time.monotonic() - began:.0f} s", flush=True)
    facts = {"data": Path(given.data).name, "users": len(log.users), "seeds": given.seeds}
    records: list[dict[str, Any]] = []
    every = {method: evaluation.concatenate(of_seeds) for method, of_seeds in found.items()}
    for method, one in every.items():
        for metric in METRICS:
            value = evaluation.interval(one, metric)
            figures = {n: float(a[0]) for n, a in value._asdict().items()}
            off = evaluation.paired_difference(every[methods[-1]], one, metric)
            less = {n: float(a[0]) for n, a in off._asdict().items()}
            records.append(
                {**facts, "method": method, "metric": metric, **figures, "last_less": less}
            )
    lines = []
    for method in methods:
        own = {one["metric"]: one for one in records if one["method"] == method}
        cells = [f"{v['mean']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for v in own.values()]
        lines.append([f"`{method}`", *cells])
    print(markdown(["", *METRICS.values()], lines))
    machine = f"{jax.devices()[0].device_kind} ({platform.machine()}), jax {jax.__version__}"
    print(f"{facts}, {date.today()}, {machine}")
    if given.json:
        given.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
