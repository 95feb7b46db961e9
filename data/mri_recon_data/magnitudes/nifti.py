"""Read magnitude images from NIfTI files (.nii, .nii.gz), with their affine.

The header's `dim_info` names the axes of readout, phase and slice; without it they are the first, second and third. A
BIDS-style JSON file beside the image may add the patient position and the phase-encoding axis.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.geometry import PATIENT_POSITIONS, Directions, Geometry, Vector
from mri_recon.io.reading.access import cannot_read, check_regular
from mri_recon.io.reading.limits import check_compression, check_declared
from mri_recon_data.magnitudes.images import MagnitudeImages, finish

__all__ = ["geometry_of_affine", "read_nifti"]

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MILLIMETRES = {"meter": 1e3, "mm": 1.0, "micron": 1e-3}
_SKEW = 1e-3
_MAX_SIDECAR = 2**20
_HEAD = 540  # bytes of the longer header, of NIfTI-2


def read_nifti(path: Path, *, volume: int | None, max_bytes: int) -> MagnitudeImages:
    """Read one volume of a NIfTI file; see `mri_recon_data.magnitudes.images.read_images`.

    Raises:
        FormatError: damaged, too large, not real, or several volumes of which none is chosen.
    """
    check_regular(path, "a NIfTI file")
    try:
        import nibabel
        from nibabel.imageglobals import LoggingOutputSuppressor
    except ImportError as error:
        raise FormatError(
            "expected the library nibabel for NIfTI, it is not installed: pip install 'mri-recon[clinical]'"
        ) from error
    damaged = FormatError(
        f"expected a NIfTI image, got {path.name}, which is none, damaged or cut short: copy it again"
    )
    try:
        # nibabel reports what it mends in a damaged header; what matters of it is checked here.
        with _opened(path) as stream, LoggingOutputSuppressor(), np.errstate(over="ignore"):
            head = stream.read(_HEAD)
            kind: Any = nibabel.Nifti2Image if 540 in _sizes(head) else nibabel.Nifti1Image
            if head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0":
                raise FormatError(
                    f"expected a NIfTI file of one piece, got {path.name}, half of a pair of .hdr and .img: convert it "
                    "to .nii"
                )
            stream.seek(0)
            # From this stream alone: no other file is opened, whatever the header says.
            image = kind.from_stream(stream)
            header, shape = image.header, tuple(int(one) for one in image.shape)
            stored = image.get_data_dtype()
            if stored.kind not in "iuf":
                raise FormatError(
                    f"expected real magnitudes in {path.name}, got numbers of the type {stored}: write their magnitudes"
                )
            index = _volume(shape, volume, path.name)
            size = check_declared(shape[:3], stored.itemsize, where=path.name, max_bytes=max_bytes)
            check_compression(size, path.stat().st_size, where=path.name)
            data = np.asarray(image.dataobj[(..., *index)] if index else image.dataobj, dtype=np.float32)
    except OSError as error:
        raise (damaged if error.errno is None else cannot_read(path, error)) from error
    except Exception as error:  # nibabel raises errors of many kinds for damaged files
        if isinstance(error, FormatError):
            raise
        raise damaged from error
    data = data.reshape((*data.shape, *(1,) * (3 - data.ndim)))
    sidecar = _sidecar(path)
    readout, phase, slices = _axes(header, sidecar)
    geometry, notes = _geometry(header, data.shape, (readout, phase, slices), sidecar)
    volume_of_slices = data.transpose(slices, readout, phase)
    return finish(volume_of_slices, geometry, path, [path], notes, str(sidecar.get("SeriesDescription", ""))[:64])


def geometry_of_affine(
    affine: npt.NDArray[np.float64], shape: tuple[int, int, int], patient_position: str = ""
) -> Geometry | None:
    """Make the geometry of a volume `(readout, phase, slice)` from its affine in LPS; None if the pixels are skewed.

    Slices may be sheared against each other: each has its own position, and the slice direction is their normal.

    Args:
        affine: from (readout, phase, slice, 1) to (x, y, z, 1) in mm, LPS.
        shape: of the volume.
        patient_position: DICOM's term, "" if it is not known.

    Raises:
        FormatError: as `Geometry`.
    """
    steps = affine[:3, :3]
    sizes = np.linalg.norm(steps, axis=0)
    if not np.isfinite(affine).all() or (sizes <= 0).any():
        return None
    readout, phase = steps[:, 0] / sizes[0], steps[:, 1] / sizes[1]
    if abs(float(readout @ phase)) > _SKEW:
        return None
    normal = np.cross(readout, phase)
    normal /= np.linalg.norm(normal)
    thickness = float(normal @ steps[:, 2])
    if thickness < 0:
        normal, thickness = -normal, -thickness
    if thickness <= 0:
        return None
    places = [affine[:3] @ (shape[0] // 2, shape[1] // 2, number, 1) for number in range(shape[2])]
    directions: Directions = (_vector(readout), _vector(phase), _vector(normal))
    voxel = (float(sizes[0]), float(sizes[1]), thickness)
    return Geometry(voxel, tuple(_vector(one) for one in places), directions, patient_position)


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def _sizes(head: bytes) -> tuple[int, int]:
    return int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")


def _volume(shape: tuple[int, ...], volume: int | None, name: str) -> tuple[int, ...]:
    """Find the index of the chosen volume along the axes after the third."""
    if not 2 <= len(shape) <= 7 or 0 in shape:
        raise FormatError(f"expected an image of two or three axes in {name}, got shape {shape}: choose one volume")
    more = shape[3:]
    count = int(np.prod(more, dtype=np.int64)) if more else 1
    if volume is None and count > 1:
        raise FormatError(
            f"expected one volume in {name}, got {count}: choose one with --volume, from 0 to {count - 1}"
        )
    if not 0 <= (volume or 0) < count:
        raise FormatError(f"expected a volume from 0 to {count - 1} of {name}, got {volume}: choose one of these")
    return tuple(int(one) for one in np.unravel_index(volume or 0, more)) if more else ()


def _axes(header: Any, sidecar: dict[str, Any]) -> tuple[int, int, int]:
    """Find the axes of readout, phase and slice."""
    try:
        readout, phase, slices = header.get_dim_info()
    except Exception:  # a damaged byte
        readout = phase = slices = None
    named = str(sidecar.get("PhaseEncodingDirection") or sidecar.get("PhaseEncodingAxis") or "")[:1]
    if phase is None and named in ("i", "j", "k"):
        phase = "ijk".index(named)
    if slices is None:
        slices = next(one for one in (2, 1, 0) if one not in (readout, phase))
    if phase is None:
        phase = next(one for one in (1, 0, 2) if one not in (readout, slices))
    if len({phase, slices}) < 2:
        slices = next(one for one in (2, 1, 0) if one != phase)
    readout = next(one for one in (0, 1, 2) if one not in (phase, slices))
    return readout, phase, slices


def _geometry(
    header: Any, shape: tuple[int, ...], axes: tuple[int, int, int], sidecar: dict[str, Any]
) -> tuple[Geometry | None, list[str]]:
    position = str(sidecar.get("PatientPosition", ""))
    position = position if position in PATIENT_POSITIONS else ""
    try:
        unit = _MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
        affine, code = header.get_sform(coded=True)
        if not code:
            affine, code = header.get_qform(coded=True)
    except Exception:  # a damaged code, or a quaternion that is none
        affine, code, unit = None, 0, 1.0
    notes = []
    if code:
        order = [*axes, 3]
        placed = _TO_LPS @ np.diag([unit, unit, unit, 1.0]) @ np.asarray(affine, dtype=np.float64)[:, order]
        try:
            found = geometry_of_affine(placed, (shape[axes[0]], shape[axes[1]], shape[axes[2]]), position)
        except FormatError:
            found = None
        if found is not None:
            if code not in (1, 2):
                notes.append(f"the place is that of a template or of another image (code {code}), not of the scanner")
            return found, notes
        notes.append("the affine is skewed or cannot be right: the place in the patient is left out")
    else:
        notes.append("the header has no place in the patient (both codes are 0)")
    try:
        zooms = [float(one) * unit for one in header.get_zooms()[:3]]
        zooms += [1.0] * (3 - len(zooms))
        return Geometry(_vector(np.asarray(zooms)[list(axes)]), patient_position=position), notes
    except Exception:  # sizes that cannot be right
        return None, [*notes, "the voxel sizes cannot be right and are left out"]


def _sidecar(path: Path) -> dict[str, Any]:
    """Read the JSON file beside an image; empty if there is none that can be read."""
    name = path.name.lower()
    stem = next((path.name[: -len(one)] for one in (".nii.gz", ".nii") if name.endswith(one)), path.stem)
    beside = path.with_name(f"{stem}.json")
    try:
        if not beside.is_file() or beside.stat().st_size > _MAX_SIDECAR:
            return {}
        found = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _vector(values: npt.NDArray[np.float64]) -> Vector:
    x, y, z = (float(one) for one in values)
    return x, y, z
