"""Hold temporary folders that are deleted even if this process is killed: by the next one that starts."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

__all__ = ["LockedFolder", "remove_abandoned"]

_OLD_SECONDS = 3600.0


class LockedFolder:
    """A folder that is locked for as long as this process lives.

    Args:
        place: its parent folder.
        prefix: beginning of its name, the same for all folders of a purpose.
        sweep: first delete the folders that killed processes left there.

    Attributes:
        path: the folder.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, place: Path, prefix: str, *, sweep: bool = True) -> None:
        if sweep:
            remove_abandoned(place, prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=place)).resolve()
        self._lock: int | None = None
        try:
            # Locked before it gets its name, so that nobody finds it unlocked while its owner lives.
            self._lock = os.open(self.path / "lock.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (self.path / "lock.new").rename(self.path / "lock")
        except OSError:
            self.remove()
            raise

    def remove(self) -> None:
        """Unlock the folder and delete it. A second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)
        shutil.rmtree(self.path, ignore_errors=True)


def remove_abandoned(place: Path, prefix: str) -> None:
    """Delete the folders of killed processes, whose locks nobody holds."""
    for folder in place.glob(f"{prefix}*"):
        try:
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:  # the folder is being made, or its process was killed just then
            if _is_old(folder):
                shutil.rmtree(folder, ignore_errors=True)
            continue
        except OSError:  # it belongs to somebody else
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(descriptor)


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.lstat().st_mtime > _OLD_SECONDS
    except OSError:
        return False
