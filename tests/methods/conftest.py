import numpy as np
import pytest

from metajax.cross_domain.domains import Domains
from metajax.cross_domain.users import cross_users
from metajax.data import synthetic


@pytest.fixture(scope="module")
def two_domains():
    """Returns two domains without attributes of their items."""
    world = synthetic.world(users=40, items=30, seed=0)
    training = cross_users(Domains(world.dataset, world.item_domain)).training
    return training._replace(item_features=np.zeros((30, 0), np.float32))
