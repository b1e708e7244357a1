import jax.numpy as jnp
import numpy as np
import pytest

from metajax.data.dataset import TrainingSet
from metajax.data.interactions import from_columns
from metajax.types import Examples, Inputs

USERS, ITEMS = 14, 7


@pytest.fixture(scope="session")
def training():
    """Returns 14 users, the last without ratings, and 7 items, the last unrated."""
    generator = np.random.default_rng(0)
    seen = generator.random((USERS - 1, ITEMS - 1)) < 0.6
    seen[:, 0] = True
    user, item = np.nonzero(seen)
    log = from_columns(
        user,
        item,
        generator.integers(1, 6, len(user)),
        user_ids=np.array([f"u{u:02}" for u in range(USERS)]),
        item_ids=np.array([f"i{i}" for i in range(ITEMS)]),
    )
    return TrainingSet(
        interactions=log,
        user_features=generator.standard_normal((USERS, 3)).astype(np.float32),
        item_features=np.zeros((ITEMS, 1), np.float32),
        scale=(1.0, 5.0),
    )


@pytest.fixture(scope="session")
def make_support():
    """Returns a function that builds one user's padded support from items and ratings."""

    def make(items, ratings, *, padding=0, features=(0.5, -1.0, 2.0)):
        length = len(items) + padding
        rows = (length, 1)
        return Examples(
            Inputs(
                jnp.tile(jnp.asarray(features, jnp.float32), rows),
                jnp.zeros(rows),
                jnp.asarray([*items, *[10**6] * padding], jnp.int32),
            ),
            jnp.asarray([*ratings, *[jnp.nan] * padding], jnp.float32),
            jnp.arange(length) < len(items),
        )

    return make


@pytest.fixture(scope="session")
def candidates():
    """Returns every item of the toy catalogue as inputs."""
    return Inputs(
        jnp.tile(jnp.array([0.5, -1.0, 2.0]), (ITEMS, 1)), jnp.zeros((ITEMS, 1)), jnp.arange(ITEMS)
    )
