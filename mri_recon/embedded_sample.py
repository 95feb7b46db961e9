"""The embedded sample: a small simulated multi-coil scan that travels with the package, for the demo and for tests.

It is simulated from Colin27 by `mri_recon_data.simulation.make_sample`, was never trained on, and is no result.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from mri_recon.errors import DataError

__all__ = ["SAMPLE_NAME", "sample_path"]

SAMPLE_NAME = "colin27_8ch.h5"


def sample_path() -> Path:
    """Path of the sample, a fastMRI HDF5 file: 4 axial slices, 8 coils, 151x127, fully sampled.

    Raises:
        DataError: the installed package lacks it.
    """
    path = Path(str(files("mri_recon") / "sample" / SAMPLE_NAME))
    if not path.is_file():
        raise DataError(f"embedded sample: expected at {path}, not there: reinstall the package")
    return path
