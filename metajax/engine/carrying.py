"""Parameters of a trained method, carried over to the items and users of other data.

Tables with a row for each item or user are found by their shapes: by the axes whose length depends
on the number of either. Rows of known items and users are the earlier ones, by their ids. A new row
is that of a fresh initialisation, mapped into the coordinates of the table by a linear regression
of earlier rows on fresh ones: factors in closed form are turned back, and a random row, which says
nothing, becomes the mean of the table.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import registry
from metajax.data.dataset import Shapes
from metajax.methods import Settings
from metajax.types import Params

__all__ = ["Places", "carried", "carried_fisher"]


class Places(NamedTuple):
    """Indices of known items and users in the earlier data and in the new."""

    items: tuple[np.ndarray, np.ndarray]
    """`[n]` rows of the earlier catalogue, and `[n]` of the new one."""
    users: tuple[np.ndarray, np.ndarray]
    """The same of users."""


class _Axes(NamedTuple):
    """Axes of a parameter, by what their lengths depend on."""

    items: tuple[int, ...]
    users: tuple[int, ...]
    rows: tuple[int, ...]

    @property
    def of_log(self) -> bool:
        """True of what is stored of a log itself, such as a graph or items by items."""
        return bool(self.rows) or len(self.items) + len(self.users) > 1


def carried(
    settings: Settings, shapes: Shapes, earlier: Params, fresh: Params, places: Places
) -> Params:
    """Copies the rows of known items and users into the parameters of other data.

    Args:
        settings: Of the training.
        shapes: Of the earlier training set.
        earlier: Its parameters.
        fresh: Fresh parameters of the new training set. What stores a log itself, such as a graph
            or a memory of users, is taken from them.
        places: Known items and users.

    Returns:
        The parameters, in the shapes of `fresh`.

    Raises:
        ValueError: If another size than those of the tables differs.
    """

    def row(old: jax.Array, new: jax.Array, axis: int, pairs: tuple[Any, Any]) -> jax.Array:
        before, after = (np.moveaxis(np.asarray(one), axis, 0) for one in (old, new))
        was, now = pairs
        found = _in_coordinates(before, after, was, now)
        found[now] = before[was]
        return jnp.asarray(np.moveaxis(found, 0, axis), new.dtype)

    return _mapped(settings, shapes, earlier, fresh, places, row, stored=lambda old, new: new)


def carried_fisher(
    settings: Settings, shapes: Shapes, fisher: Params, fresh: Params, places: Places
) -> Params:
    """Copies Fisher information likewise; 0 for new rows, and for what stores a log.

    Args:
        settings: As in `carried`.
        shapes: As in `carried`.
        fisher: Of the earlier parameters; scalars where there is none.
        fresh: As in `carried`.
        places: As in `carried`.

    Returns:
        In the shapes of `fresh`, and scalars.
    """

    def row(old: jax.Array, new: jax.Array, axis: int, pairs: tuple[Any, Any]) -> jax.Array:
        was, now = pairs
        found = np.zeros(new.shape, np.float32)
        np.moveaxis(found, axis, 0)[now] = np.moveaxis(np.asarray(old), axis, 0)[was]
        return jnp.asarray(found)

    def stored(old: Any, new: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.zeros(()), new)

    return _mapped(settings, shapes, fisher, fresh, places, row, stored=stored)


def _mapped(
    settings: Settings,
    shapes: Shapes,
    earlier: Params,
    fresh: Params,
    places: Places,
    row: Callable[..., jax.Array],
    *,
    stored: Callable[[Any, Any], Any],
) -> Params:
    axes = _axes_of(settings, shapes)

    def of_node(axes: Any, old: Any, new: Any) -> Any:
        leaves = jax.tree.leaves(axes, is_leaf=_is_axes)
        if any(leaf.of_log for leaf in leaves):
            return stored(old, new)
        return jax.tree.map(of_leaf, axes, old, new, is_leaf=_is_axes)

    def of_leaf(axes: _Axes, old: jax.Array, new: jax.Array) -> jax.Array:
        if not np.ndim(old) and np.ndim(new):  # Fisher information that is 0 throughout.
            return old
        for along, pairs in ((axes.items, places.items), (axes.users, places.users)):
            if along:
                (axis,) = along
                sizes = (np.delete(leaf.shape, axis).tolist() for leaf in (old, new))
                _check(*sizes)
                return row(old, new, axis, pairs)
        _check(np.shape(old), np.shape(new))
        return old

    # One container, such as a memory or a graph, is taken as a whole.
    return jax.tree.map(of_node, axes, earlier, fresh, is_leaf=_is_container)


def _check(before: Any, after: Any) -> None:
    if tuple(before) != tuple(after):
        raise ValueError(
            f"parameters had sizes {list(before)} and have {list(after)} on these data: fit the "
            "method from scratch."
        )


def _is_axes(node: Any) -> bool:
    return isinstance(node, _Axes)


def _is_container(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def _axes_of(settings: Settings, shapes: Shapes) -> Any:
    """Returns the parameters' tree of `_Axes`, by shapes of larger training sets."""
    like = registry.params_like(settings, shapes)
    larger = [
        registry.params_like(settings, shapes._replace(**{name: getattr(shapes, name) + 1}))
        for name in ("items", "users", "rows")
    ]

    def axes(plain: Any, *others: Any) -> _Axes:
        return _Axes(
            *(
                tuple(np.flatnonzero(np.array(plain.shape) != np.array(other.shape)).tolist())
                for other in others
            )
        )

    return jax.tree.map(axes, like, *larger)


def _in_coordinates(
    before: np.ndarray, after: np.ndarray, was: np.ndarray, now: np.ndarray
) -> np.ndarray:
    """Maps fresh rows `[n, ...]` to where earlier rows of the same items are; a copy."""
    x, y = after.reshape(len(after), -1), before.reshape(len(before), -1)
    if len(now) <= x.shape[1] + 1:
        return np.array(after)
    x = np.insert(x.astype(np.float64), 0, 1.0, axis=1)
    weights = np.linalg.lstsq(x[now], y[was].astype(np.float64), rcond=1e-6)[0]
    return (x @ weights).reshape(after.shape)
