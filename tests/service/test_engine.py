"""Direct work stays in its threads: bounded, with deadlines, and the event loop goes on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from mri_recon.errors import Cancelled
from mri_recon.methods.estimates import Estimates
from mri_recon.progress import Progress
from mri_recon_service.settings import Settings
from tests.support.methods import add_method
from tests.support.patience import PATIENCE
from tests.support.service import until

Post = Callable[..., httpx.Response]


class Slow:
    """A method that ends when it is told to, and says when it has begun."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.end = threading.Event()

    def __call__(self, kspace: torch.Tensor, mask: Any, *, sens_maps: Any) -> Any:
        self.begun.release()
        assert self.end.wait(PATIENCE)
        return kspace[:, 0], {}


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    method = Slow()
    add_method(monkeypatch, "slow", method)
    yield method
    method.end.set()


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def test_health_answers_while_a_reconstruction_runs(
    serve: Any, post: Post, kspace: Callable[..., Any], slow: Slow, background: ThreadPoolExecutor
) -> None:
    with serve(Settings(worker_threads=1)) as client:
        running = background.submit(post, client, kspace(1, 1, 25, 36), method="slow", acceleration=3)
        assert slow.begun.acquire(timeout=PATIENCE)
        for _ in range(5):
            assert client.get("/health/live").json() == {"status": "live"}
            assert client.get("/v1/models").status_code == 200
        assert not running.done()
        slow.end.set()
        assert running.result().status_code == 200


def test_a_full_queue_refuses_at_once(
    serve: Any,
    post: Post,
    kspace: Callable[..., Any],
    slow: Slow,
    background: ThreadPoolExecutor,
    problem: Callable[..., Any],
    tmp_path: Path,
) -> None:
    with serve(Settings(worker_threads=1, queue_size=1, upload_dir=tmp_path)) as client:
        fields = {"method": "slow", "acceleration": 3}
        accepted = [background.submit(post, client, kspace(1, 1, 25, 36), **fields) for _ in range(2)]
        assert slow.begun.acquire(timeout=PATIENCE)
        until(lambda: client.app.state.engine.admission.held == 2)
        for to in ("/v1/reconstructions", "/v1/compare"):
            answer = post(client, kspace(1, 1, 25, 36), to=to, accept=None, **fields)
            problem(answer, 429, "busy")
            assert int(answer.headers["retry-after"]) > 0
        slow.end.set()
        assert [one.result().status_code for one in accepted] == [200, 200]
        assert not list(tmp_path.iterdir())
        assert post(client, kspace(1, 1, 25, 36), **fields).status_code == 200


