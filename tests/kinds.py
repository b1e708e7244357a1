"""Families of methods of which every run tests one of each kind, and CI all."""

from collections.abc import Collection, Iterable

import pytest


def slow_but(every_time: Collection[str], names: Iterable[str]) -> list:
    """Lists parameters by name, all marked as slow but those that every run takes."""
    names = list(names)
    assert set(every_time) <= set(names), set(every_time) - set(names)
    marks = {name: () if name in every_time else pytest.mark.slow for name in names}
    return [pytest.param(name, id=name, marks=marks[name]) for name in names]
