"""Search for settings by Optuna: what to try of a method, and studies in a file.

`study` needs the extra `tune`; the search spaces do not.
"""

from metajax.search.spaces import ColdUsers, Links, Problem, defaults_of, space_of
from metajax.search.study import Study, Tried, best_of, read, settings_of, tune

__all__ = [
    "ColdUsers",
    "Links",
    "Problem",
    "Study",
    "Tried",
    "best_of",
    "defaults_of",
    "read",
    "settings_of",
    "space_of",
    "tune",
]
