"""Audit lines: one for each accepted request about work or results, with nothing of a patient."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon.errors import ConfigError
from mri_recon_service.app import create_app
from mri_recon_service.http import audit, logs
from mri_recon_service.http.audit import AuditLog, action_of, open_audit
from mri_recon_service.http.keys import add_key
from mri_recon_service.readiness import Readiness
from mri_recon_service.settings import Settings
from tests.support.service import until, until_status

Check = Callable[..., dict[str, Any]]
WORK = "/v1/reconstructions"
CANARY = "kanarienvogel"


@pytest.fixture(autouse=True)
def _ready_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def warm(self: Readiness) -> None:
        self.reason = None

    monkeypatch.setattr(Readiness, "start", warm)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def settings(tmp_path: Path, path: Path) -> Settings:
    return Settings(audit_log=str(path), data_dir=tmp_path / "data")


@pytest.fixture
def scan(npy: Any, kspace: Any) -> bytes:
    content: bytes = npy(kspace(1, 1, 25, 36))
    return content


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def _send(client: Any, scan: bytes, to: str = WORK, name: str = "a.npy", **headers: str) -> Any:
    methods = {"method": "zero-filled"} if to == WORK else {"methods": "zero-filled, cg-sense"}
    return client.post(to, files={"file": (name, scan)}, data={**methods, "acceleration": "3"}, headers=headers)


def test_every_route_about_work_or_results_has_an_action() -> None:
    """A new route is either audited, or listed here as one that neither makes nor reads work."""
    other = {
        *("GET /v1/models", "GET /v1/masks", "POST /v1/masks", "GET /v1/sample"),
        "POST /v1/validate",  # keeps nothing and makes no image
    }
    app: FastAPI = create_app(Settings())
    paths = app.openapi()["paths"]
    named = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods if "/v1/" in path}
    found = {one: action_of(one.split()[0], re.sub(r"\{\w+\}", "x", one.split()[1])) for one in named}
    assert {one for one, action in found.items() if action is None} == other
    assert {action for action in found.values() if action} == {
        *("create", "list", "state", "follow", "result", "part", "method", "delete")
    }


def test_each_action_leaves_one_line(serve: Any, settings: Settings, scan: bytes, path: Path, steps: Any) -> None:
    with serve(settings) as client:
        for other in ("/v1/sample", "/v1/models", "/health/ready", "/metrics", "/v1/masks?width=36&acceleration=3"):
            assert client.get(other).status_code == 200
        client.post(
            "/v1/validate", files={"file": ("a.npy", scan)}, data={"method": "zero-filled", "acceleration": "3"}
        )
        assert path.read_text() == ""
        direct = _send(client, scan)
        job = _send(client, scan, to="/v1/compare", Prefer="respond-async").headers["location"]
        until_status(client, job, "succeeded")
        asked = len(_lines(path))
        answers = [
            client.get(job),
            client.get("/v1/jobs"),
            client.get(f"{job}/events"),
            client.get(f"{job}/result"),
            client.get(f"{job}/methods/cg-sense"),
            client.delete(job),
        ]
        running = client.post(
            WORK,
            files={"file": ("a.npy", scan)},
            data={"method": "steps", "acceleration": "3"},
            headers={"Prefer": "respond-async"},
        ).headers["location"]
        until_status(client, running, "running")
        before = len(_lines(path))
        stopped = client.delete(running)
        after = _lines(path)
    assert path.stat().st_mode & 0o777 == 0o600
    made, compared = after[0], after[1]
    assert direct.status_code == made["status"] == 200
    assert made == {
        "time": made["time"],
        "request_id": direct.headers["x-request-id"],
        "who": "anonymous",
        "action": "create",
        "status": 200,
        "input": hashlib.sha256(scan).hexdigest(),
        "methods": ["zero-filled"],
        "options": made["options"],
        "result": hashlib.sha256(direct.content).hexdigest(),
    }
    identifier = Path(job).name
    assert (compared["action"], compared["status"], compared["job"]) == ("create", 202, identifier)
    assert compared["methods"] == ["zero-filled", "cg-sense"]
    assert "result" not in compared
    reads = after[asked : asked + len(answers)]
    assert [line["action"] for line in reads] == ["state", "list", "follow", "result", "method", "delete"]
    assert [line["request_id"] for line in reads] == [answer.headers["x-request-id"] for answer in answers]
    assert [line.get("result") for line in reads] == [
        *(None, None, None),
        hashlib.sha256(answers[3].content).hexdigest(),
        hashlib.sha256(answers[4].content).hexdigest(),
        None,
    ]
    for line in (reads[0], *reads[2:]):
        assert (line["job"], line["input"], line["options"]) == (identifier, compared["input"], compared["options"])
    assert (after[before]["action"], after[before]["job"], len(after)) == ("cancel", Path(running).name, before + 1)
    assert stopped.status_code == 202


def test_who_asked(serve: Any, settings: Settings, scan: bytes, path: Path, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "alice")
    keyed = settings.model_copy(
        update={"require_keys": True, "keys_file": tmp_path / "keys.json", "audit_addresses": True}
    )
    with serve(keyed) as client:
        assert _send(client, scan).status_code == 401
        assert _lines(path) == []
        _send(client, scan, **{"X-API-Key": key})
    (line,) = _lines(path)
    assert (line["who"], line["address"]) == ("alice", "127.0.0.1")
    assert key not in path.read_text()


def test_refused_requests_leave_no_line(serve: Any, settings: Settings, scan: bytes, path: Path) -> None:
    with serve(settings) as client:
        assert client.get(f"/v1/jobs/{CANARY}").status_code == 404
        assert client.get(f"/v1/jobs/{CANARY}%0A/result").status_code == 404
        assert _send(client, b"no scan").status_code >= 400
        assert client.post(WORK, content=b"x").status_code >= 400
        assert client.put(WORK).status_code == 405
    assert path.read_text() == ""


def test_a_repeated_request_is_told_from_new_work(serve: Any, settings: Settings, scan: bytes, path: Path) -> None:
    with serve(settings) as client:
        first = _send(client, scan, **{"Idempotency-Key": CANARY})
        again = _send(client, scan, **{"Idempotency-Key": CANARY})
        assert again.content == first.content
    one, two = _lines(path)
    assert (one["action"], two["action"]) == ("create", "repeat")
    assert {name: one[name] for name in ("job", "input", "options", "result")} == {
        name: two[name] for name in ("job", "input", "options", "result")
    }
    assert CANARY not in path.read_text()


def test_nothing_of_a_patient(serve: Any, settings: Settings, kspace: Any, path: Path, tmp_path: Path) -> None:
    """Neither from the file's name, nor from its header, nor from a field, a header or an address of the request."""
    hostile = f'{CANARY}\r\n{{"who": "root"}}\u2028é'
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["kspace"] = kspace(1, 1, 25, 36)
        file.attrs["patient_id"] = CANARY
        file["ismrmrd_header"] = f"<patientName>{CANARY}</patientName>"
    scan = (tmp_path / "scan.h5").read_bytes()
    with serve(settings) as client:
        for headers in ({}, {"Prefer": "respond-async", "Idempotency-Key": CANARY}):
            answer = client.post(
                f"{WORK}?filename={CANARY}.h5",
                files={"file": (f"{hostile}.h5", scan)},
                data={"method": "zero-filled", "acceleration": "3"},
                headers={"User-Agent": CANARY, "Cookie": CANARY, "Referer": CANARY, "X-Canary": CANARY, **headers},
            )
            assert answer.status_code in (200, 202), answer.text
        client.get(f"/v1/jobs?limit=5&{CANARY}=1")
        until_status(client, answer.headers["location"], "succeeded")
        client.get(f"{answer.headers['location']}/result?{CANARY}={CANARY}")
    lines = _lines(path)
    assert {line["action"] for line in lines} >= {"create", "list", "result"}
    assert CANARY not in path.read_text()
    assert {line["who"] for line in lines} == {"anonymous"}
    assert all(re.fullmatch(r"[0-9a-f]{32}", line["request_id"]) for line in lines)


