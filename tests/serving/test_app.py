import asyncio
import json
import re
import shutil
import time

import msgspec
import pytest

from metajax.serving import app, bodies
from metajax.serving.limits import Limits
from metajax.serving.pages import PAGES
from metajax.serving.scoring import RefusedError, scorer_of
from metajax.serving.service import ServiceSettings


def event(number, **changes):
    return {"id": f"e{number}", "user": "ada", "item": "3", "kind": "like", **changes}


def is_one_line(answered):
    return set(answered.content) == {"error"} and "\n" not in answered.content["error"]


def test_events_are_stored_once_and_wrong_ones_are_rejected_by_index(serve):
    service, call = serve()
    wrong = [
        ({"user": 5}, "str"),
        ({"kind": "bought"}, "enum"),
        ({"id": "x" * 10_000}, "length"),
        ({"id": ""}, "length"),
        ({"item": "a\u202eb"}, "control"),
        ({"kind": "rating"}, "value must be given"),
        ({"kind": "rating", "value": 9}, "scale"),
        ({"time": time.time() + 90_000}, "future"),
        ({"time": -1}, ">= 0"),
        ({"colour": "red"}, "colour"),
        ({"recommendation_id": "none"}, "recommendation_id"),
    ]
    sent = [event(n, **changes) for n, (changes, _) in enumerate(wrong)]
    found = call("POST", "/v1/events", {"events": [event(90), *sent, event(90)]})
    assert (found.status, found.content["accepted"], found.content["duplicates"]) == (200, 1, 1)
    assert [one["index"] for one in found.content["rejected"]] == list(range(1, len(wrong) + 1))
    for one, (_, why) in zip(found.content["rejected"], wrong, strict=True):
        assert why in one["why"]
        assert "\n" not in one["why"]
    assert [one.id for _, one in service.store.events()] == ["e90"]
    assert call("POST", "/v1/events", {"events": [event(1, user="")]}).status == 422
    page = call("GET", "/metrics").content
    assert 'metajax_events_total{fate="accepted"} 1\n' in page
    assert re.search(r'requests_total{method="POST",path="/v1/events",status="422"} 1\n', page)


def test_hostile_bodies_are_refused_in_one_line(serve):
    service, call = serve()
    for body in (
        b"", b"{", b"\xff\xfe", b'{"events": [NaN]}', b'{"events": []}', b"[]", b"null",
        b'{"events": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"events": [], "more": 1}', json.dumps({"events": [event(1)] * 1001}).encode(),
    ):  # fmt: skip
        found = call("POST", "/v1/events", body)
        assert 400 <= found.status < 500, body[:50]
        assert is_one_line(found)
    deep = b'{"events": [{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"
    assert call("POST", "/v1/events", deep).status == 422
    said = call("POST", "/v1/events", b"{}", headers={"content-length": str(2**20 + 1)})
    assert (said.status, said.read, is_one_line(said)) == (413, 0, True)
    endless = call("POST", "/v1/events", pieces=[b" " * 2**19] * 50)
    assert (endless.status, endless.read) == (413, 3)
    for method, path, status in (
        ("GET", "/v1/users/" + "x" * 10_000, 422),
        ("GET", "/v1/users/a\x00b", 422),
        ("PUT", "/v1/users/ada/recommendations", 422),
        ("GET", "/v1/users/", 422),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/v1/users/../../../etc/passwd", 404),
        ("DELETE", "/v1/events", 405),
        ("GET", "/v1/items/none/similar", 404),
    ):
        found = call(method, path, {"attributes": {}} if method == "PUT" else None)
        assert (found.status, is_one_line(found)) == (status, True), path
    for name, value in (
        ("n", "0"), ("n", "1e9"), ("n", "-1"), ("n", "1" * 5000),
        ("policy", "gredy"), ("filter", "class"),
        ("filter", "clas=Drama"), ("explain", "1"), ("top", "5"), ("scenario", ""),
        ("exclude", "x" * 10_000),
    ):  # fmt: skip
        found = call("GET", "/v1/users/ada/recommendations", query=[(name, value)])
        assert (found.status in (400, 422), is_one_line(found)) == (True, True), (name, value)
    assert service.store.events() == []


