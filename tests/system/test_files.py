"""A file is written whole or not at all, and whatever stood there is kept until then."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_recon._system.files import is_full, write_atomically
from mri_recon.errors import OutputError


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@settings(max_examples=30)
@given(st.integers(0, 0o777))
def test_a_new_file_follows_the_umask(value: int) -> None:
    with tempfile.TemporaryDirectory() as folder, umask(value):
        write_atomically(Path(folder, "a"), b"x")
        write_atomically(Path(folder, "private"), b"x", mode=0o600)
        assert mode(Path(folder, "a")) == 0o666 & ~value
        assert mode(Path(folder, "private")) == 0o600 & ~value


@settings(max_examples=30)
@given(st.integers(0, 0o777), st.integers(0, 0o777))
def test_a_replaced_file_keeps_its_mode(value: int, old: int) -> None:
    with tempfile.TemporaryDirectory() as folder, umask(value):
        path = Path(folder, "a")
        path.write_bytes(b"old")
        path.chmod(old)
        write_atomically(path, b"new")
        assert mode(path) == old
        path.chmod(0o600)
        assert path.read_bytes() == b"new"


def test_a_file_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner stays where that is allowed; else the new group gets no more than anybody had."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o664)
    if os.geteuid() == 0:
        os.chown(path, 12345, 23456)
        write_atomically(path, b"new")
        assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (12345, 23456, 0o664)
    real = os.fstat

    def refuse(*args: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def elsewhere(descriptor: int) -> os.stat_result:
        found = list(real(descriptor))
        found[5] += 1  # another group
        return os.stat_result(found)

    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(os, "fstat", elsewhere)
    write_atomically(path, b"newer")
    assert mode(path) == 0o644


@pytest.mark.parametrize("absent", [True, False])
def test_a_link_stays_and_its_file_is_written(absent: bool, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    if not absent:
        target.write_bytes(b"old")
    link.symlink_to(Path("there", "target"))
    (tmp_path / "second").symlink_to(link)
    write_atomically(tmp_path / "second", b"new")
    assert target.read_bytes() == b"new"
    assert link.is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert [found.name for found in (tmp_path / "there").iterdir()] == ["target"]


def test_another_name_of_a_file_keeps_the_old_content(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"old")
    other.hardlink_to(path)
    write_atomically(path, b"new")
    assert (path.read_bytes(), other.read_bytes()) == (b"new", b"old")


def test_what_is_no_ordinary_file_is_kept(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s"))
        before = sorted(tmp_path.iterdir())
        for path, reason in (
            (tmp_path / "pipe", "it is a pipe"),
            (tmp_path / "link", "it is a pipe"),
            (tmp_path / "s", "it is a socket"),
            (Path("/dev/null"), "it is a device"),
            (tmp_path, "Is a directory"),
            (tmp_path / "loop", "Too many levels of symbolic links"),
            (tmp_path / ("x" * 300), "File name too long"),
            (tmp_path / "pipe" / "a", "Not a directory"),
            (tmp_path / "absent" / "a", "choose a folder that exists"),
            (tmp_path / "a\0b", "null byte"),
        ):
            with pytest.raises(OutputError, match=reason):
                write_atomically(path, b"x")
        assert sorted(tmp_path.iterdir()) == before
        assert (tmp_path / "pipe").is_fifo()
    assert Path("/dev/null").is_char_device()


@settings(max_examples=40)
@given(st.binary(min_size=1, max_size=255).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b"..")))
def test_any_name_that_the_file_system_takes(name: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, os.fsdecode(name))
        for content in (b"one", memoryview(b"two")):
            write_atomically(path, content)
            assert path.read_bytes() == content
        assert os.listdir(os.fsencode(folder)) == [name]  # noqa: PTH208  # bytes


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, None])
@pytest.mark.parametrize("call", ["fsync", "fchmod", "replace"])
def test_a_failure_leaves_the_old_file(
    number: int | None, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also Ctrl-C, wherever in the writing it comes."""
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt if number is None else OSError(number, os.strerror(number))

    monkeypatch.setattr(*((Path, "replace") if call == "replace" else (os, call)), fail)
    with pytest.raises(KeyboardInterrupt if number is None else OutputError) as caught:
        write_atomically(path, b"new")
    if number is not None:
        full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        assert is_full(caught.value) is full
        assert os.strerror(number) in str(caught.value)
        assert ("free some space" in str(caught.value)) is full
        assert is_full(pickle.loads(pickle.dumps(caught.value))) is full
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["a"]


def test_a_message_cannot_control_a_terminal(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_atomically(tmp_path / "absent\x1b[2J" / "a\nb", b"x")
    assert "absent\\x1b[2J/a\\nb" in str(caught.value)
