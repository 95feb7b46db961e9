"""`mri-recon jobs`, on the data folder of a service that runs and of one that does not; what is deleted is gone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon_service import clock
from mri_recon_service.http.keys import add_key
from mri_recon_service.job import FINISHED
from mri_recon_service.jobs.housekeeping import Housekeeping
from mri_recon_service.settings import Settings
from mri_recon_service.storage import maintenance
from mri_recon_service.storage.sqlite import SqliteStore
from mri_recon_service.storage.store import Bounds
from tests.support.service import new_job, until, until_status

Run = Callable[..., Any]
CANARY = "kanarienvogel"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("MRI_RECON_DATA_DIR", str(tmp_path / "data"))
    return lambda *words, **more: CliRunner().invoke(build_app(), ["jobs", *words], **more)


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[SqliteStore]:
    """The store of a service that does not run: "a" has failed, "b" and "c" wait."""
    (tmp_path / "data").mkdir(mode=0o700)
    store = SqliteStore(tmp_path / "data" / "jobs.sqlite")
    for number, name in enumerate("abc"):
        client = "x" * 40 if name == "b" else "alice"
        store.add(new_job(name * 32, client=client, created=clock.now() - 3600 * (30 - 13 * number)), Bounds(9))
        folder = tmp_path / "data" / "jobs" / (name * 32)
        folder.mkdir(parents=True)
        (folder / "upload.npy").write_bytes(b"x" * 1500)
    store.claim("o", most=1)
    problem = {"code": "worker-lost", "detail": "the process died", "extensions": {}}
    store.finish("a" * 32, "o", "failed", problem=problem, expires=clock.now() + 60)
    yield store
    store.close()


def _bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def asked(npy: Any, kspace: Any) -> Callable[..., str]:
    """`asked(client, **fields)` makes a job and returns its address."""

    def ask(client: Any, headers: Any = (), **fields: str) -> str:
        answer = client.post(
            "/v1/reconstructions",
            files={"file": ("a.npy", npy(kspace(1, 1, 25, 36)))},
            data={"method": "zero-filled", "acceleration": "3", **fields},
            headers={"Prefer": "respond-async", **dict(headers)},
        )
        assert answer.status_code == 202, answer.text
        return str(answer.headers["location"])

    return ask


def test_list_fits_80_columns(run: Run, stopped: SqliteStore) -> None:
    lines = run("list").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["identifier", "state", "age", "size", "client"],
        ["c" * 32, "queued", "4h", "1.5", "KB", "alice"],
        ["b" * 32, "queued", "17h", "1.5", "KB", "x" * 17 + "~"],
        ["a" * 32, "failed", "1d", "1.5", "KB", "alice"],
    ]
    assert max(map(len, lines)) <= 80
    assert [line[0] for line in run("list", "--client", "alice", "--status", "queued").stdout.splitlines()[1:]] == ["c"]
    assert [line[0] for line in run("list", "--most", "2").stdout.splitlines()[1:]] == ["c", "b"]
    shown = json.loads(run("list", "--json", "--status", "failed", "--status", "running").stdout)
    assert [(one["id"], one["problem"]["code"], one["bytes"]) for one in shown] == [("a" * 32, "worker-lost", 1500)]
    assert run("list", "--client", "nobody").stdout == ""


def test_an_expired_result_is_listed_as_such(run: Run, stopped: SqliteStore) -> None:
    (job,) = stopped.claim("o", most=1)
    stopped.finish(job.id, "o", "succeeded", problem=None, expires=clock.now() - 1)
    states = {line.split()[0]: line.split()[1] for line in run("list").stdout.splitlines()}
    assert states[job.id] == "succeeded", "its files are still there"
    stopped.expire(clock.now() + 3600)
    states = {line.split()[0]: line.split()[1] for line in run("list").stdout.splitlines()}
    assert states[job.id] == "expired"
    assert states["a" * 32] == "failed"


def test_show(run: Run, stopped: SqliteStore) -> None:
    text = run("show", "a" * 32).stdout
    assert "status         failed\n" in text
    assert "the process died" in text
    assert json.loads(run("show", "b" * 32, "--json").stdout)["position"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "nope"), "expected the identifier of a job, got 'nope': `mri-recon jobs list` shows them"),
        (("cancel", "a" * 32, "nope"), "got 'nope'"),
        (("list", "--status", "lost"), "expected one of the states queued, running, succeeded, failed, cancelled"),
        (("purge",), "got neither: e.g. `mri-recon jobs purge --ended`"),
        (("purge", "a" * 32, "--ended"), "got both"),
        (("purge", "--older-than", "soon"), "expected a time of at most 36500d"),
    ],
)
def test_wrong_words(words: tuple[str, ...], message: str, run: Run, stopped: SqliteStore) -> None:
    done = run(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(stopped.of_all()) == 3


def test_a_folder_without_a_service_is_refused_and_not_made(run: Run, tmp_path: Path) -> None:
    done = run("list")
    assert done.exit_code == 2
    assert "expected the data folder of a service, got" in done.stderr
    assert not (tmp_path / "data").exists()


def test_cancel_and_purge_while_the_service_is_stopped(run: Run, stopped: SqliteStore, tmp_path: Path) -> None:
    assert run("cancel", "b" * 32).stdout == f"{'b' * 32}  cancelled\n"
    assert not (tmp_path / "data" / "jobs" / ("b" * 32)).exists()
    refused = run("purge", "c" * 32, "a" * 32, input="n\n")
    assert refused.exit_code == 1
    assert "Delete 2 jobs with their uploads and results for good?" in refused.stderr
    assert len(stopped.of_all()) == 3
    assert run("purge", "c" * 32, "a" * 32, input="y\n").stdout.endswith("\n2 jobs purged\n")
    assert [job.id for job in stopped.of_all()] == ["b" * 32]
    assert list((tmp_path / "data" / "jobs").iterdir()) == []


def test_purge_by_options(run: Run, stopped: SqliteStore) -> None:
    def left() -> list[str]:
        return [job.id[0] for job in stopped.of_all()]

    assert json.loads(run("purge", "--ended", "--client", "x" * 40, "--yes", "--json").stdout) == {
        "purged": [],
        "left": [],
    }
    assert run("purge", "--older-than", "18h", "--yes").stdout == "1 jobs purged\n"
    assert left() == ["c", "b"]
    assert run("purge", "--client", "x" * 40, "--yes").exit_code == 0
    assert left() == ["c"]
    assert run("purge", "--status", "queued", "--yes").exit_code == 0
    assert left() == []


def test_a_job_that_does_not_end_is_not_purged(
    run: Run, stopped: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process writes into its folder."""
    monkeypatch.setattr(maintenance, "_PATIENCE_SECONDS", 0.01)
    (running,) = stopped.claim("o", most=1)
    done = run("purge", running.id, "c" * 32, "--yes")
    assert (done.exit_code, done.stdout) == (2, "1 jobs purged\n")
    assert f"got 1 that still run, e.g. {running.id}" in done.stderr
    assert (tmp_path / "data" / "jobs" / running.id).exists()
    assert stopped.to_stop("o") == {running.id}


