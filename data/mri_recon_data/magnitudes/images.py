"""Hold magnitude images with their place in the patient, and read them from NIfTI or DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.geometry import Geometry
from mri_recon.io.reading.access import cannot_read
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES

__all__ = ["MagnitudeImages", "finish", "read_images"]

_NEGATIVE = 0.05  # of the largest value: interpolation undershoots by that much, phases and differences by more
_COMPRESSED = b"\x1f\x8b"
_NIFTI_MAGIC = (b"n+1\0", b"ni1\0", b"n+2\0", b"ni2\0")


@dataclass(frozen=True)
class MagnitudeImages:
    """Hold the slices of one volume.

    Attributes:
        magnitude: float32 `(slice, readout, phase)`, at least 0, in the units of the file.
        geometry: voxel size, positions and directions, as far as the files have them.
        name: name of the file, or of the folder of a series.
        files: the files that were read.
        notes: what was assumed or left out, one sentence each.
        acquisition: name of the sequence; "" if the files have none.
    """

    magnitude: npt.NDArray[np.float32]
    geometry: Geometry | None
    name: str
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    acquisition: str = ""

    def of_slices(self, indices: Sequence[int]) -> MagnitudeImages:
        """Return some slices, in the order of their indices."""
        geometry = None if self.geometry is None else self.geometry.of_slices(indices)
        return replace(self, magnitude=self.magnitude[list(indices)], geometry=geometry)


def read_images(
    path: str | Path, *, volume: int | None = None, series: str | None = None, max_bytes: int = DEFAULT_MAX_BYTES
) -> MagnitudeImages:
    """Read the magnitude images of a NIfTI file, a DICOM file, or a folder with a DICOM series.

    Args:
        path: the file or folder; its content decides the format.
        volume: number of the volume of a NIfTI file with several.
        series: number or identifier of the series of a folder with several.
        max_bytes: largest array to read.

    Raises:
        FormatError: no such file, neither format, damaged, or no magnitude images of one volume.
    """
    # Here, because these modules need the class above.
    from mri_recon_data.magnitudes.dicom import read_dicom
    from mri_recon_data.magnitudes.nifti import read_nifti

    path = Path(path)
    if path.is_dir():
        _refuse_choice(path, "--volume", volume)
        return read_dicom(path, series=series, max_bytes=max_bytes)
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except FileNotFoundError as error:
        raise FormatError(f"expected a magnitude image, found nothing at {path}: check the path") from error
    except OSError as error:
        raise cannot_read(path, error) from error
    if head[128:132] == b"DICM":
        _refuse_choice(path, "--volume", volume)
        return read_dicom(path, series=series, max_bytes=max_bytes)
    if head.startswith(_COMPRESSED) or head[344:348] in _NIFTI_MAGIC or head[4:8] in _NIFTI_MAGIC:
        _refuse_choice(path, "--series", series)
        return read_nifti(path, volume=volume, max_bytes=max_bytes)
    raise FormatError(
        f"expected a magnitude image in NIfTI (.nii, .nii.gz) or DICOM (a file, or a folder with one series), got "
        f"{path.name}, which is neither: convert it, for example with nibabel"
    )


def finish(
    magnitude: npt.NDArray[np.float32],
    geometry: Geometry | None,
    path: Path,
    files: Sequence[Path],
    notes: Sequence[str],
    acquisition: str = "",
) -> MagnitudeImages:
    """Check the numbers of a volume and hold it.

    Raises:
        FormatError: no pixels, not finite, all zero, or negative beyond what interpolation makes.
    """
    name = path.name or str(path)
    if 0 in magnitude.shape:
        raise FormatError(f"expected images with pixels, {name} has shape {magnitude.shape}: check how it was exported")
    if not np.isfinite(magnitude).all():
        raise FormatError(
            f"expected finite magnitudes, {name} has NaN or infinite values: replace those outside the object by 0"
        )
    low, high = float(magnitude.min()), float(magnitude.max())
    if high <= 0:
        raise FormatError(f"expected magnitudes above 0, the largest of {name} is {high:g}: check how it was exported")
    if low < -_NEGATIVE * high:
        raise FormatError(
            f"expected magnitudes of at least 0, {name} has values from {low:g} to {high:g}: it is a phase, a real "
            "part or no MR image; give the magnitudes"
        )
    told = list(notes)
    if low < 0:
        told.append(f"values down to {low:g}, as interpolation leaves them, are set to 0")
        magnitude = np.maximum(magnitude, 0)
    return MagnitudeImages(np.ascontiguousarray(magnitude), geometry, name, tuple(files), tuple(told), acquisition)


def _refuse_choice(path: Path, option: str, value: object) -> None:
    if value is not None:
        raise FormatError(f"expected no {option} for {path.name}, got {value}: it chooses in the other format")
