"""Downloads from servers that send anything."""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from metajax.data import fetch
from metajax.data.fetch import DataUnavailable, Source, cache_folder, download, read_cached

BODY = b"the data"
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers a path with a length and a body that it names."""

    def do_GET(self):
        name = self.path.strip("/")
        length = {
            "none": None,
            "word": "many",
            "negative": "-8",
            "huge": "9" * 30,
            "large": "5000",
        }.get(name, str(len(BODY)))
        self.send_response(200)
        if name in ("endless", "trickle"):
            length = None
        if length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        try:
            while name == "endless":
                self.wfile.write(bytes(1 << 16))
            while name == "trickle":
                self.wfile.write(b"x")
                time.sleep(0.01)
            self.wfile.write(BODY)
        except OSError:
            pass  # The other side has had enough.

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True  # pyrefly: ignore
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["right", "none", "word", "negative", "huge"])
def test_a_length_that_is_none_only_leaves_the_bar_without_an_end(server, tmp_path, name):
    calls = []
    download(
        f"{server}/{name}",
        tmp_path / "file",
        digest=SHA256,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert (tmp_path / "file").read_bytes() == BODY
    assert calls == [(len(BODY), len(BODY) if name == "right" else None)]


def test_more_than_the_limit_is_refused(server, tmp_path):
    with pytest.raises(DataUnavailable, match=r"endless: more than 100,000 bytes"):
        download(f"{server}/endless", tmp_path / "file", digest=SHA256, most=100_000)
    # What is announced as too large is not waited for.
    with pytest.raises(DataUnavailable, match="large: more than 4,999 bytes"):
        download(f"{server}/large", tmp_path / "file", digest=SHA256, most=4_999)
    assert list(tmp_path.iterdir()) == []


def test_a_trickle_ends_at_the_limit_of_time(server, tmp_path):
    began = time.monotonic()
    with pytest.raises(DataUnavailable, match=r"trickle: not complete after 0\.2 s"):
        download(f"{server}/trickle", tmp_path / "file", digest=SHA256, seconds=0.2)
    assert time.monotonic() - began < 3
    # What came stays for the next download.
    assert [file.name[:5] for file in tmp_path.iterdir()] == [".file"]


@pytest.mark.parametrize("name", ["endless", "trickle", "word"])
def test_the_next_source_is_tried_after_a_bad_one(server, tmp_path, monkeypatch, name):
    monkeypatch.setenv("METAJAX_CACHE", str(tmp_path))
    short = {"most": 1000, "seconds": 0.2}
    monkeypatch.setattr(fetch, "download", lambda *a, **k: download(*a, **k, **short))
    wrong = Source(f"{server}/{name}", "0" * 64, "first", lambda path: path.read_bytes())
    right = Source(f"{server}/right", SHA256, "second", lambda path: path.read_bytes())
    assert read_cached("data", [wrong, right]) == BODY


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    for variable in ("METAJAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pathlib.Path.expanduser", homeless)
    with pytest.raises(DataUnavailable, match=r"~/\.cache: .* set METAJAX_CACHE"):
        cache_folder()
