"""Lists that are shown, each item with its propensity, and policies that draw them.

A policy sees the posterior of the expected reward of N items for one user, `Beliefs`, and the mask
of the items that may be shown; `jax.vmap` makes the batch, and the caller jits. Filters (seen,
unavailable, of another category) are in the mask, so a propensity is that of a draw after them.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from metajax import losses

__all__ = [
    "Beliefs",
    "Policy",
    "Propensities",
    "Show",
    "Slate",
    "allowed_at",
    "check_beliefs",
    "reserved_slots",
]


class Beliefs(NamedTuple):
    """Posterior of the expected reward of N items for one user, and what else a policy sees.

    Fields are JAX arrays, or None where a policy does not need them. They share the unit of the
    reward: a reward in cents has a mean 100 times and a variance 10,000 times that of the reward in
    euros, and every policy shows the same.
    """

    mean: jax.Array
    """`[N]` expected reward: the scores."""
    variance: Any = None
    """`[N]` variance of that expectation, in squared units of the reward, >= 0. It is the
    uncertainty that more data removes, without the noise of a single reward."""
    root: Any = None
    """`[N, F]` factor of the joint covariance: `mean + root z`, with F standard normal numbers z,
    is a joint draw of all items. None: items are independent."""
    own: Any = None
    """`[N]` part of `variance` that is each item's own and not in `root`, >= 0: a joint draw adds
    `sqrt(own)` times another normal number for each item. None: 0 beside a root."""
    count: Any = None
    """`[N]` number of rewards behind each mean, >= 0; with the counts of the prior included, the
    sum of the two parameters of a Beta posterior."""
    popularity: Any = None
    """`[N]` weights of exploration by popularity, >= 0."""


class Slate(NamedTuple):
    """A list of K positions that one user is shown."""

    items: jax.Array
    """`[K]` int32 indices, -1 where nothing was left to show."""
    propensity: jax.Array
    """`[K]` probability with which the policy shows the item at its position; 0 where nothing is
    shown. `Policy.conditional` says of which kind."""
    standard_error: jax.Array
    """`[K]` of that propensity: 0 where it is exact."""
    shown: jax.Array
    """`[K]` bool, False where nothing was left: the list is that much shorter."""


class Show(Protocol):
    """Draws a list."""

    def __call__(self, beliefs: Beliefs, mask: jax.Array, key: jax.Array | None = None, /) -> Slate:
        """Draws a list of K positions.

        Args:
            beliefs: Of N items.
            mask: `[N]` bool, True where an item may be shown; or `[K, N]`, where positions differ.
            key: Of the draw; a deterministic policy needs none.

        Returns:
            The list. The same key gives the same list.

        Raises:
            ValueError: If shapes differ, the policy misses a field or the key, or, outside of a
                transformation of JAX, a number is out of its range. Under `jit` or `vmap` an item
                whose mean is not finite is not shown.
        """
        ...


class Propensities(Protocol):
    """Probabilities of all items at each position."""

    def __call__(
        self, beliefs: Beliefs, mask: jax.Array, items: jax.Array, key: jax.Array | None = None, /
    ) -> jax.Array:
        """Returns the probability of each item at each position of a given list.

        Args:
            beliefs: Of N items.
            mask: As in `Show`.
            items: `[K]` the list, -1 where nothing is shown. A policy whose propensities are
                marginal does not look at it.
            key: Of the draws that estimate them; a policy with exact propensities needs none.

        Returns:
            `[K, N]`; a row sums to 1, or is 0 where nothing may be shown.

        Raises:
            ValueError: As `Show`.
        """
        ...


class Policy(NamedTuple):
    """A rule that draws lists and knows with which probability."""

    show: Show
    """Draws a list with its propensities."""
    propensities: Propensities
    """Of all items, to evaluate this policy on lists that another one has shown."""
    conditional: bool
    """True: the propensity at a position is conditional on the items at the earlier positions, so
    the product over positions is that of the list. False: it is marginal, the probability of the
    item at that position in any list. At the first position both are the same."""
    length: int
    """K."""


def check_beliefs(beliefs: Beliefs, mask: jax.Array, *needed: str, k: int) -> None:
    """Checks shapes, and of arrays that are no tracers the ranges of what may be shown.

    Args:
        beliefs: Of N items.
        mask: `[N]` or `[K, N]`.
        *needed: Fields that must not be None.
        k: K.

    Raises:
        ValueError: If something does not fit; it names the argument.
    """
    for name in needed:
        if getattr(beliefs, name) is None:
            raise ValueError(f"beliefs.{name} must be given: this policy depends on it.")
    losses.check_list(
        mean=beliefs.mean,
        variance=beliefs.variance,
        count=beliefs.count,
        popularity=beliefs.popularity,
        own=beliefs.own,
    )
    n = jnp.shape(beliefs.mean)[0]
    if jnp.shape(mask) not in ((n,), (k, n)):
        raise ValueError(f"mask must be [{n}] or [{k}, {n}], got {list(jnp.shape(mask))}.")
    if beliefs.root is not None and (jnp.ndim(beliefs.root) != 2 or len(beliefs.root) != n):
        raise ValueError(f"root must be [{n}, F], got {list(jnp.shape(beliefs.root))}.")
    if _traced(mask):
        return
    allowed = np.asarray(mask).reshape(-1, n).any(axis=0)
    for name, low in (
        ("mean", -np.inf),
        ("variance", 0),
        ("count", 0),
        ("popularity", 0),
        ("own", 0),
    ):
        array = getattr(beliefs, name)
        if array is None or _traced(array):
            continue
        wrong = allowed & ~(np.isfinite(array) & (np.asarray(array) >= low))
        if wrong.any():
            item = int(wrong.argmax())
            rule = "finite" if low else "finite and >= 0"
            raise ValueError(f"{name} must be {rule}, got {float(array[item])} at item {item}.")
    root = beliefs.root
    if root is not None and not _traced(root) and not np.isfinite(np.asarray(root)[allowed]).all():
        raise ValueError("root must be finite.")


def _traced(array: Any) -> bool:
    return isinstance(array, jax.core.Tracer)


def allowed_at(beliefs: Beliefs, mask: jax.Array, k: int) -> jax.Array:
    """Returns `[K, N]` the items that each position may show: finite, and in the mask."""
    n = beliefs.mean.shape[0]
    return jnp.broadcast_to(jnp.asarray(mask, bool), (k, n)) & jnp.isfinite(beliefs.mean)


def reserved_slots(mask: jax.Array, new: jax.Array, *, k: int, share: float) -> jax.Array:
    """Masks of a list that keeps a share of its positions for new items.

    The reserved positions are spread evenly and show new items alone; the others show the rest.
    Where one kind does not suffice for its positions, the other kind gets them.

    Args:
        mask: `[N]` bool, items that may be shown.
        new: `[N]` bool, items that are new.
        k: Length of the list.
        share: Share of the positions, in [0, 1]; rounded to whole positions.

    Returns:
        `[K, N]` bool, for any policy.

    Raises:
        ValueError: If the shapes differ, `k` < 1 or `share` is out of its range.

    Example:
        >>> new = jnp.array([False, False, False, True])
        >>> reserved_slots(jnp.ones(4, bool), new, k=3, share=1 / 3).astype(int).tolist()
        [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    """
    losses.check_list(mask=mask, new=new)
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}.")
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}.")
    some, rest = jnp.sum(mask & new), jnp.sum(mask & ~new)
    length = jnp.minimum(k, some + rest)
    # Whole numbers: a quotient in float32 may fall on the other side of one.
    reserved = jnp.clip(round(share * k), length - jnp.minimum(rest, length), some)
    place = jnp.arange(k)
    filled = jnp.maximum(length, 1)
    turn = ((place + 1) * reserved) // filled > (place * reserved) // filled
    return mask & (turn[:, None] == new[None, :]) & (place < length)[:, None]
