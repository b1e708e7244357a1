"""The first days of a system: exploration, bootstrap methods, and a system without any event.

    python benchmarks/first_days.py --part PART [--data NAME|PATH] [--json FILE]

Parts: `synthetic`, policies on the synthetic world with new items arriving; `settings`, linear
Thompson by its settings there, on a seed that is not reported; `replay`, policies on held-out
people of a log; `refits` and `replay_refits`, the same worlds with the model fitted anew to all
rewards every few rounds; `bootstrap`, popularity, content profiles and the textbook schedule beside
the engine, under P1; `growth`, NDCG@10 of cold users by the number of events in the whole system,
refitted from point to point and fitted from scratch. Settings were chosen on seeds 0 to 2; the
figures are of seeds 10 and up. Records of other parts, data, starts and policies in the file are
kept.
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
from rich.console import Console

from metajax import evaluation, exploration, report
from metajax.baselines import Baseline, content_profile, content_schedule, popularity, random_order
from metajax.cli import console
from metajax.data import load
from metajax.data.dataset import Dataset, TrainingSet
from metajax.data.interactions import select_rows
from metajax.data.splits import Split
from metajax.evaluation.intervals import interval, paired_difference
from metajax.exploration.first_days import ARMS
from metajax.exploration.worlds import STARTS, Start
from metajax.hybrid import hybrid

PARTS = (
    "synthetic", "settings", "replay", "refits", "replay_refits", "bootstrap", "growth",
)  # fmt: skip
SEEDS = (10, 11, 12)


def simulated(
    make: Callable[[int], exploration.Days],
    seeds: Sequence[int],
    rounds: int,
    policies: Sequence[str],
    starts: Sequence[Start],
    refit_every: int | None = None,
) -> list[dict[str, Any]]:
    """Records of policies from some starts, with the time it took, environments included."""
    stages = len(seeds) * len(starts) * (len({"greedy", *policies}) + 1)
    began, used = time.monotonic(), time.process_time()
    with console.stages("Simulating", stages) as begin:
        found = exploration.first_days(
            make, policies=policies, starts=starts, seeds=seeds, rounds=rounds,
            refit_every=refit_every, on_stage=begin,
        )  # fmt: skip
    seconds, used = time.monotonic() - began, time.process_time() - used
    Console(width=100).print(report.days_table(found))
    print(f"{seconds:.0f} s, {used:.0f} s of processors, for {stages} simulations")
    took = {"seconds": round(seconds), "processor_seconds": round(used)}
    return [{**record, **took} for record in found]


# Factors of the assumed standard deviation of users' tastes, then of the posterior's by what is not
# known of users and of items.
SETTINGS = {
    1.0: ((0.0, 0.25), (0.0, 0.5), (0.0, 0.7), (0.0, 1.0), (0.25, 0.25), (0.25, 0.5), (1.0, 1.0)),
    1.6: ((0.0, 0.5), (0.25, 0.5)),
    2.5: ((0.0, 0.5),),
}


def settings(
    make: Callable[[int], exploration.Days],
    seeds: Sequence[int],
    rounds: int,
    tried: Mapping[float, Sequence[tuple[float, float]]] = SETTINGS,
) -> list[dict[str, Any]]:
    """Records of the regret of linear Thompson by its settings, from content, beside two others.

    `levels_known` is the greedy policy that knows the mean of each item over users.
    """
    regret: dict[tuple[float, str], list[np.ndarray]] = {}
    for seed in seeds:
        days, key = make(seed), jax.random.key(seed)
        content = exploration.knowledge_of(days, "content")
        best = exploration.best_possible(days.environment, content, key, rounds=rounds)
        level = days.environment.mean.mean(axis=0) - content.centre
        sure = jax.numpy.full_like(level, 1e6)
        for tastes, factors in tried.items():
            known = content._replace(vectors=tastes * content.vectors)
            draw = exploration.linear_thompson(k=1, draws=1)
            arms = {
                name: (known, exploration.arm_of(name)) for name in ("greedy", "epsilon_greedy")
            }
            told = known._replace(precision=sure, total=sure * level)
            arms["levels_known"] = told, exploration.arm_of("greedy")
            for of_users, of_items in factors:
                arm = exploration.Arm(draw, of_users, of_items)
                arms[f"linear_thompson, users {of_users}, items {of_items}"] = known, arm
            for name, (model, arm) in arms.items():
                trace = exploration.simulate(days.environment, model, arm, key, rounds=rounds)
                value = exploration.outcome_of(trace, best, days).values["regret"]
                regret.setdefault((tastes, name), []).append(value)
                print(f"seed {seed}, tastes x {tastes}, {name}: {value.mean():.2f}", flush=True)
    found = []
    for (tastes, name), values in regret.items():
        mean = float(np.mean(values))
        record = {"tastes": tastes, "policy": name, "start": "content", "seeds": list(seeds)}
        for other in ("greedy", "epsilon_greedy"):
            record[f"below_{other}"] = 1 - mean / float(np.mean(regret[tastes, other]))
        found.append({**record, "users": len(values[0]), "rounds": rounds, "mean": mean})
    return found


CONSTANT = {
    f"content_constant_{weight}": content_schedule._replace(
        name=f"content_constant_{weight}", grid=({"weights": (weight, weight, weight)},)
    )
    for weight in (0.2, 0.5, 0.8)
}
BOOTSTRAP = ("popularity", "recent_popularity", "content_profile", "content_schedule")
METRICS = ("ndcg@10", "hr@1")


def bootstrap(
    dataset: Dataset, folds: int, folder: Path | None, methods: Sequence[str] = ("hybrid",)
) -> list[dict[str, Any]]:
    """Records of P1; the engine is paired with the best of the others, panel by panel."""
    names = [*methods, *BOOTSTRAP, *CONSTANT.values()]
    cells = evaluation.cells_of(names, ["P1"], range(folds), range(1))
    with console.stages("Comparing", len(cells) + 1) as begin:
        found = evaluation.compare(
            dataset, names, protocols=["P1"], folds=range(folds), seeds=range(1), folder=folder,
            on_stage=begin,
        )  # fmt: skip
    Console(width=100).print(report.terminal_table(found.records, METRICS, brief=True))
    return [r for r in found.to_json() if r["metric"] in METRICS]


def first_events(split: Split, events: int) -> TrainingSet:
    """The training set of the first events in time, with everyone's attributes."""
    log = split.final.interactions
    first = np.zeros(len(log.item), bool)
    first[np.argsort(log.time, kind="stable")[:events]] = True
    return split.final._replace(interactions=select_rows(log, first))


