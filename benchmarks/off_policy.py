"""Off-policy estimates on the Open Bandit sample, against what the policy earned when it ran.

    python benchmarks/off_policy.py [--campaign NAME] [--json FILE]

The log of the uniform policy is evaluated for Bernoulli Thompson sampling, 100,000 Beta draws with
the shop's parameters, seed 12345; the log of that policy itself says what is right. The sample is
fetched on first use.
"""

import argparse
import datetime
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np

from metajax.exploration import bernoulli_thompson, by_position, evaluate, open_bandit
from metajax.exploration.off_policy import Estimate, bootstrap_ratio
from metajax.exploration.open_bandit import Campaign

CAMPAIGNS: tuple[Campaign, ...] = ("all", "men", "women")
# Estimator, and its settings.
ESTIMATORS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ips", {}),
    ("ips", {"clip": 5.0}),
    ("snips", {}),
    ("dm", {}),
    ("dr", {}),
    ("switch_dr", {"switch": 5.0}),
)
DRAWS, SEED, RESAMPLES = 100_000, 12345, 2000
# Each of them fits the reward model again.
REFITS = 100


def target_of(campaign: Campaign) -> np.ndarray:
    """Propensities of the evaluated policy, `[3, A]`."""
    # The generator of obp, so that its published figures come out to the last digit.
    random = np.random.RandomState(SEED)
    return bernoulli_thompson(campaign, draws=DRAWS, random=random)


def records_of(campaign: Campaign, *, resamples: int = RESAMPLES) -> list[dict[str, Any]]:
    """Estimates of one campaign, the policy's own earnings first."""
    log, own = open_bandit("random", campaign), open_bandit("bts", campaign)
    target = target_of(campaign)
    reward = np.asarray(own.reward)[None]
    truth, low, high = (
        float(end[0]) for end in bootstrap_ratio(reward, np.ones_like(reward), resamples=resamples)
    )
    before = float(np.mean(log.reward))
    data = f"open bandit, {campaign}"
    first = {
        "data": data,
        "estimator": "on_policy",
        "value": truth,
        "low": low,
        "high": high,
        "ess": float(reward.size),
        "reward_ess": float(reward.sum()),
        "rows": reward.size,
    }
    found = [first]

    def add(estimate: Estimate, settings: dict[str, Any], **more: Any) -> None:
        error = abs(estimate.value / truth - 1)
        record = {"data": data, **estimate._asdict(), **settings, **more}
        if "position" not in more:
            # To what the uniform policy earned, and to what this one did.
            record |= {"relative": estimate.value / before, "relative_error": error}
        found.append(record)

    for name, settings in ESTIMATORS:
        many = min(resamples, REFITS) if name in ("dm", "switch_dr") else resamples
        add(evaluate(log, target, cast("Any", name), resamples=many, **settings), settings)
    for place, estimate in enumerate(by_position(log, target, "snips", resamples=resamples)):
        add(estimate, {}, position=place)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--campaign", choices=CAMPAIGNS, help="one of them alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args()
    print(
        f"{' '.join(['python', *sys.argv])}\n{datetime.date.today()}, {platform.platform()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}"
    )
    records = []
    for campaign in [options.campaign] if options.campaign else CAMPAIGNS:
        for record in records_of(campaign):
            records.append(record)
            name = " ".join(
                [record["estimator"]]
                + [
                    f"{key} {record[key]}"
                    for key in ("clip", "switch", "position")
                    if key in record
                ]
            )
            error = f"{record['relative_error']:7.2%}" if "relative_error" in record else " " * 7
            print(
                f"{record['data']:18} {name:18} {record['value']:.6f} [{record['low']:.6f}, "
                f"{record['high']:.6f}]  off {error}  ess {record['ess']:8,.1f}, of rewards "
                f"{record['reward_ess']:5.1f}  {'; '.join(record.get('notes', ()))}",
                flush=True,
            )
    if options.json is not None:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
