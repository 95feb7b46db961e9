"""Refuse inputs that cannot be read, with one sentence and one piece of advice for each reason."""

from __future__ import annotations

import errno
import stat
from itertools import islice
from pathlib import Path

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import FormatError

__all__ = ["cannot_read", "check_regular"]

_MOST_FILES = 1000
"""Files of a folder among which the nearest name is looked for."""


def check_regular(path: Path, what: str) -> None:
    """Refuse a path that is not a regular file before it is opened, because opening a pipe would wait for ever.

    Args:
        path: the file; links are followed.
        what: name of the expected file with its article, e.g. "a k-space file".

    Raises:
        FormatError: no such file, a broken link, a folder, a pipe or device, or a folder that may not be entered.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        if path.is_symlink():
            raise FormatError(
                f"expected {what}, {path} is a link to a file that does not exist: repair the link"
            ) from error
        raise FormatError(f"expected {what}, found nothing at {path}{_near(path)}: check the path") from error
    except OSError as error:
        raise cannot_read(path, error) from error
    except ValueError as error:  # the name contains NUL
        raise FormatError(f"expected {what}, got a name that no file can have: check the path") from error
    if stat.S_ISDIR(mode):
        raise FormatError(f"expected {what}, {path} is a folder: name a file in it")
    if not stat.S_ISREG(mode):
        raise FormatError(
            f"expected {what}, {path} is a pipe, socket or device: write its content to a file on disk first"
        )


def _near(path: Path) -> str:
    """Name the file of the same folder whose name is nearest to that of one that is not there."""
    try:
        return did_you_mean(path.name, [one.name for one in islice(path.parent.iterdir(), _MOST_FILES)])
    except OSError:  # no folder, or one that cannot be read
        return ""


def cannot_read(path: Path, error: OSError) -> FormatError:
    """Make the error for a file that the operating system refuses to read."""
    match error.errno:
        case errno.EACCES | errno.EPERM:
            reason, cure = "permission denied", "ask its owner for the right to read it, or copy it to a place of yours"
        case errno.ENOENT:
            reason, cure = "it was there and is gone", "check whether another program moves or replaces it"
        case errno.ENOTDIR:
            reason, cure = "a part of its path is a file, not a folder", "check the path"
        case errno.ELOOP:
            reason, cure = "its links lead in a circle", "repair the links"
        case errno.ENAMETOOLONG:
            reason, cure = "its name is longer than the file system allows", "check the path"
        case errno.EISDIR:
            reason, cure = "it is a folder", "name a file in it"
        case errno.EIO | errno.ESTALE | errno.ENXIO:
            reason, cure = "the disk or the network share failed", "check the drive, and copy the file elsewhere"
        case errno.EMFILE | errno.ENFILE:
            reason, cure = "too many files are open", "close some, or raise the limit (ulimit -n)"
        case _:
            reason, cure = error.strerror or "no reason given", "check the file and its permissions"
    return FormatError(f"cannot read {path.name or path} ({reason}): {cure}")
