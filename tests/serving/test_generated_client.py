"""The OpenAPI document, by a client that a generator makes of it and that calls every operation.

The generator, openapi-python-client, turns each schema into a class and each operation into a
function with typed parameters, and refuses what it cannot read: what the document says of bodies,
parameters and answers is executed, and not only compared with itself.
"""

import contextlib
import importlib
import json
import re
import subprocess
import sys

import pytest

from metajax.serving.app import OPERATIONS, document


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Generates the package and imports it; returns a function that imports from it."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(document()))
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}))
    run = subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"),
            *("--path", folder / "openapi.json", "--config", folder / "config.json"),
            *("--meta", "none", "--output-path", folder / "generated_client"),
        ],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"generated_client.{name}".rstrip("."))
    sys.path.remove(str(folder))
    for name in [one for one in sys.modules if one.partition(".")[0] == "generated_client"]:
        del sys.modules[name]


def undeclared(value):
    """Fields that came and that the schema does not have; objects that allow any have some."""
    if isinstance(value, list):
        return [name for one in value for name in undeclared(one)]
    fields = getattr(value, "__attrs_attrs__", None)
    if fields is None:
        return []
    names = [one.name for one in fields if one.name != "additional_properties"]
    found = [] if not names else list(getattr(value, "additional_properties", ()))
    return found + [name for one in names for name in undeclared(getattr(value, one))]


@pytest.mark.parametrize("new_log", ["sqlite"], indirect=True)
@pytest.mark.parametrize("key", [None, "k" * 20])
def test_every_operation_is_called_by_a_generated_client(generated, serve, listening, key):
    service, _ = serve(
        api_key=key, admin_key=key, load=lambda _: service.scorer, policy="epsilon_greedy"
    )
    with listening(service) as (host, port), contextlib.ExitStack() as stack:
        address, package, models = f"http://{host}:{port}", generated(""), generated("models")
        open_client = client = stack.enter_context(package.Client(base_url=address))
        if key is not None:
            client = package.AuthenticatedClient(base_url=address, token=key)
            stack.enter_context(client)
        called = set()

        def call(name, *arguments, status=200, **options):
            called.add(name)
            own = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower()
            module = generated(f"api.default.{own}")
            found = module.sync_detailed(*arguments, client=client, **options)
            assert found.status_code == status, found.content
            if name == "metrics":
                return found.parsed
            # Nothing is lost or changed on the way through the types, and nothing is undeclared.
            assert found.parsed.to_dict() == json.loads(found.content)
            assert undeclared(found.parsed) == [], name
            return found.parsed

        kinds = models.EventBodyKind
        events = [
            models.EventBody(id="e1", user="a/b", item="3", kind=kinds.RATING, value=4.0),
            models.EventBody(id="e2", user="a/b", item="4", kind=kinds.VIEW, time=1.7e9),
        ]
        told = call("addEvents", body=models.EventsBody(events=events))
        assert (told.accepted, told.duplicates, told.rejected) == (2, 0, [])
        wrong = models.EventBody(id="e3", user="a/b", item="3", kind=kinds.RATING, value=99.0)
        told = call("addEvents", body=models.EventsBody(events=[wrong]), status=422)
        assert told.rejected[0].index == 0
        attributes = models.UserBodyAttributes.from_dict({"age": 30, "gender": "F"})
        call("putUser", "a/b", body=models.UserBody(attributes=attributes))
        content = models.ItemBodyContent.from_dict({"class": "Drama", "title": "New"})
        call("putItem", "new", body=models.ItemBody(content=content, categories=["fresh"]))
        call("setAvailable", "new", body=models.AvailabilityBody(available=True))
        thompson = models.RecommendPolicy.THOMPSON
        listed = call("recommend", "a/b", n=5, policy=thompson, exclude=["7"], explain=True,
                      filter_=["class=Drama"], scenario="home")  # fmt: skip
        assert (listed.user, len(listed.items)) == ("a/b", 5)
        assert listed.items[0].reasons
        only = call("recommend", "a/b", filter_=["category=fresh"])
        assert [one.item for one in only.items] == ["new"]
        liked = models.NewEvent(item="3", kind=models.NewEventKind.LIKE)
        stranger = models.StrangerBody(events=[liked], n=2)
        assert call("recommendToStranger", body=stranger).user is None
        assert len(call("similarItems", "3", n=4).items) == 4
        assert call("searchItems", query="film 1", n=1).items[0].title == "Film 1"
        assert call("describeModel").scale == [1.0, 5.0]
        stored = call("getUser", "a/b")
        assert (len(stored.events), len(stored.recommendations)) == (2, 2)
        assert call("live").status == "live"
        assert call("ready").status == "ready"
        assert "metajax_events_total" in call("metrics")
        assert call("activity").events == 2
        assert call("reload").model == service.scorer.version
        assert call("openapi").to_dict() == document()
        assert call("deleteUser", "a/b").events == 2
        assert "nothing" in call("getUser", "a/b", status=404).error
        assert called == {one.name for one in OPERATIONS}
        if key is not None:
            client = open_client
            assert "key" in call("describeModel", status=401).error
