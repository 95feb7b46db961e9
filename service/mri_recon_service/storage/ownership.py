"""Tell which processes are alive: each locks its own file, which the kernel unlocks when the process dies."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from pathlib import Path

from mri_recon.errors import ConfigError
from mri_recon_service.private_files import make_private

__all__ = ["Ownership", "unusable_folder"]

_MAKING_SECONDS = 3600.0  # far longer than a file is without its lock while it is made


class Ownership:
    """Lock file of this process in the data folder."""

    def __init__(self, folder: Path) -> None:
        """Make the file and lock it.

        Raises:
            ConfigError: the folder cannot be written to.
        """
        self._id = uuid.uuid4().hex
        self._folder = folder
        waiting = folder / f".{self.id}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            make_private(folder)
            # The file is locked before it gets its name, so that nobody ever finds it unlocked while its owner lives.
            self._descriptor = os.open(waiting, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            waiting.rename(folder / self.id)
        except OSError as error:
            raise unusable_folder(folder, error) from error

    @property
    def id(self) -> str:
        """See `Owner`."""
        return self._id

    def alive(self, owner: str) -> bool:
        """Tell whether the process of an owner is alive."""
        return owner == self.id or _locked(self._folder / owner)

    def bury(self, owner: str) -> None:
        """Delete the file of a dead owner."""
        (self._folder / owner).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete the files of dead owners, and those that processes were killed over while they made them.

        A dead owner without a file stays dead, so jobs that it still owns are recovered all the same.
        """
        for path in self._folder.iterdir():
            begun = path.name.startswith(".")
            if path.name == self.id or not path.is_file() or (begun and not _is_old(path)):
                continue
            if not _locked(path):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete and unlock the file."""
        self.bury(self.id)
        os.close(self._descriptor)


def _locked(path: Path) -> bool:
    """Tell whether a process holds the lock of a file. A dead one never holds it again: names are used once."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > _MAKING_SECONDS
    except FileNotFoundError:  # it has got its name
        return False


def unusable_folder(folder: Path, error: OSError) -> ConfigError:
    """Make the error for a folder below the data folder that cannot be used."""
    return ConfigError(
        f"expected a data folder that can be written to, got {folder} ({error.strerror}): check its rights and "
        "free space, or choose another by MRI_RECON_DATA_DIR"
    )
