"""The arguments that all gradient recipes share, in one place.

A recipe is `maml` with one of its parts replaced: what adapts, by which optimizer, the way of the
meta-gradient, what is asked of the steps. So it names that part and hands the rest on.
"""

from collections.abc import Callable
from typing import Required, TypedDict

import jax
import optax

from metajax.adaptation import Adjoint, Form

__all__ = ["Options"]


class Options(TypedDict, total=False):
    """What a recipe hands on to `maml`, whose documentation and defaults hold."""

    outer: Required[optax.GradientTransformation]
    """Optax optimizer of the meta-parameters."""
    steps: int
    """Number of inner steps, at least 1."""
    inner_loss: Callable[..., jax.Array] | None
    """The loss of the support; None means that of the query."""
    adjoint: Adjoint | None
    """How the meta-gradient passes through the steps."""
    form: Form
    """How a user's weights are kept, see `gradient_steps`."""
    microbatch: int | None
    """Tasks that are in memory at once."""
