"""Idle connections, half headers, trickled bodies and unread answers keep nobody out, and end by themselves."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mri_recon_service.http.connections import ConnectionLimits, Connections
from mri_recon_service.http.pace import Pace
from mri_recon_service.settings import Settings
from tests.support.patience import PATIENCE
from tests.support.service import until

HALF = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-"
WHOLE = b"GET /v1/sample HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def _connected(client: httpx.Client, number: int, begun: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that sent the beginning of a request, with small buffers."""
    address = (client.base_url.host, client.base_url.port or 80)
    with ExitStack() as stack:
        found = []
        for _ in range(number):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.settimeout(PATIENCE)
            one.connect(address)
            one.sendall(begun)
            found.append(one)
        yield found


def _is_closed(one: socket.socket) -> bool:
    """Tell whether the server has closed a connection; what it sent before is thrown away."""
    one.setblocking(False)
    try:
        while one.recv(1 << 20):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _live(client: httpx.Client) -> bool:
    """Ask for the health by a new connection."""
    url = f"{client.base_url}/health/live"
    return httpx.get(url, timeout=PATIENCE, trust_env=False).status_code == 200


def _closed(client: httpx.Client, reason: str) -> float:
    text = client.get("/metrics").text
    line = [
        one for one in text.splitlines() if one.startswith(f'mri_recon_connections_closed_total{{reason="{reason}"')
    ]
    return float(line[0].split()[-1]) if line else 0.0


@pytest.mark.parametrize("begun", [b"", HALF], ids=["idle", "half a header"])
def test_waiting_connections_make_room(serve: Any, begun: bytes, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(max_connections=20, header_timeout_seconds=PATIENCE)
    with caplog.at_level(logging.WARNING), serve(settings) as client, _connected(client, 90, begun) as attack:
        assert all(_live(client) for _ in range(5))
        assert sum(map(_is_closed, attack)) >= 70
        assert _closed(client, "crowded") >= 70
        assert not caplog.records


@pytest.mark.parametrize("begun", [b"", HALF, WHOLE + HALF], ids=["idle", "half a header", "after a request"])
def test_a_header_has_a_deadline(serve: Any, begun: bytes) -> None:
    with serve(Settings(header_timeout_seconds=0.2)) as client, _connected(client, 3, begun) as attack:
        until(lambda: all(map(_is_closed, attack)))
        assert _closed(client, "header-timeout") == (0 if begun.startswith(WHOLE) else 3)  # that one is idle


def test_a_trickled_header_has_the_same_deadline(serve: Any) -> None:
    with serve(Settings(header_timeout_seconds=0.5)) as client, _connected(client, 1, HALF) as (one,):
        began = time.monotonic()
        while not _is_closed(one):
            one.setblocking(True)
            try:
                one.sendall(b"x")
            except OSError:
                break
            time.sleep(0.02)
            assert time.monotonic() - began < PATIENCE


def test_the_rest_of_a_body_that_nobody_waits_for(serve: Any) -> None:
    """The answer does not need the body, and the body never ends."""
    begun = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with serve(Settings(header_timeout_seconds=0.3)) as client, _connected(client, 1, begun) as (one,):
        assert one.recv(1000).startswith(b"HTTP/1.1 200")
        until(lambda: _is_closed(one))


@pytest.mark.parametrize(
    "begun",
    [
        b"POST /v1/masks HTTP/1.1\r\nHost: a.example\r\nContent-Length: 30000000\r\nConnection: close\r\n\r\n",
        b"POST /v1/masks HTTP/1.0\r\nHost: a.example\r\nContent-Length: 30000000\r\n\r\n",
        b"no request\r\n\r\n",
    ],
    ids=["close", "HTTP/1.0", "no HTTP"],
)
def test_an_early_answer_is_read_by_who_sends_everything_first(serve: Any, begun: bytes) -> None:
    """The connection ends after the answer, and is not reset while the client still sends."""
    settings = Settings(header_timeout_seconds=PATIENCE)
    with serve(settings) as client, _connected(client, 1, begun) as (one,):
        one.sendall(bytes(30_000_000))
        told = b"".join(iter(lambda: one.recv(65536), b""))
        assert told.startswith(b"HTTP/1.1 4")


def test_who_never_ends_a_body_is_not_read_for_ever(serve: Any) -> None:
    begun = b"POST /v1/masks HTTP/1.1\r\nHost: a.example\r\nContent-Length: 30000000\r\nConnection: close\r\n\r\n"
    with serve(Settings(header_timeout_seconds=0.3)) as client, _connected(client, 1, begun) as (one,):
        assert one.recv(1000).startswith(b"HTTP/1.1 4")

        def refused() -> bool:
            try:
                one.sendall(b"x")
            except OSError:
                return True
            return False

        until(refused)
        assert _closed(client, "header-timeout") == 1


@pytest.mark.parametrize("to", ["/v1/reconstructions?method=zero-filled&acceleration=3", "/v1/masks"])
def test_a_body_that_stops_is_refused(serve: Any, to: str) -> None:
    begun = f"POST {to} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\nContent-Length: 9000\r\n\r\n"
    with serve(Settings(stall_seconds=0.3)) as client, _connected(client, 1, begun.encode() + b"{") as (one,):
        told = b"".join(iter(lambda: one.recv(65536), b""))
        assert told.startswith(b"HTTP/1.1 408")
        assert b'"code":"upload-timeout"' in told


def test_an_unread_answer_ends(serve: Any) -> None:
    settings = Settings(stall_seconds=0.5)
    with serve(settings) as client, _connected(client, 4, WHOLE) as attack:
        until(lambda: _closed(client, "unread") == 4)
        until(lambda: all(map(_is_closed, attack)))
        assert client.get("/v1/sample").status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="the bound is Linux's")
