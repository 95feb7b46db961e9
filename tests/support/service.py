"""Wait for a service, and read its answers."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from mri_recon_service.job import NewJob
from tests.support.patience import PATIENCE


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until a condition holds; fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until_status(client: httpx.Client, job: str, status: str) -> dict[str, Any]:
    """Wait until a job has a status, and return its document; fail where it ends with another."""
    document: dict[str, Any] = {}

    def reached() -> bool:
        document.update(client.get(job).json())
        ended = document["status"] in ("succeeded", "failed", "cancelled")
        assert document["status"] == status or not ended, document
        return bool(document["status"] == status)

    until(reached)
    return document


def array_of(response: httpx.Response) -> Any:
    """Read the array of an answer in npy."""
    assert response.status_code == 200, response.text
    return np.load(io.BytesIO(response.content), allow_pickle=False)


class ServerProcess:
    """`mri-recon serve` in a process of its own."""

    def __init__(self, data: Path, port: int = 0, **settings: str) -> None:
        command = [sys.executable, "-m", "mri_recon.cli", "serve", "--port", str(port)]
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "MRI_RECON_DATA_DIR": str(data),
            "OMP_NUM_THREADS": "1",
            **settings,
        }
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + self.process.communicate()[1]
        self.client = httpx.Client(base_url=found.group(), timeout=PATIENCE, trust_env=False)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.client.get("/health/live")
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def kill(self, number: int) -> None:
        self.client.close()
        self.process.send_signal(number)
        self.process.communicate(timeout=PATIENCE)


def new_job(name: str, **more: Any) -> NewJob:
    """A job for a store alone."""
    given: dict[str, Any] = {"client": "", "request": {}, "created": time.time(), **more}
    return NewJob(id=name, kind="reconstruction", **given)
