"""Read an HDF5 file as what it holds: readouts of ISMRMRD, else arrays as fastMRI stores them."""

from __future__ import annotations

from pathlib import Path

from mri_recon.io.formats.fastmri import read_fastmri
from mri_recon.io.formats.mrd import is_mrd, read_mrd
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES
from mri_recon.io.reading.slices import Slices
from mri_recon.io.scan import RawScan

__all__ = ["read_hdf5"]


def read_hdf5(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read k-space of an HDF5 file; see `mri_recon.io.load`."""
    reader = read_mrd if is_mrd(path) else read_fastmri
    return reader(path, axes=axes, variable=variable, slices=slices, max_bytes=max_bytes)
