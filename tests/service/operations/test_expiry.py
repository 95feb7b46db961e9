"""API keys that expire, and their rotation."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon.errors import ConfigError
from mri_recon_service import clock
from mri_recon_service.durations import duration
from mri_recon_service.http.keys import Keyring, add_key, read_keys, remove_key, rotate_key
from mri_recon_service.settings import Settings

DAY = 86400.0
START = datetime(2030, 5, 1, 12, tzinfo=UTC).timestamp()
Check = Callable[..., dict[str, Any]]


class Time:
    """The clock, set by hand."""

    def __init__(self) -> None:
        self.now = START


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    one = Time()
    monkeypatch.setattr(clock, "now", lambda: one.now)
    return one


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_ends_at_its_time(path: Path, time: Time) -> None:
    key, other = add_key(path, "a", lifetime=timedelta(days=90)), add_key(path, "b")
    ring = Keyring(path)
    time.now = START + 90 * DAY - 0.001
    assert (ring.owner(key), ring.owner(other)) == ("a", "b")
    time.now = START + 90 * DAY
    assert (ring.owner(key), ring.owner(other)) == (None, "b")
    found = ring.find(key)
    assert found is not None
    assert found.name == "a"


def test_an_expired_key_is_told_so(
    serve: Any, path: Path, time: Time, problem: Check, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = add_key(path, "alice", lifetime=timedelta(hours=12))
    with serve(Settings(require_keys=True, keys_file=path, data_dir=tmp_path / "jobs")) as client:
        assert client.get("/v1/sample", headers={"X-API-Key": key}).status_code == 200
        assert "has expired" not in caplog.text
        time.now = START + DAY
        answer = client.get("/v1/sample", headers={"X-API-Key": key})
        detail = problem(answer, 401, "unauthorized")["detail"]
        assert "got one of alice that expired on 2030-05-02 at 00:00 UTC: ask the operator for a new one" in detail
        assert answer.headers["www-authenticate"] == 'Bearer realm="mri-recon"'
        stranger = client.get("/v1/sample", headers={"X-API-Key": "mrk_x"})
        assert "expired" not in problem(stranger, 401, "unauthorized")["detail"]
    Keyring(path)
    assert "every API key in" in caplog.text


def test_rotation_keeps_the_former_key_for_the_overlap(path: Path, time: Time) -> None:
    first, other = add_key(path, "a"), add_key(path, "b")
    ring = Keyring(path)
    time.now = START + 10 * DAY
    second = rotate_key(path, "a", overlap=timedelta(days=7))
    assert second != first
    time.now = START + 17 * DAY - 1
    assert {ring.owner(key) for key in (first, second)} == {"a"}
    time.now = START + 17 * DAY
    assert (ring.owner(first), ring.owner(second), ring.owner(other)) == (None, "a", "b")
    third = rotate_key(path, "a", overlap=timedelta(0))  # a leaked key: at once
    assert [ring.owner(key) for key in (first, second, third)] == [None, None, "a"]
    assert len(read_keys(path)) == 3  # the key that had expired before is gone
    remove_key(path, "a")
    assert [one.name for one in read_keys(path)] == ["b"]


def test_a_rotated_key_lives_as_long_as_the_former(path: Path, time: Time) -> None:
    first = add_key(path, "a", lifetime=timedelta(days=90))
    time.now = START + 85 * DAY
    second = rotate_key(path, "a", overlap=timedelta(days=7))
    ring = Keyring(path)
    time.now = START + 90 * DAY
    assert (ring.owner(first), ring.owner(second)) == (None, "a")  # the overlap makes no key live longer
    time.now = START + (85 + 90) * DAY
    assert ring.owner(second) is None
    third = rotate_key(path, "a", overlap=timedelta(days=7), lifetime=timedelta(days=1))  # of an expired one
    assert [ring.owner(key) for key in (second, third)] == [None, "a"]
    time.now += DAY
    assert ring.owner(third) is None


def test_only_a_name_that_has_a_key_is_rotated(path: Path) -> None:
    add_key(path, "a")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="expected one of the names a, got 'b': `mri-recon key list` shows them"):
        rotate_key(path, "b", overlap=timedelta(0))
    assert path.read_bytes() == before


def test_files_of_earlier_versions(path: Path) -> None:
    """They have no expiry, and a key without one is written as they had it."""
    key = add_key(path, "a")
    (record,) = json.loads(path.read_text())["keys"]
    assert set(record) == {"name", "sha256", "created"}
    assert Keyring(path).owner(key) == "a"
    record["expires"] = "2030-05-01T12:00:00"  # of no time zone
    path.write_text(json.dumps({"keys": [record]}))
    with pytest.raises(ConfigError, match="expected a file that `mri-recon key add` wrote"):
        read_keys(path)


@pytest.mark.parametrize(
    ("text", "time"),
    [("30m", timedelta(minutes=30)), ("12h", timedelta(hours=12)), ("90d", timedelta(90)), ("4w", timedelta(28))],
)
def test_times(text: str, time: timedelta) -> None:
    assert duration(text) == time


@pytest.mark.parametrize(
    "text", ["", "90", "d", "-1d", "1.5d", "0d", "90 d", "90D", "36501d", "999999999w", "٣d", "1d\n"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 30m, 12h, 90d or 4w, got"):
        duration(text)
    assert duration("0d", zero=True) == timedelta(0)


def test_the_verbs(path: Path, time: Time) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(build_app(), ["key", *words], env={"MRI_RECON_KEYS_FILE": str(path)})

    first = run("create", "alice", "--expires", "90d").stdout.strip()
    run("add", "bob")
    assert [line.split("\t") for line in run("list").stdout.splitlines()] == [
        ["alice", "2030-05-01 12:00 UTC", "2030-07-30 12:00 UTC", "90 days left"],
        ["bob", "2030-05-01 12:00 UTC", "never", "does not expire"],
    ]
    time.now = START + 88 * DAY
    second = run("rotate", "alice").stdout.strip()
    time.now = START + 89.5 * DAY
    assert [line.split("\t")[3] for line in run("list").stdout.splitlines()] == [
        "last day",
        "does not expire",
        "88 days left",
    ]
    time.now = START + 90 * DAY
    assert run("list").stdout.splitlines()[0].endswith("\texpired")
    ring = Keyring(path)
    assert (ring.owner(first), ring.owner(second)) == (None, "alice")
    wrong = run("rotate", "alice", "--overlap", "soon")
    assert (wrong.exit_code, run("add", "carol", "--expires", "0d").exit_code) == (2, 2)
    assert "expected a time of at most 36500d" in wrong.stderr
    assert {one.name for one in read_keys(path)} == {"alice", "bob"}
