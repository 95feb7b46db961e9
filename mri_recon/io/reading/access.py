"""Explain why a file cannot be opened or read, with one sentence and one piece of advice for each reason."""

from __future__ import annotations

import errno
from pathlib import Path

from mri_recon._system.inputs import cannot_read, check_regular
from mri_recon.errors import FormatError

__all__ = ["cannot_open_hdf5", "cannot_read", "check_regular"]

_NOT_THE_FILE = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO, errno.ESTALE, errno.ENXIO, errno.EMFILE, errno.ENFILE}
)
"""System errors that are not caused by the content of a file."""

_UNLOCK = "where nobody writes it, set the environment variable HDF5_USE_FILE_LOCKING=FALSE"


def cannot_open_hdf5(path: Path, error: OSError) -> FormatError | None:
    """Make the error for an HDF5 file that cannot be opened although it may be intact; None if it is damaged.

    The HDF5 library locks a file while writing it, and marks it as open until it is closed properly.
    """
    told = str(error)
    if "unable to lock file" in told:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return FormatError(
                f"{path.name} is in use: another program has it open for writing. Close it there, or wait until it is "
                f"done; {_UNLOCK}"
            )
        return FormatError(f"cannot lock {path.name}: its file system has no locks. {_UNLOCK[:1].upper()}{_UNLOCK[1:]}")
    if "already open for write" in told:
        return FormatError(
            f"{path.name} is in use, or was not closed by the program that wrote it: close it there, or wait until it "
            f"is done; where that program is gone, h5clear -s {path.name} makes the file readable"
        )
    return cannot_read(path, error) if error.errno in _NOT_THE_FILE else None
