"""Keep the readouts of a session in files, one for each image, with little of them in memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mri_recon_service.private_files import private_opener
from mri_recon_service.problems import storage_full
from mri_recon_service.stream.images import Image

__all__ = ["Spool"]

T = TypeVar("T")

_MOST_HELD = 1 << 22  # bytes in memory
_PIECE = 1 << 20


class Spool:
    """Files of readouts in a folder of the session alone.

    Args:
        folder: the folder, which exists.
        preface: bytes at the beginning of every file.
        ending: bytes at the end of every file.
    """

    def __init__(self, folder: Path, *, preface: bytes, ending: bytes) -> None:
        self._folder = folder
        self._preface = preface
        self._ending = ending
        self._held: dict[int, bytearray] = {}
        self._num_held = 0
        self._begun: set[int] = set()

    async def add(self, image: Image, content: bytes) -> None:
        """Keep a readout.

        Raises:
            Problem: storage-full.
        """
        self._held.setdefault(image.number, bytearray()).extend(content)
        self._num_held += len(content)
        if self._num_held >= _MOST_HELD:
            await self._flush()

    async def file_of(self, image: Image) -> tuple[Path, str]:
        """Write a file with all readouts of an image so far, which the caller moves or deletes; and its SHA-256.

        Raises:
            Problem: storage-full.
        """
        await self._flush()
        return await _in_thread(lambda: self._copy(image))

    async def _flush(self) -> None:
        held, self._held, self._num_held = self._held, {}, 0
        await _in_thread(lambda: self._write(held))

    def _write(self, held: dict[int, bytearray]) -> None:
        for number, content in held.items():
            with open(self._path(number), "ab", opener=private_opener) as file:
                if number not in self._begun:
                    file.write(self._preface)
                    self._begun.add(number)
                file.write(content)

    def _copy(self, image: Image) -> tuple[Path, str]:
        """Copy, because later readouts may still belong to the image."""
        target = self._folder / "made" / f"{image.number}-{image.made}" / "scan.mrd"
        target.parent.mkdir(parents=True)
        digest = hashlib.sha256()
        with self._path(image.number).open("rb") as source, open(target, "wb", opener=private_opener) as file:
            while piece := source.read(_PIECE):
                digest.update(piece)
                file.write(piece)
            digest.update(self._ending)
            file.write(self._ending)
        return target, digest.hexdigest()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.readouts"


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise storage_full() from error
