"""Nothing that was accepted is lost: killed processes, shared folders, disks that refuse."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import mri_recon as mr
from mri_recon.cli import build_app
from mri_recon.errors import ConfigError
from mri_recon_service.job import Job
from mri_recon_service.settings import Settings
from mri_recon_service.storage import sqlite
from mri_recon_service.storage.files import JobFiles
from mri_recon_service.storage.ownership import Ownership
from mri_recon_service.storage.sqlite import SqliteStore
from mri_recon_service.storage.store import Bounds, DiskShareFull, JobStore, QueueFull
from tests.support.patience import PATIENCE
from tests.support.service import ServerProcess, new_job, until, until_status

LOST = {"code": "worker-lost", "detail": "died", "extensions": {}}


def test_one_owner_gets_a_job(store: JobStore, open_store: Callable[[], JobStore]) -> None:
    other = open_store()
    for number in range(3):
        store.add(new_job(f"j{number}"), Bounds(9))
    taken = [store.claim("a", most=1), other.claim("b", most=1), store.claim("a", most=1), other.claim("b", most=1)]
    assert [[job.id for job in jobs] for jobs in taken] == [["j0"], ["j1"], ["j2"], []]
    assert not other.finish("j0", "b", "succeeded", problem=None, expires=1)
    assert store.finish("j0", "a", "succeeded", problem=None, expires=1)
    assert not store.finish("j0", "a", "failed", problem=LOST, expires=1)


def test_a_batch_is_claimed_together(store: JobStore) -> None:
    for number, key in enumerate(["x", None, "x", "y", "x", "x"]):
        store.add(new_job(f"j{number}", batch_key=key), Bounds(9))
    claimed = [[job.id for job in store.claim("a", most=3)] for _ in range(4)]
    assert claimed == [["j0", "j2", "j4"], ["j1"], ["j3"], ["j5"]]


def test_only_jobs_that_fit_are_claimed(store: JobStore) -> None:
    for number, (key, memory) in enumerate([(None, 50), ("x", 9), ("x", 9), ("x", 9), (None, 20)]):
        store.add(new_job(f"j{number}", batch_key=key, memory=memory), Bounds(9))
    assert store.claim("a", most=3, memory=8) == []
    claimed = [[job.id for job in store.claim("a", most=3, memory=20)] for _ in range(4)]
    assert claimed == [["j1", "j2"], ["j3"], ["j4"], []]  # together no more than 20
    assert [job.id for job in store.claim("a", most=3)] == ["j0"]


def _die(store: JobStore, *, most_attempts: int = 2) -> None:
    store.recover(lambda owner: False, most_attempts=most_attempts, lost=LOST, expires=9)


def _job(store: JobStore, name: str) -> Job:
    found = store.get(name)
    assert found is not None
    return found


def test_jobs_of_the_dead_are_tried_again_but_not_forever(store: JobStore) -> None:
    store.add(new_job("j"), Bounds(9))
    store.add(new_job("stopped"), Bounds(9))
    for attempt in (1, 2):
        jobs = [store.claim(f"owner{attempt}", most=1)[0] for _ in range(2 if attempt == 1 else 1)]
        store.begin(f"owner{attempt}", ["j"], alone=True)
        assert _job(store, "j").attempts == attempt
        if attempt == 1:
            store.cancel("stopped", expires=9)
        assert store.recover(lambda owner: True, most_attempts=2, lost=LOST, expires=9) == []
        dead = store.recover(lambda owner: False, most_attempts=2, lost=LOST, expires=9)
        assert dead == [f"owner{attempt}"]
        assert jobs[0].id == "j"
    assert (_job(store, "j").status, _job(store, "j").problem) == ("failed", LOST)
    assert _job(store, "stopped").status == "cancelled"
    assert [event.kind for event in store.events("j", after=0)] == ["status"] * 4 + ["end"]


def test_jobs_that_were_only_taken_lose_nothing(store: JobStore) -> None:
    for number in range(3):
        store.add(new_job(f"j{number}", batch_key="x"), Bounds(9))
    for _ in range(5):
        assert len(store.claim("a", most=8)) == 3
        _die(store)
    assert [(one.status, one.attempts, one.suspected) for one in (_job(store, f"j{n}") for n in range(3))] == [
        ("queued", 0, False)
    ] * 3


def test_a_batch_that_died_runs_one_by_one(store: JobStore) -> None:
    """None of it is blamed before it died alone; what follows in the queue does not begin beside a suspected job."""
    for number in range(3):
        store.add(new_job(f"j{number}", batch_key="x"), Bounds(9))
    store.begin("a", [job.id for job in store.claim("a", most=8)], alone=False)
    _die(store)
    store.add(new_job("new", batch_key="x"), Bounds(9))
    assert store.claim("b", most=8, memory=10, alone=False) == []
    claimed = [[job.id for job in store.claim("b", most=8, memory=10)] for _ in range(4)]
    assert claimed == [["j0"], ["j1"], ["j2"], ["new"]]
    store.begin("b", ["j1"], alone=True)
    _die(store, most_attempts=1)
    assert [_job(store, name).status for name in ("j0", "j1", "j2", "new")] == ["queued", "failed", "queued", "queued"]


def test_who_waits_behind_a_failed_batch_is_not_blamed(store: JobStore) -> None:
    for number in range(3):
        store.add(new_job(f"j{number}", batch_key="x"), Bounds(9))
    names = [job.id for job in store.claim("a", most=8)]
    store.begin("a", names, alone=False)
    store.begin("a", names[:1], alone=True, waiting=names[1:])  # the batch raised an error; now one by one
    _die(store, most_attempts=1)
    assert [(_job(store, name).status, _job(store, name).suspected) for name in names] == [
        ("failed", False),
        ("queued", False),
        ("queued", False),
    ]


def test_a_stopped_process_gives_the_attempt_back(store: JobStore) -> None:
    store.add(new_job("j"), Bounds(9))
    for _ in range(5):
        store.claim("a", most=1)
        store.begin("a", ["j"], alone=True)
        store.release("j", "a")
    assert _job(store, "j").attempts == 0


def test_a_store_of_the_first_versions(tmp_path: Path) -> None:
    """It keeps its jobs, whether its version had deliveries or not."""
    for version in (1, 2):
        path = tmp_path / f"{version}.sqlite"
        with closing(sqlite3.connect(path)) as db:
            for step in sqlite._STEPS[:version]:
                db.executescript(step)
            db.execute(f"PRAGMA user_version = {version}")
            db.execute(
                "INSERT INTO jobs (id, kind, client, status, request, created, memory, fingerprint, request_id) "
                "VALUES ('old', 'reconstruction', '', 'queued', '{}', 1.0, 5, '', '')"
            )
            db.commit()
        with closing(SqliteStore(path)) as store:
            (job,) = store.claim("a", most=1)
            assert (job.id, job.suspected, job.disk_bytes) == ("old", False, 0)


def test_clients_share_the_queue_and_the_disk(store: JobStore) -> None:
    """One alone takes two thirds; the others still get their parts."""
    bounds = Bounds(8, disk_bytes=800, shared=True)

    def accepted(client: str, size: int = 1) -> int:
        count = 0
        with suppress(QueueFull, DiskShareFull):
            while True:
                store.add(replace(new_job(uuid.uuid4().hex), client=client, disk_bytes=size), bounds)
                count += 1
        return count

    assert [accepted(client) for client in "abc"] == [5, 2, 1]
    assert accepted("d") == 0
    for _ in range(4):
        (job,) = store.claim("x", most=1)
        store.finish(job.id, "x", "succeeded", problem=None, expires=9, disk_bytes=150)
    with pytest.raises(DiskShareFull) as refused:
        store.add(replace(new_job("d"), client="a", disk_bytes=99), bounds)
    assert refused.value.mine == 601
    store.add(replace(new_job("e"), client="d", disk_bytes=99), bounds)
    store.expire(10)
    store.add(replace(new_job("d"), client="a", disk_bytes=99), bounds)


def test_a_released_job_keeps_its_place(store: JobStore) -> None:
    for name in ("first", "second"):
        store.add(new_job(name), Bounds(9))
    store.claim("a", most=1)
    store.release("first", "a")
    (job,) = store.claim("b", most=1)
    assert (job.id, job.attempts) == ("first", 0)


def test_a_store_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match="MRI_RECON_DATA_DIR"):
        SqliteStore(tmp_path / "file")
    with pytest.raises(ConfigError, match="MRI_RECON_DATA_DIR"):
        JobFiles(tmp_path / "file" / "jobs")
    with pytest.raises(ConfigError, match="MRI_RECON_DATA_DIR"):
        Ownership(tmp_path / "file" / "owners")
    with sqlite3.connect(tmp_path / "new.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigError, match="a newer mri-recon made it"):
        SqliteStore(tmp_path / "new.sqlite")


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {"MRI_RECON_DATA_DIR": str(tmp_path / "file")}
    done = CliRunner().invoke(build_app(), ["serve", "--port", "0"], env=environment)
    assert done.exit_code == 2
    assert done.stderr.startswith("mri-recon: error: expected a data folder that can be written to")
    assert done.stderr.count("\n") == 1


def test_owners_live_as_long_as_their_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mri_recon_service.storage.ownership import Ownership\n"
        f"print(Ownership(Path({str(tmp_path)!r})).id, flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    own = Ownership(tmp_path)
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:  # type: ignore[call-overload]
        owner = process.stdout.readline().strip()
        assert own.alive(owner)
        process.kill()
        process.wait()
        assert not own.alive(owner)
        process.stdin.close()
    own.bury(owner)
    assert not own.alive(owner)
    assert own.alive(own.id)
    own.close()
    assert not list(tmp_path.iterdir())


def test_files_of_dead_owners_are_swept_and_no_other(tmp_path: Path) -> None:
    own, neighbour = Ownership(tmp_path), Ownership(tmp_path)
    dead, begun, killed = (tmp_path / name for name in ("dead", ".begun", ".killed"))
    for path in (dead, begun, killed):
        path.touch()
    os.utime(killed, (0, 0))
    own.sweep()
    assert {path.name for path in tmp_path.iterdir()} == {own.id, neighbour.id, ".begun"}
    assert own.alive(neighbour.id)
    assert not own.alive("dead")
    neighbour.close()
    own.close()


def test_a_service_sweeps_the_owners_of_killed_ones(serve: Any, tmp_path: Path) -> None:
    """A killed process that owned no job leaves its file as well."""
    (tmp_path / "owners").mkdir()
    left = tmp_path / "owners" / ("0" * 32)
    left.touch()
    with serve(Settings(data_dir=tmp_path)):
        until(lambda: not left.exists())


def test_a_disk_that_refuses(
    serve: Any,
    npy: Callable[[Any], bytes],
    kspace: Callable[..., Any],
    problem: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that cannot be kept is not accepted; a result that cannot be kept fails its job, and says why."""
    with serve(Settings(data_dir=tmp_path)) as client:
        request = {
            "files": {"file": ("a.npy", npy(kspace(1, 1, 25, 36)))},
            "data": {"method": "zero-filled", "acceleration": "3"},
            "headers": {"Prefer": "respond-async"},
        }

        def full(*args: Any) -> Any:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("mri_recon_service.storage.files._sync", full)
            answer = problem(client.post("/v1/reconstructions", **request), 507, "storage-full")
            assert "free space" in answer["detail"]
            assert not list((tmp_path / "jobs").iterdir())
        with monkeypatch.context() as patch:
            patch.setattr(JobFiles, "write", lambda *args: JobFiles.take(args[0], "../file", {}))
            (tmp_path / "file").touch()
            here = client.post("/v1/reconstructions", **request).headers["location"]
            document = until_status(client, here, "failed")
            assert document["problem"]["code"] == "storage-full"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_processes_share_a_folder(
    serve: Any,
    npy: Callable[[Any], bytes],
    kspace: Callable[..., Any],
    tmp_path: Path,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    """Each job is done once, whichever of the two accepted it, and either one answers for it."""
    content = npy(kspace(1, 1, 25, 36))
    store = request.getfixturevalue("postgres").database() if kind == "postgresql" else None
    settings = Settings(data_dir=tmp_path, store=store)
    with serve(settings) as one, serve(settings) as two:
        jobs = [
            client.post(
                "/v1/reconstructions",
                files={"file": ("a.npy", content)},
                data={"method": "zero-filled", "acceleration": "3", "seed": str(seed)},
                headers={"Prefer": "respond-async"},
            ).headers["location"]
            for seed in range(5)
            for client in (one, two)
        ]
        for job in jobs:
            until_status(two, job, "succeeded")
            assert one.get(f"{job}/result").content == two.get(f"{job}/result").content
            assert one.get(f"{job}/events").text.count("event: end") == 1
            assert one.get(f"{job}/events").text.count('"running"') == 1


@pytest.mark.slow  # starts a server more than there are kills
@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.soak)])
def test_killed_in_the_middle(
    npy: Callable[[Any], bytes], kspace: Callable[..., Any], tmp_path: Path, kills: int
) -> None:
    """kill -9 while jobs run and wait: each one ends in its own result, once, after a restart."""
    scans = [kspace(1, 1, 96, 96, seed) for seed in range(3)]
    options = {"method": "cs-wavelet", "acceleration": "3", "gap_tol": "0", "max_iters": "300"}
    accepted: dict[str, Any] = {}
    for round_ in range(kills):
        server = ServerProcess(tmp_path)
        for number, scan in enumerate(scans):
            answer = server.client.post(
                "/v1/reconstructions",
                files={"file": ("a.npy", npy(scan))},
                data=options,
                headers={"Prefer": "respond-async", "Idempotency-Key": f"{round_}-{number}"},
            )
            assert answer.status_code == 202, answer.text
            accepted[answer.headers["location"]] = scan
        time.sleep(0.3)
        server.kill(signal.SIGKILL)
    server = ServerProcess(tmp_path)
    try:
        mask = mr.random_mask(96, 3, seed=0)
        expected = {
            scan.tobytes(): mr.reconstruct(
                mr.undersample(scan, mask), mask, method="cs-wavelet", gap_tol=0.0, max_iters=300
            ).image.numpy()
            for scan in scans
        }
        for job, scan in accepted.items():
            with server.client.stream("GET", f"{job}/events", timeout=PATIENCE) as stream:
                assert "".join(stream.iter_text()).count("event: end") == 1
            document = server.client.get(job).json()
            if document["status"] == "failed":  # it happened to run in each of the kills
                assert document["problem"]["code"] == "worker-lost"
                continue
            assert document["status"] == "succeeded"
            answer = server.client.get(f"{job}/result", headers={"Accept": "application/x-npz"})
            with np.load(io.BytesIO(answer.content)) as bundle:
                image = expected[scan.tobytes()]
                np.testing.assert_allclose(bundle["image"], image, atol=1e-5 * np.abs(image).max())
        again = server.client.post(
            "/v1/reconstructions",
            files={"file": ("a.npy", npy(scans[0]))},
            data=options,
            headers={"Prefer": "respond-async", "Idempotency-Key": "0-0"},
        )
        assert again.headers["location"] == next(iter(accepted))
    finally:
        server.kill(signal.SIGTERM)
