"""Jobs: followed, awaited for some time, cancelled, deleted, found again by another client."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mri_recon.errors import Cancelled, ConfigError
from mri_recon_service.client import AsyncClient, JobCancelledError, JobFailedError, ServiceError, WaitTimeoutError
from mri_recon_service.settings import Settings
from tests.support.cutting_proxy import CuttingProxy
from tests.support.methods import Steps, add_method
from tests.support.patience import PATIENCE
from tests.support.service import ServerProcess, until, until_status

Kspace = Callable[..., Any]
LONG = {"method": "cg-sense", "acceleration": 3, "max_iters": 1000000, "tol": 0, "reg_weight": 0, "maps": "center"}
"""Minutes of work, in short iterations."""


@pytest.fixture
def server(serve: Any) -> Iterator[httpx.Client]:
    with serve(Settings()) as one:
        yield one


@pytest.fixture
def scan(kspace: Kspace) -> Any:
    return kspace(1, 2, 25, 36)


def test_events_from_the_first_to_the_last(connect: Any, server: httpx.Client, scan: Any, steps: Steps) -> None:
    service = connect(server)
    job = service.submit(scan, method="steps", acceleration=3)
    assert re.fullmatch(r"(Async)?Job\(\w{32}, reconstruction, queued\)", repr(job))
    seen = []
    for event in job.events():
        seen.append(event)
        if event.status == "running":
            steps.go.release(1)
        if event.kind == "progress" and event.progress.stage == "iterate":
            steps.go.release(1000)  # it came while the method worked
    assert [one.kind for one in seen[:3]] == ["status", "status", "progress"]
    assert [one.status for one in seen[:2]] == ["queued", "running"]
    assert (seen[-1].kind, seen[-1].status) == ("end", "succeeded")
    last = seen[-2]
    assert (last.progress.method, last.progress.iteration, last.progress.total) == ("steps", 100, 100)
    assert last.progress.relative_gap is None  # JSON has no infinity
    assert last.document["objective"] == last.progress.objective == 0.01
    numbers = [one.id for one in seen]
    assert numbers == sorted(set(numbers))
    assert job.status == "succeeded"
    assert job.document["finished"] is not None
    assert list(job.events()) == seen
    assert list(job.events(after=numbers[-3])) == seen[-2:]
    assert list(job.events(after=numbers[-1])) == []


def test_a_result_that_is_not_there_in_time(connect: Any, server: httpx.Client, scan: Any, steps: Steps) -> None:
    """It is awaited for the given time, not until the next event, and the job goes on."""
    job = connect(server).submit(scan, method="steps", acceleration=3)
    assert steps.begun.wait(PATIENCE)
    start = time.monotonic()
    with pytest.raises(WaitTimeoutError, match="it goes on; wait again, or cancel it") as caught:
        job.result(timeout=0.7)
    assert time.monotonic() - start >= 0.7
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.job_id == job.id
    assert job.status == "running"
    with pytest.raises(ServiceError) as early:
        job.save("image.npy")
    assert early.value.code == "job-not-finished"
    steps.go.release(1000)
    seen: list[Any] = []
    assert job.result(on_progress=seen.append).image.shape == (1, 25, 36)
    assert seen[-1].iteration == 100


def test_one_connection_serves_many_events_before_a_deadline(
    connect: Any, proxied: Any, scan: Any, steps: Steps
) -> None:
    """A deadline makes silent connections short; it does not open one for each event."""
    _, proxy = proxied
    job = connect(proxy.address).submit(scan, method="steps", acceleration=3)
    with ThreadPoolExecutor() as background:
        waits = background.submit(job.result, timeout=20)
        for _ in range(100):
            steps.go.release(1)
            time.sleep(0.02)
        waits.result()
    assert 1 <= proxy.count(f"GET /v1/jobs/{job.id}/events") <= 3


def test_a_cancelled_job(connect: Any, server: httpx.Client, scan: Any, steps: Steps) -> None:
    service = connect(server)
    job = service.submit(scan, method="steps", acceleration=3)
    waiting = service.submit(scan, method="steps", acceleration=3)
    assert steps.begun.wait(PATIENCE)
    assert waiting.cancel() == "cancelled"
    assert job.cancel() in ("running", "cancelled")
    steps.go.release(1)
    with pytest.raises(JobCancelledError, match="was cancelled: send the request again") as caught:
        job.result()
    assert (caught.value.code, caught.value.job_id) == ("job-cancelled", job.id)
    assert job.cancel() == "cancelled"  # and it is still there
    assert job.status == "cancelled"


def test_cancelling_keeps_a_result(connect: Any, server: httpx.Client, scan: Any) -> None:
    """The service deletes an ended job when it is asked to stop it; the client does not ask."""
    service = connect(server)
    job = service.reconstruct(scan, method="zero-filled", acceleration=3).job
    again = service.job(job.id)
    assert again.cancel() == "succeeded"
    assert again.result().image.shape == (1, 25, 36)


def test_a_failed_job(
    connect: Any, server: httpx.Client, scan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(kspace: Any, mask: Any, *, sens_maps: Any) -> Any:
        raise RuntimeError("a secret")

    add_method(monkeypatch, "broken", broken)
    service = connect(server)
    with pytest.raises(JobFailedError, match="log") as caught:
        service.reconstruct(scan, method="broken", acceleration=3)
    error = caught.value
    assert (error.code, error.status) == ("internal-error", 500)
    assert error.job_id is not None
    assert "secret" not in str(error)
    job = service.job(error.job_id)
    assert job.status == "failed"
    for call in (job.result, lambda: job.save(tmp_path / "a.h5")):
        with pytest.raises(JobFailedError):
            call()
    assert not list(tmp_path.glob("*.h5"))


def test_another_client_finds_the_job_again(
    connect: Any, server: httpx.Client, scan: Any, steps: Steps, tmp_path: Path
) -> None:
    first = connect(server)
    job_id = first.submit(scan, method="steps", acceleration=3).id
    first.close()
    second = connect(server)
    job = second.job(job_id)
    assert job.status in ("queued", "running")
    steps.go.release(1000)
    result = job.result(timeout=PATIENCE)
    assert job.save(tmp_path / "image.npy") == ""
    np.testing.assert_array_equal(np.load(tmp_path / "image.npy"), result.image)
    with pytest.raises(ServiceError) as caught:
        _ = second.job("../models").status
    assert caught.value.code in ("not-found", "job-not-found")


def test_the_same_key_is_the_same_job(connect: Any, server: httpx.Client, scan: Any, tmp_path: Path) -> None:
    """Also for a client that was restarted, and whether the scan is an array or the file of it."""
    np.save(tmp_path / "scan.npy", scan)
    request = {"method": "zero-filled", "acceleration": 3, "idempotency_key": "study-7"}
    one = connect(server).submit(scan, **request)
    two = connect(server).reconstruct(tmp_path / "scan.npy", **request)
    assert two.job.id == one.id
    with pytest.raises(ServiceError) as caught:
        connect(server).submit(scan, **{**request, "acceleration": 2})
    assert caught.value.code == "idempotency-mismatch"


def test_the_jobs_of_a_key(connect: Any, server: httpx.Client, scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest first, over as many answers as it takes."""
    monkeypatch.setattr("mri_recon_service.client.work._MOST_LISTED", 2)
    service = connect(server)
    assert service.jobs() == []
    made = [service.submit(scan, method="zero-filled", acceleration=3, idempotency_key=f"k{n}").id for n in range(5)]
    assert [job.id for job in service.jobs()] == made[::-1]
    assert [job.id for job in service.jobs(limit=3)] == made[:1:-1]
    newest = service.jobs(limit=1)[0]
    assert newest.document["request"]["idempotency_key"] == "k4"
    assert newest.result().image.shape == (1, 25, 36)
    with pytest.raises(ConfigError, match="limit: expected at least 1, got 0"):
        service.jobs(limit=0)


