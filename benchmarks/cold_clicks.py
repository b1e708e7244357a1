"""Lists for new users of a log without ratings, by the number of their clicks.

    python benchmarks/cold_clicks.py NAME|FOLDER [--methods NAMES] [--trials N] [--users N]
        [--seed N] [--json FILE]

Protocol P1: the users that are judged are new, K of their interactions are shown, at random or the
first, and the items of the rest are asked for among all but the first ten. NAME is a data set,
whose ratings are dropped: that a user met an item is all that is kept, and fold 0 is judged. FOLDER
has the format of gowalla.py: the lines of both files together are a user's history in order, and
the last fifth of the users are new. Settings are chosen on validation users, of the first N of each
grid. Differences to graph_filter are paired by user, with 95 % intervals. Records of other data
that the file holds are kept.
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
from gowalla import read
from records import markdown

from metajax import registry
from metajax.baselines import Baseline
from metajax.data import load
from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import from_columns
from metajax.evaluation import prepare, tuning
from metajax.evaluation.intervals import interval, paired_difference
from metajax.evaluation.judged_users import with_test_users

METHODS = "popularity,item_knn,ease,implicit_als,graph_filter"
REFERENCE, METRIC = "graph_filter", "ndcg@10"


def clicks(name: str) -> Dataset:
    """A log of who met what."""
    if (Path(name) / "train.txt").exists():
        return _of_lines(Path(name))
    dataset = load(name)
    log = dataset.interactions
    return dataset._replace(
        interactions=log._replace(rating=np.ones(len(log.item), np.float32)),
        scale=None,
        relevant=None,
    )


def _of_lines(folder: Path) -> Dataset:
    first = read(folder / "train.txt")
    users = len(first.offsets) - 1
    parts = [first, read(folder / "test.txt", users)]
    items = int(max(part.item.max() for part in parts)) + 1
    user, item, place = (
        np.concatenate(columns)
        for columns in zip(
            *(
                (np.repeat(np.arange(users), np.diff(p.offsets)), p.item, np.arange(len(p.item)))
                for p in parts
            ),
            strict=True,
        )
    )
    place[len(first.item) :] += len(first.item)
    ids = [np.array([f"{n:09}" for n in range(count)]) for count in (users, items)]
    log = from_columns(user, item, time=place, user_ids=ids[0], item_ids=ids[1])
    tables = [Table(names, {}, {}) for names in ids]
    own = np.where(np.arange(users) >= users - users // 5, 2, 0)
    return Dataset(folder.name, log, *tables, scale=None, parts=own)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("data", help="a data set, or a folder of train.txt and test.txt")
    parser.add_argument("--methods", default=METHODS, help="closed forms, separated by commas")
    parser.add_argument("--trials", type=int, help="settings that each method tries; default: all")
    parser.add_argument("--users", type=int, help="new users that are judged; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of folds, draws and resampling")
    parser.add_argument("--json", type=Path, help="where to write the records")
    given = parser.parse_args()
    dataset = clicks(given.data)
    split = prepare("P1", dataset, fold=0, seed=given.seed)
    if given.users:
        split = with_test_users(split, given.users, seed=given.seed)
    judged: dict[tuple[str, str], Any] = {}
    chosen: dict[tuple[str, str], Any] = {}
    seconds = {}
    for name in given.methods.split(","):
        method = registry.method_of(name)
        if not isinstance(method, Baseline):
            raise ValueError(f"methods must be closed forms, got {name!r}.")
        problem = registry.too_large(method, len(dataset.items.ids))
        if problem is not None:
            print(f"Left out: {problem}.", flush=True)
            continue
        began = time.perf_counter()
        for panel, fitted in tuning.tuned(method, split, trials=given.trials).items():
            judged[panel, name] = tuning.judge(fitted, split, panel)
            chosen[panel, name] = fitted.settings
        seconds[name] = round(time.perf_counter() - began, 1)
        print(f"{name}: {seconds[name]} s", flush=True)
    records = []
    for (panel, name), found in judged.items():
        mean = interval(found, METRIC, seed=given.seed)
        record: dict[str, Any] = {
            "data": dataset.name,
            "method": name,
            "order": panel,
            "metric": METRIC,
            "k": list(found.ks),
            "users": len(found.per_user.user),
            **{end: np.round(getattr(mean, end), 5).tolist() for end in ("mean", "low", "high")},
        }
        other = judged.get((panel, REFERENCE))
        if other is not None and name != REFERENCE:
            less = paired_difference(other, found, METRIC, seed=given.seed)
            record["reference less it"] = {
                end: np.round(getattr(less, end), 5).tolist() for end in ("mean", "low", "high")
            }
        machine = f"{jax.devices()[0].device_kind}, {platform.machine()}"
        about = {"seed": given.seed, "trials": given.trials, "seconds": seconds[name]}
        where = {"machine": machine, "jax": jax.__version__, "date": str(date.today())}
        records.append({**record, "settings": dict(chosen[panel, name]), **about, **where})
    if given.json:
        kept = json.loads(given.json.read_text()) if given.json.exists() else []
        kept = [record for record in kept if record["data"] != dataset.name]
        given.json.write_text(json.dumps([*kept, *records], indent=1) + "\n")
    print(table(records))


def table(records: list[dict[str, Any]]) -> str:
    """Figures, and what graph_filter is above them, by the number of interactions shown."""
    rows = []
    for record in records:
        cells = []
        less = record.get("reference less it")
        for n, mean in enumerate(record["mean"]):
            cell = f"{mean:.4f}"
            if less is not None:
                low, high = less["low"][n], less["high"][n]
                cell += f" ({less['mean'][n]:+.4f} [{low:+.4f}, {high:+.4f}])"
            cells.append(cell)
        rows.append([record["data"], record["order"], f"`{record['method']}`", *cells])
    header = [f"K = {k}" for k in records[0]["k"]]
    return markdown(["data", "order", "NDCG@10", *header], rows)


if __name__ == "__main__":
    main()