def test_files_that_cannot_be_deleted_are_told(run: Run, stopped: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mri_recon_service.storage.files.shutil.rmtree", lambda *args, **kwargs: None)
    done = run("purge", "a" * 32, "--yes")
    assert done.exit_code == 2
    assert "run this as the service's user" in done.stderr
    assert len(stopped.of_all()) == 3  # the record still tells of the files


def test_while_the_service_runs(
    run: Run, serve: Any, asked: Any, steps: Any, tmp_path: Path, problem: Callable[..., Any]
) -> None:
    with serve(Settings(data_dir=tmp_path / "data")) as client:
        running = asked(client, method="steps")
        until_status(client, running, "running")
        waiting = asked(client)
        name = Path(running).name
        assert run("cancel", Path(waiting).name).stdout.endswith("  cancelled\n")
        assert client.get(waiting).json()["status"] == "cancelled"
        assert run("cancel", name).stdout == f"{name}  stopping\n"
        (control,) = client.app.state.engine.runner._running.values()
        until(lambda: control.reason == "cancelled")
        steps.go.release(1000)
        until_status(client, running, "cancelled")
        done = asked(client)
        until_status(client, done, "succeeded")
        assert run("purge", "--status", "succeeded", "--yes").stdout == "1 jobs purged\n"
        problem(client.get(f"{done}/result"), 404, "job-not-found")
        assert [Path(one["links"]["self"]).name for one in client.get("/v1/jobs").json()["jobs"]] == [
            Path(waiting).name,
            name,
        ]


def test_purge_of_a_running_job(run: Run, serve: Any, asked: Any, steps: Any, tmp_path: Path) -> None:
    with serve(Settings(data_dir=tmp_path / "data")) as client:
        running = asked(client, method="steps")
        until_status(client, running, "running")
        steps.go.release(1000)  # it goes on, and sees the wish to stop between iterations, or ends
        assert run("purge", Path(running).name, "--yes").stdout == "1 jobs purged\n"
        assert client.get(running).status_code == 404
        assert not (tmp_path / "data" / "jobs" / Path(running).name).exists()


def test_nothing_of_a_purged_job_is_left(run: Run, serve: Any, asked: Any, tmp_path: Path) -> None:
    """Neither in a file nor in the free pages and the log of the store."""
    key = add_key(tmp_path / "keys.json", CANARY)
    with serve(Settings(data_dir=tmp_path / "data", require_keys=True, keys_file=tmp_path / "keys.json")) as client:
        client.headers["X-API-Key"] = key
        done = asked(client, {"Idempotency-Key": f"{CANARY}-key", "X-Request-Id": f"{CANARY}-request"})
        until_status(client, done, "succeeded")
        assert CANARY.encode() in _bytes_of(tmp_path / "data")
        assert run("purge", "--client", CANARY, "--yes").stdout == "1 jobs purged\n"
        assert CANARY.encode() not in _bytes_of(tmp_path / "data")
        assert Path(done).name.encode() not in _bytes_of(tmp_path / "data")


def test_retention_deletes(serve: Any, asked: Any, tmp_path: Path) -> None:
    """After the time of a result its files are gone, after twice the time nothing of the job is left."""
    settings = Settings(data_dir=tmp_path / "data", result_ttl_seconds=0.5)
    with serve(settings) as client:
        done = asked(client, {"Idempotency-Key": CANARY, "X-Request-Id": f"{CANARY}-request"})
        name = Path(done).name
        until(lambda: client.app.state.engine.store.get(name) is None)
        until(lambda: CANARY.encode() not in _bytes_of(tmp_path / "data"))
        assert list((tmp_path / "data" / "jobs").iterdir()) == []


def test_files_that_a_killed_process_left_go_with_the_record(
    serve: Any, asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died after it had marked the result as expired, and before it deleted the files."""
    settings = Settings(data_dir=tmp_path / "data")
    with serve(settings) as client:
        done = asked(client)
        until_status(client, done, "succeeded")
        name, engine = Path(done).name, client.app.state.engine
        assert engine.store.expire(clock.now() + 2 * settings.result_ttl_seconds) == [name]
        assert engine.files.size(name) > 0
        housekeeping: Housekeeping = engine._housekeeping
        late = clock.now() + 2 * settings.result_ttl_seconds + 60
        monkeypatch.setattr("mri_recon_service.jobs.housekeeping.now", lambda: late)
        until(lambda: engine.store.get(name) is None and not engine.files.folder(name).exists())
        assert housekeeping._unknown == set()


def test_every_ended_state_is_purged(run: Run, stopped: SqliteStore) -> None:
    stopped.cancel("b" * 32, expires=clock.now() + 60)
    (last,) = stopped.claim("o", most=1)
    stopped.finish(last.id, "o", "succeeded", problem=None, expires=clock.now() + 60)
    assert {job.status for job in stopped.of_all()} == FINISHED
    assert run("purge", "--ended", "--yes").stdout == "3 jobs purged\n"
    assert stopped.of_all() == []
