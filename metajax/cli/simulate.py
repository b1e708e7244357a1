"""The command `metajax simulate`."""

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from metajax import exploration, report, storage
from metajax.cli import console, signals, sources
from metajax.data import datasets
from metajax.data.reading import Reading
from metajax.exploration.first_days import ARMS
from metajax.exploration.worlds import STARTS

__all__ = ["prepare", "simulate"]

prepare = sources.of_reading

_ON_REQUEST = ("beta_thompson", "item_thompson_full", "random")


def simulate(
    reading: Annotated[Reading, Parameter(name="*")] = Reading(),  # noqa: B008
    *,
    data: str = "synthetic",
    policies: str = "",
    starts: str = "",
    rounds: int = 50,
    world_users: int | None = None,
    world_items: int | None = None,
    new_items: float = 0.3,
    refit_every: int | None = None,
    seeds: int = 1,
    first_seed: int = 0,
    fold: int = 0,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    page: Path | None = None,
) -> None:
    """Simulates the first days of a system: users arrive, see items, react, and policies learn.

    Args:
        reading: Options of reading the data.
        data: synthetic, whose truth is known; or a log of ratings, a name (ml-100k, ml-1m, ...) or
            a path, whose held-out users are replayed.
        policies: Names, separated by commas: greedy, epsilon_greedy, softmax, ucb1, beta_thompson,
            thompson, linear_ucb, linear_thompson, item_thompson, item_thompson_full, random.
            Default: all but beta_thompson, whose draws take long, item_thompson_full and random.
        starts: Knowledge before the first round, separated by commas: data, content, nothing.
            Default: all.
        rounds: Number of rounds.
        world_users: Number of users of the synthetic world. Default: 10000.
        world_items: Number of its items. Default: 300.
        new_items: Share of the items that come during the rounds.
        refit_every: Number of rounds after which each policy's model is fitted anew to all rewards
            so far. Default: never; users and levels of items learn alone.
        seeds: Number of repetitions.
        first_seed: Seed of the first one.
        fold: Fold of a log, of five, whose users are replayed.
        json_file: File to write the records to.
        page: File to write a page with curves to.
    """
    names = _listed(policies) or [name for name in ARMS if name not in _ON_REQUEST]
    chosen: Any = _listed(starts) or list(STARTS)
    if seeds < 1:
        raise ValueError(f"seeds must be >= 1, got {seeds}.")
    if refit_every is not None and refit_every < 1:
        raise ValueError(f"refit-every must be >= 1, got {refit_every}.")
    if first_seed < 0:
        raise ValueError(f"first-seed must be >= 0, got {first_seed}.")
    for name in names:
        exploration.arm_of(name)
    if data == "synthetic":
        if fold:
            raise ValueError(f"fold is of a log, the synthetic world has none, got {fold}.")
        size = {
            "users": 10_000 if world_users is None else world_users,
            "items": 300 if world_items is None else world_items,
        }

        def make(seed: int) -> exploration.Days:
            return exploration.synthetic(**size, new_items=new_items, rounds=rounds, seed=seed)
    else:
        for name, given in (("world-users", world_users), ("world-items", world_items)):
            if given is not None:
                raise ValueError(f"{name} is of the synthetic world, got {given} for {data}.")
        with console.fetching(data) as fetched:
            dataset = datasets.load(data, progress=fetched, **reading.reading())
        console.notes(dataset)

        def make(seed: int) -> exploration.Days:
            return exploration.replayed(
                dataset, fold=fold, new_items=new_items, rounds=rounds, seed=seed
            )

    run = list(range(first_seed, first_seed + seeds))
    stages = len(run) * len(chosen) * (len({"greedy", *names}) + 1)
    with (
        signals.stoppable("stopped; nothing is written before the end."),
        console.stages("Simulating", stages) as begin,
    ):
        records = exploration.first_days(
            make, policies=names, starts=chosen, seeds=run, rounds=rounds,
            refit_every=refit_every, on_stage=begin,
        )  # fmt: skip
        begin("done")
    from rich.console import Console

    Console(markup=False).print(report.days_table(records))
    if json_file is not None:
        storage.write_file(json_file, json.dumps(records, indent=1) + "\n")
        console.say(f"Records: {json_file}")
    if page is not None:
        facts = {"data": data, "rounds": rounds, "seeds": ", ".join(map(str, run))}
        if refit_every is not None:
            facts["refit every"] = f"{refit_every} rounds"
        storage.write_file(page, report.days_page(records, facts=facts))
        console.say(f"Page: {page}")


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
