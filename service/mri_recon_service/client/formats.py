"""Name the representations of results by the suffix of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mri_recon._system.nearest import did_you_mean
from mri_recon._system.text import printable
from mri_recon.errors import OutputError

__all__ = ["NPZ", "SUFFIXES", "media_type"]

NPZ = "application/x-npz"

_FILES: Mapping[str, str] = {
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".dcm": "application/dicom",
    ".dcm.zip": "application/zip",
    ".nii.gz": "application/x-nifti",
    ".mrd": "application/x-mrd",
    ".mat": "application/x-matlab-data",
}

SUFFIXES: Mapping[str, Mapping[str, str]] = {
    "reconstruction": {**_FILES, ".npy": "application/x-npy", ".npz": NPZ, ".png": "image/png"},
    "comparison": {".json": "application/json", ".npz": NPZ},
    "method": _FILES,
}
"""Media type by suffix, for each kind of job and for one method of a comparison."""


def media_type(path: str | Path, kind: str) -> str:
    """Return the media type of the format that the suffix of a file names.

    Raises:
        OutputError: no format of such a result has this suffix.
    """
    name = Path(path).name.lower()
    known = SUFFIXES[kind]
    for suffix in sorted(known, key=len, reverse=True):
        if name.endswith(suffix) and name != suffix:
            return known[suffix]
    raise OutputError(
        f"expected a file name that ends in one of {', '.join(known)}, got {printable(path)}"
        f"{did_you_mean(Path(path).suffix, known)}: its suffix is the format"
    )
