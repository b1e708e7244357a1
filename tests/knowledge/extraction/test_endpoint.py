"""Requests against a local server: what endpoints do wrong, and what it costs."""

import itertools
import json
import time

import pytest

from metajax.files import DataError
from metajax.knowledge.extraction import EndpointError, EndpointSettings, Text, Usage, propose
from metajax.knowledge.extraction.answers import open_journal
from metajax.knowledge.extraction.endpoint import ask, cost_of
from tests.knowledge.extraction.chat_server import Fault
from tests.knowledge.extraction.conftest import KEY

NOT_A_NUMBER = (
    '{"facts": [{"text": 1, "relation": "genre", "value": "Drama", "quote": "a", '
    '"confidence": NaN}]}'
)


@pytest.fixture
def asked(texts, schema, settings, tmp_path):
    """Asks about some texts; returns the outcome and the journal, which is read anew each time."""

    def asked(texts=texts[:6], **changes):
        journal = open_journal(tmp_path / "answers.jsonl")
        outcome = ask(texts, schema, settings(**changes), journal)
        assert open_journal(journal.path) == journal
        return outcome, journal

    return asked


def claims(outcome, journal):
    return [len(journal.answers[key].claims) for key in outcome.keys if key in journal.answers]


@pytest.fixture
def wanted(recorded, texts):
    return [len(recorded[text.text]) for text in texts]


def test_every_text_is_answered_once(asked, server, texts, wanted, schema):
    outcome, journal = asked()
    assert claims(outcome, journal) == wanted[:6]
    assert (outcome.requests, outcome.cached, outcome.failed, outcome.stopped) == (6, 0, {}, "")
    assert sorted(server.texts) == sorted(text.text for text in texts[:6])
    request = server.requests[0]
    assert request.headers["authorization"] == f"Bearer {KEY}"
    shape = request.body["response_format"]["json_schema"]
    relation = shape["schema"]["properties"]["facts"]["items"]["properties"]["relation"]
    assert shape["strict"] is True
    assert relation["enum"] == [one.name for one in schema.relations]
    assert request.body["temperature"] == 0
    # A second run asks for nothing.
    again, journal = asked()
    assert (again.requests, again.cached, len(server.requests)) == (0, 6, 6)
    assert claims(again, journal) == wanted[:6]


def test_requests_hold_several_texts_and_equal_ones_once(asked, server, texts, wanted):
    same = [*texts[:5], texts[0]._replace(item="another")]
    outcome, journal = asked(same, texts_per_request=3)
    assert [
        len(request.texts) for request in sorted(server.requests, key=lambda r: -len(r.texts))
    ] == [3, 2]
    assert claims(outcome, journal) == [*wanted[:5], wanted[0]]


def test_requests_run_at_the_same_time_up_to_a_number(asked, server, texts):
    server.always[""] = Fault(seconds=0.1)
    began = time.monotonic()
    asked(texts[:12], concurrency=6)
    assert time.monotonic() - began < 0.9
    assert 2 <= server.most_at_once <= 6


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, headers={"retry-after": "0"}),
        Fault(429, headers={"retry-after": "soon"}),
        Fault(500),
        Fault(503, body="<html>busy</html>"),
        Fault(408),
        Fault(drops=True),
        Fault(body="no json"),
        Fault(body="[]"),
        Fault(body='{"choices": []}'),
        Fault(content='{"facts": ['),
        Fault(content='{"facts": [{"text": 1}]}'),
        Fault(content=NOT_A_NUMBER),
        Fault(content="[" * 100_000),
        Fault(content="null"),
        Fault(finish="length", content='{"facts": [{"te'),
    ],
)  # fmt: skip
def test_passing_trouble_is_retried(asked, server, texts, wanted, fault):
    server.faults += [(texts[1].text, fault), (texts[1].text, fault)]
    outcome, journal = asked(texts[:3])
    assert claims(outcome, journal) == wanted[:3]
    assert server.texts.count(texts[1].text) == 3
    assert outcome.failed == {}


def test_a_slow_answer_counts_as_lost(asked, server, texts, wanted):
    server.faults.append((texts[0].text, Fault(seconds=1.0)))
    outcome, journal = asked(texts[:2], timeout=0.3)
    assert claims(outcome, journal) == wanted[:2]
    assert server.texts.count(texts[0].text) == 2


def test_the_pause_is_that_which_the_server_asks_for(asked, server, texts):
    server.faults.append(("", Fault(429, headers={"retry-after": "0.5"})))
    began = time.monotonic()
    asked(texts[:1])
    assert 0.5 <= time.monotonic() - began < 2


def test_pauses_double(asked, server, texts, monkeypatch):
    from metajax.knowledge.extraction import endpoint

    pauses = []
    real = endpoint.asyncio.sleep

    async def sleep(seconds):
        pauses.append(seconds)
        await real(0)

    monkeypatch.setattr(endpoint.asyncio, "sleep", sleep)
    server.faults += [("", Fault(500))] * 4
    asked(texts[:1], backoff=4.0)
    longest = [4.0, 8.0, 16.0, 32.0]
    own = [pause for pause in pauses if pause >= 2.0]
    assert len(own) == 4
    assert all(most / 2 <= pause <= most for pause, most in zip(own, longest, strict=True))


