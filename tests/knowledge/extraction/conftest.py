import csv
import json
from pathlib import Path
from typing import Any

import pytest

from metajax.knowledge.extraction import EndpointSettings, Schema, read_schema, read_texts
from tests.knowledge.extraction.chat_server import ChatServer

FILMS = Path(__file__).parent / "films"
KEY = "sk-of-the-tests-0123456789"


@pytest.fixture(scope="session")
def schema() -> Schema:
    return read_schema(FILMS / "schema.toml")


@pytest.fixture(scope="session")
def texts():
    """Sixty descriptions of films."""
    return read_texts(FILMS / "descriptions.csv").texts


@pytest.fixture(scope="session")
def labels():
    """The triples that the descriptions state, by hand."""
    with (FILMS / "labels.tsv").open() as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [tuple(row) for row in rows[1:]]


@pytest.fixture(scope="session")
def recorded(texts):
    """Answers to each description, by its text; authored, with the mistakes that models make."""
    answers = json.loads((FILMS / "answers.json").read_text())
    return {text.text: answers[text.item] for text in texts}


@pytest.fixture
def server(recorded, monkeypatch):
    """A server that answers the descriptions as recorded, and other texts with nothing."""
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = ChatServer(lambda text: recorded.get(text, []))
    yield server
    server.close()


@pytest.fixture
def settings(server):
    """Makes settings for the server, quick ones."""

    def settings(**changes):
        values: dict[str, Any] = {
            "endpoint": server.endpoint,
            "backoff": 0.001,
            "timeout": 5.0,
            **changes,
        }
        return EndpointSettings("recorded", **values)

    return settings