def test_work_whose_client_left_has_a_line(serve: Any, settings: Settings, scan: bytes, path: Path, steps: Any) -> None:
    with serve(settings) as client:
        with pytest.raises(Exception, match="timed out"):
            client.post(
                WORK, files={"file": ("a.npy", scan)}, data={"method": "steps", "acceleration": "3"}, timeout=2.0
            )
        steps.go.release(1000)
        until(lambda: path.read_text() != "")
    (line,) = _lines(path)
    assert (line["action"], line["methods"], "result" in line) == ("create", ["steps"], False)
    assert line["status"] == 0 or line["status"] >= 400


def test_a_moved_file_is_made_anew(path: Path) -> None:
    log = AuditLog(str(path), refuses=True)
    log.write({"n": 1})
    path.rename(path.with_suffix(".1"))
    log.write({"n": 2})
    log.write({"n": 3})
    path.unlink()
    log.write({"n": 4})
    log.close()
    assert _lines(path.with_suffix(".1")) == [{"n": 1}]
    assert _lines(path) == [{"n": 4}]
    log.write({"n": 5})  # after a restart of the application
    assert _lines(path)[1:] == [{"n": 5}]


def test_an_existing_file_is_continued(path: Path) -> None:
    path.write_text('{"n": 0}\n')
    for number in (1, 2):
        log = AuditLog(str(path), refuses=True)
        log.write({"n": number})
        log.close()
    assert [line["n"] for line in _lines(path)] == [0, 1, 2]


