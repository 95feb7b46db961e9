"""A service of several processes, as on several machines: PostgreSQL, an S3 server, HTTP processes, and workers."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import mri_recon as mr
from mri_recon_service.settings import Settings
from tests.support.patience import PATIENCE
from tests.support.postgres import PostgresServer, skip_without_postgres
from tests.support.s3 import CREDENTIALS, S3Server, skip_without_s3
from tests.support.service import ServerProcess, until_status

skip_without_postgres()
skip_without_s3()

OPTIONS = {"method": "cs-wavelet", "acceleration": "3", "gap_tol": "0", "max_iters": "60"}


class Cluster:
    """The parts, each with a data folder of its own, as on machines of their own."""

    def __init__(self, folder: Path, *, http: int, workers: int, lease: float) -> None:
        self._folder = folder
        self._started = 0
        self.database, self.objects = PostgresServer(), S3Server()
        self._environment = {
            **CREDENTIALS,
            "MRI_RECON_STORE": self.database.database(),
            "MRI_RECON_BUCKET": f"s3://{self.objects.bucket()}",
            "MRI_RECON_BUCKET_ENDPOINT": self.objects.address,
            "MRI_RECON_BUCKET_ADDRESS_SECONDS": "60",
            "MRI_RECON_LEASE_SECONDS": str(lease),
            "MRI_RECON_MAX_ATTEMPTS": "99",
            "MRI_RECON_PARSER_PROCESSES": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.workers: list[subprocess.Popen[str]] = []
        self.http: list[ServerProcess] = []
        try:
            self.http += [self._http() for _ in range(http)]
            for _ in range(workers):
                self.start_worker()
        except BaseException:
            self.close()
            raise

    def _http(self) -> ServerProcess:
        return ServerProcess(self._own_folder(), **self._environment, MRI_RECON_WORKER_THREADS="0")

    def start_worker(self) -> None:
        environment = {
            **os.environ,
            **self._environment,
            "PYTHONUNBUFFERED": "1",
            "MRI_RECON_DATA_DIR": str(self._own_folder()),
        }
        command = [sys.executable, "-m", "mri_recon.cli", "worker"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        self.workers.append(process)

    def wait_for_workers(self) -> None:
        for process in self.workers:
            assert process.stdout is not None
            assert "works on jobs" in process.stdout.readline()

    def close(self) -> None:
        for process in self.workers:
            process.send_signal(signal.SIGTERM)
        for server in self.http:
            server.kill(signal.SIGTERM)
        for process in self.workers:
            process.communicate(timeout=PATIENCE)
        self.objects.stop()
        self.database.stop()

    def _own_folder(self) -> Path:
        self._started += 1
        return self._folder / str(self._started)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """`cluster(http=, workers=, lease=)` starts the parts."""
    with ExitStack() as stack:

        def start(**more: Any) -> Cluster:
            one = Cluster(tmp_path, **more)
            stack.callback(one.close)
            return one

        yield start


def _accepted(client: httpx.Client, content: bytes, key: str) -> str:
    """Send a scan until it is accepted, as a client does that knows its key."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answer = client.post(
                "/v1/reconstructions",
                files={"file": ("a.npy", content)},
                data=OPTIONS,
                headers={"Prefer": "respond-async", "Idempotency-Key": key},
            )
            if answer.status_code == 202:
                return answer.headers["location"]
            assert answer.status_code == 429, answer.text
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.5)


def _check(client: httpx.Client, job: str, expected: Any) -> None:
    """Wait for a job, and check that it ended once, in the right image."""
    with client.stream("GET", f"{job}/events", timeout=PATIENCE) as stream:
        assert "".join(stream.iter_text()).count("event: end") == 1
    assert client.get(job).json()["status"] == "succeeded"
    elsewhere = client.get(f"{job}/result", headers={"Accept": "application/x-npz"})
    assert elsewhere.status_code == 303
    answer = httpx.get(elsewhere.headers["location"], trust_env=False)
    with np.load(io.BytesIO(answer.content)) as bundle:
        np.testing.assert_allclose(bundle["image"], expected, atol=1e-5 * np.abs(expected).max())


