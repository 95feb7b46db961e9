"""Hold the private folder of a parser process: the files it may read, and the file of its answer."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mri_recon_service.problems import Problem
from mri_recon_service.uploads.protocol import ANSWER_FILE

__all__ = ["ParserFolder"]

_PREFIX = "mri-recon-parser-"


class ParserFolder:
    """A folder that is locked for as long as this process lives.

    Args:
        place: its parent folder. Folders that killed services left there are deleted first.

    Attributes:
        path: the folder.
        inbox: folder of the files to read, in `scan` and `mask`.
        outbox: folder of the answer.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, place: Path) -> None:
        _remove_abandoned(place)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place)).resolve()
        self.inbox, self.outbox = self.path / "in", self.path / "out"
        self._lock: int | None = None
        try:
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for folder in (self.inbox / "scan", self.inbox / "mask", self.outbox):
                folder.mkdir(parents=True)
        except OSError:
            self.remove()
            raise

    @contextmanager
    def given(self, files: Mapping[str, Path]) -> Iterator[Path]:
        """Put files into the inbox for the block. Gives the path of the answer, which is deleted after the block.

        Args:
            files: the scan as "scan", and a mask, if any, as "mask".

        Raises:
            Problem: storage-full.
        """
        links = [self.inbox / kind / file.name for kind, file in files.items()]
        answer = self.outbox / ANSWER_FILE
        try:
            try:
                for file, link in zip(files.values(), links, strict=True):
                    _link(file, link)
            except OSError as error:
                raise Problem(
                    "storage-full", "the upload cannot be linked or copied: the operator must look at the upload folder"
                ) from error
            yield answer
        finally:
            for path in (*links, answer):
                path.unlink(missing_ok=True)

    def empty_outbox(self) -> None:
        """Delete all files in the outbox."""
        for path in self.outbox.iterdir():
            path.unlink()

    def remove(self) -> None:
        """Unlock the folder and delete it. A second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_abandoned(place: Path) -> None:
    """Delete the folders of killed services, whose locks nobody holds."""
    for folder in place.glob(f"{_PREFIX}*"):
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


def _link(file: Path, link: Path) -> None:
    """Link a file to another name, or copy it if the folders lie on different file systems."""
    try:
        os.link(file, link)
    except OSError:
        shutil.copyfile(file, link)