class _Disk:
    """The module `os` on a disk that has room for so many bytes of audit lines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        monkeypatch.setattr(audit, "os", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, content: bytes) -> int:
        if self.room is None:
            return os.write(descriptor, content)
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        room, self.room = self.room, 0
        return os.write(descriptor, content[:room])


def test_a_torn_line_spoils_no_other_and_lost_lines_are_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, log = _Disk(monkeypatch), AuditLog(str(path), refuses=False)
    log.write({"n": 1})
    disk.room = 4
    for number in (2, 3):
        with pytest.raises(OSError, match="No space left"):
            log.write({"n": number})
    assert log.fault() == "No space left on device"
    disk.room = None
    log.write({"n": 4})
    first, torn, resumed, last = path.read_text().splitlines()
    assert (first, torn, last) == ('{"n": 1}', '{"n"', '{"n": 4}')
    assert {**json.loads(resumed), "time": ""} == {"time": "", "action": "resumed", "lost": 2}
    assert log.fault() is None


def test_a_full_disk_refuses_work(
    serve: Any, settings: Settings, scan: bytes, path: Path, problem: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = _Disk(monkeypatch)
    with serve(settings) as client:
        assert client.get("/health/ready").json()["audit"] == "written"
        job = _send(client, scan, Prefer="respond-async").headers["location"]
        until_status(client, job, "succeeded")
        disk.room = 0
        refused = client.get(f"{job}/result")  # the file is small: none of it has been sent
        assert problem(refused, 503, "not-ready")["reason"] == "audit-failed"
        assert "mri_recon_audit_failing 1.0" in client.get("/metrics").text
        assert problem(client.get("/health/ready"), 503, "not-ready")["reason"] == "audit-failed"
        problem(_send(client, scan), 503, "not-ready")
        done = 'mri_recon_reconstruction_seconds_count{method="zero-filled"} 1.0'
        assert done in client.get("/metrics").text  # refused before its work
        assert client.get("/v1/models").status_code == 200
        disk.room = None
        assert client.get("/health/ready").json()["audit"] == "written"
        assert client.get(f"{job}/result").status_code == 200
    lines = _lines(path)
    assert [line["lost"] for line in lines if line["action"] == "resumed"] == [1]
    assert lines[-1]["action"] == "result"


def test_a_full_disk_may_be_allowed(
    serve: Any, settings: Settings, scan: bytes, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = _Disk(monkeypatch)
    with serve(settings.model_copy(update={"audit_failure": "continue"})) as client:
        disk.room = 0
        assert _send(client, scan).status_code == 200
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["audit"]) == (200, "failing")
        disk.room = None
        assert _send(client, scan).status_code == 200
    assert [line["action"] for line in _lines(path)] == ["resumed", "create"]


def test_little_room_is_found_before_the_work(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(str(path), refuses=True)
    assert log.fault() is None
    found = os.statvfs(path.parent)
    full = os.statvfs_result((*found[:4], 0, *found[5:]))
    monkeypatch.setattr(audit.os, "fstatvfs", lambda descriptor: full)
    assert log.fault() == "No space left on device"


def test_an_answer_that_has_begun_ends_early(
    serve: Any, settings: Settings, kspace: Any, npy: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has a whole result without its line."""
    disk = _Disk(monkeypatch)
    large = npy(kspace(1, 1, 384, 384))
    with serve(settings) as client:
        answer = _send(client, large, Prefer="respond-async")
        assert answer.status_code == 202, answer.text
        job = answer.headers["location"]
        until_status(client, job, "succeeded")
        whole = client.get(f"{job}/result").content
        assert len(whole) > 600_000
        disk.room = 0
        with pytest.raises(Exception, match="(peer closed|disconnected|incomplete)"):
            client.get(f"{job}/result")


