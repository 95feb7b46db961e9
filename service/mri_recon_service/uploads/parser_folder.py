"""Hold the private folder of a parser process: the files it may read, and the file of its answer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mri_recon_service.locked_folder import LockedFolder
from mri_recon_service.problems import Problem
from mri_recon_service.uploads.protocol import ANSWER_FILE

__all__ = ["ParserFolder", "link_or_copy"]

_PREFIX = "mri-recon-parser-"


class ParserFolder:
    """A folder that is locked for as long as this process lives.

    Args:
        place: its parent folder. Folders that killed services left there are deleted first.

    Attributes:
        path: the folder.
        inbox: folder of the files to read, in `scan` and `mask`.
        outbox: folder of the answer, which is there before a worker is given a file.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, place: Path) -> None:
        self._folder = LockedFolder(place, _PREFIX)
        self.path = self._folder.path
        self.inbox, self.outbox = self.path / "in", self.path / "out"
        try:
            for folder in (self.inbox, self.inbox / "scan", self.inbox / "mask", self.outbox):
                folder.mkdir(mode=0o700)
            self.renew_outbox()  # so that the file is for its owner only, whoever writes first
        except OSError:
            self.remove()
            raise

    @contextmanager
    def given(self, files: Mapping[str, Path]) -> Iterator[Path]:
        """Put files into the inbox for the block. Gives the path of the answer, which is emptied after the block.

        The file of the answer stays: a worker that was taken over may keep it open, and fills no other.

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
                    link_or_copy(file, link)
            except OSError as error:
                raise Problem(
                    "storage-full", "the upload cannot be linked or copied: the operator must look at the upload folder"
                ) from error
            yield answer
        finally:
            for path in links:
                path.unlink(missing_ok=True)
            with suppress(OSError):
                os.truncate(answer, 0)

    def renew_outbox(self) -> None:
        """Delete all files in the outbox, and make an empty one for the answers of the next worker, which makes none.

        Raises:
            OSError: the file cannot be made.
        """
        for path in self.outbox.iterdir():
            path.unlink()
        (self.outbox / ANSWER_FILE).touch(mode=0o600)

    def remove(self) -> None:
        """Unlock the folder and delete it. A second call does nothing."""
        self._folder.remove()


def link_or_copy(file: Path, link: Path) -> None:
    """Link a file to another name, or copy it if the folders lie on different file systems."""
    try:
        os.link(file, link)
    except OSError:
        shutil.copyfile(file, link)
