import json
import threading
import time

import pytest

from metajax.serving.gathering import ClosedError, Gatherer


def test_a_call_waits_for_as_many_as_the_call_before_had():
    calls, open_, begun = [], threading.Event(), threading.Event()

    def handle(group):
        begun.set()
        assert open_.wait(60)
        calls.append([request for request, _ in group])
        for request, future in group:
            future.set_result(request)

    gatherer = Gatherer(handle, most=3, name="test", patience=60.0)
    first = gatherer.submit("a")
    assert begun.wait(60)
    cancelled, *others = [gatherer.submit(one) for one in "bcd"]
    assert cancelled.cancel()
    open_.set()
    assert [one.result(60) for one in (first, *others)] == ["a", "c", "d"]
    alone = gatherer.submit("e")
    while gatherer.waiting:
        time.sleep(0.01)
    assert not alone.done()
    assert gatherer.submit("f").result(60) == "f"
    gatherer.close()
    assert calls == [["a"], ["c", "d"], ["e", "f"]]
    with pytest.raises(ClosedError):
        gatherer.submit("h")


def test_an_error_reaches_who_waits_and_otherwise_the_log(caplog):
    def handle(group):
        for request, future in group:
            if request == "told":
                future.set_result(request)
        raise LookupError("ada")

    gatherer = Gatherer(handle, most=1, name="test")
    with pytest.raises(LookupError, match="ada"):
        gatherer.submit("asked").result(60)
    assert gatherer.submit("told").result(60) == "told"
    gatherer.close()
    (line,) = [record.message for record in caplog.records]
    told = json.loads(line)
    assert (told["event"], told["kind"]) == ("unforeseen error", "LookupError")
    assert told["at"][-1].startswith("test_gathering.py:")
    assert "ada" not in line
