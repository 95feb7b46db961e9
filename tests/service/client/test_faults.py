"""Connections that are cut, services that are busy or killed, keys that are wrong, servers that are others."""

from __future__ import annotations

import pickle
import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import mri_recon as mr
from mri_recon.errors import ConfigError, FormatError, MriReconError
from mri_recon_service.client import (
    AccessError,
    BusyError,
    Client,
    ForeignServerError,
    ServiceError,
    UnreachableError,
    WaitTimeoutError,
)
from mri_recon_service.client.answers import retry_after
from mri_recon_service.client.caller import Attempts
from mri_recon_service.client.wire import Answer
from mri_recon_service.http.keys import add_key
from mri_recon_service.settings import Settings
from tests.support.certificates import make_certificates, needs_openssl
from tests.support.methods import Steps
from tests.support.patience import PATIENCE
from tests.support.service import ServerProcess, until

Kspace = Callable[..., Any]


@pytest.fixture
def scan(kspace: Kspace) -> Any:
    return kspace(1, 2, 25, 36)


@contextmanager
def _says(reply: bytes, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers everything alike; its address, and the heads of what it got."""
    got: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    one = connection if tls is None else tls.wrap_socket(connection, server_side=True)
                    with one:
                        got.append(_request_of(one))
                        one.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", got
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _request_of(connection: socket.socket) -> bytes:
    """Read a request with its body: a connection that is closed before would be reset."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    while length and len(body) < int(length[1]):
        body += connection.recv(1 << 16)
    return head


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.mark.parametrize("after", [0, 1, 90])
def test_an_acceptance_that_is_lost_makes_one_job(
    connect: Any, proxied: Any, scan: Any, steps: Steps, after: int
) -> None:
    """The service has the job, the client never hears of it and sends the request again."""
    server, proxy = proxied
    proxy.cuts.append(("POST", after))
    steps.go.release(1000)
    result = connect(proxy.address).reconstruct(scan, method="steps", acceleration=3)
    assert proxy.count("POST") == 2
    assert result.image.shape == (1, 25, 36)
    assert 'jobs_total{kind="reconstruction",status="succeeded"} 1' in server.get("/metrics").text
    assert steps.done == 100


def test_events_go_on_after_the_last_one(connect: Any, proxied: Any, scan: Any, steps: Steps) -> None:
    """Streams are cut at many places, in the middle of an event too; each event comes once."""
    server, proxy = proxied
    job = connect(proxy.address).submit(scan, method="steps", acceleration=3)
    proxy.cuts += [(f"GET /v1/jobs/{job.id}/events", after) for after in (0, 700, 1100, 1500, 1200)]
    steps.go.release(1000)
    seen = [(one.id, one.kind) for one in job.events()]
    assert proxy.cuts == []
    assert proxy.count(f"GET /v1/jobs/{job.id}/events") == 6
    text = server.get(f"/v1/jobs/{job.id}/events").text
    assert [f"id: {number}" for number, _ in seen] == [line for line in text.splitlines() if line.startswith("id: ")]
    assert [kind for _, kind in seen].count("end") == 1


def test_a_download_that_is_cut_begins_anew(connect: Any, proxied: Any, scan: Any, tmp_path: Path) -> None:
    _, proxy = proxied
    job = connect(proxy.address).submit(scan, method="zero-filled", acceleration=3)
    proxy.cuts += [(f"GET /v1/jobs/{job.id}/result", 1500), (f"GET /v1/jobs/{job.id}/result", 3000)]
    result = job.result()
    proxy.cuts += [(f"GET /v1/jobs/{job.id}/result", 2500)]
    job.save(tmp_path / "image.npy")
    assert proxy.count(f"GET /v1/jobs/{job.id}/result") == 5
    np.testing.assert_array_equal(np.load(tmp_path / "image.npy"), result.image)
    assert [one.name for one in tmp_path.iterdir()] == ["image.npy"]


def test_a_connection_that_does_not_come_back(connect: Any, proxied: Any, scan: Any, tmp_path: Path) -> None:
    _, proxy = proxied
    service = connect(proxy.address, patience=0.5)
    job = service.submit(scan, method="zero-filled", acceleration=3)
    proxy.cuts += [("GET", 0)] * 50
    (tmp_path / "image.npy").write_bytes(b"former")
    for call in (lambda: job.result(), lambda: job.save(tmp_path / "image.npy"), lambda: list(job.events())):
        with pytest.raises(UnreachableError, match=f"connection to {proxy.address} was lost .*accepted goes on"):
            call()
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"former"]
    proxy.cuts.clear()
    assert job.result().image.shape == (1, 25, 36)


