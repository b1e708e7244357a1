import os

import pytest

from metajax.data import DataUnavailable
from metajax.knowledge import KnowledgeGraph, load_graph


@pytest.fixture(scope="session")
def film_graph() -> KnowledgeGraph:
    """The graph of MovieLens-100K; where it cannot be had the test is skipped, except under CI."""
    try:
        return load_graph("ml-100k")
    except DataUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
