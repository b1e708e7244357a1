"""Policies of lists: the time of a list, and propensities against frequencies.

    python benchmarks/exploration.py [--items N] [--users N] [--repeats N] [--json FILE]

Beliefs are those of a linear model with F = 9 coefficients, as the fold-in on item factors has.
A list has 10 positions. `list` draws it alone, `propensities` also computes the propensity of each
position, which of policies of draws takes 200 draws, as in the service. The frequency of the first
position in many lists is compared with its propensities, in standard errors: a maximum over items.
"""

import argparse
import datetime
import platform
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import measuring
import numpy as np

from metajax.exploration import Beliefs, Policy, linear_beliefs, policy_of
from metajax.types import Posterior

K, WIDTH, DRAWS = 10, 9, 200
POLICIES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "epsilon_greedy": {"epsilon": 0.1},
    "softmax": {"temperature": 0.25},
    "ucb": {},
    "ucb1": {},
    "linear_ucb": {},
    "thompson": {"draws": DRAWS},
    "beta_thompson": {"draws": DRAWS},
    "linear_thompson": {"draws": DRAWS},
}


def beliefs_of(users: int, items: int, seed: int = 0) -> Beliefs:
    """Beliefs of some users, `[U, N]`, with means inside (0, 1) as Beta posteriors need them."""
    rng = np.random.default_rng(seed)
    vectors = jnp.asarray(rng.normal(size=(items, WIDTH)) / 30, jnp.float32)
    level = jnp.asarray(rng.uniform(0.2, 0.6, items), jnp.float32)
    count = jnp.asarray(rng.integers(1, 200, items), jnp.float32)
    means = jnp.asarray(rng.normal(size=(users, WIDTH)) / 2, jnp.float32)

    def one(mean: jax.Array) -> Beliefs:
        found = linear_beliefs(Posterior(mean, jnp.eye(WIDTH)), vectors, level)
        return found._replace(mean=jnp.clip(found.mean, 0.01, 0.99), count=count)

    return jax.vmap(one)(means)


def worst_of(policy: Policy, quick: Policy, beliefs: Beliefs, lists: int) -> float:
    """Largest deviation of a frequency from its propensity at the first position.

    In standard errors, those of estimated propensities included; of items with a propensity or a
    frequency of 5 in all, so that the normal distribution holds.
    """
    mask = jnp.ones(len(beliefs.mean), bool)
    keys = jax.random.split(jax.random.key(1), lists)
    first = np.asarray(
        jax.jit(lambda k: jax.lax.map(lambda key: quick.show(beliefs, mask, key).items[0], k))(keys)
    )
    nobody = jnp.full(policy.length, -1)
    chance = np.asarray(
        jax.jit(lambda key: policy.propensities(beliefs, mask, nobody, key)[0])(jax.random.key(2))
    )
    share = np.bincount(first, minlength=len(chance)) / lists
    pooled = np.maximum(chance, share)
    variance = pooled * (1 - pooled) / lists
    if not policy.conditional:
        variance = variance + pooled * (1 - pooled) / DRAWS
    # A certainty must be met exactly.
    wrong = np.abs(share - chance)
    if np.max(wrong[variance == 0], initial=0) > 1e-6:
        return float("inf")
    likely = (variance > 0) & (pooled * min(lists, lists if policy.conditional else DRAWS) >= 5)
    return float(np.max(wrong[likely] / np.sqrt(variance[likely]), initial=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--items", type=int, default=1682)
    parser.add_argument("--users", type=int, default=8, help="users of one call")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lists", type=int, default=1000, help="lists whose frequencies count")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    beliefs = beliefs_of(given.users, given.items)
    mask = jnp.ones((given.users, given.items), bool)
    keys = jax.random.split(jax.random.key(0), given.users)
    calls, sums = {}, {}
    for name, settings in POLICIES.items():
        policy = policy_of(name, k=K, **settings)
        whole = jax.jit(jax.vmap(policy.show))
        alone = jax.jit(jax.vmap(lambda b, m, k, show=policy.show: show(b, m, k).items))
        for part, call in (("list", alone), ("propensities", whole)):
            calls[f"{name}/{part}"] = lambda call=call: jax.block_until_ready(
                call(beliefs, mask, keys)
            )
            calls[f"{name}/{part}"]()
        slate = whole(beliefs, mask, keys)
        table = jax.jit(jax.vmap(policy.propensities))(beliefs, mask, slate.items, keys)
        sums[name] = float(jnp.max(jnp.abs(jnp.sum(table, axis=2) - 1)))
    times = measuring.taking_turns(calls, repeats=given.repeats, seconds=5.0)
    records = []
    own = jax.tree.map(lambda leaf: leaf[0], beliefs)
    print(f"{datetime.date.today()}, {platform.platform()}, {measuring.device()}")
    for name, settings in POLICIES.items():
        policy = policy_of(name, k=K, **settings)
        quick = policy_of(
            name, k=K, **{**settings, **({"draws": 1} if "draws" in settings else {})}
        )
        record = {
            "policy": name,
            **settings,
            "items": given.items,
            "users": given.users,
            "k": K,
            "worst_deviation": round(worst_of(policy, quick, own, given.lists), 3),
            "lists": given.lists,
            "sum_error": sums[name],
        }
        for part in ("list", "propensities"):
            low, middle, high = np.nanpercentile(times[f"{name}/{part}"], (10, 50, 90))
            spread = [round(float(t) / given.users, 5) for t in (middle, low, high)]
            keys_of = (f"{part}_ms", f"{part}_low_ms", f"{part}_high_ms")
            record |= dict(zip(keys_of, spread, strict=True))
        records.append(record)
        print(
            f"{name:16} list {record['list_ms']:.4f} ms a user, with propensities "
            f"{record['propensities_ms']:.4f} ms; worst deviation {record['worst_deviation']:.2f} "
            f"standard errors, sums to 1 within {record['sum_error']:.1e}",
            flush=True,
        )
    if given.json is not None:
        measuring.write(given.json, records)


if __name__ == "__main__":
    main()
