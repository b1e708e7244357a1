import json
import shutil
import signal
import subprocess
import sys
import urllib.request
import webbrowser
from typing import Any

import jax
import pytest

from metajax.cli.app import main
from metajax.serving import Store, demo, server
from metajax.serving.scoring import scorer_of


def test_mistakes_are_one_line(model, tmp_path, capsys):
    key, short = tmp_path / "key", tmp_path / "short"
    key.write_text("k" * 20 + "\n")
    short.write_text("k")
    assert server.key_of(key) == "k" * 20
    log = f"sqlite:///{tmp_path / 'events.db'}"
    broken = tmp_path / "broken"
    broken.mkdir()
    for arguments, why in (
        ([str(model), "--host", "0.0.0.0"], "needs a key"),
        ([], "or --demo"),
        ([str(model), "--demo"], "or --demo"),
        ([str(model), "--client-rate", "0"], "client_rate must be > 0"),
        ([str(model), "--kept-mb", "-1"], "kept_mb must be >= 0"),
        ([str(model), "--api-key-file", str(short)], "16 or more"),
        ([str(model), "--api-key-file", str(tmp_path / "none")], "none"),
        ([str(model), "--events", "mysql://x"], "sqlite:///FILE"),
        ([str(model), "--port", "70000"], "65535"),
        ([str(model), "--host", "203.0.113.1", "--api-key-file", str(key)], "cannot listen on"),
        ([str(broken), "--port", "0", "--events", log], "no model is here"),
        ([str(model), "--port", "0", "--events", "sqlite:////none/events.db"], "folder"),
    ):
        assert main(["serve", *arguments]) == 2, arguments
        said = capsys.readouterr()
        assert why in said.err, arguments
        assert [line for line in said.err.splitlines() if "note:" not in line][1:] == []


def test_lists_are_remembered_in_the_memory_that_is_given(model, new_log, monkeypatch):
    served = []

    class Running:
        def __init__(self, service):
            served.append(service.scorer.kept)
            self.run = lambda sockets: service.close()

    monkeypatch.setattr(server, "uvicorn_of", Running)
    for kept_mb in (1, 0):
        settings = server.ServiceSettings(kept_mb=kept_mb)
        server.serve(model, events=new_log(), port=0, settings=settings)
    kept, none = (len(one._rows) for one in served)
    assert 900 < kept < 1100
    assert none == 0


def test_a_policy_that_the_model_lacks_is_refused(model):
    with pytest.raises(ValueError, match="no policy 'gredy'; did you mean 'greedy'"):
        scorer_of(model, policies=("gredy",))


@pytest.mark.slow
def test_kill_9_of_the_service_loses_nothing_that_was_acknowledged(model, new_log):
    log = new_log()
    program = "from metajax.serving import Store, server; import sys; server.serve(sys.argv[1], "
    program += "events=sys.argv[2], port=0, ready=lambda address: print(address, flush=True))"
    running = subprocess.Popen(
        [sys.executable, "-c", program, str(model), log],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    output = running.stdout
    assert output is not None
    try:
        address = output.readline().strip()
        for n in range(10):
            events = [
                {"id": f"e{n}-{m}", "user": "ada", "item": str(m), "kind": "view"} for m in range(3)
            ]
            request = urllib.request.Request(
                f"{address}/v1/events", json.dumps({"events": events}).encode()
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert json.load(answer)["accepted"] == 3
        with urllib.request.urlopen(f"{address}/v1/users/ada/recommendations") as answer:
            listed = json.load(answer)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
        output.close()
    with Store(log) as store:
        expected = [f"e{n}-{m}" for n in range(10) for m in range(3)]
        assert [one.id for _, one in store.events()] == expected
        kept = store.answer(listed["recommendation_id"])
        assert kept is not None
        assert kept.user == "ada"


def test_the_demonstration_is_fitted_once_and_served(small, model, tmp_path, monkeypatch, capsys):
    served, opened = [], []
    monkeypatch.setenv("METAJAX_CACHE", str(tmp_path))
    monkeypatch.setattr(demo, "DATA", str(small))
    monkeypatch.setattr(demo.engine, "fit", lambda data, method: served.append(data.name) or data)
    monkeypatch.setattr(demo.engine, "save", lambda _, folder: shutil.copytree(model, folder))
    found = demo.demo_model(str(small))
    assert demo.demo_model(str(small)) == found
    (found / "manifest.json").write_text("{}")
    assert demo.demo_model(str(small)) == found
    assert served == [str(small)] * 2
    begun = lambda begin=lambda: None, method=None, **_: begin() or model / str(method)  # noqa: E731
    monkeypatch.setattr(demo, "demo_model", begun)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(
        server, "serve", lambda *_, **told: served.append(told) or told["ready"](told["events"])
    )
    assert main(["serve", "--demo"]) == 0
    assert "takes minutes" in capsys.readouterr().err
    assert served[-1]["settings"].beside == {"item_knn": str(model / "item_knn")}
    with_names = ["serve", "m", "--beside", "a/knn", "--beside", "b/knn"]
    assert main(with_names) == 2
    assert "--beside must be folders of different names." in capsys.readouterr().err
    assert opened == [f"sqlite:///{tmp_path / 'demo' / 'events.db'}"]


def test_compiled_programs_are_kept_unless_the_environment_says_where(tmp_path, monkeypatch):
    monkeypatch.setenv("METAJAX_CACHE", str(tmp_path))
    config: Any = jax.config
    name, least = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = getattr(config, name), getattr(config, least)
    try:
        server.keep_compiled()
        assert getattr(config, name) == before[0]
        jax.config.update(name, None)
        server.keep_compiled()
        assert getattr(config, name) == str(tmp_path / "compiled")
    finally:
        jax.config.update(name, before[0])
        jax.config.update(least, before[1])
