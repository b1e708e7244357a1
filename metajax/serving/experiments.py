"""Experiments: users are split among arms, each with a policy and if need be a model of its own."""

import hashlib
import math
import os
from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple

from metajax.characters import visible
from metajax.fields import check_keys
from metajax.files import read_toml

__all__ = ["Arm", "Experiment", "arm_of", "read_experiment"]


class Arm(NamedTuple):
    """One way of drawing lists."""

    name: str
    """EXPERIMENT/ARM."""
    policy: str
    """Name of its policy."""
    share: float = 1.0
    """Share of the users, relative to those of the other arms."""
    model: str | None = None
    """Folder of its model; None: the model of the service."""


class Experiment(NamedTuple):
    """A comparison of arms."""

    name: str
    """Its name; another one splits the users anew."""
    arms: tuple[Arm, ...]
    """Two or more."""


def arm_of(experiment: Experiment, user: str) -> Arm:
    """Returns the arm of a user: the same one whenever and wherever it is asked for.

    The SHA-256 of the name of the experiment and the id is uniform, whatever the ids are, and
    independent of the split of another experiment.

    Args:
        experiment: The experiment.
        user: Id of the user.

    Example:
        >>> halves = Experiment("autumn", (Arm("autumn/a", "greedy"), Arm("autumn/b", "softmax")))
        >>> [arm_of(halves, f"user {n}").policy for n in range(4)]
        ['softmax', 'softmax', 'greedy', 'greedy']
    """
    salted = f"{experiment.name}\0{user}".encode("utf-8", "surrogatepass")
    place = int.from_bytes(hashlib.sha256(salted).digest()[:8], "big") / 2**64
    ends = list(accumulate(arm.share for arm in experiment.arms))
    return experiment.arms[min(bisect_right(ends, place * ends[-1]), len(ends) - 1)]


def read_experiment(path: str | os.PathLike[str]) -> Experiment:
    """Reads an experiment from a TOML file.

        name = "autumn"
        [arms.control]
        policy = "greedy"
        [arms.explore]
        policy = "thompson"
        share = 0.5             # relative; by default 1
        model = "models/new"    # by default the model that is served

    Args:
        path: The file.

    Raises:
        ValueError: If it is no such file.
        OSError: If it cannot be read.
    """
    content, where = read_toml(os.fspath(path)), os.fspath(path)
    check_keys(content, ("name", "arms"), where)
    name = _name_in(content.get("name"), f"{where}: name")
    arms = content.get("arms")
    if not isinstance(arms, dict) or not 2 <= len(arms) <= 20:
        raise ValueError(f"{where}: arms must be 2 to 20 tables, [arms.NAME].")
    found = []
    for own, table in arms.items():
        here = f"{where}: arms.{visible(own)}"
        if not isinstance(table, dict):
            raise ValueError(f"{here} must be a table.")
        check_keys(table, ("policy", "share", "model"), here)
        share, model = table.get("share", 1.0), table.get("model")
        if (
            isinstance(share, bool)
            or not isinstance(share, int | float)
            or not 0 < share < math.inf
        ):
            raise ValueError(f"{here}: share must be a number > 0, got {share!r}.")
        if model is not None and not isinstance(model, str):
            raise ValueError(f"{here}: model must be the path of a folder, got {model!r}.")
        full = f"{name}/{_name_in(own, here)}"
        policy = _name_in(table.get("policy"), f"{here}: policy")
        found.append(Arm(full, policy, float(share), model))
    return Experiment(name, tuple(found))


def _name_in(value: object, where: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 100 or visible(value) != value:
        raise ValueError(f"{where} must be text of 1 to 100 characters, got {value!r}.")
    if "/" in value:
        raise ValueError(f"{where} must hold no slash, got {value!r}.")
    return value
