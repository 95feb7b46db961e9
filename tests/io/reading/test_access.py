"""A file that cannot be read is told apart from one that is damaged, each reason with its own sentence and cure."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mri_recon.errors import FormatError
from mri_recon.io import load, load_image, load_mask, load_noise
from mri_recon.io.reading.access import cannot_open_hdf5, cannot_read

READ: list[Callable[[Path], Any]] = [load, load_mask, load_image, load_noise]

WRITER = """
import sys
import h5py
with h5py.File(sys.argv[1], "a") as file:
    file.flush()
    print("open", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def in_use(tmp_path: Path) -> Iterator[Path]:
    """A sound scan that another process has open for writing."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["kspace"], file["mask"] = np.ones((1, 8, 12), np.complex64), np.ones(12, bool)
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        yield path
        writer.communicate("\n")


@pytest.mark.parametrize("read", READ)
def test_a_file_that_is_written_is_in_use(in_use: Path, read: Any) -> None:
    with pytest.raises(FormatError, match="a.h5 is in use: another program has it open for writing") as caught:
        read(in_use)
    assert "HDF5_USE_FILE_LOCKING=FALSE" in str(caught.value)
    assert "damaged" not in str(caught.value)


def test_a_file_that_nobody_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["kspace"] = np.ones((1, 8, 12), np.complex64)
        file.flush()
        file.swmr_mode = True
        copy = tmp_path / "b.h5"
        copy.write_bytes(path.read_bytes())
    with pytest.raises(FormatError, match=r"b.h5 is in use, or was not closed .* h5clear -s b.h5"):
        load(copy)
    assert load(path).num_slices == 1


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("suffix", [".h5", ".npy", ".mat"])
def test_what_is_no_file(tmp_path: Path, read: Any, suffix: str) -> None:
    if suffix != ".h5" and read is load_image:
        pytest.skip("reads HDF5 alone")
    path = tmp_path / f"a{suffix}"
    with pytest.raises(FormatError, match=rf"found nothing at .*a\{suffix}: check the path"):
        read(path)
    path.symlink_to(tmp_path / "gone")
    with pytest.raises(FormatError, match="is a link to a file that does not exist: repair the link"):
        read(path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(FormatError, match="its links lead in a circle"):
        read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(FormatError, match="is a folder: name a file in it"):
        read(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(FormatError, match="is a pipe, socket or device: write its content to a file"):
        read(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        with pytest.raises(FormatError, match="is a pipe, socket or device"):
            read(path)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(FormatError, match="a part of its path is a file, not a folder"):
        read(tmp_path / "file" / f"a{suffix}")
    with pytest.raises(FormatError, match="its name is longer than the file system allows"):
        read(tmp_path / ("x" * 300 + suffix))
    with pytest.raises(FormatError, match="a name that no file can have"):
        read(tmp_path / f"a\0{suffix}")


@pytest.mark.parametrize("suffix", [".h5", ".npy", ".npz", ".mat"])
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "permission denied.*right to read"),
        (errno.ENOENT, "it was there and is gone"),
        (errno.EIO, "the disk or the network share failed"),
        (errno.EMFILE, "too many files are open"),
        (errno.ENOMEM, "check the file and its permissions"),
    ],
)
def test_what_the_system_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, number: int, message: str
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x")

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    for read in (load, load_mask) if suffix != ".npz" else (load,):
        with pytest.raises(FormatError, match=f"cannot read a{suffix} .*{message}") as caught:
            read(path)
        assert "damaged" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is allowed to root")
def test_permission_denied(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((8, 12), np.complex64))
    (tmp_path / "a.npy").chmod(0)
    with pytest.raises(FormatError, match=r"cannot read a.npy \(permission denied\)"):
        load(tmp_path / "a.npy")


def test_sentences_about_hdf5() -> None:
    path = Path("a.h5")
    no_locks = OSError(errno.ENOLCK, "unable to lock file, errno = 37, error message = 'No locks available'")
    assert "its file system has no locks. Where nobody writes it, set" in str(cannot_open_hdf5(path, no_locks))
    assert "permission denied" in str(cannot_open_hdf5(path, PermissionError(errno.EACCES, "x")))
    assert cannot_open_hdf5(path, OSError("file signature not found")) is None
    assert "no reason given" in str(cannot_read(path, OSError()))
