"""The first days of a system under several policies: regret, success, retention, new items."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from metajax.exploration.policies import policy_of
from metajax.exploration.simulation import Arm, Trace, best_possible, retention, simulate
from metajax.exploration.worlds import STARTS, Days, Start, knowledge_of, refitted
from metajax.fields import check_name

__all__ = ["ARMS", "METRICS", "Outcome", "arm_of", "first_days", "outcome_of"]


class _Entry(NamedTuple):
    policy: str
    settings: Mapping[str, Any] = MappingProxyType({})
    of_users: float = 1.0
    of_items: float = 1.0
    prior: float | None = None


ARMS: Mapping[str, _Entry] = MappingProxyType(
    {
        "greedy": _Entry("greedy"),
        "epsilon_greedy": _Entry("epsilon_greedy", {"epsilon": 0.1}),
        "softmax": _Entry("softmax", {"temperature": 0.1}),
        "ucb1": _Entry("ucb1", {"scale": 1.0}, prior=0.0),
        "beta_thompson": _Entry("beta_thompson", {"draws": 1}, prior=1.0),
        "thompson": _Entry("thompson", {"draws": 1}),
        "linear_ucb": _Entry("linear_ucb", {"width": 1.0}),
        "linear_thompson": _Entry("linear_thompson", {"draws": 1}),
        "item_thompson": _Entry("linear_thompson", {"draws": 1}, of_users=0.0, of_items=0.5),
        "item_thompson_full": _Entry("linear_thompson", {"draws": 1}, of_users=0.0),
        "random": _Entry("epsilon_greedy", {"epsilon": 1.0}),
    }
)
"""Policies of the simulation. `ucb1`, and `beta_thompson` from a uniform prior, see the rewards of
each item alone. The others see the model, by which `ucb` would be `linear_ucb` once more.
`item_thompson` explores items alone, with half of the posterior's standard deviation: what is not
known of an item counts for everybody who comes, what is not known of a user for nobody else, and
the users of one round draw for each other. The half was chosen on the synthetic world's seeds 0 to
2, where vectors of items stay as they are; `item_thompson_full` draws with the whole, which was
better on seed 0 where the model is refitted."""

METRICS = ("regret", "success", "first_success", "retention", "stayed_success")
"""Figures of each user: reward lost to the best possible; share of successes; success of the first
item; probability to be there at the end (`simulation.retention`); and expected number of successes
before the user leaves."""


class Outcome(NamedTuple):
    """A policy's figures in one environment, of U users and R rounds."""

    values: Mapping[str, np.ndarray]
    """By each of `METRICS`, `[U]`."""
    regret: np.ndarray
    """`[R]` mean reward lost so far to the best possible."""
    success: np.ndarray
    """`[R]` share of successes among users' first, second, ... items; NaN where none was shown."""
    staying: np.ndarray
    """`[R]` mean probability to be there after so many items."""
    coverage: float
    """Share of the new items that at least one in a hundred users, or one, was shown; NaN where
    there are none."""


def arm_of(name: str) -> Arm:
    """Returns a policy of `ARMS`.

    Raises:
        ValueError: If there is no such policy; names the nearest.
    """
    check_name(name, tuple(ARMS), "policies")
    entry = ARMS[name]
    return Arm(policy_of(entry.policy, k=1, **entry.settings), *entry[2:])


def outcome_of(trace: Trace, best: Trace, days: Days) -> Outcome:
    """Computes the figures.

    Args:
        trace: Of the policy.
        best: Of the best possible.
        days: The environment.
    """
    item, mean, reward = (np.asarray(leaf, np.float64) for leaf in trace)
    shown = item >= 0
    success = shown & (reward >= days.threshold)
    lost = np.asarray(best.mean, np.float64) - mean
    users = item.shape[1]
    # Round to number of the user's item: rounds before the arrival go to the end.
    order = np.argsort(~shown, axis=0, kind="stable")
    success, shown = (np.take_along_axis(table, order, axis=0) for table in (success, shown))
    staying = retention(success, shown)
    there = np.vstack([np.ones(users), staying[:-1]])
    counts = shown.sum(axis=1)
    with np.errstate(invalid="ignore"):
        share = success.sum(axis=1) / np.where(counts, counts, np.nan)
    new = np.flatnonzero(days.new)
    seen = np.bincount(item[item >= 0].astype(int), minlength=len(days.new))
    return Outcome(
        {
            "regret": lost.sum(axis=0),
            "success": success.sum(axis=0) / np.maximum(shown.sum(axis=0), 1),
            "first_success": success[0].astype(float),
            "retention": staying[-1],
            "stayed_success": (there * success).sum(axis=0),
        },
        np.cumsum(lost.mean(axis=1)),
        share,
        staying.mean(axis=1),
        float(np.mean(seen[new] >= max(users / 100, 1))) if len(new) else float("nan"),
    )


