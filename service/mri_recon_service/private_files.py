"""Keep files and folders from other users of the machine, whatever the umask and whoever made them before."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path

__all__ = ["make_private", "private_folder", "private_opener"]

log = logging.getLogger("mri_recon_service")


def private_opener(path: str, flags: int) -> int:
    """Open a file as `open(..., opener=private_opener)` asks; a new file is for its owner only."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def private_folder(path: Path, *, ours: Iterable[str]) -> None:
    """Make a folder for its owner only, with its parents.

    A folder that exists loses the rights of others if it holds nothing but our files: it may be somebody's home.

    Args:
        path: the folder.
        ours: beginnings of the names of our files.

    Raises:
        OSError: the folder cannot be made or read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    beginnings = tuple(ours)
    if all(one.name.startswith(beginnings) for one in path.iterdir()):
        _restrict(path)


def make_private(path: Path) -> None:
    """Take the rights of others from a file, or from a folder and all that is in it. Links are not followed.

    What belongs to another user keeps its rights, and the log says so.
    """
    _restrict(path)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            _restrict(Path(folder) / name)


def _restrict(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & 0o077:
            path.chmod(stat.S_IMODE(mode) & 0o700)
    except FileNotFoundError:  # another process has deleted it
        pass
    except OSError as error:
        log.warning("%s may be read by other users (%s): let its owner take their rights away", path, error.strerror)
