"""Find the embedded sample, a small simulated multi-coil scan in the package, for the demo and for tests.

`mri_recon_data.simulation.make_sample` simulated it from Colin27. No network was trained on it, and its numbers are not
a result.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from mri_recon.errors import DataError

if TYPE_CHECKING:
    from mri_recon.io import Scan

__all__ = ["SAMPLE_NAME", "sample", "sample_path"]

SAMPLE_NAME = "colin27_8ch.h5"


def sample_path() -> Path:
    """Give the path of the sample, a fastMRI HDF5 file: 4 axial slices, 8 coils, 151x127, fully sampled.

    Raises:
        DataError: the installed package lacks the sample.
    """
    path = Path(str(files("mri_recon") / "_sample" / SAMPLE_NAME))
    if not path.is_file():
        raise DataError(f"embedded sample: expected at {path}, not there: reinstall the package")
    return path


def sample() -> Scan:
    """Load the embedded sample: 4 axial slices, 8 coils, 151x127, fully sampled, simulated.

    Its numbers are a demonstration, not a result.

    Raises:
        DataError: the installed package lacks the sample.
    """
    from mri_recon.io import load  # the path alone, which the command line prints, needs no reader

    return load(sample_path())