def test_waiting_ends_in_time_without_a_connection(connect: Any, proxied: Any, scan: Any) -> None:
    _, proxy = proxied
    job = connect(proxy.address).submit(scan, method="zero-filled", acceleration=3)
    proxy.cuts += [("GET", 0)] * 1000
    with pytest.raises(WaitTimeoutError):
        job.result(timeout=0.5)


def test_a_silent_stream_is_opened_anew(
    connect: Any, proxied: Any, scan: Any, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is dead without a word: nothing comes for longer than the service is ever silent."""
    monkeypatch.setattr("mri_recon_service.client.events._SILENCE", 0.3)
    _, proxy = proxied
    job = connect(proxy.address).submit(scan, method="steps", acceleration=3)
    with ThreadPoolExecutor() as background:
        result = background.submit(job.result)
        until(lambda: proxy.count(f"GET /v1/jobs/{job.id}/events") >= 3)
        steps.go.release(1000)
        assert result.result().image.shape == (1, 25, 36)


def test_a_busy_service_is_asked_again(connect: Any, serve: Any, scan: Any, steps: Steps) -> None:
    with serve(Settings(max_queued_jobs=1)) as server:
        service = connect(server)
        jobs = [service.submit(scan, method="steps", acceleration=3)]
        assert steps.begun.wait(PATIENCE)
        jobs.append(service.submit(scan, method="steps", acceleration=3))
        hurried = connect(server, patience=0.1)
        with pytest.raises(BusyError) as caught:
            hurried.submit(scan, method="steps", acceleration=3)
        assert (caught.value.code, caught.value.status) == ("busy", 429)
        with ThreadPoolExecutor() as background:
            third = background.submit(service.reconstruct, scan, method="steps", acceleration=3)
            until(lambda: 'status="429"} 2' in server.get("/metrics").text)
            assert not third.done()
            steps.go.release(1000)
            assert third.result().image.shape == (1, 25, 36)
        assert [job.result().job.status for job in jobs] == ["succeeded"] * 2


@pytest.mark.slow  # starts three servers
def test_killed_and_restarted_in_the_middle(connect: Any, kspace: Kspace, tmp_path: Path) -> None:
    """kill -9 while one call waits for its result: the same call returns it, and no second job was made."""
    port = _free_port()
    array = kspace(1, 1, 96, 96)
    options = {"method": "cs-wavelet", "acceleration": 3, "gap_tol": 0, "max_iters": 300}
    server = ServerProcess(tmp_path, port)
    service = connect(server.client.base_url)
    seen: list[Any] = []
    try:
        with ThreadPoolExecutor() as background:
            waits = background.submit(service.reconstruct, array, on_progress=seen.append, **options)
            until(lambda: any(one.iteration > 20 for one in seen))
            server.kill(signal.SIGKILL)
            server = ServerProcess(tmp_path, port)
            result = waits.result()
        mask = mr.random_mask(96, 3, seed=0)
        expected = mr.reconstruct(
            mr.undersample(array, mask), mask, method="cs-wavelet", gap_tol=0.0, max_iters=300
        ).image.numpy()
        np.testing.assert_allclose(result.image, expected, atol=1e-5 * np.abs(expected).max())
        assert 'jobs_total{kind="reconstruction",status="succeeded"} 1' in server.client.get("/metrics").text
        server.kill(signal.SIGTERM)  # a service that is told to stop, and one that was not there for a while
        with ThreadPoolExecutor() as background:
            saved = background.submit(result.save, tmp_path / "image.npy")
            time.sleep(0.5)
            assert not saved.done()
            server = ServerProcess(tmp_path, port)
            saved.result()
        np.testing.assert_array_equal(np.load(tmp_path / "image.npy"), result.image)
    finally:
        server.kill(signal.SIGTERM)


def test_keys(connect: Any, serve: Any, scan: Any, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "laboratory")
    with serve(Settings(require_keys=True, keys_file=tmp_path / "keys.json")) as server:
        with pytest.raises(AccessError, match="needs an API key: pass key=") as caught:
            connect(server).methods()
        assert (caught.value.code, caught.value.status) == ("unauthorized", 401)
        wrong = "0" * len(key)
        with pytest.raises(AccessError, match="expected an API key") as caught:
            connect(server, key=wrong).submit(scan, method="zero-filled", acceleration=3)
        assert wrong not in str(caught.value)
        service = connect(server, key=f"{key}\n")  # as a file holds it
        assert key not in repr(service)
        result = service.reconstruct(scan, method="zero-filled", acceleration=3)
        other = add_key(tmp_path / "keys.json", "other")
        with pytest.raises(ServiceError) as hidden:
            _ = connect(server, key=other).job(result.job.id).status
        assert hidden.value.code == "job-not-found"
        assert connect(server).ready(timeout=PATIENCE)  # needs no key


@pytest.mark.parametrize("key", ["", " ", "a b", "schlüssel", "a\r\nX-Evil: 1"])
def test_what_cannot_be_a_key(connect: Any, key: str) -> None:
    with pytest.raises(ConfigError, match="mri-recon key add") as caught:
        connect("http://127.0.0.1:9", key=key)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://127.0.0.1:8000?x=1", "http://127.0.0.1:port", "", "a b"],
)
def test_what_cannot_be_an_address(connect: Any, address: str) -> None:
    with pytest.raises(ConfigError, match="expected an address such as"):
        connect(address)


def test_a_password_in_the_address_is_not_repeated(connect: Any) -> None:
    with pytest.raises(ConfigError, match="pass the key by key=") as caught:
        connect("http://me:geheim@127.0.0.1:8000")
    assert "geheim" not in str(caught.value)


def test_nobody_answers(connect: Any, scan: Any) -> None:
    """At once, for an address that never answered."""
    service = connect(f"http://127.0.0.1:{_free_port()}", patience=PATIENCE)
    for call in (service.ready, service.sample, lambda: service.submit(scan, method="zero-filled", acceleration=3)):
        with pytest.raises(UnreachableError, match="nobody answers at .*start the service with `mri-recon serve`"):
            call()
    with pytest.raises(UnreachableError, match="nobody answers"):
        list(service.job("any").events())
    with pytest.raises(UnreachableError):
        service.ready(timeout=0.2)


def test_a_service_that_starts_is_awaited(connect: Any, tmp_path: Path) -> None:
    port = _free_port()
    service = connect(f"http://127.0.0.1:{port}")
    with ThreadPoolExecutor() as background:
        ready = background.submit(service.ready, timeout=PATIENCE)
        server = ServerProcess(tmp_path, port)
        try:
            assert ready.result()
        finally:
            server.kill(signal.SIGTERM)


OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (OK + b"Content-Type: application/json\r\n\r\n{}", r"got 200 OK \(application/json\): check the address"),
        (OK + b"Content-Type: text/html\r\n\r\nhi", r"got 200 OK \(text/html\)"),
        (b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "got 404 Not Found"),
        (b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "got 413 Too Large"),
    ],
)
def test_a_server_that_is_none_of_ours(connect: Any, scan: Any, reply: bytes, message: str) -> None:
    with _says(reply) as (address, _):
        service = connect(address, patience=PATIENCE)
        for call in (service.methods, lambda: service.submit(scan, method="zero-filled", acceleration=3)):
            with pytest.raises(ForeignServerError, match=message) as caught:
                call()
            assert caught.value.code == "foreign-server"


@pytest.mark.parametrize("body", [b"hi", b"[]", b"{}"])
def test_an_answer_of_ours_that_is_no_document(connect: Any, scan: Any, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nX-Research-Only: yes\r\nContent-Length: %d\r\n\r\n" % len(body)
    with _says(head + body) as (address, _):
        service = connect(address)
        for call in (
            lambda: service.submit(scan, method="zero-filled", acceleration=3),
            lambda: service.mask(width=8, acceleration=2),
            lambda: service.job("a").status,
        ):
            with pytest.raises(ForeignServerError, match="check the address"):
                call()


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH_9.6\r\n", b"* OK IMAP\r\n\r\n", b""])
def test_a_server_that_speaks_no_http(connect: Any, reply: bytes) -> None:
    with (
        _says(reply) as (address, _),
        pytest.raises(UnreachableError, match=r"nobody answers at .*: check the address"),
    ):
        connect(address, patience=PATIENCE).methods()


def test_a_redirection_after_the_first_request(connect: Any, scan: Any, serve: Any) -> None:
    """A service that was met and whose place another server takes: its key is its own, and goes no further."""
    port = _free_port()
    with _says(OK + b"\r\nhi") as (elsewhere, got):
        service = connect(f"http://127.0.0.1:{port}", key="secret")
        moved = b"HTTP/1.1 307 Moved\r\nConnection: close\r\nContent-Length: 0\r\n"
        with _says(OK + b"X-Research-Only: yes\r\n\r\n{}", port), pytest.raises(ForeignServerError):
            _ = service.job("a").status
        with _says(moved + f"Location: {elsewhere}/\r\n\r\n".encode(), port) as (_, asked):
            with pytest.raises(ForeignServerError, match=f"got a redirection to {elsewhere}/"):
                service.methods()
            assert b"Bearer secret" in asked[0]
        assert got == []


def test_a_proxy_whose_service_is_away_is_asked_again(connect: Any) -> None:
    with _says(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") as (address, got):
        with pytest.raises(ForeignServerError, match="502 Bad Gateway"):
            connect(address, patience=0.6).methods()
        assert len(got) >= 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirection_is_followed(connect: Any, scan: Any, status: int) -> None:
    """The key stays with the host that the user named."""
    with _says(OK + b"\r\nhi") as (elsewhere, got):
        location = f"Location: {elsewhere}/v1/models\r\n".encode()
        reply = b"HTTP/1.1 %d Moved\r\n" % status + location + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
        with _says(reply) as (address, asked):
            service = connect(address, key="secret")
            for call in (service.methods, lambda: service.submit(scan, method="zero-filled", acceleration=3)):
                with pytest.raises(ForeignServerError, match=f"got a redirection to {elsewhere}/v1/models") as caught:
                    call()
                assert caught.value.status == status
            assert asked
            assert b"secret" not in b"".join(asked)  # nor does it go to a host that was named by mistake
        assert got == []


@needs_openssl
def test_certificates(connect: Any, serve: Any, tmp_path: Path) -> None:
    """One of an authority that this machine does not know is an error at once; `verify` names the authority."""
    made = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server, made.server_key)
    reply = OK + b"X-Research-Only: yes\r\n\r\n{}"
    with _says(reply, tls=context) as (address, _):
        address = address.replace("http://127.0.0.1", "https://localhost")
        with pytest.raises(ForeignServerError, match="expected a certificate that this machine trusts"):
            connect(address).ready()
        assert connect(address, verify=ssl.create_default_context(cafile=str(made.authority))).ready()


def test_a_closed_client(connect: Any, proxied: Any, scan: Any, tmp_path: Path) -> None:
    _, proxy = proxied
    service = connect(proxy.address)
    result = service.reconstruct(scan, method="zero-filled", acceleration=3)
    service.close()
    for call in (service.methods, lambda: result.save(tmp_path / "a.npy"), lambda: list(result.job.events())):
        with pytest.raises(ServiceError, match="the client is closed") as caught:
            call()
        assert caught.value.code == "client-closed"
    assert not list(tmp_path.iterdir())


def test_an_environment_with_a_proxy(scan: Any, proxied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of a network reaches this machine."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    _, proxy = proxied
    with Client(proxy.address) as service:
        assert service.mask(width=36, acceleration=3).lines.sum() == 12


def test_errors_are_the_librarys_and_travel_between_processes() -> None:
    error = BusyError("busy [busy]", status=429, members={"code": "busy", "detail": "busy", "request_id": "r"})
    assert isinstance(error, MriReconError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.code, again.status) == (BusyError, str(error), "busy", 429)
    assert (again.request_id, again.members) == ("r", error.members)
    assert UnreachableError("a").code == "unreachable"


def test_waits_grow_and_end() -> None:
    attempts, error = Attempts(60.0), UnreachableError("gone")
    waits = [attempts.after(error) for _ in range(9)]
    assert 0.1 <= waits[0] <= 0.2
    assert all(5 <= one <= 10 for one in waits[6:])
    assert attempts.after(error, at_least=30.0) == 30.0
    with pytest.raises(UnreachableError, match="gone"):
        attempts.after(error, at_least=61.0)
    attempts.succeeded()
    assert attempts.after(error) <= 0.2
    with pytest.raises(UnreachableError):
        Attempts(0.0).after(error)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("", None), ("soon", None), ("-1", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("²", None)],
)
def test_the_header_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after(Answer(503, "", {"retry-after": text} if text else {})) == seconds


@pytest.mark.parametrize("change", [b"more", None])
def test_a_scan_that_changes_while_it_is_sent(
    connect: Any, proxied: Any, scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: bytes | None
) -> None:
    """Another program appends to the file, or cuts it: nothing of it becomes a job."""
    _, proxy = proxied
    path = tmp_path / "scan.npy"
    np.save(path, np.concatenate([scan] * 400))
    real = httpx._multipart.FileField.render_data

    def changing(self: Any) -> Iterator[bytes]:
        pieces = real(self)
        yield next(pieces)
        with path.open("r+b") as file:
            if change is None:
                file.truncate(path.stat().st_size - 1)
            else:
                file.seek(0, 2)
                file.write(change)
        yield from pieces

    monkeypatch.setattr(httpx._multipart.FileField, "render_data", changing)
    service = connect(proxy.address)
    with pytest.raises(FormatError, match=r"scan\.npy changes while it is sent"):
        service.submit(path, method="zero-filled", acceleration=3)
    assert service.jobs() == []
