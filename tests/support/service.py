"""Wait for a service, and read its answers."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

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