def test_a_deleted_job(connect: Any, server: httpx.Client, scan: Any, steps: Steps) -> None:
    service = connect(server)
    done = service.reconstruct(scan, method="zero-filled", acceleration=3).job
    running = service.submit(scan, method="steps", acceleration=3)
    assert steps.begun.wait(PATIENCE)
    steps.go.release(1000)
    for job in (done, running):
        job.delete()
        job.delete()  # nothing is there any more
        with pytest.raises(ServiceError) as caught:
            _ = service.job(job.id).status
        assert caught.value.code == "job-not-found"


def test_a_job_that_somebody_else_deleted(connect: Any, server: httpx.Client, scan: Any) -> None:
    service = connect(server)
    job = service.reconstruct(scan, method="zero-filled", acceleration=3).job
    assert server.delete(f"/v1/jobs/{job.id}").status_code == 204
    with pytest.raises(ServiceError) as caught:
        list(job.events())
    assert caught.value.code == "job-not-found"


def test_what_the_callback_raises_cancels_the_job(connect: Any, server: httpx.Client, scan: Any, steps: Steps) -> None:
    def stop(progress: Any) -> None:
        raise Cancelled("enough")

    steps.go.release(1)
    with pytest.raises(Cancelled, match="enough"):
        connect(server).reconstruct(scan, method="steps", acceleration=3, on_progress=stop)
    steps.go.release(1)
    until(lambda: 'jobs_total{kind="reconstruction",status="cancelled"} 1' in server.get("/metrics").text)
    assert steps.done < 100


