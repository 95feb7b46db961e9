"""Hold the folder, files and fields of one upload, and list the suffixes that files may have."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mri_recon._system.nearest import did_you_mean
from mri_recon_service.locked_folder import LockedFolder
from mri_recon_service.problems import Problem, shown

__all__ = [
    "FILE_FIELDS",
    "RAW_TYPES",
    "SUFFIXES",
    "Upload",
    "allowed_suffix",
]


FILE_FIELDS = ("file", "mask")
"""Fields that may be files: the scan, and a sampling mask."""


@dataclass
class Upload:
    """The files and fields of a request.

    Attributes:
        held: folder of this request alone; `remove` deletes it, or the next service if this one is killed.
        files: path of each file by the name of its field.
        fields: all other fields.
        sha256: SHA-256 of each file by the name of its field, computed while it arrived.
    """

    held: LockedFolder
    files: dict[str, Path] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Path of the folder."""
        return self.held.path

    def remove(self) -> None:
        """Delete the files. A second call does nothing."""
        self.held.remove()

    @property
    def sources(self) -> dict[str, dict[str, Any]]:
        """Describe each file by the name of its field: `name` (made by the server), `sha256`, `bytes`."""
        return {
            name: {"name": path.name, "sha256": self.sha256[name], "bytes": path.stat().st_size}
            for name, path in self.files.items()
        }

    def set_field(self, name: str, value: str) -> None:
        """Add a field.

        Raises:
            Problem: invalid-request, if the field came before.
        """
        if name in self.fields or name in self.files:
            raise Problem("invalid-request", f"expected the field {shown(name)} once, got it twice: send one")
        self.fields[name] = value


def allowed_suffix(filename: str, content_type: str) -> str:
    """Choose a suffix of the allow list by the file name, or else by the type of the part."""
    suffix = PurePosixPath(filename.replace("\\", "/")).suffix.lower()
    if suffix in SUFFIXES:
        return suffix
    if content_type in RAW_TYPES:
        return RAW_TYPES[content_type]
    got = shown(suffix) if suffix else "no suffix"
    raise Problem(
        "unsupported-media-type",
        f"expected a file name that ends in one of {', '.join(SUFFIXES)}, got {got}{did_you_mean(suffix, SUFFIXES)}: "
        "name the file by its format",
        valid=[*SUFFIXES, *RAW_TYPES],
    )


RAW_TYPES = {
    "application/x-hdf5": ".h5",
    "application/x-npy": ".npy",
    "application/x-npz": ".npz",
    "application/x-matlab-data": ".mat",
}
"""Content types of a scan or mask, with the format's suffix. application/octet-stream needs a file name instead."""

SUFFIXES = (".h5", ".hdf5", ".npy", ".npz", ".mat", ".mrd", ".dat", ".7")
"""Suffixes of file names that name a format."""