@pytest.mark.parametrize("kind", ["folder", "missing folder", "pipe", "device"])
def test_what_is_no_file(kind: str, tmp_path: Path) -> None:
    place = {
        "folder": tmp_path,
        "missing folder": tmp_path / "none" / "audit.jsonl",
        "pipe": tmp_path / "pipe",
        "device": Path("/dev/null"),
    }[kind]
    if kind == "pipe":
        os.mkfifo(place)
    with pytest.raises(ConfigError, match="expected a file for audit lines, got .*: check its folder's rights"):
        create_app(Settings(audit_log=str(place)))
    assert open_audit(Settings(audit_log=str(place), audit_failure="continue")) is not None
    assert open_audit(Settings()) is None


def test_lines_in_the_log(serve: Any, settings: Settings, scan: bytes, tmp_path: Path) -> None:
    root, stream = logging.getLogger(), io.StringIO()
    level = root.level
    logs.configure(Settings(log_level="error"), stream)
    try:
        with serve(settings.model_copy(update={"audit_log": "-"})) as client:
            _send(client, scan)
            assert client.get("/health/ready").json()["audit"] == "written"
    finally:
        root.setLevel(level)
    (line,) = [json.loads(one) for one in stream.getvalue().splitlines() if '"message": "audit"' in one]
    assert (line["action"], line["who"], line["logger"]) == ("create", "anonymous", "mri_recon_service.audit")
    assert not (tmp_path / "-").exists()


def test_the_operators_verb_leaves_lines(
    serve: Any, settings: Settings, scan: bytes, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(settings) as client:
        job = _send(client, scan, Prefer="respond-async").headers["location"]
        until_status(client, job, "succeeded")
    monkeypatch.setenv("MRI_RECON_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("MRI_RECON_AUDIT_LOG", str(path))
    name = Path(job).name
    before = _lines(path)[0]
    assert CliRunner().invoke(build_app(), ["jobs", "purge", name, "--yes"]).exit_code == 0
    last = _lines(path)[-1]
    assert (last["who"], last["action"], last["job"], last["input"]) == ("@operator", "purge", name, before["input"])
