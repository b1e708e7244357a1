"""Kills a scenario at each call that changes a file, once, and goes on with it."""

import contextlib
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.kill.dying import Killed, dying
from tests.kill.scenarios import Scenario, bits_of, trouble_in

__all__ = ["Found", "killed_at"]


class Found(NamedTuple):
    """What came of the kills of a scenario."""

    calls: int
    """Calls that change a file, of work that is not killed."""
    kills: int
    """How often it was killed, and gone on with."""
    wrong: list[str]
    """Each kill after which something was wrong, with what it was."""


def killed_at(scenario: Scenario, root: Path, which: slice | Sequence[int] = slice(None)) -> Found:
    """Kills a scenario at some calls that change a file, one after the other.

    Args:
        scenario: The scenario.
        root: An empty folder.
        which: Of the calls, from 0.

    Returns:
        What came of it.
    """
    scenario.go(root / "warm")  # What is compiled, cached and imported first is none of it.
    folder = root / "whole"
    with dying(folder, None) as watched:
        scenario.go(folder)
    wanted, names = bits_of(folder), watched.calls
    numbers = range(len(names))
    chosen = numbers[which] if isinstance(which, slice) else which
    wrong = []
    for number in chosen:
        place = root / f"{number}"
        place.mkdir()
        with contextlib.suppress(Killed), dying(place, number + 1):
            scenario.go(place / "whole")
        problem = _gone_on(scenario, place / "whole", wanted)
        if problem:
            wrong.append(f"{scenario.name}, call {number + 1} ({names[number]}): {problem}")
        shutil.rmtree(place)
    return Found(len(names), len(chosen), wrong)


def _gone_on(scenario: Scenario, folder: Path, wanted: dict[str, str]) -> str:
    """Goes on with a scenario; returns what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scenario.go(folder)
    except Exception as error:
        return f"a dead end: {type(error).__name__}: {error}"
    return trouble_in(folder, wanted)