def growth(
    split: Split,
    points: Sequence[int],
    ks: Sequence[int] = (0, 5, 10),
    on_point: Callable[[list[dict[str, Any]]], None] = lambda records: None,
    engine: Baseline | None = None,
) -> list[dict[str, Any]]:
    """NDCG@10 of cold users at each number of events in the whole system.

    The engine is fitted from scratch, and refitted: the model of the point before learns the events
    that have come since. Without an event it cannot be fitted, and the content profile stands in.
    Differences are to popularity, and without an event to a random order.
    """
    engine = hybrid() if engine is None else engine
    found: list[dict[str, Any]] = []
    earlier: Any = None
    for events in points:
        training = first_events(split, events)
        rows = len(training.interactions.item)
        # Without an event all items are equally popular, and K = 0 tells nothing either.
        reference = popularity if rows else random_order
        plain = (reference, content_profile, content_schedule)
        shown = [k for k in ks if rows or k]
        fitted = {method.name: (method, method.fit(training), 0.0) for method in plain}
        if rows:
            assert engine.refit is not None
            began = time.monotonic()
            scratch = engine.fit(training)
            fitted[f"{engine.name}, from scratch"] = engine, scratch, time.monotonic() - began
            if earlier is not None:
                began = time.monotonic()
                earlier = engine.refit(earlier, training)
                fitted[f"{engine.name}, refitted"] = engine, earlier, time.monotonic() - began
            earlier = scratch if earlier is None else earlier
        for order, tasks in split.test.items():
            judged = {
                name: evaluation.evaluate(
                    method.adaptation, params, tasks, training.user_features,
                    training.item_features, scale=training.scale, labels=split.labels,
                    relevant=training.relevant, method=name, ks=shown, rating=False,
                                )
                for name, (method, params, _) in fitted.items()
            }  # fmt: skip
            for name, one in judged.items():
                value = interval(one, "ndcg@10", resamples=2000)
                paired = paired_difference(one, judged[reference.name], "ndcg@10", resamples=2000)
                for at, k in enumerate(shown):
                    ends = [float(end[at]) for end in (*value, *paired)]
                    record = dict(
                        zip(
                            ("mean", "low", "high", "difference", "difference_low",
                             "difference_high"),
                            ends, strict=True,
                        )
                    )  # fmt: skip
                    about = {"events": rows, "method": name, "order": order, "k": k}
                    about["reference"] = reference.name
                    fit = {"fit_seconds": round(fitted[name][2], 1)}
                    found.append({**about, "metric": "ndcg@10", **record, **fit})
        on_point(found)
        for record in found:
            if record["events"] == rows and record["k"] == ks[1]:
                print(
                    f"{rows:7,} events, {record['order']:6} K={record['k']} "
                    f"{record['method']:22} {record['mean']:.4f} "
                    f"[{record['low']:.4f}, {record['high']:.4f}] {record['fit_seconds']:.0f} s",
                    flush=True,
                )
    return found