def test_the_kernel_holds_little_of_an_unread_answer(serve: Any) -> None:
    """The file has 1.7 MB, as much as the kernel would take of it by itself."""
    begun = b"GET /static/swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serve(Settings(stall_seconds=PATIENCE)) as client, _connected(client, 1, begun) as (one,):
        until(lambda: _unsent(one) > 0)
        seen = []
        for _ in range(100):  # it is there within milliseconds, or never
            seen.append(_unsent(one))
            time.sleep(0.01)
        assert max(seen) < 256 << 10
        read = sum(len(part) for part in iter(lambda: one.recv(1 << 16) if _unsent(one) else b"", b""))
        assert read > 1 << 20


def _unsent(one: socket.socket) -> int:
    """Count the bytes that the kernel holds for the other side of a connection, sent but not taken among them."""
    theirs, ours = (f":{address[1]:04X}" for address in (one.getpeername(), one.getsockname()))
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if local.endswith(theirs) and remote.endswith(ours):
            return int(queues.partition(":")[0], 16)
    return 0


def test_health_alone_where_every_connection_works(serve: Any) -> None:
    begun = b"POST /v1/masks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n"
    with serve(Settings(max_connections=16)) as client, _connected(client, 16, begun):
        client.close()  # its own connection waits, and would make room
        until(lambda: httpx.get(f"{client.base_url}/v1/models", trust_env=False).status_code == 429)
        busy = httpx.get(f"{client.base_url}/v1/models", trust_env=False)
        assert (busy.json()["code"], busy.headers["connection"]) == ("busy", "close")
        assert int(busy.headers["retry-after"]) > 0
        assert all(_live(client) for _ in range(20))


class _Fake:
    """A connection that remembers that it was closed."""

    def __init__(self, connections: Connections, address: str) -> None:
        self.closed = False
        self._of = (connections, address)

    def drop(self) -> None:
        self.closed = True

    def leave(self) -> None:
        self._of[0].lost(self, self._of[1])  # type: ignore[arg-type]


def _admitted(connections: Connections, address: str) -> tuple[Any, bool]:
    one: Any = _Fake(connections, address)
    return one, connections.admit(one, address)


def test_an_address_has_its_share() -> None:
    reasons: list[str] = []
    connections = Connections(ConnectionLimits(most=9, most_of_address=2, reserved=1), reasons.append)
    (first, _), (second, _) = (_admitted(connections, "10.0.0.1") for _ in range(2))
    other, _ = _admitted(connections, "10.0.0.2")
    connections.works(first)
    third, admitted = _admitted(connections, "10.0.0.1")
    assert admitted
    assert (first.closed, second.closed, other.closed) == (False, True, False)
    connections.works(third)
    fourth, admitted = _admitted(connections, "10.0.0.1")
    assert not admitted
    assert fourth.closed
    assert reasons == ["crowded"] * 2
    assert all(_admitted(connections, "127.0.0.1")[1] for _ in range(6))  # a proxy
    assert connections.open == 9


@pytest.mark.parametrize(
    ("steps", "left"),
    [([(0, 2.0)], 8.0), ([(0, 12.0)], 0.0), ([(100, 0.5)], 10.0), ([(10, 2.0)] * 5, 5.0), ([(20, 2.0)] * 99, 10.0)],
)
def test_pace(steps: list[tuple[int, float]], left: float) -> None:
    """10 bytes a second, at most 10 s without any."""
    pace = Pace(10.0, 10.0)
    for num_bytes, waited in steps:
        pace.passed(num_bytes, waited=waited)
    assert pace.left == pytest.approx(left)


def test_large_answers_are_whole(serve: Any, kspace: Callable[..., Any], post: Callable[..., httpx.Response]) -> None:
    with serve(Settings()) as client:
        answer = post(client, kspace(3, 2, 125, 136), method="zero-filled", acceleration=3)
        assert answer.status_code == 200, answer.text
        assert len(answer.content) == int(answer.headers["content-length"]) > 3 * (64 << 10)