def _expected(scan: Any) -> Any:
    mask = mr.random_mask(scan.shape[-1], 3, seed=0)
    found = mr.reconstruct(mr.undersample(scan, mask), mask, method="cs-wavelet", gap_tol=0.0, max_iters=60)
    return found.image.numpy()


def test_a_process_without_workers_leaves_the_work_to_others(
    serve: Any, npy: Callable[[Any], bytes], kspace: Callable[..., Any], tmp_path: Path, postgres: PostgresServer
) -> None:
    """Any process answers for any job, and small work that another does is answered at once all the same."""
    store, content = postgres.database(), npy(kspace(1, 1, 25, 36))
    files, fields = {"file": ("a.npy", content)}, {"method": "zero-filled", "acceleration": "3"}
    shared = Settings(data_dir=tmp_path, store=store)
    with serve(shared.model_copy(update={"worker_threads": 0})) as idle:
        here = idle.post("/v1/reconstructions", files=files, data=fields, headers={"Prefer": "respond-async"}).headers[
            "location"
        ]
        time.sleep(1)
        assert idle.get(here).json()["status"] == "queued"
        assert idle.get("/health/ready").status_code == 200
        with serve(shared) as busy:
            until_status(idle, here, "succeeded")
            assert idle.get(f"{here}/result").content == busy.get(f"{here}/result").content
            array = {"Accept": "application/x-npy"}
            direct = idle.post("/v1/reconstructions", files=files, data=fields, headers=array)
            assert direct.status_code == 200
            assert direct.content == busy.post("/v1/reconstructions", files=files, data=fields, headers=array).content
            assert busy.get("/v1/jobs").json()["jobs"][1]["id"] in here


@pytest.mark.slow
def test_jobs_of_one_process_are_read_from_another(
    cluster: Callable[..., Cluster], npy: Callable[[Any], bytes], kspace: Callable[..., Any]
) -> None:
    parts = cluster(http=2, workers=1, lease=30)
    parts.wait_for_workers()
    scan = kspace(1, 1, 96, 96)
    one, two = (server.client for server in parts.http)
    job = _accepted(one, npy(scan), "a")
    _check(two, job, _expected(scan))
    assert _accepted(two, npy(scan), "a") == job
    assert two.delete(job).status_code == 204
    assert one.get(job).status_code == 404
    (worker,) = parts.workers
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0


@pytest.mark.soak
@pytest.mark.parametrize("kills", [int(os.environ.get("MRI_RECON_TEST_KILLS", "2"))])
def test_killed_workers_and_a_killed_database(
    cluster: Callable[..., Cluster], npy: Callable[[Any], bytes], kspace: Callable[..., Any], kills: int
) -> None:
    """kill -9 of workers and of PostgreSQL under load: every accepted job ends once, in its own image."""
    parts = cluster(http=2, workers=3, lease=5)
    parts.wait_for_workers()
    scans = [kspace(1, 1, 96, 96, seed) for seed in range(3)]
    expected = [_expected(scan) for scan in scans]
    accepted: list[tuple[str, int]] = []
    for round_ in range(kills):
        for number, scan in enumerate(scans):
            client = parts.http[(round_ + number) % 2].client
            accepted.append((_accepted(client, npy(scan), f"{round_}-{number}"), number))
        if round_ % 2:
            parts.database.kill()
            time.sleep(0.5)
            parts.database.start()
        else:
            victim = parts.workers.pop(0)
            victim.kill()
            victim.communicate()
            parts.start_worker()
    for index, (job, number) in enumerate(accepted):
        _check(parts.http[index % 2].client, job, expected[number])
    assert len({job for job, _ in accepted}) == len(accepted)
