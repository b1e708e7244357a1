import jax.numpy as jnp
import numpy as np
import pytest

from metajax.data.dataset import TrainingSet
from metajax.data.interactions import from_columns
from metajax.types import Examples, Inputs

USERS, ITEMS, FEATURES = 14, 7, (0.5, -1.0, 2.0)


@pytest.fixture(scope="session")
def training():
    """Returns 14 users, the last without ratings, and 7 items, the last unrated, of one domain."""
    rng = np.random.default_rng(0)
    seen = rng.random((USERS - 1, ITEMS - 1)) < 0.6
    seen[:, 0] = True
    user, item = np.nonzero(seen)
    ids = (np.array([f"{side}{n:02}" for n in range(many)]) for side, many in (("u", 14), ("i", 7)))
    names = dict(zip(("user_ids", "item_ids"), ids, strict=True))
    log = from_columns(user, item, rng.integers(1, 6, len(user)), **names)
    users = rng.standard_normal((USERS, 3)).astype(np.float32)
    return TrainingSet(log, users, np.zeros((ITEMS, 1), np.float32), (1.0, 5.0))


@pytest.fixture(scope="session")
def make_support():
    """Returns a function that builds one user's padded support from items and ratings."""

    def make(items, ratings, *, padding=0, features=FEATURES):
        length = len(items) + padding
        found = jnp.tile(jnp.asarray(features, jnp.float32), (length, 1))
        item = jnp.asarray([*items, *[10**6] * padding], jnp.int32)
        labels = jnp.asarray([*ratings, *[jnp.nan] * padding], jnp.float32)
        inputs = Inputs(found, jnp.zeros((length, 1)), item)
        return Examples(inputs, labels, jnp.arange(length) < len(items))

    return make


@pytest.fixture(scope="session")
def candidates():
    """Returns every item of the toy catalogue as inputs."""
    found = jnp.tile(jnp.array(FEATURES), (ITEMS, 1))
    return Inputs(found, jnp.zeros((ITEMS, 1)), jnp.arange(ITEMS))
