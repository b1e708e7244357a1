"""Logged feedback of a policy: what it showed, with which propensity, and what came back."""

from typing import Any, NamedTuple

import numpy as np

from metajax.exploration.slates import Slate

__all__ = ["LoggedFeedback", "check_log", "logged"]


class LoggedFeedback(NamedTuple):
    """R items that were shown, each with its reward; NumPy or JAX arrays."""

    action: Any
    """`[R]` integer index of the item that was shown, from 0."""
    reward: Any
    """`[R]` finite, for instance 1 for a click and 0 for none."""
    propensity: Any = None
    """`[R]` in (0, 1], with which the logging policy showed it there; None: it is not known."""
    position: Any = None
    """`[R]` integer position in its list, from 0; None: every row is at the first."""
    slate: Any = None
    """`[R]` integer of the list that the row is in; None: every row is a list."""
    context: Any = None
    """`[R, D]` of the user, for reward models."""
    conditional: bool = False
    """Kind of the propensities, as `Policy.conditional`: on the earlier positions, or marginal."""


def check_log(log: LoggedFeedback, *, actions: int | None = None) -> None:
    """Checks a log.

    Args:
        log: The log.
        actions: Number of actions; None: any.

    Raises:
        ValueError: If something does not fit; it names the row.
    """
    rows = np.shape(log.action)
    if len(rows) != 1 or not rows[0]:
        raise ValueError(f"action must be [R], with a row or more, got {list(rows)}.")
    for name in ("reward", "propensity", "position", "slate"):
        array = getattr(log, name)
        if array is not None and np.shape(array) != rows:
            raise ValueError(f"{name} must be [{rows[0]}], got {list(np.shape(array))}.")
    if log.context is not None and (np.ndim(log.context) != 2 or len(log.context) != rows[0]):
        raise ValueError(f"context must be [{rows[0]}, D], got {list(np.shape(log.context))}.")
    for name in ("action", "position", "slate"):
        array = getattr(log, name)
        if array is not None and not np.issubdtype(np.asarray(array).dtype, np.integer):
            raise ValueError(f"{name} must be integers, got {np.asarray(array).dtype}.")
    top = np.inf if actions is None else actions
    _check(log.action, lambda a: (a >= 0) & (a < top), "action", f"from 0, below {top}")
    _check(log.reward, np.isfinite, "reward", "finite")
    if log.position is not None:
        _check(log.position, lambda a: a >= 0, "position", ">= 0")
    if log.context is not None:
        _check(log.context, lambda a: np.isfinite(a).all(axis=1), "context", "finite")
    if log.propensity is not None:
        _check(log.propensity, lambda a: (a > 0) & (a <= 1), "propensity", "in (0, 1]")


def _check(array: Any, fits: Any, name: str, rule: str) -> None:
    array = np.asarray(array)
    good = fits(array)
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(f"{name} must be {rule}, got {array[row].tolist()} in row {row}.")


def logged(
    slates: Slate, rewards: Any, *, conditional: bool, contexts: Any = None
) -> LoggedFeedback:
    """Makes a log of lists and the rewards that they got; positions not shown are left out.

    Args:
        slates: S lists: every field is `[S, K]`.
        rewards: `[S, K]`.
        conditional: `Policy.conditional` of the policy that showed them.
        contexts: `[S, D]` of the users, or None.

    Returns:
        The log, a row for each item that was shown, list after list.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from metajax.exploration import Beliefs, softmax
        >>> policy, mask = softmax(k=2, temperature=1.), jnp.ones((4, 3), bool)
        >>> keys = jax.random.split(jax.random.key(0), 4)
        >>> slates = jax.vmap(policy.show)(Beliefs(jnp.zeros((4, 3))), mask, keys)
        >>> log = logged(slates, jnp.ones((4, 2)), conditional=policy.conditional)
        >>> log.position.tolist(), log.slate.tolist()
        ([0, 1, 0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 2, 2, 3, 3])
    """
    shown = np.asarray(slates.shown)
    if shown.ndim != 2 or np.shape(rewards) != shown.shape:
        got = [list(shown.shape), list(np.shape(rewards))]
        raise ValueError(f"slates and rewards must be [S, K], got {got}.")
    slate, position = np.nonzero(shown)
    log = LoggedFeedback(
        action=np.asarray(slates.items)[shown],
        reward=np.asarray(rewards)[shown],
        propensity=np.asarray(slates.propensity)[shown],
        position=position,
        slate=slate,
        context=None if contexts is None else np.asarray(contexts)[slate],
        conditional=conditional,
    )
    check_log(log)
    return log
