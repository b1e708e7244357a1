"""Sample of the Open Bandit data: 10,000 impressions of a shop under each of two policies.

Three campaigns of a fashion shop, whose page shows three items side by side, were run by a uniform
policy and by Bernoulli Thompson sampling; propensities are the true ones. The sample is part of the
Python package obp (Apache-2.0), from which it is fetched on first use and cached.

References:
    Saito et al., Open Bandit Dataset and Pipeline: Towards Realistic and Reproducible Off-Policy
    Evaluation, NeurIPS 2021, section 3.
"""

import csv
import re
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from metajax.data.fetch import Progress, Source, read_cached
from metajax.exploration.logs import LoggedFeedback, check_log

__all__ = ["Behaviour", "Campaign", "bernoulli_thompson", "open_bandit"]

Behaviour = Literal["random", "bts"]
Campaign = Literal["all", "men", "women"]

_PACKAGE = "obp==0.4.1"
_PACKAGE_SHA256 = "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"
_PRIOR = "prior_bts.yaml"
_DIGESTS = {
    "random": {
        "obp/dataset/obd/random/all/all.csv": (
            "7168295b6e0a9eabcf3392320a5dd434e542b68e705d5cd9491499af589812f1"
        ),
        "obp/dataset/obd/random/men/men.csv": (
            "ede6d08c6877f99cd3770f7d09e26c738e6aa6de4445ccccfb1356ba5d06b1eb"
        ),
        "obp/dataset/obd/random/women/women.csv": (
            "e65f3bd3beb17664fa69cc129bf7bf852a775f8ffa630506e505fc905315bb34"
        ),
    },
    "bts": {
        "obp/dataset/obd/bts/all/all.csv": (
            "0ad874e4dbf6902f0845dd478ad8dde5ef6903583d3ffaace78411bdad064106"
        ),
        "obp/dataset/obd/bts/men/men.csv": (
            "db6d1f7ed2d591ba521533e45286d4c1fba7fe57a8ad2e80342210335f43c527"
        ),
        "obp/dataset/obd/bts/women/women.csv": (
            "e5d1b49a39b608585a2f3014a3f54970430cd37a495c1b73fceb85cdf428a5b8"
        ),
        f"obp/policy/conf/{_PRIOR}": (
            "81a54fbdc184021ccc62ab97de81ec35461c032e3d7f99ccaa0a9745f732d251"
        ),
    },
}
_COLUMNS = ("item_id", "position", "click", "propensity_score")
_USER = re.compile(r"user_feature_\d+")


def open_bandit(
    behaviour: Behaviour, campaign: Campaign = "all", *, progress: Progress | None = None
) -> LoggedFeedback:
    """Loads 10,000 impressions of one campaign under one policy.

    Args:
        behaviour: The policy that showed the items: uniform, or Bernoulli Thompson sampling.
        campaign: `all` has 80 items, `men` 34, `women` 46.
        progress: Called as bytes arrive, if any have to be fetched.

    Returns:
        The log in the order of its file: clicks as rewards, the three positions of the page, and
        the user's features as indicators. Which rows were one page is not in the data.

    Raises:
        ValueError: If there is no such behaviour or campaign, or a file is not as it should be.
        DataUnavailable: If it must be fetched and cannot be.
    """
    _check(behaviour, campaign)
    return _read_log(_fetched(behaviour, progress) / f"{campaign}.csv")


