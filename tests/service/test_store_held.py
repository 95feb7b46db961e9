"""Another process may hold the store of jobs for long: the service answers all the same, and says so."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mri_recon_service.problems import Problem
from mri_recon_service.readiness import Readiness
from mri_recon_service.settings import Settings
from mri_recon_service.storage.sqlite import SqliteStore
from mri_recon_service.storage.store import Bounds, JobStore
from tests.support.service import new_job, until, until_status

Check = Callable[..., dict[str, Any]]


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold SQLite's lock of changes, as a process that stands still in a transaction does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def _ready_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def warm(self: Readiness) -> None:
        self.reason = None

    monkeypatch.setattr(Readiness, "start", warm)


def test_the_event_loop_never_asks_the_store(
    serve: Any, npy: Callable[[Any], bytes], kspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request would stand still as long as the store does."""
    on_the_loop: list[str] = []
    called: set[str] = set()

    def watched(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            called.add(name)
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return method(*args, **kwargs)
            on_the_loop.append(name)
            return method(*args, **kwargs)

        return call

    for name in vars(JobStore):
        if not name.startswith("_") and name != "close":
            monkeypatch.setattr(SqliteStore, name, watched(name, getattr(SqliteStore, name)))
    _ready_at_once(monkeypatch)
    with serve(Settings()) as client:
        for headers in ({"Prefer": "respond-async"}, {"Prefer": "wait=60"}, {"Idempotency-Key": "a"}, {}):
            answer = client.post(
                "/v1/reconstructions",
                files={"file": ("a.npy", npy(kspace(1, 1, 25, 36)))},
                data={"method": "zero-filled", "acceleration": "3"},
                headers=headers,
            )
            assert answer.status_code in (200, 202)
            if "location" in answer.headers:
                here = answer.headers["location"]
        until_status(client, here, "succeeded")
        for path in (f"{here}/events", f"{here}/result", "/metrics", "/health/ready", "/v2/health/ready"):
            assert client.get(path).status_code == 200, path
        assert client.delete(here).status_code == 204
    assert {"add", "get", "by_key", "queued", "events", "delete", "fault", "waiting_deliveries"} <= called
    assert not on_the_loop


def test_reading_does_not_wait_for_who_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mri_recon_service.storage.sqlite._PROGRESS_SECONDS", 600.0)
    store = SqliteStore(tmp_path / "jobs.sqlite")
    store.add(new_job("j"), Bounds(9))
    store.claim("a", most=1)
    with _held(tmp_path / "jobs.sqlite"):
        writing = threading.Thread(target=store.progress, args=("j", "a", {"iteration": 1}))
        writing.start()
        until(lambda: store._light._lock.locked())
        found = store.get("j")
        assert found is not None
        assert found.status == "running"
        assert (store.queued(), len(store.events("j", after=0)), store.to_stop("a")) == (0, 2, set())
        assert writing.is_alive()
    writing.join()
    assert store.events("j", after=0)[-1].kind == "progress"
    store.close()


def test_a_store_that_is_held_for_too_long_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mri_recon_service.storage.sqlite._PROGRESS_SECONDS", 0.01)
    store = SqliteStore(tmp_path / "jobs.sqlite")
    with _held(tmp_path / "jobs.sqlite"), pytest.raises(Problem, match="another process keeps the store") as caught:
        store.progress("j", "a", {})
    assert (caught.value.code, caught.value.headers) == ("busy", {"Retry-After": "10"})
    store.progress("j", "a", {})  # works again
    store.close()


def test_readiness_names_the_kind_of_the_fault(
    serve: Any, problem: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ready_at_once(monkeypatch)
    path = tmp_path / "jobs.sqlite"

    def reasons(client: httpx.Client) -> set[str]:
        assert client.get("/health/live").status_code == 200
        return {
            problem(client.get(address), 503, "not-ready")["reason"]
            for address in ("/health/ready", "/v2/health/ready")
        }

    with serve(Settings(data_dir=tmp_path)) as client:
        assert client.get("/health/ready").status_code == 200
        with _held(path):
            assert reasons(client) == {"store-busy"}
        assert client.get("/health/ready").status_code == 200
        moved = path.rename(tmp_path / "jobs.moved")
        assert reasons(client) == {"store-failed"}
        assert not path.exists()  # the probe does not make another one
        moved.rename(path)
        assert client.get("/health/ready").status_code == 200


def test_a_damaged_store_is_a_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(tmp_path / "jobs.sqlite")
    assert store.fault() is None
    store.close()
    (tmp_path / "jobs.sqlite").write_bytes(b"no database" * 100)
    assert store.fault() == "store-failed"
    assert "the store of jobs cannot be used: file is not a database" in caplog.text


def test_readiness_names_the_models(serve: Any, problem: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Readiness, "start", lambda self: None)
    with serve(Settings()) as client:
        assert problem(client.get("/health/ready"), 503, "not-ready")["reason"] == "models-loading"
