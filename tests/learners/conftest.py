import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.types import Examples, Model, Task


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def line() -> Model:
    """A linear network of two features."""
    return Model(
        init=lambda key, x: jnp.array([0.3, -1.2]),
        apply=lambda w, x: x @ w,
    )


@pytest.fixture
def regressions(x64) -> Task:
    """Four tasks of 3 to 0 examples in the support and 2 to 0 in the query, padded with NaN."""
    rng = np.random.default_rng(0)

    def part(sizes, width):
        mask = np.arange(width) < np.array(sizes)[:, None]
        x = np.where(mask[..., None], rng.normal(size=(*mask.shape, 2)), np.nan)
        y = np.where(mask, rng.normal(size=mask.shape), np.nan)
        return Examples(*(jnp.asarray(leaf) for leaf in (x, y, mask)))

    return Task(part([3, 2, 1, 0], 3), part([2, 0, 1, 2], 2))


@pytest.fixture
def kept():
    """Returns what the masks keep, task by task, as NumPy arrays."""

    def rows(tasks: Task):
        for t in range(len(tasks.query.mask)):
            parts = [[np.asarray(leaf[t]) for leaf in part] for part in tasks]
            yield [(x[mask], y[mask]) for x, y, mask in parts]

    return rows
