"""Find voxel size, position and orientation of the slices of Siemens raw data.

Each line has the position of its slice and a quaternion. The rotation of the quaternion, scalar first, has the phase,
readout and slice directions as columns, in the patient frame LPS, as ISMRMRD's converter takes it. Whether samples run
along these directions or against them depends on the scanner's conventions, so the sides of the image are assumed.
Field of view and thickness are in the protocol.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.formats.twix_blocks import Line
from mri_recon.io.geometry import PATIENT_POSITIONS, Directions, Geometry, Vector

__all__ = ["quaternion_directions", "twix_geometry"]

_NUMBER = rb"\s{0,20}=\s{0,20}([0-9.eE+-]{1,24})"
_SIZES = tuple(
    re.compile(rb"sSliceArray\.asSlice\[0\]\." + name + _NUMBER)
    for name in (b"dReadoutFOV", b"dPhaseFOV", b"dThickness")
)
_OVERSAMPLINGS = tuple(
    re.compile(rb"sKSpace\.d" + name + rb"OversamplingForDialog" + _NUMBER) for name in (b"Phase", b"Slice")
)
_PATIENT = re.compile(rb'"(?:t?PatientPosition)">\s{0,20}\{\s{0,20}"([A-Z]{3,4})"')
_PLAUSIBLE = 1e5  # mm


def twix_geometry(
    lines: Sequence[Line], protocol: bytes, shape: Sequence[int], factor: float, chosen: Sequence[int] | None
) -> tuple[Geometry | None, str]:
    """Make the geometry of k-space from its lines and the protocol.

    Partitions of a 3-D scan are slices, side by side through the thickness of the slab.

    Args:
        lines: all lines of the contrast that was read.
        protocol: text of the measurement.
        shape: `(..., readout, phase)` of k-space, without readout oversampling.
        factor: readout oversampling that was removed.
        chosen: slices that were read, of all slices and partitions; None for all.

    Returns:
        the geometry, None if the protocol has no field of view or it cannot be right; and one sentence of doubt, or "".
    """
    sizes = [_length(pattern.search(protocol)) for pattern in _SIZES]
    if None in sizes:
        return None, ""
    readout, phase, thickness = (float(one or 0.0) for one in sizes)
    partitions = max(line.counter["Par"] for line in lines) + 1
    beyond = [1 + (_length(pattern.search(protocol)) or 0.0) for pattern in _OVERSAMPLINGS]
    phase, thickness = phase * beyond[0], thickness * (beyond[1] if partitions > 1 else 1.0)
    first = {line.counter["Sli"]: line.place for line in reversed(lines)}
    places = [first[slab] for slab in sorted(first)]
    patient = _PATIENT.search(protocol)
    position = patient[1].decode() if patient and patient[1].decode() in PATIENT_POSITIONS else ""
    directions = quaternion_directions(places[0][3:])
    tilted = any(quaternion_directions(place[3:]) != directions for place in places)
    # Where oversampling is no whole number of samples, the cropped field of view is that of the kept samples.
    stored = max(line.samples for line in lines)
    voxel = (readout * factor / max(stored, round(shape[-2] * factor)), phase / shape[-1], thickness / partitions)
    try:
        found = Geometry(voxel, patient_position=position)
        if directions is not None and not tilted:
            slabs = np.asarray([place[:3] for place in places], dtype=np.float64)
            offsets = (np.arange(partitions) - partitions // 2) * voxel[2]
            every = slabs[:, None] + offsets[:, None] * np.asarray(directions[2])
            found = Geometry(voxel, _vectors(every.reshape(-1, 3)), directions, position, sides_assumed=True)
    except FormatError as error:
        return None, f"the geometry of the header is left out ({error})"
    told = "the slices are not parallel: their places are left out" if tilted else ""
    return found.of_slices(chosen), told


def quaternion_directions(quaternion: Sequence[float]) -> Directions | None:
    """Turn a quaternion (w, x, y, z) into the directions of readout, phase and slice; None if it is no rotation.

    The columns of its rotation matrix are phase, readout and slice.
    """
    w, x, y, z = (float(one) for one in quaternion)
    norm = math.sqrt(w * w + x * x + y * y + z * z)
    if not math.isfinite(norm) or abs(norm - 1) > 1e-2:
        return None
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    phase = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    readout = (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x))
    normal = (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y))
    return readout, phase, normal


def _vectors(points: npt.NDArray[np.float64]) -> tuple[Vector, ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in points)


def _length(found: re.Match[bytes] | None) -> float | None:
    try:
        value = float(found[1]) if found else math.nan
    except ValueError:
        return None
    return value if 0 < value < _PLAUSIBLE else None