def test_a_list_follows_from_the_events_and_is_stored_with_its_propensities(serve):
    service, call = serve()
    path = "/v1/users/ada/recommendations"
    stranger = call("GET", path).content
    assert [one["position"] for one in stranger["items"]] == list(range(1, 11))
    best = stranger["items"][0]["item"]
    call("POST", "/v1/events", {"events": [event(1, item=best, kind="rating", value=1)]})
    query = [("n", "5"), ("policy", "epsilon_greedy"), ("scenario", "home"), ("explain", "true")]
    found = call("GET", path, query=query).content
    assert best not in {one["item"] for one in found["items"]}
    assert all(0 < one["propensity"] <= 1 for one in found["items"])
    assert "reasons" in found["items"][0]
    assert "reasons" not in stranger["items"][0]
    kept = service.store.answer(found["recommendation_id"])
    assert (kept.user, kept.policy, kept.scenario) == ("ada", "epsilon_greedy", "home")
    assert kept.model == found["model"] == service.scorer.version
    assert [(one.item, one.propensity) for one in kept.items] == [
        (one["item"], one["propensity"]) for one in found["items"]
    ]
    shown = found["items"][2]["item"]
    click = event(2, item=shown, recommendation_id=found["recommendation_id"])
    other = {**click, "id": "e3", "user": "bob"}
    told = call("POST", "/v1/events", {"events": [click, other]}).content
    assert (told["accepted"], told["rejected"][0]["index"]) == (1, 1)
    linked = service.store.events_of("ada", 1)[0]
    assert service.store.answer(linked.recommendation_id).items[2].item == linked.item
    body = {"events": [{"item": best, "kind": "rating", "value": 1}], "n": 5}
    same = call("POST", "/v1/recommendations", body).content
    assert same["user"] is None
    first = [one["item"] for one in call("GET", "/v1/users/eve/recommendations").content["items"]]
    assert first == [one["item"] for one in stranger["items"]]
    wrong = {"events": [{"item": best, "kind": "rating", "value": 99}]}
    assert call("POST", "/v1/recommendations", wrong).status == 422


def test_attributes_count_and_a_deleted_user_is_forgotten(serve):
    _, call = serve()
    assert call("GET", "/v1/users/ada").status == 404
    assert call("PUT", "/v1/users/ada", {"attributes": {"age": 50, "gender": "F"}}).status == 200
    assert call("PUT", "/v1/users/ada", {"attributes": {"aeg": 50}}).status == 422
    assert call("PUT", "/v1/users/big", {"attributes": {"age": 1e300}}).status == 200
    assert call("GET", "/v1/users/big/recommendations").status == 200
    for age in ([["x"]], 10**400):
        found = call("PUT", "/v1/users/ada", {"attributes": {"age": age}})
        assert (found.status, is_one_line(found)) == (422, True), age
    call("POST", "/v1/events", {"events": [event(1), event(2, user="a/b")]})
    call("GET", "/v1/users/ada/recommendations")
    stored = call("GET", "/v1/users/ada").content
    assert stored["attributes"] == {"age": 50, "gender": "F"}
    assert (len(stored["events"]), len(stored["recommendations"])) == (1, 1)
    assert call("GET", "/v1/users/a/b").content["events"][0]["id"] == "e2"
    gone = call("DELETE", "/v1/users/ada").content
    assert gone == {"events": 1, "answers": 1, "users": 1}
    late = call("POST", "/v1/events", {"events": [event(1), event(3)]})
    assert (late.status, len(late.content["rejected"])) == (422, 2)
    assert call("PUT", "/v1/users/ada", {"attributes": {}}).status == 410
    assert call("GET", "/v1/users/ada/recommendations").content["user"] is None
    assert call("GET", "/v1/users/ada").status == 404


