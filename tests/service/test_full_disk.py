"""A disk without room: 507 wherever it shows, never the client's fault, no path in an answer, nothing left behind."""

from __future__ import annotations

import errno
import io
import os
import re
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mri_recon.errors import OutputError
from mri_recon_service.job import NewJob
from mri_recon_service.problems import Problem, problem_of
from mri_recon_service.settings import Settings
from mri_recon_service.storage.sqlite import SqliteStore
from mri_recon_service.storage.store import Bounds
from mri_recon_service.uploads import parser as parser_process
from mri_recon_service.uploads.parser_pool import ParserPool
from mri_recon_service.uploads.parser_process import _refused
from mri_recon_service.uploads.protocol import NO_ROOM, ParserConfig, Refusal, Request
from tests.support.patience import PATIENCE
from tests.support.service import until_status

RECONSTRUCTIONS = "/v1/reconstructions"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Check = Callable[..., Any]


def refuse(number: int = errno.ENOSPC) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number), "/secret/path")

    return fail


@pytest.fixture
def request_of(npy: Callable[[Any], bytes], kspace: Callable[..., Any]) -> dict[str, Any]:
    return {
        "files": {"file": ("a.npy", npy(kspace(1, 1, 25, 36)))},
        "data": {"method": "zero-filled", "acceleration": "3"},
    }


def stored(answer: httpx.Response, problem: Check, folder: Path) -> None:
    """It is the disk's fault, and the answer does not say where the disk is."""
    problem(answer, 507, "storage-full")
    assert str(folder) not in answer.text
    assert "secret" not in answer.text


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("raw", [True, False])
def test_an_upload(
    number: int,
    raw: bool,
    serve: Any,
    request_of: dict[str, Any],
    problem: Check,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mri_recon_service.uploads.multipart.Sink._put", refuse(number))
    with serve(Settings(upload_dir=tmp_path)) as client:
        if raw:
            answer = client.post(
                f"{RECONSTRUCTIONS}?method=zero-filled&acceleration=3",
                content=request_of["files"]["file"][1],
                headers={"Content-Type": "application/x-npy"},
            )
        else:
            answer = client.post(RECONSTRUCTIONS, **request_of)
        stored(answer, problem, tmp_path)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [refuse(), OutputError("cannot write /secret/path", full=True)])
