"""Cost of serving a new user: time to adapt, and size of the adapted state."""

import time
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from metajax.data.cold_users import padded
from metajax.data.splits import Split
from metajax.evaluation.tuning import FittedMethod
from metajax.types import Adaptation, Examples, Params

__all__ = ["Cost", "cost_of"]

_USERS, _REPEATS = 256, 7


class Cost(NamedTuple):
    """Cost of one user at the largest support."""

    adapt_us: float
    """Microseconds of adapting a batch of users in one compiled program, per user."""
    state_bytes: float
    """Bytes of a user's adapted state."""


def cost_of(method: FittedMethod, split: Split, panel: str) -> Cost:
    """Measures the cost of a method on the test users of a panel.

    Args:
        method: Fitted.
        split: The fold.
        panel: Whose supports; up to 256 users are adapted to at once.

    Returns:
        The median of seven repeats, and the size.
    """
    support = padded(split.test[panel], split.training, query=1, most=_USERS).support
    adapt = partial(_adapted, method.adaptation, method.params, support)
    adapted = jax.block_until_ready(adapt())
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(adapt())
        seconds.append(time.perf_counter() - began)
    users = len(support.mask)
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(adapted))
    return Cost(1e6 * float(np.median(seconds)) / users, kept / users)


@partial(jax.jit, static_argnums=0)
def _adapted(adaptation: Adaptation, params: Params, support: Examples) -> Any:
    return jax.vmap(adaptation.adapt, in_axes=(None, 0))(params, support)