def save(given: Any, data: str, found: Sequence[dict[str, Any]]) -> None:
    """Writes the records beside those of other parts, data, starts and policies."""
    if given.json is not None:
        about = {"part": given.part, "data": data, "date": str(date.today())}
        of = lambda r: (r["part"], r["data"], r.get("start"), r.get("policy"))  # noqa: E731
        new = [{**r, **about} for r in found]
        earlier = json.loads(given.json.read_text()) if given.json.exists() else []
        records = [r for r in earlier if of(r) not in set(map(of, new))] + new
        given.json.write_text(json.dumps(records) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--data", default="ml-100k", help="log of replay, bootstrap and growth")
    parser.add_argument("--users", type=int, help="10,000 of the synthetic world; all of a replay")
    parser.add_argument("--items", type=int, default=300, help="of the synthetic world")
    parser.add_argument("--rounds", type=int, help="50; 30 of a replay")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="of simulations")
    parser.add_argument("--policies", default=",".join(ARMS), help="of simulations")
    parser.add_argument("--starts", default=",".join(STARTS), help="of simulations")
    parser.add_argument("--refit-every", type=int, default=5, help="rounds between refits")
    parser.add_argument("--points", default="0,100,1000,10000,100000", help="events of growth")
    parser.add_argument("--folds", type=int, default=2, help="of bootstrap")
    parser.add_argument("--folder", type=Path, help="of finished parts of bootstrap")
    parser.add_argument("--json", type=Path, help="where to write the records")
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    policies, starts = given.policies.split(","), given.starts.split(",")
    every = given.refit_every if given.part.endswith("refits") else None
    if given.part in ("synthetic", "refits", "settings"):
        data, rounds, users = "synthetic", given.rounds or 50, given.users or 10_000

        def make(seed: int) -> exploration.Days:
            return exploration.synthetic(users=users, items=given.items, rounds=rounds, seed=seed)

        if given.part == "settings":
            found = settings(make, seeds, rounds)
        else:
            found = simulated(make, seeds, rounds, policies, starts, every)
    else:
        data, rounds = Path(given.data).name, given.rounds or 30
        dataset = load(given.data)._replace(name=data)
        if given.part.startswith("replay"):
            found = simulated(
                lambda seed: exploration.replayed(
                    dataset, users=given.users, rounds=rounds, seed=seed
                ),
                seeds,
                rounds,
                policies,
                starts,
                every,
            )
        elif given.part == "bootstrap":
            found = bootstrap(dataset, given.folds, given.folder)
        else:
            points = [int(point) for point in given.points.split(",")]
            split = evaluation.prepare("P1", dataset, fold=0, seed=0)
            found = growth(split, points, on_point=lambda records: save(given, data, records))
    save(given, data, found)
    machine = f"{jax.devices()[0].device_kind} ({platform.machine()}), jax {jax.__version__}"
    print(f"{date.today()}, {machine}, NumPy {np.__version__}")


if __name__ == "__main__":
    main()
