import os

import jax
import pytest

from metajax.data.dataset import Dataset
from metajax.data.datasets import load
from metajax.data.fetch import DataUnavailable

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def ml100k() -> Dataset:
    """MovieLens-100K; where it cannot be had the test is skipped, except under CI."""
    try:
        return load("ml-100k")
    except DataUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
