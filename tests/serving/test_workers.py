"""Several processes on one log: what one stores the others know, and one that dies is replaced."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from metajax.cli.app import main
from metajax.serving import Store
from metajax.serving.metrics import Metrics
from metajax.serving.scoring import scorer_of
from metajax.serving.service import Service


def event(number, **changes):
    return {"id": f"e{number}", "user": "ada", "item": "3", "kind": "like", **changes}


@pytest.fixture
def pair(postgres, scorer, model, tmp_path):
    """Two services, as in two processes, on one log in PostgreSQL."""
    url, scorers = postgres.new_url(), (scorer, scorer_of(model, policies=("greedy",)))
    opened = [Service(Store(url), one, metrics=Metrics(folder=tmp_path)) for one in scorers]
    yield opened
    for service in opened:
        service.close()
    scorer.set_items({})


def test_what_one_worker_stores_the_other_knows(pair, client_of):
    call, ask = map(client_of, pair)
    path = "/v1/users/ada/recommendations"

    def shown(use, user="ada"):
        found = use("GET", f"/v1/users/{user}/recommendations", query=[("n", "100")]).content
        return [(one["item"], one["score"]) for one in found["items"]]

    before = shown(ask)
    assert before == shown(call)
    best = before[0][0]
    call("POST", "/v1/events", {"events": [event(1, item=best, kind="rating", value=1)]})
    after = shown(ask)
    assert best not in [item for item, _ in after]
    assert after == shown(call)
    assert dict(after) != {item: dict(before)[item] for item, _ in after}
    again = ask("POST", "/v1/events", {"events": [event(1, item=best, kind="rating", value=1)]})
    assert again.content["duplicates"] == 1
    # An item of one worker is hidden by the other, which leaves its content.
    new = {"content": {"class": "Drama", "title": "New film"}, "categories": ["fresh"]}
    assert call("PUT", "/v1/items/new", new).status == 200
    assert "new" in [item for item, _ in shown(ask)]
    found = ask("GET", "/v1/items", query=[("query", "new film")]).content["items"]
    assert [one["item"] for one in found] == ["new"]
    assert ask("PATCH", "/v1/items/new", {"available": False}).status == 200
    assert "new" not in [item for item, _ in shown(call)]
    assert call("PATCH", "/v1/items/new", {"available": True}).status == 200
    only = [("filter", "category=fresh")]
    assert [one["item"] for one in ask("GET", path, query=only).content["items"]] == ["new"]
    assert ask("GET", "/v1/items/new/similar").status == 200
    # A list that one drew is clicked on at the other.
    listed = call("GET", path).content
    click = event(2, item=listed["items"][0]["item"], recommendation_id=listed["recommendation_id"])
    assert ask("POST", "/v1/events", {"events": [click]}).content["accepted"] == 1
    assert ask("DELETE", "/v1/users/ada").content["events"] == 2
    assert call("GET", path).content["user"] is None
    assert call("POST", "/v1/events", {"events": [event(3)]}).status == 422


def test_content_that_a_worker_with_an_older_model_cannot_read_harms_nobody(
    pair, client_of, monkeypatch
):
    new = pair[0]
    call, ask = map(client_of, pair)
    monkeypatch.setattr(new.scorer, "check_content", lambda content: None)
    monkeypatch.setattr(new.scorer, "set_items", lambda items: None)
    assert call("PUT", "/v1/items/3", {"content": {"colour": "red"}, "available": False})
    for _ in range(2):
        found = ask("GET", "/v1/users/ada/recommendations", query=[("n", "100")])
        assert found.status == 200
        assert "3" not in [one["item"] for one in found.content["items"]]


def test_metrics_are_those_of_all_workers(pair, client_of, tmp_path):
    call, ask = map(client_of, pair)
    call("POST", "/v1/events", {"events": [event(1), event(2)]})
    ask("POST", "/v1/events", {"events": [event(3)]})
    for process, service in enumerate(pair):
        service.metrics.share({"kept_bytes": 10.0 + process, "event_loop_lag_seconds": process})
        os.replace(tmp_path / f"{os.getpid()}.json", tmp_path / f"{process}.json")
    total = Metrics(folder=tmp_path)
    total.events(accepted=4)
    page = total.text({"kept_bytes": 5.0, "event_loop_lag_seconds": 0.5}, "m")
    for line in (
        'metajax_events_total{fate="accepted"} 7',
        'metajax_requests_total{method="POST",path="/v1/events",status="200"} 2',
        'metajax_request_seconds_count{path="/v1/events"} 2',
        'metajax_request_seconds_bucket{path="/v1/events",le="+Inf"} 2',
        "metajax_kept_bytes 26",
        "metajax_event_loop_lag_seconds 1",
    ):
        assert f"{line}\n" in page, line
    assert sum(total.minutes()) == 7
    # The counts of a worker that has ended stay, its present values do not.
    late = Metrics(lambda: time.monotonic() + 60, folder=tmp_path)
    page = late.text({"kept_bytes": 5.0}, "m")
    assert "metajax_kept_bytes 5\n" in page
    assert 'metajax_events_total{fate="accepted"} 3\n' in page


def test_several_workers_are_refused_where_one_process_may_write(model, tmp_path, capsys):
    arguments = ["serve", str(model), "--events", f"sqlite:///{tmp_path / 'e.db'}", "--workers"]
    for number, why in (("2", "postgresql://HOST/DATABASE"), ("0", "--workers must be from 1")):
        assert main([*arguments, number]) == 2
        (line,) = [one for one in capsys.readouterr().err.splitlines() if "note:" not in one]
        assert why in line


PROGRAM = """
import sys
from metajax.serving import server
if __name__ == "__main__":
    server.serve(sys.argv[1], events=sys.argv[2], port=0, workers=2,
                 ready=lambda address: print(address, flush=True))