def test_items_appear_and_disappear_with_the_next_request(serve):
    _, call = serve()

    def shown():
        found = call("GET", "/v1/users/ada/recommendations", query=[("n", "100")]).content["items"]
        return [one["item"] for one in found]

    best = shown()[0]
    assert call("PATCH", f"/v1/items/{best}", {"available": False}).status == 200
    assert best not in shown()
    call("PATCH", f"/v1/items/{best}", {"available": True})
    assert best in shown()
    new = {"content": {"class": "Drama"}, "categories": ["fresh"]}
    assert call("PUT", "/v1/items/new", new).status == 200
    assert "new" in shown()
    only = [("filter", "category=fresh")]
    found = call("GET", "/v1/users/ada/recommendations", query=only).content["items"]
    assert [one["item"] for one in found] == ["new"]
    assert len(call("GET", "/v1/items/new/similar", query=[("n", "3")]).content["items"]) == 3
    assert call("GET", f"/v1/items/{best}/similar").status == 200
    call("PUT", "/v1/items/new", {**new, "expires": 1.0})
    assert "new" not in shown()
    assert call("PUT", "/v1/items/other", {"content": {"clas": "Drama"}}).status == 422
    assert call("PATCH", "/v1/items/other", {"available": True}).status == 404
    unknown = call("POST", "/v1/events", {"events": [event(1, item="other")]})
    assert unknown.content["accepted"] == 1
    _, ask = serve(unknown_items=False)
    assert ask("POST", "/v1/events", {"events": [event(1, item="other")]}).status == 422


def test_a_store_that_fails_is_an_answer_and_not_a_crash(serve):
    service, call = serve()
    assert call("GET", "/v1/health/ready").content["status"] == "ready"
    service.store.close()
    for method, path, body in (
        ("POST", "/v1/events", {"events": [event(1)]}),
        ("GET", "/v1/health/ready", None),
    ):
        found = call(method, path, body)
        assert (found.status, is_one_line(found)) == (503, True)
        assert found.headers["retry-after"] == "1"
    assert call("GET", "/v1/health/live").status == 200


def test_keys(serve):
    _, call = serve(api_key="k" * 20, admin_key="a" * 20)
    right, admin = ({"authorization": f"Bearer {key * 20}"} for key in "ka")
    path = "/v1/users/ada/recommendations"
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "k" * 20}, admin):
        found = call("GET", path, headers=headers)
        assert (found.status, is_one_line(found)) == (401, True)
    assert call("GET", path, headers=right).status == 200
    assert call("GET", "/metrics", headers=right).status == 401
    assert call("GET", "/metrics", headers=admin).status == 200
    assert call("GET", "/v1/health/live").status == 200


def test_too_many_requests_and_unforeseen_errors(serve, monkeypatch, caplog):
    for settings, status in (({"most_requests": 0}, 503), ({"most_of_client": 0}, 429)):
        _, call = serve(**settings)
        found = call("GET", "/v1/model")
        assert (found.status, found.headers["retry-after"]) == (status, "1")
        assert call("GET", "/v1/health/live").status == 200
    _, call = serve(most_requests=1, most_of_client=1)
    assert [call("GET", "/v1/model").status for _ in range(3)] == [200] * 3
    _, call = serve(client_rate=0.2)
    assert [call("GET", "/v1/model").status for _ in range(3)] == [200, 200, 429]
    found = call("GET", "/v1/model")
    assert (found.headers["retry-after"], is_one_line(found)) == ("5", True)
    assert call("GET", "/v1/model", client="::1").status == 200
    service, call = serve()
    monkeypatch.setattr(service.store, "events_of", lambda *_: 1 / 0)
    found = call("GET", "/v1/users/ada/recommendations")
    assert (found.status, found.content) == (500, {"error": "unforeseen error."})
    (told,) = (r.message for r in caplog.records if "unforeseen" in r.message)
    assert "ZeroDivisionError" in told
    assert '"test_app.py:' in told
    assert "ada" not in told


