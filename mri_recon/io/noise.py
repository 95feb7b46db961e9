"""Read noise samples from a separate file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mri_recon._arrays import as_tensor
from mri_recon.io.formats.mrd import is_mrd, read_mrd_noise
from mri_recon.io.formats.table import format_of
from mri_recon.io.formats.twix import read_twix_noise
from mri_recon.io.loading import load
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["load_noise"]


def load_noise(path: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Tensor:
    """Read noise samples, complex64 `(coil, sample)`.

    Args:
        path: `.npy`, or `.npz`, MATLAB or HDF5 with an array `noise`, or ISMRMRD or Siemens raw data with noise
            scans, which are scaled to the noise of the image lines of that file.
        max_bytes: as in `load`.

    Raises:
        FormatError: as `load`, or an array of the wrong rank.
    """
    path = Path(path)
    if (name := format_of(path).name) in ("mrd2", "mrd-session") or (name == "hdf5" and is_mrd(path)):
        return as_tensor(read_mrd_noise(path, max_bytes=max_bytes))
    if name == "twix":
        return as_tensor(read_twix_noise(path, max_bytes=max_bytes))
    variable = None if name == "npy" else "noise"
    return load(path, axes="readout phase", variable=variable, max_bytes=max_bytes).kspace[0, 0]
