"""Answers wait on the disk for slow readers, and nobody holds a scan for a client that waits for a job."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from mri_recon_service.answers.rendering import Rendered
from mri_recon_service.answers.sent import FileResponse, on_disk
from mri_recon_service.settings import Settings
from tests.support.methods import add_method
from tests.support.patience import PATIENCE
from tests.support.service import until, until_status


def test_a_large_body_is_a_file_without_a_name(tmp_path: Path) -> None:
    small = Rendered(b"x" * 65536, "image/png")
    assert on_disk(small, tmp_path) is small
    large = on_disk(Rendered(b"x" * 65537, "image/png", {"Vary": "Accept"}), tmp_path)
    assert not isinstance(large.content, bytes)
    assert not list(tmp_path.iterdir())
    answer = FileResponse(large.content, media_type=large.media_type, headers=large.headers)
    assert answer.headers["content-length"] == "65537"
    assert on_disk(large, tmp_path) is large
    large.content.close()


@pytest.mark.anyio
async def test_the_file_is_closed_whatever_the_client_does(tmp_path: Path) -> None:
    async def leave(message: Any) -> None:
        raise OSError("gone")

    kept = on_disk(Rendered(b"x" * 100_000, "image/png"), tmp_path).content
    assert not isinstance(kept, bytes)
    with pytest.raises(OSError, match="gone"):
        await FileResponse(kept, media_type="image/png", headers={})({}, leave, leave)  # type: ignore[arg-type]
    assert kept.closed


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A method `held` that ends when the event is set."""
    event = threading.Event()

    def method(kspace: torch.Tensor, mask: Any, *, sens_maps: Any) -> Any:
        assert event.wait(PATIENCE)
        return kspace[:, 0], {}

    add_method(monkeypatch, "held", method)
    return event


@pytest.mark.parametrize("headers", [{"Prefer": "wait=60"}, {"Idempotency-Key": "k"}], ids=["wait", "key"])
def test_a_client_that_waits_for_a_job_holds_nothing(
    serve: Any, kspace: Callable[..., Any], npy: Callable[[Any], bytes], held: threading.Event, headers: dict[str, str]
) -> None:
    scan = {"files": {"file": ("a.npy", npy(kspace(1, 1, 25, 36)))}, "data": {"method": "held", "acceleration": "3"}}
    with serve(Settings(worker_threads=1)) as client, ThreadPoolExecutor() as background:
        engine, buffers = client.app.state.engine, client.app.state.parser._turns._buffers
        direct = background.submit(client.post, "/v1/reconstructions", **scan)  # holds the worker, and its scan
        until(lambda: engine.schedule.in_use > 0)
        gc.collect()
        before = buffers.used
        waits = background.submit(client.post, "/v1/reconstructions", headers=headers, **scan)
        until(lambda: engine.store.queued() == 1)
        until(lambda: gc.collect() >= 0 and buffers.used == before)
        with httpx.Client(base_url=client.base_url, trust_env=False, timeout=0.5) as hasty:
            later = {**headers, "Idempotency-Key": "other"}
            with pytest.raises(httpx.ReadTimeout):
                hasty.post("/v1/reconstructions", headers={**later, "Prefer": "wait=60"}, **scan)
        until(lambda: client.app.state.requests._in_progress == 2)  # the hasty one has ended, its job waits
        assert engine.store.queued() == 2
        held.set()
        assert direct.result().status_code == waits.result().status_code == 200


def test_results_come_from_the_disk(serve: Any, kspace: Callable[..., Any], npy: Callable[[Any], bytes]) -> None:
    """In every format, also where other answers take all memory, or the result is deleted while it is sent."""
    scan = {"files": {"file": ("a.npy", npy(kspace(2, 2, 125, 136)))}, "data": {"method": "zero-filled"}}
    scan["data"]["acceleration"] = "3"
    with serve(Settings(max_buffer_bytes=10_000_000)) as client:
        here = client.post("/v1/reconstructions", headers={"Prefer": "respond-async"}, **scan).headers["location"]
        until_status(client, here, "succeeded")
        kinds = ["application/x-hdf5", "application/x-npz", "application/x-npy", "image/png"]
        for kind in kinds:
            answer = client.get(f"{here}/result", headers={"Accept": kind})
            assert answer.status_code == 200
            assert len(answer.content) == int(answer.headers["content-length"])
            assert "x-mask-receipt" in answer.headers
        folder = client.app.state.engine.files.folder(here.rpartition("/")[2])
        for kind, name in zip(kinds, ("result.h5", "result.npz"), strict=False):
            answer = client.get(f"{here}/result", headers={"Accept": kind})
            assert answer.content == (folder / name).read_bytes()
        with client.stream("GET", f"{here}/result", headers={"Accept": kinds[1]}) as stream:
            assert client.delete(here).status_code == 204
            assert len(stream.read()) == int(stream.headers["content-length"])


def test_no_memory_for_another_representation(
    serve: Any,
    kspace: Callable[..., Any],
    npy: Callable[[Any], bytes],
    problem: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mri_recon_service.jobs.engine._PATIENCE_SECONDS", 0.1)
    scan = {"files": {"file": ("a.npy", npy(kspace(1, 1, 25, 36)))}, "data": {"method": "zero-filled"}}
    scan["data"]["acceleration"] = "3"
    with serve(Settings(max_buffer_bytes=2**26)) as client:  # even: neither half is a large piece, which needs no room
        here = client.post("/v1/reconstructions", headers={"Prefer": "respond-async"}, **scan).headers["location"]
        until_status(client, here, "succeeded")
        buffers = client.app.state.engine.buffers
        taken = buffers.take(buffers.most // 2), buffers.take(buffers.most - buffers.most // 2)
        problem(client.get(f"{here}/result", headers={"Accept": "image/png"}), 429, "busy")
        assert client.get(f"{here}/result", headers={"Accept": "application/x-npz"}).status_code == 200
        taken[0].release()
        answer = client.get(f"{here}/result", headers={"Accept": "application/x-npy"})
        assert np.frombuffer(answer.content[-8:], np.complex64).size == 1
        assert buffers.used == buffers.most - buffers.most // 2