def first_days(
    make: Callable[[int], Days],
    *,
    policies: Sequence[str],
    starts: Sequence[Start] = STARTS,
    seeds: Sequence[int] = (0,),
    rounds: int = 50,
    reference: str = "greedy",
    refit_every: int | None = None,
    on_stage: Callable[[str], None] = lambda name: None,
) -> list[dict[str, Any]]:
    """Runs policies from several starts, and compares them on the same users.

    Intervals are of means over users, normal ones: 1.96 standard errors. They hold for the items of
    these seeds, which all users share.

    Args:
        make: From a seed to the environment.
        policies: Names, of `ARMS`.
        starts: Of `STARTS`.
        seeds: Each another environment, and other draws.
        rounds: Number of rounds.
        reference: Policy to which the others are paired, user by user; added where it is missing.
        refit_every: Number of rounds after which each policy's model is fitted anew to all rewards
            that this policy has brought (`worlds.refitted`), >= 1. None: users and levels learn
            alone.
        on_stage: Told the name of each of `seeds x starts x (policies + 1)` stages.

    Returns:
        Records. Of each start and policy one a metric, with mean, interval and the paired
        difference to the reference; one of the coverage of new items; and three curves.

    Raises:
        ValueError: If a name is unknown or repeated, or nothing is to be run.
    """
    for what, names in (("policies", policies), ("starts", starts), ("seeds", seeds)):
        if not len(names) or len(set(names)) < len(names):
            raise ValueError(f"{what} must be one or more, each once, got {list(names)}.")
    names = list(dict.fromkeys([reference, *policies]))
    arms = {name: arm_of(name) for name in names}
    for start in starts:
        check_name(start, STARTS, "starts")
    found: dict[tuple[str, str], list[Outcome]] = {}
    data = ""
    for seed in seeds:
        days = make(seed)
        data, key = days.name, jax.random.key(seed)
        for start in starts:
            on_stage(f"seed {seed}, start {start}: best possible")
            known = knowledge_of(days, start)
            # The same for every start, and compiled once for all.
            best = best_possible(days.environment, known, key, rounds=rounds)
            for name, arm in arms.items():
                on_stage(f"seed {seed}, start {start}: {name}")
                trace = simulate(
                    days.environment,
                    known,
                    arm,
                    key,
                    rounds=rounds,
                    **_refits(days, start, refit_every),
                )
                found.setdefault((start, name), []).append(outcome_of(trace, best, days))
    records: list[dict[str, Any]] = []
    for (start, name), outcomes in found.items():
        about = {"data": data, "start": start, "policy": name, "seeds": list(map(int, seeds))}
        records += _records(about, outcomes, found[start, reference], reference)
    return records


def _refits(days: Days, start: Start, every: int | None) -> dict[str, Any]:
    return {} if every is None else {"refit": partial(refitted, days, start), "every": every}


def _records(
    about: Mapping[str, Any], outcomes: Sequence[Outcome], others: Sequence[Outcome], reference: str
) -> list[dict[str, Any]]:
    records = []
    for metric in METRICS:
        values = np.concatenate([one.values[metric] for one in outcomes])
        paired = values - np.concatenate([one.values[metric] for one in others])
        record = {**about, "metric": metric, "users": len(values), **_interval(values, "")}
        if about["policy"] != reference:
            record |= {"reference": reference, **_interval(paired, "difference")}
        records.append(record)
    coverage = [one.coverage for one in outcomes]
    if np.isfinite(coverage).all():
        records.append({**about, "metric": "coverage", "mean": float(np.mean(coverage))})
    for curve in ("regret", "success", "staying"):
        table = np.array([getattr(one, curve) for one in outcomes])
        known = np.isfinite(table).all(axis=0)
        points = table[:, known].mean(axis=0)
        records.append({**about, "curve": curve, "points": [float(f"{p:.5g}") for p in points]})
    return records


def _interval(values: np.ndarray, prefix: str) -> dict[str, float]:
    mean = float(values.mean())
    error = 1.96 * float(values.std(ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    names = (prefix, f"{prefix}_low", f"{prefix}_high") if prefix else ("mean", "low", "high")
    return dict(zip(names, (mean, mean - error, mean + error), strict=True))