def test_a_text_without_a_usable_answer_is_named_and_asked_again(asked, server, texts, wanted):
    server.always[texts[1].text] = Fault(content="I think that")
    outcome, journal = asked(texts[:3])
    assert list(outcome.failed.values()) == ["the answer is not JSON"]
    assert server.texts.count(texts[1].text) == 3
    assert claims(outcome, journal) == [wanted[0], wanted[2]]
    paid = journal.usage
    del server.always[texts[1].text]
    outcome, journal = asked(texts[:3])
    assert outcome.failed == {}
    assert (outcome.requests, outcome.cached) == (1, 2)
    assert sum(journal.usage) > sum(paid)


def test_a_cut_answer_gets_more_room(asked, server, texts):
    server.faults += [("", Fault(finish="length", content="{"))] * 2
    asked(texts[:1], answer_tokens=100)
    assert [request.body["max_tokens"] for request in server.requests] == [100, 200, 400]


def test_texts_of_a_bad_request_are_asked_one_by_one(asked, server, texts, wanted):
    server.always[texts[2].text] = Fault(content="no")
    outcome, journal = asked(texts[:4], texts_per_request=4)
    assert claims(outcome, journal) == [wanted[n] for n in (0, 1, 3)]
    assert len(outcome.failed) == 1


def test_a_refusal_is_an_answer(asked, server, texts, wanted):
    server.always[texts[0].text] = Fault(refusal="I cannot help with that.")
    server.always[texts[1].text] = Fault(finish="content_filter", content="")
    outcome, journal = asked(texts[:3], texts_per_request=3)
    assert claims(outcome, journal) == [0, 0, wanted[2]]
    refusals = [journal.answers[key].refusal for key in outcome.keys]
    assert refusals == ["I cannot help with that.", "content filter", ""]
    count = len(server.requests)
    asked(texts[:3], texts_per_request=3)
    assert len(server.requests) == count


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refused_request_ends_the_run_without_the_key(asked, server, texts, status):
    server.always[""] = Fault(status, error={"message": f"bad key {KEY}\x1b[2J"})
    with pytest.raises(EndpointError) as error:
        asked(texts[:4])
    assert str(error.value).startswith(f"{server.endpoint}: {status}: ")
    assert "bad key [key]" in str(error.value)
    assert KEY not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert len(server.requests) <= 4


def test_an_empty_account_is_not_retried(asked, server, texts):
    server.always[""] = Fault(429, error={"code": "insufficient_quota"})
    with pytest.raises(EndpointError, match="429: no"):
        asked(texts[:1])
    assert len(server.requests) == 1


def test_an_endpoint_that_is_down_ends_the_run(asked, server, texts, settings):
    server.always[""] = Fault(500)
    with pytest.raises(EndpointError, match="gave up after 2 attempts"):
        asked(attempts=2, concurrency=1)
    assert len(server.requests) == 6  # Three texts, then it counts as down.
    with pytest.raises(EndpointError, match="gave up after 2 attempts: Connection error"):
        asked(attempts=2, endpoint="http://127.0.0.1:9/v1")


def test_one_bad_text_does_not_end_the_run(asked, server, texts, wanted):
    server.always[texts[1].text] = Fault(500)
    outcome, journal = asked(texts[:5], attempts=2, concurrency=1)
    assert claims(outcome, journal) == [wanted[n] for n in (0, 2, 3, 4)]
    assert len(outcome.failed) == 1


def test_options_that_an_endpoint_does_not_know_are_left_out(asked, server, texts):
    server.faults.append(("", Fault(400, error={"param": "temperature"})))
    asked(texts[:2], concurrency=1)
    assert ["temperature" in request.body for request in server.requests] == [True, False, False]