def test_an_awaited_callback(server: httpx.Client, scan: Any, steps: Steps) -> None:
    seen = []

    async def look(progress: Any) -> None:
        await asyncio.sleep(0)
        seen.append(progress.iteration)

    async def work() -> None:
        async with AsyncClient(str(server.base_url)) as service:
            await service.reconstruct(scan, method="steps", acceleration=3, on_progress=look)

    steps.go.release(1000)
    asyncio.run(work())
    assert seen[-1] == 100


@pytest.mark.parametrize("way", ["cancel", "timeout"])
def test_a_cancelled_task_cancels_its_job(server: httpx.Client, scan: Any, steps: Steps, way: str) -> None:
    async def work() -> None:
        async with AsyncClient(str(server.base_url)) as service:
            task = asyncio.create_task(service.compare(scan, methods="steps", acceleration=3))
            assert await asyncio.to_thread(steps.begun.wait, PATIENCE)
            if way == "cancel":
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                return
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await task

    asyncio.run(work())
    steps.go.release(1)
    until(lambda: 'jobs_total{kind="comparison",status="cancelled"} 1' in server.get("/metrics").text)


def test_two_at_a_time(server: httpx.Client, kspace: Kspace) -> None:
    """One client has many requests under way."""

    async def work() -> list[Any]:
        async with AsyncClient(str(server.base_url)) as service:
            scans = [kspace(1, 1, 25, 36, seed) for seed in range(4)]
            return await asyncio.gather(
                *(service.reconstruct(one, method="zero-filled", acceleration=3) for one in scans)
            )

    results = asyncio.run(work())
    assert len({one.job.id for one in results}) == 4
    assert len({one.image.tobytes() for one in results}) == 4


PROGRAM = """
import asyncio, sys
import numpy as np
from mri_recon_service.client import AsyncClient, Client

address, scan, kind, options = sys.argv[1], sys.argv[2], sys.argv[3], eval(sys.argv[4])

def told(progress):
    print("progress", flush=True)

async def main():
    async with AsyncClient(address) as service:
        await service.reconstruct(scan, on_progress=told, **options)

if kind == "blocking":
    with Client(address) as service:
        service.reconstruct(scan, on_progress=told, **options)
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("heard", [True, False], ids=["accepted", "not known to be accepted"])
@pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
def test_ctrl_c_cancels_the_job(kind: str, heard: bool, tmp_path: Path, kspace: Kspace) -> None:
    """A real SIGINT, to a process that waits for a job, or for the answer that tells of it."""
    np.save(tmp_path / "scan.npy", kspace(1, 4, 96, 96))
    server = ServerProcess(tmp_path / "data", MRI_RECON_MAX_ITERS="1000000")
    try:
        with CuttingProxy(server.client.base_url.port) as proxy:
            if not heard:
                proxy.held = "POST"
            command = [sys.executable, "-c", PROGRAM, proxy.address, str(tmp_path / "scan.npy"), kind, repr(LONG)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
                if heard:
                    assert process.stdout.readline() == "progress\n", process.communicate()
                else:
                    until(lambda: len(server.client.get("/v1/jobs").json()["jobs"]) == 1)
                process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=PATIENCE)
        assert "KeyboardInterrupt" in told
        assert "could not be cancelled" not in told
        assert process.returncode != 0
        (job,) = server.client.get("/v1/jobs").json()["jobs"]
        until_status(server.client, job["links"]["self"], "cancelled")
    finally:
        server.kill(signal.SIGTERM)


def test_an_interruption_that_cannot_be_told(serve: Any, scan: Any, steps: Steps) -> None:
    """The interruption is not lost over it, and says what may go on."""

    async def work(proxy: CuttingProxy) -> BaseException:
        async with AsyncClient(proxy.address) as service:
            task = asyncio.create_task(service.reconstruct(scan, method="steps", acceleration=3))
            assert await asyncio.to_thread(steps.begun.wait, PATIENCE)
            proxy.cuts += [("DELETE", 0)] * 100
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            return caught.value

    with (
        serve(Settings()) as server,
        CuttingProxy(server.base_url.port) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("mri_recon_service.client.work._CANCEL_PATIENCE", 0.3)
        (note,) = asyncio.run(work(proxy)).__notes__
        (job,) = server.get("/v1/jobs").json()["jobs"]
        assert f"the job {job['id']} could not be cancelled and may go on" in note
        steps.go.release(1000)