def test_a_model_is_reloaded_and_a_damaged_one_is_not(serve, model, scorer, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    service, call = serve(load=lambda _: scorer_of(folder, policies=("greedy",)))
    assert call("POST", "/v1/admin/reload").content == {"model": scorer.version}
    assert service.scorer is not scorer
    (folder / "model.json").write_text("{}")
    serving = service.scorer
    found = call("POST", "/v1/admin/reload")
    assert (found.status, is_one_line(found), str(tmp_path) in str(found)) == (422, True, False)
    assert service.scorer is serving
    assert call("GET", "/v1/users/ada/recommendations").status == 200
    # One that lacks the policy of the service is none either.
    service, call = serve(load=lambda _: lacking, policy="epsilon_greedy")
    lacking = scorer_of(model, policies=("greedy",))
    assert call("POST", "/v1/admin/reload").status == 422
    assert service.scorer is scorer


def test_the_document_has_every_route_and_answers_are_of_its_types(serve):
    _, call = serve()
    document = call("GET", "/v1/openapi.json").content
    served = {(method, route.name) for route in call.app.routes for method in route.methods}
    told = {(method.upper(), path) for path, one in document["paths"].items() for method in one}
    pages = {(method, path) for method in ("GET", "HEAD") for path in PAGES}
    assert served - {("HEAD", path) for _, path in told} - pages == told
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert named <= set(document["components"]["schemas"])
    assert named >= {"EventBody", "ListAnswer", "ErrorAnswer"}
    call("POST", "/v1/events", {"events": [event(1)]})
    sent = {
        "addEvents": {"events": [event(2)]},
        "recommendToStranger": {},
        "putItem": {},
        "setAvailable": {"available": True},
        "putUser": {"attributes": {}},
    }
    for one in app.OPERATIONS:
        if one.name == "reload":
            continue
        found = call(one.method, one.path.format(user="ada", item="3"), sent.get(one.name))
        assert found.status == 200, (one.name, found)
        if one.answer is not None:
            msgspec.convert(found.content, one.answer)


def test_names_are_checked():
    with pytest.raises(RefusedError, match="user must not end in"):
        bodies.check_name("user", "a/similar")
    with pytest.raises(RefusedError, match="1 to 256 characters, got 257"):
        bodies.check_name("user", "é" * 257)
    assert bodies.check_name("user", "é" * 256)


def test_pages_run_their_own_script_alone(serve):
    _, call = serve(api_key="k" * 20)
    for path in PAGES:
        found = call("GET", path)
        assert (found.status, found.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'sha256-" in policy
        assert "unsafe" not in policy
        # Nothing is loaded from elsewhere, and no text can become markup or code.
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|//cdn|@import", found.content)
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|\bon\w+=\"", found.content
        )
        assert re.search(r'<html lang="en">.*<meta name="viewport"', found.content, re.DOTALL)
        for label in re.findall(r'<label[^>]*for="(\w+)"', found.content):
            assert f'id="{label}"' in found.content
    assert call("POST", "/").status == 405


def test_pages_of_other_sites_are_refused_where_no_key_is_needed(serve):
    _, call = serve()
    own = {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}
    assert call("GET", "/v1/model", headers=own).status == 200
    assert call("GET", "/v1/model", headers={"host": "[::1]:8000"}).status == 200
    for changed in ({"origin": "http://evil.example"}, {"origin": "null"}, {"host": "a.example"},
                    {"host": "[::1"}, {"host": ""}):  # fmt: skip
        found = call("POST", "/v1/events", {"events": [event(1)]}, headers={**own, **changed})
        assert (found.status, is_one_line(found)) == (403, True), changed
    _, call = serve(api_key="k" * 20)
    headers = {"host": "a.example", "origin": "null", "authorization": "Bearer " + "k" * 20}
    assert call("GET", "/v1/model", headers=headers).status == 200


def test_items_are_found_by_words_and_the_model_is_described(serve, scorer):
    _, call = serve()
    told = call("GET", "/v1/model").content
    assert (told["scale"], told["policy"], told["items"]) == ([1, 5], "greedy", len(scorer.ids))
    title = "<b>Amélie</b> \u0645\u0631\u062d\u0628\u0627 " + "long " * 40
    assert call("PUT", "/v1/items/new", {"content": {"title": title}}).status == 200
    assert call("PUT", "/v1/items/7", {"content": {"title": "Renamed"}}).status == 200
    for wrong in (5, "x" * 1001, ["x"]):
        assert call("PUT", "/v1/items/8", {"content": {"title": wrong}}).status == 422

    def found(text, **query):
        pairs = [("query", text), *query.items()]
        items = call("GET", "/v1/items", query=pairs).content["items"]
        return [(one["item"], one["title"]) for one in items]

    assert found("AMELIE long") == [("new", title)]
    assert found("film 1", n=2) == [("1", "Film 1"), ("10", "Film 10")]
    assert found("renamed") == [("7", "Renamed")]
    assert found("") == found("none of these") == []
    assert found("7") == found("film 7") == [("17", "Film 17"), ("27", "Film 27")]
    assert found("8 fi", n=1) == [("8", "Film 8")]
    call("PATCH", "/v1/items/1", {"available": False})
    assert found("film 1", n=1) == [("10", "Film 10")]
    assert call("GET", "/v1/items", query=[("query", "x" * 257)]).status == 422
    call("POST", "/v1/events", {"events": [event(1, item="7", kind="rating", value=5)]})
    assert call("GET", "/v1/users/ada").content["events"][0]["title"] == "Renamed"
    explained = call("GET", "/v1/users/ada/recommendations", query=[("explain", "true")]).content
    titles = {reason["title"] for one in explained["items"] for reason in one["reasons"]}
    assert titles == {"Renamed"}


def test_tokens_of_a_bucket_come_back_with_time_and_clients_are_forgotten():
    now = [0.0]
    limits = Limits(99, 99, 2.0, lambda: now[0])
    assert [limits.enter("a") for _ in range(21)] == [None] * 20 + [(429, 1)]
    now[0] += 0.5
    assert [limits.enter("a"), limits.enter("a")] == [None, (429, 1)]
    now[0] += 1e9
    assert [limits.enter("a") for _ in range(21)][-2:] == [None, (429, 1)]
    for n in range(10_001):
        limits.enter(f"b{n}")
        limits.leave(f"b{n}")
    assert len(limits._buckets) == 10_000
    with pytest.raises(ValueError, match="client_rate must be > 0"):
        ServiceSettings(client_rate=0.0)


def test_a_busy_event_loop_is_measured(serve, monkeypatch):
    # What was measured stays until the next time: long enough to be seen however busy the machine.
    monkeypatch.setattr(app, "_WATCHED", 0.1)
    service, call = serve()

    async def run():
        async with call.app.router.lifespan_context(call.app):
            await asyncio.sleep(0.05)
            quiet = service.metrics.lag
            time.sleep(0.5)
            seen = []
            for _ in range(20):
                await asyncio.sleep(0.001)
                seen.append(service.metrics.lag)
            return quiet, max(seen)

    quiet, busy = asyncio.run(run())
    assert quiet < 0.3
    assert busy > 0.4
    (told,) = re.findall(
        r"^metajax_event_loop_lag_seconds (\S+)$", service.metrics.text(service.gauges(), "m"), re.M
    )
    assert float(told) == pytest.approx(service.metrics.lag, abs=1e-3)