"""


class Workers:
    """A service of two workers, each of which can be told from the other by its process."""

    def __init__(self, program, model, url):
        self.process = subprocess.Popen(
            [sys.executable, str(program), str(model), url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def __call__(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
            return json.loads(text) if text.startswith("{") else text

    def children(self):
        """Process ids of the workers."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
                command = (path.parent / "cmdline").read_text()
            except OSError:
                continue
            if int(fields[1]) == self.process.pid and "spawn_main" in command:
                found.append(int(path.parent.name))
        return sorted(found)


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_killed_worker_is_replaced_and_a_signal_reloads_all(postgres, model, tmp_path):
    folder, program = tmp_path / "model", tmp_path / "program.py"
    shutil.copytree(model, folder)
    program.write_text(PROGRAM)
    url = postgres.new_url()
    call = Workers(program, folder, url)
    try:
        first = call.children()
        assert len(first) == 2
        sent = [0]

        def store():
            """Stores an event; one that hits a dying worker is sent again, and stored once."""
            sent[0] += 1
            for _ in range(20):
                try:
                    return call("/v1/events", {"events": [event(sent[0])]})
                except OSError:
                    time.sleep(0.1)
            raise AssertionError("nobody answers")

        for _ in range(5):
            store()
        os.kill(first[0], signal.SIGKILL)
        for _ in range(20):
            store()
        until(lambda: len(call.children()) == 2 and call.children() != first)
        reloads = 'metajax_reloads_total{fate="done"} '
        # Sent while the new worker gets ready: it reloads once it is.
        call.process.send_signal(signal.SIGHUP)
        until(lambda: f"{reloads}2\n" in call("/metrics"))
        # One worker is asked, and the other one follows.
        call("/v1/admin/reload", method="POST")
        until(lambda: f"{reloads}4\n" in call("/metrics"))
        (folder / "model.json").write_text("{}")
        call.process.send_signal(signal.SIGHUP)
        until(lambda: 'metajax_reloads_total{fate="failed"} 2\n' in call("/metrics"))
        assert len(call("/v1/users/ada/recommendations")["items"]) == 10
        with Store(url) as own:
            assert [one.id for _, one in own.events()] == [f"e{n + 1}" for n in range(sent[0])]
        # Workers do not outlive the process that keeps them.
        left = call.children()
        call.process.send_signal(signal.SIGKILL)
        until(lambda: not any(Path(f"/proc/{one}").exists() for one in left))
    finally:
        call.process.kill()
        _, said = call.process.communicate()
    assert "Traceback" not in said
    assert '"event": "worker ended", "code": -9' in said


@pytest.mark.slow
def test_workers_end_with_their_keeper_and_say_why_they_cannot_begin(postgres, model, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    call = Workers(program, model, postgres.new_url())
    call.process.send_signal(signal.SIGTERM)
    _, said = call.process.communicate(timeout=60)
    assert (call.process.returncode, "Traceback" in said) == (0, False)
    with pytest.raises(urllib.error.URLError):
        call("/v1/health/live")
    broken = tmp_path / "broken"
    broken.mkdir()
    call = Workers(program, broken, postgres.new_url())
    _, said = call.process.communicate(timeout=60)
    assert call.process.returncode == 1
    assert said.splitlines()[-1].startswith("ValueError: ")
    assert "no model is here" in said
