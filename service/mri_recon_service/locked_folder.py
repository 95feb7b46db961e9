"""Hold a temporary folder that is deleted even if this process is killed: by the next one that makes such a folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["LockedFolder"]


class LockedFolder:
    """A folder that is locked for as long as this process lives.

    Args:
        place: its parent folder. Folders that killed processes left there are deleted first.
        prefix: beginning of its name, the same for all folders of a purpose.

    Attributes:
        path: the folder.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, place: Path, prefix: str) -> None:
        _remove_abandoned(place, prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=place)).resolve()
        self._lock: int | None = None
        try:
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.remove()
            raise

    def remove(self) -> None:
        """Unlock the folder and delete it. A second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_abandoned(place: Path, prefix: str) -> None:
    """Delete the folders of killed processes, whose locks nobody holds."""
    for folder in place.glob(f"{prefix}*"):
        try:
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # the folder is being made, or belongs to somebody else
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(descriptor)