def bernoulli_thompson(
    campaign: Campaign = "all",
    *,
    draws: int = 100_000,
    random: Any = 12345,
    progress: Progress | None = None,
) -> np.ndarray:
    """Propensities of the shop's Bernoulli Thompson sampling, as it was when it went live.

    The click rates of the items are independent Beta draws with the shop's own parameters, the same
    for everyone; the three positions show the three highest of one draw, best first.

    Args:
        campaign: As in `open_bandit`.
        draws: Number of draws that estimate the propensities, >= 1; their standard error is
            `sqrt(p (1 - p) / draws)`.
        random: A seed, or a NumPy generator with a method `beta`.
        progress: As in `open_bandit`.

    Returns:
        `[3, A]` probability of each item at each position; a row sums to 1.

    Raises:
        ValueError: If there is no such campaign, `draws` < 1, or a file is not as it should be.
        DataUnavailable: If it must be fetched and cannot be.
    """
    _check("bts", campaign)
    if draws < 1:
        raise ValueError(f"draws must be >= 1, got {draws}.")
    alpha, beta = _read_prior(_fetched("bts", progress) / _PRIOR, campaign)
    generator = random if hasattr(random, "beta") else np.random.default_rng(random)
    counts, left = np.zeros((3, len(alpha))), draws
    while left:
        rows = min(left, 10_000)
        rates = generator.beta(alpha, beta, size=(rows, len(alpha)))
        for place, items in enumerate(np.argsort(-rates, axis=1)[:, :3].T):
            counts[place] += np.bincount(items, minlength=len(alpha))
        left -= rows
    return counts / draws


def _check(behaviour: str, campaign: str) -> None:
    for name, value, known in (
        ("behaviour", behaviour, get_args(Behaviour)),
        ("campaign", campaign, get_args(Campaign)),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.")


def _fetched(behaviour: str, progress: Progress | None) -> Path:
    return read_cached(f"the Open Bandit sample ({behaviour})", [_source(behaviour)], progress)


def _source(behaviour: str) -> Source:
    # Files of both behaviours have the same names: a folder each.
    place = f"open-bandit/{behaviour}"
    return Source(_PACKAGE, _PACKAGE_SHA256, place, partial(Path), members=_DIGESTS[behaviour])


def _read_log(path: Path) -> LoggedFeedback:
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or any(name not in rows[0] for name in _COLUMNS):
        raise ValueError(f"{path}: there must be rows, with the columns {', '.join(_COLUMNS)}.")
    columns: dict[str, np.ndarray] = {}
    for name in _COLUMNS:
        kind = float if name in ("click", "propensity_score") else int
        values = np.empty(len(rows), kind)
        for n, row in enumerate(rows):
            try:
                values[n] = kind(row[name])
            except (TypeError, ValueError):
                raise ValueError(
                    f"{path}, line {n + 2}, column {name}: not a number: {row[name]!r}."
                ) from None
        columns[name] = values
    features = []
    for name in filter(_USER.fullmatch, rows[0]):
        # The last level is the absence of the others.
        levels, index = np.unique([row[name] or "" for row in rows], return_inverse=True)
        features.append(np.eye(len(levels))[index][:, :-1])
    log = LoggedFeedback(
        action=columns["item_id"],
        reward=columns["click"],
        propensity=columns["propensity_score"],
        # Positions are 1, 2, 3: left, centre, right.
        position=columns["position"] - 1,
        context=np.concatenate(features, axis=1) if features else None,
    )
    try:
        check_log(log)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return log


def _read_prior(path: Path, campaign: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the part of YAML that the file has: campaign, parameter, and a list of numbers."""
    found: dict[str, list[float]] = {}
    section, values = "", None
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        text = line.strip()
        if text.endswith(":"):
            if not line.startswith(" "):
                section, values = text[:-1], None
            elif section == campaign:
                values = found.setdefault(text[:-1], [])
        elif text and section == campaign:
            try:
                if values is None:
                    raise ValueError
                values.append(float(text.removeprefix("- ")))
            except ValueError:
                raise ValueError(f"{path}, line {number}: not a number: {text!r}.") from None
    alpha, beta = (np.array(found.get(name, [])) for name in ("alpha", "beta"))
    if not len(alpha) or alpha.shape != beta.shape or not ((alpha > 0) & (beta > 0)).all():
        raise ValueError(f"{path}: alpha and beta of {campaign} must be as many numbers > 0.")
    return alpha, beta