@pytest.mark.parametrize("durable", [False, True])
def test_rendering(
    error: Any,
    durable: bool,
    serve: Any,
    request_of: dict[str, Any],
    problem: Check,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        if isinstance(error, OutputError):
            raise error
        error()

    for place in ("jobs.submission.hdf5_of", "jobs.runner.hdf5_of"):
        monkeypatch.setattr(f"mri_recon_service.{place}", fail)
    with serve(Settings(data_dir=tmp_path)) as client:
        headers = {"Idempotency-Key": "one"} if durable else {}
        stored(client.post(RECONSTRUCTIONS, headers=headers, **request_of), problem, tmp_path)
        assert not list((tmp_path / "jobs").iterdir())


def test_a_store_without_room_refuses_jobs_and_works_on_with_room(
    serve: Any, request_of: dict[str, Any], problem: Check, tmp_path: Path
) -> None:
    """SQLite itself says so: its file may have no further page."""
    headers = {"Prefer": "respond-async"}
    with serve(Settings(data_dir=tmp_path)) as client:
        store = client.app.state.engine.store
        with store._durable.read() as db:
            (pages,) = db.execute("PRAGMA page_count").fetchone()
        with store._durable.read() as db:
            db.execute(f"PRAGMA max_page_count = {pages}")
        accepted = []
        for _ in range(60):  # until the free room of the pages is used up
            answer = client.post(RECONSTRUCTIONS, headers=headers, **request_of)
            if answer.status_code != 202:
                break
            accepted.append(answer.headers["location"])
        stored(answer, problem, tmp_path)
        assert client.post(RECONSTRUCTIONS, **request_of).status_code == 200  # what needs no store works
        with store._durable.read() as db:
            db.execute("PRAGMA max_page_count = 1000000")
        for job in accepted:
            until_status(client, job, "succeeded")
        assert len(list((tmp_path / "jobs").iterdir())) == len(accepted)


def new_job(name: str, size: int = 0) -> NewJob:
    return NewJob(
        id=name,
        kind="reconstruction",
        client="",
        request={"fields": {"x": "y" * size}, "files": {}, "sources": {}},
        created=time.time(),
        deadline=None,
        batch_key=None,
        memory=1,
        key=None,
        fingerprint="f",
        request_id="r",
    )


def test_every_change_of_the_store_says_so_and_changes_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.sqlite")
    for name in ("a", "b"):
        store.add(new_job(name), Bounds(9))
    store.claim("me", most=1)
    store.begin("me", ["a"], alone=True)
    with store._durable.read() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    for connection in (store._durable, store._light):
        with connection.read() as db:
            db.execute(f"PRAGMA max_page_count = {pages}")
    lost = {"x": "y" * 200_000}
    calls: list[Callable[[], object]] = [
        lambda: store.add(new_job("c", 200_000), Bounds(9)),
        lambda: store.progress("a", "me", lost),
        lambda: store.finish("a", "me", "failed", problem=lost, expires=0.0),
        lambda: store.recover(lambda owner: False, most_attempts=1, lost=lost, expires=0.0),
    ]
    for call in calls:
        before = store.get("a"), store.get("b"), store.get("c"), store.queued()
        with pytest.raises(Problem) as caught:
            call()
        assert caught.value.code == "storage-full"
        assert str(tmp_path) not in caught.value.detail
        assert (store.get("a"), store.get("b"), store.get("c"), store.queued()) == before
    store.close()


def test_a_faulty_statement_is_no_full_disk(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.sqlite")
    with pytest.raises(sqlite3.OperationalError), store._durable.change() as db:
        db.execute("SELECT * FROM nothing")
    store.close()


def once(call: Callable[..., Any]) -> Callable[..., Any]:
    """A disk that has no room for the first call."""
    calls = []

    def fail_once(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise Problem("storage-full", "no room")
        return call(*args, **kwargs)

    return fail_once


def test_what_is_deleted_makes_room_for_its_own_deletion(
    serve: Any, request_of: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Settings(data_dir=tmp_path)) as client:
        here = client.post(RECONSTRUCTIONS, headers={"Prefer": "respond-async"}, **request_of).headers["location"]
        until_status(client, here, "succeeded")
        store = client.app.state.engine.store
        monkeypatch.setattr(store, "delete", once(store.delete))
        assert client.delete(here).status_code < 300
        assert not list((tmp_path / "jobs").iterdir())
        assert client.get(here).status_code == 404


def test_a_failed_job_makes_room_for_its_record(
    serve: Any, request_of: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mri_recon_service.jobs.runner.write_bundle", refuse())
    with serve(Settings(data_dir=tmp_path)) as client:
        store = client.app.state.engine.store
        monkeypatch.setattr(store, "finish", once(store.finish))
        here = client.post(RECONSTRUCTIONS, headers={"Prefer": "respond-async"}, **request_of).headers["location"]
        document = until_status(client, here, "failed")
        assert document["problem"]["code"] == "storage-full"
        assert "secret" not in str(document)
        assert not list((tmp_path / "jobs").iterdir())


def test_results_expire_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "jobs.sqlite")
    store.add(new_job("a"), Bounds(9))
    store.cancel("a", expires=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(store._durable, "change", refuse_change)
        assert store.expire(2.0) == ["a"]
    assert store.expire(2.0) == ["a"]  # it was not marked: its files are removed again, and the mark is made
    assert store.expire(2.0) == []
    store.close()


def refuse_change() -> Any:
    raise Problem("storage-full", "no room")


def test_errors_of_the_library() -> None:
    shown = problem_of(OutputError("cannot write /secret/path (No space left on device)", full=True))
    assert (shown.code, shown.kind.status) == ("storage-full", 507)
    assert "secret" not in shown.detail


@pytest.mark.parametrize("number", FULL)
def test_a_parser_that_cannot_write(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kspace: Callable[..., Any]
) -> None:
    np.save(tmp_path / "scan.npy", kspace(1, 1, 9, 8))
    config = ParserConfig(
        inbox=tmp_path,
        outbox=tmp_path,
        requests=-1,
        answers=-1,
        events=-1,
        memory_bytes=10**9,
        file_bytes=10**6,
    )
    request = Request(
        number=7,
        scan="scan.npy",
        mask=None,
        axes=None,
        variable=None,
        last=False,
        max_bytes=10**6,
        memory_bytes=10**9,
        cpu_seconds=10,
    )
    monkeypatch.setattr(parser_process, "write_arrays", refuse(number))
    found = parser_process.answer(request, config)
    assert found == {"number": 7, "error": NO_ROOM, "message": ""}
    refused = _refused(Refusal.model_validate(found), tmp_path / "scan.npy")
    assert isinstance(refused, Problem)
    assert refused.code == "storage-full"


def test_a_parser_that_cannot_start(tmp_path: Path) -> None:
    """Its first files cannot be written: that is no fault of the upload that waits for it."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "from mri_recon_service.uploads.parser import main; main()"
    )
    pool = ParserPool(Settings(upload_dir=tmp_path, parser_processes=1), command=(sys.executable, "-P", "-c", code))
    pool.start()
    try:
        (tmp_path / "scan.npy").write_bytes(b"x")
        with pytest.raises(Problem) as caught:
            pool.load(tmp_path / "scan.npy")
        assert caught.value.code == "storage-full"
    finally:
        pool.close()


@pytest.mark.slow  # starts a server
def test_a_real_server_with_little_room(
    kspace: Callable[..., Any], npy: Callable[[Any], bytes], problem: Check, tmp_path: Path
) -> None:
    """In place of a small disk, a limit on the size of every file that the server and its processes write."""
    limit = 300_000
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "MRI_RECON_DATA_DIR": str(tmp_path / "data"),
        "MRI_RECON_UPLOAD_DIR": str(tmp_path / "uploads"),
    }
    (tmp_path / "uploads").mkdir()
    server = subprocess.Popen(
        [sys.executable, "-m", "mri_recon.cli", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    try:
        assert server.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert found
        with httpx.Client(base_url=found.group(), timeout=120, trust_env=False) as client:
            wait = {"headers": {"Idempotency-Key": "k"}}
            fields = {"method": "zero-filled", "acceleration": "3"}
            upload = npy(kspace(1, 2, 160, 160))
            assert len(upload) > limit
            stored(client.post(RECONSTRUCTIONS, files={"file": ("a.npy", upload)}, data=fields), problem, tmp_path)
            small = np.zeros((1, 1, 200, 200), np.complex64)
            small[..., 90:110, 90:110] = kspace(1, 1, 20, 20)
            packed = io.BytesIO()
            np.savez_compressed(packed, kspace=np.concatenate([small, small]))
            assert len(packed.getvalue()) < limit < 2 * small.nbytes
            unpacked = client.post(RECONSTRUCTIONS, files={"file": ("a.npz", packed.getvalue())}, data=fields)
            stored(unpacked, problem, tmp_path)
            several = {"methods": "zero-filled,cg-sense", "cg-sense.max_iters": "2", "acceleration": "3"}
            scan = npy(kspace(1, 1, 150, 150))
            assert len(scan) < limit
            stored(client.post("/v1/compare", files={"file": ("a.npy", scan)}, data=several, **wait), problem, tmp_path)
            assert client.post(RECONSTRUCTIONS, files={"file": ("a.npy", scan)}, data=fields).status_code == 200
        assert not list((tmp_path / "data" / "jobs").iterdir())
        assert all(path.name.startswith("mri-recon-parser-") for path in (tmp_path / "uploads").iterdir())
    finally:
        server.terminate()
        server.communicate(timeout=60)


LOG_AT_THE_END_OF_THE_DISK = """
import resource, sys
from pathlib import Path
from mri_recon_service.problems import Problem
from mri_recon_service.storage.sqlite import SqliteStore
from mri_recon_service.storage.store import Bounds

store = SqliteStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for number in range(400):
    try:
        with store._durable.change() as db:
            db.execute("PRAGMA user_version = %d" % number)
        print("y", end="")
    except Problem:
        print("n", end="")
"""


def test_a_change_that_is_tried_again_has_room_where_only_the_log_had_none(tmp_path: Path) -> None:
    """The write-ahead log grows for a thousand pages before SQLite begins it again, whatever the disk has."""
    done = subprocess.run(
        [sys.executable, "-c", LOG_AT_THE_END_OF_THE_DISK, str(tmp_path / "jobs.sqlite")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert "n" in done.stdout  # the log did meet the end
    assert "nn" not in done.stdout  # and what was tried again had room
