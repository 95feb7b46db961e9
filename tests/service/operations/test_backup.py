"""service/deploy/backup.sh: of a service that runs or not, into a folder in which a new service goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mri_recon_service.http.keys import add_key
from mri_recon_service.settings import Settings
from tests.support.service import until_status

SCRIPT = Path(__file__).parents[3] / "service" / "deploy" / "backup.sh"
Back = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def back_up(tmp_path: Path) -> Back:
    def run(*words: Path | str) -> subprocess.CompletedProcess[str]:
        given = words or (tmp_path / "data", tmp_path / "keys.json", tmp_path / "backup")
        return subprocess.run(
            [str(SCRIPT), *map(str, given)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHON": sys.executable},
        )

    return run


@pytest.mark.parametrize("running", [True, False])
def test_a_restored_service_goes_on(
    running: bool, serve: Any, npy: Any, kspace: Any, steps: Any, back_up: Back, tmp_path: Path
) -> None:
    """An old result is the same, the key is valid, and work that had not ended is done."""
    key = add_key(tmp_path / "keys.json", "alice")

    def settings(place: Path, keys: Path) -> Settings:
        return Settings(data_dir=place, require_keys=True, keys_file=keys)

    def ask(client: Any, method: str) -> str:
        answer = client.post(
            "/v1/reconstructions",
            files={"file": ("a.npy", npy(kspace(1, 1, 25, 36)))},
            data={"method": method, "acceleration": "3"},
            headers={"Prefer": "respond-async"},
        )
        assert answer.status_code == 202, answer.text
        return str(answer.headers["location"])

    with serve(settings(tmp_path / "data", tmp_path / "keys.json")) as client:
        client.headers["X-API-Key"] = key
        old = ask(client, "zero-filled")
        until_status(client, old, "succeeded")
        result = client.get(f"{old}/result").content
        began = ask(client, "steps")
        until_status(client, began, "running")
        waiting = ask(client, "zero-filled")
        if running:
            done = back_up()
            assert done.returncode == 0, done.stderr
    if not running:
        done = back_up()
        assert done.returncode == 0, done.stderr
    steps.go.release(1000)

    backup, restored = tmp_path / "backup", tmp_path / "restored"
    assert sorted(path.name for path in backup.iterdir()) == ["jobs", "jobs.sqlite", "keys.json"]
    assert {path.stat().st_mode & 0o077 for path in (backup, *backup.iterdir())} == {0}
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(backup, restored)
    (restored / "keys.json").rename(tmp_path / "restored.json")
    with serve(settings(restored, tmp_path / "restored.json")) as client:
        assert client.get("/v1/jobs").status_code == 401
        client.headers["X-API-Key"] = key
        assert client.get(f"{old}/result").content == result
        for job in (began, waiting):
            until_status(client, job, "succeeded")
            assert client.get(f"{job}/result").status_code == 200
        assert len(client.get("/v1/jobs").json()["jobs"]) == 3


def test_it_replaces_nothing_and_says_what_is_missing(back_up: Back, tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "alice")
    (tmp_path / "data").mkdir()
    no_store = back_up()
    assert (no_store.returncode, "expected a data folder with jobs.sqlite, got" in no_store.stderr) == (2, True)
    (tmp_path / "data" / "jobs.sqlite").write_bytes(b"no database" * 100)
    no_keys = back_up(tmp_path / "data", tmp_path / "none.json", tmp_path / "backup")
    assert (no_keys.returncode, "expected a file of keys, got" in no_keys.stderr) == (2, True)
    assert back_up(tmp_path).returncode == 2
    assert not (tmp_path / "backup").exists()
    assert back_up().returncode != 0  # a store that cannot be read
    (tmp_path / "former").mkdir()
    (tmp_path / "former" / "keys.json").write_text("former")
    assert back_up(tmp_path / "data", tmp_path / "keys.json", tmp_path / "former").returncode != 0
    assert (tmp_path / "former" / "keys.json").read_text() == "former"
