"""Uploads, results and the store of jobs are for the service's user only, whatever the umask."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mri_recon_service.locked_folder import remove_abandoned
from mri_recon_service.private_files import make_private, private_folder
from mri_recon_service.settings import Settings
from mri_recon_service.storage.sqlite import SqliteStore
from tests.support.service import ServerProcess, until, until_status


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def _modes(folder: Path) -> dict[str, str]:
    """Rights of what others may read or enter, by name."""
    found = {one.relative_to(folder).as_posix(): one.stat() for one in (folder, *folder.rglob("*"))}
    return {
        name: oct(one.st_mode) for name, one in found.items() if one.st_mode & 0o077 and not _is_link(folder / name)
    }


def _is_link(path: Path) -> bool:
    return stat.S_ISLNK(path.lstat().st_mode)


def _run_a_job(client: httpx.Client, npy: Callable[[Any], bytes], scan: Any) -> str:
    answer = client.post(
        "/v1/reconstructions",
        files={"file": ("a.npy", npy(scan))},
        data={"method": "zero-filled", "acceleration": "3"},
        headers={"Prefer": "respond-async"},
    )
    here = answer.headers["location"]
    until_status(client, here, "succeeded")
    return str(here)


def test_what_the_service_writes(
    serve: Any, npy: Callable[[Any], bytes], kspace: Callable[..., Any], tmp_path: Path
) -> None:
    data = tmp_path / "below" / "data"
    with serve(Settings(data_dir=data, upload_dir=tmp_path)) as client:
        _run_a_job(client, npy, kspace(1, 1, 25, 36))
        names = {one.name for one in data.rglob("*")}
        assert {"jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm", "result.npz", "result.h5", "owners"} <= names
        assert not _modes(data)


def test_uploads_are_private_and_survive_no_kill(serve: Any, tmp_path: Path) -> None:
    """A killed service leaves half an upload; the next one deletes it, and nothing that a living one still receives."""
    places = [tmp_path / "uploads", tmp_path / "data"]
    places[0].mkdir()
    sent = b"POST /v1/reconstructions?method=zero-filled&acceleration=3 HTTP/1.1\r\nHost: localhost\r\n"
    sent += b"Content-Type: application/x-npy\r\nContent-Length: 9000000\r\n\r\n" + bytes(3_000_000)

    def half_an_upload(server: ServerProcess, number: int) -> socket.socket:
        connection = socket.create_connection((server.client.base_url.host, server.client.base_url.port))
        connection.sendall(sent)
        until(lambda: len(list(places[0].glob("mri-recon-upload-*/upload.npy"))) == number)
        return connection

    settings = {"MRI_RECON_UPLOAD_DIR": str(places[0])}
    killed, alive = ServerProcess(places[1], **settings), ServerProcess(places[1], **settings)
    try:
        with half_an_upload(killed, 1), half_an_upload(alive, 2):
            assert [_modes(one) for one in places[0].iterdir()] == [{}] * len(list(places[0].iterdir()))
            killed.kill(signal.SIGKILL)
            assert len(list(places[0].glob("mri-recon-upload-*"))) == 2
            with serve(Settings(upload_dir=places[0])):
                assert len(list(places[0].glob("mri-recon-upload-*"))) == 1
        until(lambda: not list(places[0].glob("mri-recon-upload-*")))
    finally:
        for one in (killed, alive):
            if one.process.poll() is None:
                one.kill(signal.SIGKILL)


def test_a_folder_whose_process_was_killed_before_it_could_lock_it(tmp_path: Path) -> None:
    new, old = tmp_path / "mri-recon-upload-new", tmp_path / "mri-recon-upload-old"
    for folder in (new, old):
        folder.mkdir()
    os.utime(old, (0, 0))
    remove_abandoned(tmp_path, "mri-recon-upload-")
    assert list(tmp_path.iterdir()) == [new]


def test_what_an_earlier_version_left(
    serve: Any, npy: Callable[[Any], bytes], kspace: Callable[..., Any], tmp_path: Path
) -> None:
    """The files are restricted, work on, and nothing outside the folder changes by a link."""
    outside = tmp_path / "outside"
    outside.write_text("somebody's")
    data = tmp_path / "data"
    with serve(Settings(data_dir=data)) as client:
        here = _run_a_job(client, npy, kspace(1, 1, 25, 36))
    (data / "jobs" / "link").symlink_to(outside)
    with sqlite3.connect(data / "jobs.sqlite") as db:  # leaves its log beside it
        db.execute("PRAGMA journal_mode = WAL")
        for one in (data, *data.rglob("*")):
            if not _is_link(one):
                one.chmod(0o755 if one.is_dir() else 0o644)
        with serve(Settings(data_dir=data)) as client:
            assert not _modes(data)
            assert client.get(f"{here}/result", headers={"Accept": "application/x-npy"}).status_code == 200
    db.close()
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


def test_a_folder_of_somebody_else_keeps_its_rights(tmp_path: Path) -> None:
    """The operator may name a folder that holds other things too; ours in it are private."""
    tmp_path.chmod(0o755)
    (tmp_path / "notes.txt").touch()
    private_folder(tmp_path, ours=("jobs", "owners"))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    SqliteStore(tmp_path / "jobs.sqlite").close()
    assert stat.S_IMODE((tmp_path / "jobs.sqlite").stat().st_mode) == 0o600
    (tmp_path / "notes.txt").unlink()
    private_folder(tmp_path, ours=("jobs", "owners"))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_rights_that_cannot_be_taken_are_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    (tmp_path / "a").touch(0o644)
    monkeypatch.setattr(Path, "chmod", refuse)
    make_private(tmp_path / "a")
    assert "a may be read by other users (Operation not permitted): let its owner" in caplog.text
    make_private(tmp_path / "not there")
