"""API keys: the file, the verb, and who is let in."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon.errors import ConfigError
from mri_recon_service.http import keys as auth
from mri_recon_service.http.keys import KeyRecord, Keyring, add_key, read_keys, remove_key
from mri_recon_service.settings import Settings

Check = Callable[..., dict[str, Any]]


def test_only_the_hash_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.json"
    key = add_key(path, "reading-room")
    assert key.startswith("mrk_")
    assert len(key) == 47  # 256 bits in base64
    content = path.read_text()
    assert key not in content
    (record,) = read_keys(path)
    assert (record.name, record.sha256) == ("reading-room", hashlib.sha256(key.encode()).hexdigest())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [one.name for one in path.parent.iterdir()] == ["keys.json"]
    assert add_key(path, "other") != key


def test_a_changed_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "a")
    path.chmod(0o640)  # an operator lets the service's group read it
    add_key(path, "b")
    assert path.stat().st_mode & 0o777 == 0o640


def test_names(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for name in ("", "-a", "a b", "a\n", "a/b", "x" * 65, "ä"):
        with pytest.raises(ConfigError, match="expected a name of at most 64 letters"):
            add_key(path, name)
    assert not path.exists()
    add_key(path, "a")
    with pytest.raises(ConfigError, match="expected a new name, got 'a', which has a key: `mri-recon key rotate`"):
        add_key(path, "a")
    with pytest.raises(ConfigError, match="expected one of the names a, got 'b'"):
        remove_key(path, "b")
    remove_key(path, "a")
    assert read_keys(path) == []
    with pytest.raises(ConfigError, match="the names \\(none\\), got 'a'"):
        remove_key(path, "a")


@pytest.mark.parametrize("content", ["", "[]", '{"keys": [{"name": "a"}]}', '{"keys": [], "more": 1}', "\xff"])
def test_files_that_hold_no_keys(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match="expected a file that `mri-recon key add` wrote, got .*: restore it"):
        read_keys(path)


def test_a_record_with_an_impossible_name() -> None:
    with pytest.raises((ValidationError, ConfigError)):
        KeyRecord.model_validate({"name": "a b", "sha256": "0" * 64, "created": "2026-01-01T00:00:00Z"})


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the API keys cannot be read .*: let the service read it"):
        read_keys(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be (read|written)"):
        add_key(tmp_path / "file" / "keys.json", "a")


def test_the_verb(tmp_path: Path) -> None:
    environment = {"MRI_RECON_KEYS_FILE": str(tmp_path / "keys.json")}

    def run(*words: str) -> Any:
        return CliRunner().invoke(build_app(), ["key", *words], env=environment)

    added = run("add", "alice")
    assert added.exit_code == 0, added.output
    key = added.stdout.strip()
    assert Keyring(tmp_path / "keys.json").owner(key) == "alice"
    assert "not shown again" in added.stderr
    listed = run("list").stdout
    assert listed.startswith("alice\t20")
    assert key not in listed
    twice = run("add", "alice")
    assert twice.exit_code == 2
    assert twice.stderr.startswith("mri-recon: error: expected a new name")
    assert run("remove", "alice").exit_code == 0
    assert run("list").stdout == ""
    assert run("add", "bob", "--file", str(tmp_path / "other.json")).exit_code == 0
    assert (tmp_path / "other.json").exists()


def test_keys_are_read_again_when_the_file_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.json"
    first = add_key(path, "first")
    ring = Keyring(path)
    second = add_key(path, "second")
    assert (ring.owner(first), ring.owner(second), ring.owner("mrk_x")) == ("first", "second", None)
    remove_key(path, "first")
    assert (ring.owner(first), ring.owner(second)) == (None, "second")
    path.write_text("damaged")
    assert ring.owner(second) is None  # a damaged file lets nobody in
    assert "expected a file that" in caplog.text
    path.unlink()
    assert ring.owner(second) is None


def test_every_hash_is_compared_in_constant_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    keys = [add_key(path, f"k{i}") for i in range(5)]
    ring, seen = Keyring(path), []

    def compare(a: str, b: str) -> bool:
        seen.append(a)
        return a == b

    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    assert ring.owner(keys[0]) == "k0"
    assert len(seen) == 5  # the first match ends nothing


@pytest.fixture
def keyed(tmp_path: Path) -> tuple[Settings, str]:
    """Settings that ask for keys, and a key."""
    path = tmp_path / "keys.json"
    return Settings(require_keys=True, keys_file=path, data_dir=tmp_path / "jobs"), add_key(path, "alice")


def test_what_needs_a_key(serve: Any, keyed: tuple[Settings, str], problem: Check) -> None:
    settings, key = keyed
    with serve(settings) as client:
        for path in ("/docs", "/openapi.json", "/health/live", "/v2/health/live", "/problems", "/problems/busy"):
            assert client.get(path).status_code == 200, path
        assert client.get("/static/swagger-ui/swagger-ui.css").status_code == 200
        for path in ("/metrics", "/v1/models", "/v1/sample", "/v1/jobs/x", "/v2", "/nope", "/health", "/docs/"):
            answer = client.get(path)
            assert "send it as" in problem(answer, 401, "unauthorized")["detail"], path
            assert answer.headers["www-authenticate"] == 'Bearer realm="mri-recon"'
        problem(client.post("/v1/reconstructions", content=b"x"), 401, "unauthorized")
        for headers in (
            {"Authorization": f"Bearer {key}"},
            {"Authorization": f"bearer  {key}"},
            {"X-API-Key": key},
        ):
            assert client.get("/v1/sample", headers=headers).status_code == 200
        for headers in (
            {"Authorization": f"Basic {key}"},
            {"Authorization": f"Bearer {key}x"},
            {"Authorization": f"Bearer {key[:-1]}"},
            {"Authorization": "Bearer"},
            {"X-API-Key": ""},
            {"X-API-Key": hashlib.sha256(key.encode()).hexdigest()},  # the stored hash is no key
            {"X-API-Key": b"\xff\xfe"},
        ):
            problem(client.get("/v1/sample", headers=headers), 401, "unauthorized")
        remove_key(settings.keys_path, "alice")
        problem(client.get("/v1/sample", headers={"X-API-Key": key}), 401, "unauthorized")


def test_without_keys_everyone_on_this_machine_is_let_in(serve: Any, tmp_path: Path) -> None:
    with serve(Settings(data_dir=tmp_path)) as client:
        assert client.get("/v1/sample", headers={"X-API-Key": "anything"}).status_code == 200


def test_the_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert Settings().keys_path == tmp_path / "mri-recon" / "keys.json"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Settings().keys_path == tmp_path / "home" / ".config" / "mri-recon" / "keys.json"


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "a")
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigError, match=r"cannot be written .No space left.*free some space; the keys are as"):
        add_key(path, "b")
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["keys.json"]
    assert len(json.loads(before)["keys"]) == 1


@pytest.mark.parametrize("kind", ["pipe", "device", "endless device"])
def test_a_keys_file_is_an_ordinary_file(kind: str, tmp_path: Path) -> None:
    """Nobody writes into the pipe, and an endless device has no end: neither is read."""
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/null"), "endless device": Path("/dev/zero")}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    for ask in (lambda: read_keys(path), lambda: add_key(path, "a"), lambda: remove_key(path, "a")):
        with pytest.raises(ConfigError, match="expected a file of API keys, got a pipe or a device: choose another"):
            ask()
