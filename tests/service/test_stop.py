"""A service that is told to stop answers who waits: soon, with 503 and the time to ask again."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.patience import PATIENCE
from tests.support.service import ServerProcess, until, until_status

LONG = {
    "method": "cg-sense",
    "acceleration": "3",
    "max_iters": "1000000",
    "tol": "0",
    "reg_weight": "0",
    "maps": "center",
}
"""Minutes of work, in short iterations: its residual never is 0."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "uploads").mkdir()
    one = ServerProcess(
        tmp_path / "data", MRI_RECON_MAX_ITERS="1000000", MRI_RECON_UPLOAD_DIR=str(tmp_path / "uploads")
    )
    yield one
    one.client.close()
    if one.process.poll() is None:
        one.kill(signal.SIGKILL)


@pytest.fixture
def scan(npy: Callable[[Any], bytes], kspace: Callable[..., Any]) -> dict[str, Any]:
    return {"files": {"file": ("a.npy", npy(kspace(1, 4, 96, 96)))}, "data": LONG}


def _waiting(server: ServerProcess, kind: str) -> int:
    found = re.search(rf'mri_recon_queue_length{{kind="{kind}"}} (\d+)', server.client.get("/metrics").text)
    assert found is not None
    return int(found[1])


def _log_after(server: ServerProcess, number: int) -> str:
    server.client.close()
    server.process.send_signal(number)
    return str(server.process.communicate(timeout=PATIENCE)[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_direct_work_and_half_an_upload(
    number: int, server: ServerProcess, scan: dict[str, Any], problem: Callable[..., Any], tmp_path: Path
) -> None:
    """One request is worked on, one waits for a thread, one still sends its body."""
    address = (server.client.base_url.host, server.client.base_url.port)
    begun = b"POST /v1/reconstructions?method=zero-filled&acceleration=3 HTTP/1.1\r\nHost: localhost\r\n"
    begun += b"Content-Type: application/x-npy\r\nContent-Length: 9000000\r\n\r\n" + bytes(2_000_000)
    with ThreadPoolExecutor() as background, socket.create_connection(address, timeout=PATIENCE) as half:
        sent = [
            background.submit(
                httpx.post, f"{server.client.base_url}/v1/reconstructions", timeout=PATIENCE, trust_env=False, **scan
            )
            for _ in range(2)
        ]
        until(lambda: _waiting(server, "direct") == 2)
        half.sendall(begun)
        until(lambda: any((tmp_path / "uploads").glob("mri-recon-upload-*/upload.npy")))
        log = _log_after(server, number)
        for one in sent:
            answer = one.result()
            assert "stops before the answer is there" in problem(answer, 503, "stopping")["detail"]
            assert int(answer.headers["retry-after"]) > 0
        told = b"".join(iter(lambda: half.recv(65536), b""))
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"stopping"' in told
        assert b"retry-after: " in told.lower()
    assert server.process.returncode in (-number, 128 + number)
    assert "Traceback" not in log
    assert not any((tmp_path / "uploads").iterdir())


def test_who_waits_for_a_job_is_told_its_address(server: ServerProcess, scan: dict[str, Any], tmp_path: Path) -> None:
    """The job is kept, and the next service goes on with it."""
    with ThreadPoolExecutor() as background:
        headers = {"Prefer": "wait=600"}
        waits = background.submit(
            httpx.post,
            f"{server.client.base_url}/v1/reconstructions",
            headers=headers,
            timeout=PATIENCE,
            trust_env=False,
            **scan,
        )
        until(lambda: re.search(r"mri_recon_running_jobs 1", server.client.get("/metrics").text) is not None)
        log = _log_after(server, signal.SIGTERM)
        answer = waits.result()
    assert answer.status_code == 202
    assert "Traceback" not in log
    again = ServerProcess(tmp_path / "data", MRI_RECON_MAX_ITERS="1000000")
    try:
        here = answer.headers["location"]
        assert until_status(again.client, here, "running")["status"] == "running"
        assert again.client.delete(here).status_code == 202
        until_status(again.client, here, "cancelled")
    finally:
        again.kill(signal.SIGTERM)


def test_a_stop_without_work(server: ServerProcess) -> None:
    assert "Traceback" not in _log_after(server, signal.SIGTERM)