def test_a_missed_deadline(
    serve: Any,
    post: Post,
    kspace: Callable[..., Any],
    slow: Slow,
    problem: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """The answer comes in time; the thread keeps its place until it ends."""
    with serve(Settings(worker_threads=1, queue_size=0, timeout_seconds=0.3, upload_dir=tmp_path)) as client:
        problem(post(client, kspace(1, 1, 25, 36), method="slow", acceleration=3), 503, "timed-out")
        assert not list(tmp_path.iterdir())
        problem(post(client, kspace(1, 1, 25, 36), method="zero-filled", acceleration=3), 429, "busy")
        slow.end.set()
        until(lambda: client.app.state.engine.admission.held == 0)
        assert post(client, kspace(1, 1, 25, 36), method="zero-filled", acceleration=3).status_code == 200


def test_work_that_never_started_is_forgotten(
    serve: Any,
    post: Post,
    kspace: Callable[..., Any],
    slow: Slow,
    background: ThreadPoolExecutor,
    problem: Callable[..., Any],
) -> None:
    with serve(Settings(worker_threads=1, queue_size=1)) as client:
        fields = {"method": "slow", "acceleration": 3}
        running = background.submit(post, client, kspace(1, 1, 25, 36), **fields)
        assert slow.begun.acquire(timeout=PATIENCE)
        problem(post(client, kspace(1, 1, 25, 36), deadline_seconds=0.3, **fields), 503, "timed-out")
        assert client.app.state.engine.admission.held == 1
        slow.end.set()
        assert running.result().status_code == 200
        assert not slow.begun.acquire(timeout=0.2)


def test_work_ends_with_its_connection(
    serve: Any, npy: Callable[[Any], bytes], kspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that leaves stops its reconstruction before the next iteration."""
    begun, stopped = threading.Event(), threading.Event()

    def endless(kspace: torch.Tensor, mask: Any, *, sens_maps: Any, on_progress: Any = None) -> Any:
        try:
            while True:
                begun.set()
                on_progress(Progress("endless", "iterate", 1, None))
                time.sleep(0.01)
        except Cancelled:
            stopped.set()
            raise

    add_method(monkeypatch, "endless", endless)
    with serve(Settings()) as client:
        body = npy(kspace(1, 1, 25, 36))
        request = (
            "POST /v1/reconstructions?method=endless&acceleration=3 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/x-npy\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(request.encode() + body)
            assert begun.wait(PATIENCE)
            assert not stopped.wait(0.2)
        assert stopped.wait(PATIENCE)
        until(lambda: client.app.state.engine.admission.held == 0)


def test_many_clients_get_their_own_answers(
    client: httpx.Client, post: Post, kspace: Callable[..., Any], background: ThreadPoolExecutor
) -> None:
    scans = [kspace(1, 1, 25, 36, seed) for seed in range(8)]
    fields = {"method": "zero-filled", "acceleration": 3}
    together: list[Future[httpx.Response]] = [background.submit(post, client, scan, **fields) for scan in scans]
    for scan, answer in zip(scans, together, strict=True):
        assert answer.result().content == post(client, scan, **fields).content


def test_uploads_are_bounded_too(
    serve: Any, post: Post, kspace: Callable[..., Any], problem: Callable[..., Any], background: ThreadPoolExecutor
) -> None:
    with serve(Settings(max_concurrent_uploads=1)) as client:
        go_on, begun = threading.Event(), threading.Event()

        def body() -> Iterator[bytes]:
            yield b"\x93NUMPY"
            begun.set()
            assert go_on.wait(PATIENCE)
            yield b"rest"

        headers = {"Content-Type": "application/x-npy"}
        open_one = background.submit(client.post, "/v1/reconstructions", content=body(), headers=headers)
        assert begun.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        answer = post(client, kspace(1, 1, 25, 36), method="zero-filled", acceleration=3)
        while answer.status_code == 200 and time.monotonic() < deadline:  # the first may not have arrived yet
            answer = post(client, kspace(1, 1, 25, 36), method="zero-filled", acceleration=3)
        problem(answer, 429, "busy")
        go_on.set()
        problem(open_one.result(), 422, "invalid-request")


def test_work_in_progress_takes_no_more_memory_than_there_is(
    serve: Any, post: Post, kspace: Callable[..., Any], npy: Any, slow: Slow, background: ThreadPoolExecutor
) -> None:
    """Two threads, and memory for one `slow`: the others wait, jobs and direct work; what fits beside it is done."""
    most = Estimates.memory_bytes("slow", (1, 1, 25, 36)) + Estimates.memory_bytes("zero-filled", (1, 1, 25, 36))
    content = kspace(1, 1, 25, 36)
    with serve(Settings(worker_threads=2, max_memory_bytes=most)) as client:
        engine = client.app.state.engine
        jobs = [
            client.post(
                "/v1/reconstructions",
                files={"file": ("a.npy", npy(content))},
                data={"method": "slow", "acceleration": "3"},
                headers={"Prefer": "respond-async"},
            ).headers["location"]
            for _ in range(2)
        ]
        assert slow.begun.acquire(timeout=PATIENCE)
        assert not slow.begun.acquire(timeout=0.3)
        assert {client.get(job).json()["status"] for job in jobs} == {"running", "queued"}
        waiting = background.submit(post, client, content, method="zero-filled", acceleration=3)
        until(
            lambda: waiting.done() or engine.schedule.job_needs_room
        )  # done beside it, or after the job that came first
        slow.end.set()
        assert waiting.result().status_code == 200
        for job in jobs:
            until(lambda job=job: client.get(job).json()["status"] == "succeeded")
        until(lambda: engine.schedule.in_use == 0)


def test_direct_work_waits_for_the_memory_of_a_job(
    serve: Any, post: Post, kspace: Callable[..., Any], npy: Any, slow: Slow, background: ThreadPoolExecutor
) -> None:
    most = Estimates.memory_bytes("slow", (1, 1, 25, 36)) + 1
    content = kspace(1, 1, 25, 36)
    with serve(Settings(worker_threads=2, max_memory_bytes=most)) as client:
        job = client.post(
            "/v1/reconstructions",
            files={"file": ("a.npy", npy(content))},
            data={"method": "slow", "acceleration": "3"},
            headers={"Prefer": "respond-async"},
        ).headers["location"]
        assert slow.begun.acquire(timeout=PATIENCE)
        waiting = background.submit(post, client, content, method="zero-filled", acceleration=3)
        until(lambda: client.app.state.engine.admission.held == 1)
        assert not waiting.done()
        slow.end.set()
        assert waiting.result().status_code == 200
        until(lambda: client.get(job).json()["status"] == "succeeded")
