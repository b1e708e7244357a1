import contextlib
import http.client
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest

from metajax.serving import server
from metajax.serving.connections import IdleConnections

# What these tests are about does not depend on the kind of store.
one_store = pytest.mark.parametrize("new_log", ["sqlite"], indirect=True)


class Transport:
    def __init__(self):
        self.size, self.cut = 0, False

    def get_write_buffer_size(self):
        return self.size

    def abort(self):
        self.cut = True


class Connection:
    def __init__(self, cycle: Any = None):
        self.cycle, self.transport = cycle, Transport()


def test_a_header_must_be_whole_in_time_and_each_request_begins_anew():
    now, silent, active = [0.0], Connection(), Connection()
    idle = IdleConnections(lambda: [silent, active], header=20, taken=30, clock=lambda: now[0])
    for second in range(0, 21, 5):
        now[0] = second
        # It is idle whenever it is looked at, but answered a request meanwhile.
        active.cycle = SimpleNamespace(response_complete=True)
        assert idle.cut() == 0
    now[0] = 21.0
    assert idle.cut() == 1
    assert (silent.transport.cut, active.transport.cut) == (True, False)


def test_a_request_under_way_is_no_idle_connection_and_an_answer_must_be_taken():
    now = [0.0]
    slow, lazy, steady = (Connection(SimpleNamespace(response_complete=False)) for _ in range(3))
    idle = IdleConnections(lambda: [slow, lazy, steady], header=20, taken=30, clock=lambda: now[0])
    lazy.transport.size = 1000
    for second in range(0, 31, 5):
        now[0], steady.transport.size = second, 1000 - second
        assert idle.cut() == 0
    now[0] = 31.0
    assert idle.cut() == 1
    assert [one.transport.cut for one in (slow, lazy, steady)] == [False, True, False]


def is_cut(connection):
    """True once the server has given a connection up, whose answers are not read."""
    end = time.monotonic() + 15
    while time.monotonic() < end:
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return True
        time.sleep(0.05)
    return False


def dripped(address):
    """Sends a header byte by byte; returns the seconds until the server closes."""
    begin, end = time.monotonic(), time.monotonic() + 20
    with socket.create_connection(address) as slow, contextlib.suppress(OSError):
        slow.settimeout(0.1)
        for byte in b"GET /v1/model HTTP/1.1\r\nX: " + b"x" * 1000:
            slow.sendall(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                if not slow.recv(1):
                    break
            assert time.monotonic() < end
    return time.monotonic() - begin


@one_store
def test_slow_headers_and_answers_that_nobody_reads_are_cut(serve, listening, monkeypatch):
    monkeypatch.setattr(server, "_HEADER", 1.0)
    monkeypatch.setattr(server, "_TAKEN", 1.0)
    service, _ = serve()
    with listening(service) as address, socket.create_connection(address) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        lazy.settimeout(0.5)
        with contextlib.suppress(OSError):
            for _ in range(3000):
                lazy.sendall(b"GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert 1.0 <= dripped(address) < 15
        assert is_cut(lazy)


@one_store
def test_a_connection_that_is_used_is_kept(serve, listening, monkeypatch):
    monkeypatch.setattr(server, "_HEADER", 2.5)
    service, _ = serve()
    with listening(service) as address:
        used = http.client.HTTPConnection(*address, timeout=20)
        used.connect()
        first = used.sock
        for _ in range(8):
            used.request("GET", "/v1/health/live")
            assert used.getresponse().read().startswith(b'{"status":"live"')
            time.sleep(0.6)
        # The client would open another one.
        assert used.sock is first
        used.close()
