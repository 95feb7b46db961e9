"""Openly licensed photographs of installed packages, as magnitude images of simulated scans.

`photographs.toml` beside this module names package, licence, authors and checksums. The project contains no photograph:
scikit-image ships some, a Debian package others. Where a collection is not installed, training goes on without it and
says so.
"""

from __future__ import annotations

import logging
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon._system.hashes import file_sha256
from mri_recon.errors import DataError

__all__ = ["Collection", "collections", "load_photographs"]

_LONGEST = 1600
"""Longest side that is kept: a crop of 96 to 384 pixels then shows a part of the scene and not grain."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Collection:
    """Photographs of one package: its licence, its authors, and the files with their SHA-256."""

    name: str
    package: str
    licence: str
    citation: str
    files: tuple[tuple[str, str], ...]
    folder: Path | None

    def paths(self) -> list[Path]:
        """Find the files on this machine; none where the package is not installed.

        Raises:
            DataError: a file with another content than the registered one.
        """
        if self.folder is None or not all((self.folder / name).is_file() for name, _ in self.files):
            return []
        for name, sha256 in self.files:
            found = file_sha256(self.folder / name)
            if found != sha256:
                raise DataError(
                    f"{self.folder / name}: expected SHA-256 {sha256} of {self.package}, got {found}: install that "
                    "version, or set the share of photographs to 0"
                )
        return [self.folder / name for name, _ in self.files]


@cache
def collections() -> tuple[Collection, ...]:
    """Read the registered collections."""
    document = tomllib.loads(
        package_files("mri_recon_data.scenes").joinpath("photographs.toml").read_text(encoding="utf-8")
    )
    return tuple(_collection(entry) for entry in document["collection"])


def _collection(entry: dict[str, Any]) -> Collection:
    folder: Path | None
    if "folder" in entry:
        folder = Path(entry["folder"])
    else:
        try:
            with as_file(package_files(entry["python_package"])) as place:
                folder = Path(place)
        except ModuleNotFoundError:
            folder = None
    listed = tuple((file["path"], file["sha256"]) for file in entry["files"])
    return Collection(entry["name"], entry["package"], entry["licence"], entry["citation"], listed, folder)


@cache
def load_photographs() -> tuple[npt.NDArray[np.float16], ...]:
    """Read the photographs at hand as grey images in [0, 1], reduced to at most 1600 pixels a side.

    Returns:
        float16 `(h, w)` each, in the order of the registry; empty where none is installed.

    Raises:
        DataError: a file with another content than the registered one.
    """
    found: list[npt.NDArray[np.float16]] = []
    for collection in collections():
        paths = collection.paths()
        if not paths:
            _LOG.warning("photographs of %s are not installed: training goes on without them", collection.package)
        found += [_read(path) for path in paths]
    return tuple(found)


def _read(path: Path) -> npt.NDArray[np.float16]:
    from skimage.io import imread  # its readers take a while to import

    pixels = np.asarray(imread(path))
    # Reduced by whole factors, by the mean of the pixels that fall together.
    factor = -(-max(pixels.shape[:2]) // _LONGEST)
    height, width = (side - side % factor for side in pixels.shape[:2])
    pixels = pixels[:height, :width].reshape(height // factor, factor, width // factor, factor, -1)
    grey = pixels.mean(axis=(1, 3, 4), dtype=np.float32) / 255
    return np.asarray(grey, dtype=np.float16)