def test_an_endpoint_without_keys_needs_none(asked, server, texts, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    outcome, _ = asked(texts[:1])
    assert outcome.requests == 1
    with pytest.raises(EndpointError, match="OPENAI_API_KEY must hold the key of the endpoint"):
        asked(endpoint=None)
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    asked(texts[1:2], key_variable="OTHER_KEY")
    assert server.requests[-1].headers["authorization"] == "Bearer sk-other"


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_budget_of_tokens_is_never_exceeded(asked, server, texts, concurrency):
    whole = sum(asked()[1].usage)
    for budget in range(2000, 14_000, 4000):
        outcome, journal = asked(texts[6:30], most_tokens=whole + budget, concurrency=concurrency)
        assert outcome.stopped == f"the budget of {whole + budget:,} tokens"
        assert sum(journal.usage) <= whole + budget
        assert outcome.failed == {}
    # It is of all runs on the journal: the next one may not even begin.
    count = len(server.requests)
    outcome, _ = asked(texts[6:30], most_tokens=whole)
    assert (outcome.requests, len(server.requests)) == (0, count)
    outcome, _ = asked(texts[6:30])
    assert outcome.stopped == ""


def test_a_budget_of_money_is_never_exceeded(asked, server, texts, settings):
    prices = {"price_input": 150.0, "price_output": 600.0}
    outcome, journal = asked(texts, most_cost=4.0, concurrency=2, **prices)
    cost = cost_of(journal.usage, settings(**prices))
    assert outcome.stopped == "the budget of 4"
    assert 0 < outcome.requests < len(texts)
    assert 2.5 < cost <= 4.0
    assert cost == pytest.approx(150e-6 * journal.usage.input + 600e-6 * journal.usage.output)


def test_an_endpoint_that_does_not_count_uses_the_budget_up(asked, server, texts):
    server.always[""] = Fault(counts=False)
    outcome, journal = asked(texts, most_tokens=20_000)
    assert outcome.stopped
    assert 10_000 < sum(journal.usage) <= 20_000


def test_the_state_is_told_after_each_response(texts, schema, settings, server, tmp_path):
    told = []
    journal = open_journal(tmp_path / "a.jsonl")
    ask(texts[:5], schema, settings(price_input=1.0), journal, told.append)
    assert [status.done for status in told] == [0, 1, 2, 3, 4, 5]
    assert all(status.total == 5 for status in told)
    assert all(a.cost < b.cost for a, b in itertools.pairwise(told))
    assert told[-1].usage == journal.usage


def test_the_journal_loses_what_a_kill_has_cut_and_nothing_else(asked, server, texts, wanted):
    _, journal = asked(texts[:3], concurrency=1)
    data = journal.path.read_bytes()
    lines = data.splitlines(keepends=True)
    assert len(lines) == 3
    for cut in (1, len(lines[2]) // 2, len(lines[2]) - 1):
        journal.path.write_bytes(data[:-cut])
        assert len(open_journal(journal.path).answers) == 2
        assert journal.path.read_bytes() == lines[0] + lines[1]
    before = len(server.requests)
    outcome, journal = asked(texts[:3])
    assert (outcome.requests, len(server.requests) - before) == (1, 1)
    assert claims(outcome, journal) == wanted[:3]
    for damage in (b"{}\n", b"null\n", b'{"usage": [1, 2], "answers": [{"key": 1}]}\n', b"\xff\n"):
        journal.path.write_bytes(lines[0] + damage + lines[1])
        with pytest.raises(DataError, match=r"answers\.jsonl, line 2: is no record of an answer"):
            open_journal(journal.path)


def test_no_file_holds_the_key(asked, tmp_path):
    asked()
    assert all(
        KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )


def test_relations_are_proposed_and_not_confirmed(texts, settings, server, tmp_path):
    relations = [
        {"name": "directed_by", "description": "the\ndirector\x1b", "values": [], "most": 0},
        {"name": "genre", "description": "", "values": ["Drama", "War", "\x07"], "most": -5},
        {"name": "Rob\"]\nrm = 1", "description": "", "values": [], "most": 0},
        {"name": "odd", "description": "", "values": ["a b", "A-B"], "most": 0},
        {"name": "worse", "description": "", "values": None, "most": 0},
    ]  # fmt: skip
    server.faults.append(("", Fault(content=json.dumps({"relations": relations}))))
    journal = open_journal(tmp_path / "a.jsonl")
    schema = propose(texts[:5], "films", settings(), journal)
    assert [relation.name for relation in schema.relations] == ["directed_by", "genre"]
    assert schema.relations[0].description == "the director\\x1b"
    assert (dict(schema.relations[1].values), schema.relations[1].most) == (
        {"Drama": (), "War": ()},
        0,
    )
    assert not schema.confirmed
    assert sum(open_journal(journal.path).usage) > 0
    server.always[""] = Fault(content='{"relations": []}')
    with pytest.raises(
        EndpointError, match="no relations were proposed: no relation of the answer"
    ):
        propose(texts[:5], "films", settings(), journal)
    with pytest.raises(EndpointError, match="the budget is too small"):
        propose(texts[:5], "films", settings(most_tokens=10), journal)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"concurrency": 0}, "concurrency must be 1 to 256, got 0."),
        ({"most_cost": 1.0}, "most_cost needs price_input and price_output"),
        ({"endpoint": "localhost:1"}, "endpoint must be an address such as"),
        ({"endpoint": "http://me:secret@h/v1"}, "endpoint must hold no key"),
        ({"endpoint": "http://h/v1?key=secret"}, "endpoint must hold no key"),
        ({"timeout": float("nan")}, "timeout must be finite"),
    ],
)
def test_settings_are_checked(values, message):
    with pytest.raises(ValueError, match=message) as error:
        EndpointSettings("m", **values)
    assert "secret" not in str(error.value)


def test_it_runs_where_a_loop_runs_already(texts, schema, settings, tmp_path):
    """As in a notebook."""
    import asyncio

    async def notebook():
        journal = open_journal(tmp_path / "a.jsonl")
        return ask(texts[:2], schema, settings(), journal)

    assert asyncio.run(notebook()).requests == 2


def test_usage_adds_up():
    assert sum(Usage(2, 3)) == 5
    assert (
        cost_of(Usage(2_000_000, 1_000_000), EndpointSettings("m", price_input=0.5, price_output=2))
        == 3.0
    )
    assert Text("1", "x").title == ""
