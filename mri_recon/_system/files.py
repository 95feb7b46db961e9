"""Write files in full or not at all, and replace nothing but ordinary files."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

from mri_recon._system.text import printable
from mri_recon.errors import OutputError

__all__ = [
    "Content",
    "check_target",
    "create_beside",
    "is_full",
    "remove_unfinished",
    "replacing",
    "unwritable",
    "write_atomically",
]

Content: TypeAlias = bytes | bytearray | memoryview
"""Content of a file."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_RANDOM_BYTES = 6
_LONGEST_PREFIX = 100  # bytes; with the random part, far below the limit of 255 of file systems
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def write_atomically(path: str | Path, content: Content, *, mode: int = 0o666) -> None:
    """Write a file in one step, as `replacing` does.

    Raises:
        OutputError: as `replacing`.
    """
    with replacing(path, mode=mode) as file:
        file.write(content)


@contextmanager
def replacing(path: str | Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a file beside its final name, and move it there at the end, so that a half-written file is never seen.

    If the path is a symbolic link, its target is written. A replaced file keeps its permissions, and its owner if this
    process may change owners; a new file gets `mode` less the umask. After any failure, Ctrl-C included, the old file
    is unchanged and nothing is left behind.

    Raises:
        OutputError: a full disk, a folder that does not exist or cannot be written to, or a path that is a directory, a
            pipe, a socket or a device.
    """
    temporary: Path | None = None
    try:
        try:
            kept = check_target(path)
            target = Path(os.path.realpath(path))
            descriptor, temporary = create_beside(target, mode if kept is None else 0o600)
        except ValueError as error:  # the name contains NUL
            raise unwritable(path, error) from error
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if kept is not None:
                _keep_access(file.fileno(), kept)
            os.fsync(file.fileno())  # otherwise a power cut after the move could leave an empty file
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_target(path: str | Path) -> os.stat_result | None:
    """Return the status of the ordinary file that would be replaced, following links; None if there is none.

    Raises:
        OutputError: a directory, a pipe, a socket or a device.
        OSError: the path cannot be examined: too long, a loop of links, a folder that may not be entered.
    """
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISREG(found.st_mode):
        return found
    what = next((name for test, name in _KINDS if test(found.st_mode)), "no ordinary file")
    reason = "Is a directory" if what == "a directory" else f"it is {what}"
    raise OutputError(f"cannot write {printable(path)} ({reason}): choose the name of a new or an ordinary file")


def create_beside(target: Path, mode: int = 0o600) -> tuple[int, Path]:
    """Create a hidden file in the folder of `target`, open for writing; return it and its path. The umask applies.

    Raises:
        OSError: the folder cannot be written to.
    """
    prefix = _prefix(target)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    while True:
        path = target.with_name(f".{prefix}.{secrets.token_hex(_RANDOM_BYTES)}")
        try:
            return os.open(path, flags, mode), path
        except FileExistsError:
            continue


def remove_unfinished(path: str | Path) -> None:
    """Remove the half-written files that `write_atomically` left beside a file when its process was killed.

    No other process may be writing the file.
    """
    target = Path(os.path.realpath(path))
    start = f".{_prefix(target)}."
    with suppress(OSError):  # no folder, so no files
        for found in target.parent.iterdir():
            end = found.name.removeprefix(start)
            if found.name.startswith(start) and len(end) == 2 * _RANDOM_BYTES and set(end) <= set("0123456789abcdef"):
                found.unlink(missing_ok=True)


def is_full(error: BaseException) -> bool:
    """Tell whether an error means that space is exhausted: a full disk, a used-up quota, a limit on file sizes."""
    return (isinstance(error, OSError) and error.errno in _FULL) or (isinstance(error, OutputError) and error.full)


def unwritable(path: str | Path, error: OSError | ValueError) -> OutputError:
    """Build the error that explains why a file cannot be written, with advice."""
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    if is_full(error):
        cure = "free some space, or write to another disk; a file that was there is as it was"
    elif isinstance(error, FileNotFoundError | NotADirectoryError) and not _has_folder(path):
        cure = "choose a folder that exists"
    else:
        cure = "choose a folder that exists and can be written to"
    return OutputError(f"cannot write {printable(path)} ({reason}): {cure}", full=is_full(error))


def _prefix(target: Path) -> str:
    return os.fsdecode(os.fsencode(target.name)[:_LONGEST_PREFIX])


def _has_folder(path: str | Path) -> bool:
    return Path(os.path.realpath(path)).parent.is_dir()


def _keep_access(descriptor: int, kept: os.stat_result) -> None:
    """Give a new file the permissions, and if allowed the owner, of the file that it replaces."""
    mode = kept.st_mode & 0o777
    if hasattr(os, "fchown"):
        made = os.fstat(descriptor)
        if (made.st_uid, made.st_gid) != (kept.st_uid, kept.st_gid):
            try:
                os.fchown(descriptor, kept.st_uid, kept.st_gid)
            except OSError:  # the owner cannot be changed, so the new group gets no more rights than everybody
                if made.st_gid != kept.st_gid:
                    mode &= ~0o070 | (mode & 0o007) << 3
    os.fchmod(descriptor, mode)
