"""Describe where the voxels of an image lie in the patient.

The frame is DICOM's patient frame, LPS: x grows to the patient's left, y to the back, z to the head, in millimetres.
Positions are those of the pixel `(h // 2, w // 2)` of each slice, the origin of the centred Fourier transform. A
centred crop, the removal of readout oversampling, coil compression and reconstruction keep this pixel where it is, so
the geometry of a scan holds for each of its images of any size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError, ShapeError

__all__ = ["PATIENT_POSITIONS", "SIDES_ASSUMED", "Directions", "Geometry", "Vector", "make_geometry"]

Vector = tuple[float, float, float]
"""A point or direction in the patient frame (LPS), or three lengths, in millimetres."""

Directions = tuple[Vector, Vector, Vector]
"""Unit vectors along increasing readout (row), phase (column) and slice index."""

PATIENT_POSITIONS = ("HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL")
"""Known values of `Geometry.patient_position`, DICOM's terms: head or feet first; supine, prone or on a side."""

SIDES_ASSUMED = "Left and right, front and back are not verified: compare one image with the scanner's own"
"""Warning about a geometry with `sides_assumed`."""

_MAX_SLICES = 2**20
_LARGEST = 1e5  # mm; a hundred metres is no scanner
_ORTHOGONAL = 1e-3
_EQUAL = 1e-2  # of the slice spacing
_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Geometry:
    """Hold voxel size, position and orientation of the slices of a scan.

    Attributes:
        voxel_size: size in mm along readout, phase and slice; the last is the thickness of a slice.
        positions: position of the pixel `(h // 2, w // 2)` of each slice; None if the file has none.
        directions: unit vectors along readout, phase and slice, orthogonal in pairs; None if the file has none.
        patient_position: DICOM's term, such as "HFS"; "" if the file has none.
        sides_assumed: whether the signs of readout and phase direction follow a convention that nobody checked for this
            kind of file, so that the image may be mirrored. Outputs say so.

    Raises:
        FormatError: numbers that are not finite or far outside a scanner, directions that are not orthogonal unit
            vectors, or an unknown patient position.
    """

    voxel_size: Vector
    positions: tuple[Vector, ...] | None = None
    directions: Directions | None = None
    patient_position: str = ""
    sides_assumed: bool = False

    def __post_init__(self) -> None:
        if not all(math.isfinite(one) and 0 < one < _LARGEST for one in self.voxel_size) or len(self.voxel_size) != 3:
            raise _wrong("three positive sizes of a voxel in mm", self.voxel_size)
        for place in self.positions or ():
            if len(place) != 3 or not all(math.isfinite(one) and abs(one) < _LARGEST for one in place):
                raise _wrong("three coordinates of each slice in mm", place)
        if self.directions is not None:
            matrix = np.asarray(self.directions, dtype=np.float64)
            if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
                raise _wrong("three directions of three cosines", self.directions)
            if np.abs(matrix @ matrix.T - np.eye(3)).max() > _ORTHOGONAL:
                raise _wrong("orthogonal unit vectors as directions", self.directions)
        if self.patient_position not in ("", *PATIENT_POSITIONS):
            raise _wrong(f"a patient position among {', '.join(PATIENT_POSITIONS)}", self.patient_position)

    @property
    def known(self) -> bool:
        """Whether position and orientation are known, so that each pixel has a place in the patient."""
        return self.positions is not None and self.directions is not None

    @property
    def readout_direction(self) -> Vector | None:
        """Unit vector along increasing row index, DICOM's column direction."""
        return None if self.directions is None else self.directions[0]

    @property
    def phase_direction(self) -> Vector | None:
        """Unit vector along increasing column index, DICOM's row direction."""
        return None if self.directions is None else self.directions[1]

    @property
    def slice_direction(self) -> Vector | None:
        """Unit vector of the slice normal."""
        return None if self.directions is None else self.directions[2]

    @property
    def toward(self) -> tuple[str, str] | None:
        """Sides of the patient to which rows and columns of the image run, e.g. ("L", "P"); None if not known.

        A row runs along increasing column index. The first letter is the largest part of an oblique direction.
        """
        return None if self.directions is None else (_toward(self.directions[1]), _toward(self.directions[0]))

    @property
    def slice_order(self) -> list[int] | None:
        """Indices of the slices sorted by their position along the slice direction; None if it is not known."""
        along = self._along()
        return None if along is None else [int(one) for one in np.argsort(along, kind="stable")]

    @property
    def slice_spacing(self) -> float | None:
        """Distance in mm between neighbouring slices, their median; None for one slice or unknown positions.

        Slices at one place, as repetitions are, count once.
        """
        along = self._along()
        if along is None:
            return None
        steps = np.diff(np.unique(np.round(along, 3)))
        return float(np.median(steps)) if steps.size else None

    def corners(self, plane: Sequence[int]) -> list[Vector]:
        """Compute the position of the pixel (0, 0) of each slice, DICOM's Image Position (Patient).

        Args:
            plane: `(h, w)` of the image.

        Raises:
            ShapeError: position or orientation is not known.
        """
        positions, directions = self._placed()
        shift = (plane[-2] // 2) * self.voxel_size[0] * directions[0] + (plane[-1] // 2) * self.voxel_size[
            1
        ] * directions[1]
        return [_vector(place - shift) for place in positions]

    def affine(self, plane: Sequence[int]) -> npt.NDArray[np.float64]:
        """Compute the matrix from (row, column, slice, 1) to the patient position (x, y, z, 1) in mm, LPS.

        Args:
            plane: `(h, w)` of the image.

        Raises:
            ShapeError: position or orientation is not known, or the slices are not parallel and equally spaced in
                their order: sort them by `slice_order` first.
        """
        positions, directions = self._placed()
        step = directions[2] * self.voxel_size[2] if len(positions) == 1 else positions[1] - positions[0]
        expected = positions[0] + np.arange(len(positions))[:, None] * step
        if np.abs(expected - positions).max() > _EQUAL * float(np.linalg.norm(step)) or not step.any():
            raise ShapeError(
                "expected equally spaced slices in the order of their places, got others: "
                "sort them by slice_order, or choose slices of one stack"
            )
        out = np.eye(4)
        out[:3, 0] = directions[0] * self.voxel_size[0]
        out[:3, 1] = directions[1] * self.voxel_size[1]
        out[:3, 2] = step
        out[:3, 3] = self.corners(plane)[0]
        return out

    def of_slices(self, indices: Sequence[int] | None) -> Geometry:
        """Return the geometry of some slices, in the order of their indices; None keeps all of them."""
        if indices is None or self.positions is None:
            return self
        return replace(self, positions=tuple(self.positions[index] for index in indices))

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values; `make_geometry` is the inverse."""
        return {
            "voxel_size": list(self.voxel_size),
            "positions": None if self.positions is None else [list(one) for one in self.positions],
            "directions": None if self.directions is None else [list(one) for one in self.directions],
            "patient_position": self.patient_position,
            "sides_assumed": self.sides_assumed,
        }

    def describe(self) -> list[tuple[str, str]]:
        """List (name, value) pairs to print: voxel size, orientation, position and spacing of the slices."""
        sizes = " x ".join(f"{one:.4g}" for one in self.voxel_size)
        lines = [("voxel size", f"{sizes} mm (readout x phase x slice)"), ("orientation", self._orientation())]
        if self.positions is not None:
            first = ", ".join(f"{one:.1f}" for one in self.positions[0])
            spacing = self.slice_spacing
            text = f"first at ({first}) mm left, back, head"
            text += "" if spacing is None else f"; {spacing:.4g} mm apart"
            order = self.slice_order
            if order is not None and order not in (sorted(order), sorted(order, reverse=True)):
                text += f"; from one end to the other: {', '.join(map(str, order[:12]))}{', ...' * (len(order) > 12)}"
            lines.append(("slice positions", text))
        return lines

    def _orientation(self) -> str:
        patient = f"; patient position {self.patient_position}" if self.patient_position else ""
        if self.directions is None:
            return f"not known{patient}"
        normal = np.abs(self.directions[2])
        tilt = math.degrees(math.acos(min(1.0, float(normal.max()))))
        plane = _PLANES[int(normal.argmax())] + (f", oblique by {tilt:.1f} degrees" if tilt > 0.1 else "")
        sides = f". {SIDES_ASSUMED}" if self.sides_assumed else ""
        rows, columns = self.toward or ("", "")
        return f"{plane}; rows run to {rows}, columns to {columns}{patient}{sides}"

    def _placed(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        if not self.positions or self.directions is None:
            raise ShapeError(
                "expected a geometry with positions and directions, got one without: "
                "convert from a file whose header has them"
            )
        return np.asarray(self.positions, dtype=np.float64), np.asarray(self.directions, dtype=np.float64)

    def _along(self) -> npt.NDArray[np.float64] | None:
        """Return the distances of the slices along their normal; of the largest extent where it is not known."""
        if not self.positions:
            return None
        places = np.asarray(self.positions, dtype=np.float64)
        if self.directions is not None:
            return places @ np.asarray(self.directions[2], dtype=np.float64)
        moved = places - places[0]
        axis = moved[int(np.linalg.norm(moved, axis=1).argmax())]
        length = float(np.linalg.norm(axis))
        return moved @ axis / length if length else np.zeros(len(places))


def make_geometry(values: Mapping[str, Any]) -> Geometry:
    """Make a geometry from the JSON values of `Geometry.as_dict`, which may come from an untrusted file.

    Raises:
        FormatError: a value of the wrong kind, or as `Geometry`.
    """
    try:
        positions, directions = values.get("positions"), values.get("directions")
        if positions is not None and (not isinstance(positions, list) or not 1 <= len(positions) <= _MAX_SLICES):
            raise _wrong("a list of positions", type(positions).__name__)
        return Geometry(
            _vector(values["voxel_size"]),
            None if positions is None else tuple(_vector(one) for one in positions),
            None if directions is None else (_vector(directions[0]), _vector(directions[1]), _vector(directions[2])),
            str(values.get("patient_position", "")),
            bool(values.get("sides_assumed", False)),
        )
    except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise _wrong("a geometry with voxel_size, positions and directions", values) from error


def _vector(values: Any) -> Vector:
    x, y, z = (float(one) for one in values)
    return x, y, z


def _toward(direction: Vector) -> str:
    """Name the side of the patient that a direction points to, its largest part first: LPS, then RAI."""
    order = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    return "".join(_LETTERS[axis][direction[axis] < 0] for axis in order if abs(direction[axis]) > 0.05)


def _wrong(expected: str, got: object) -> FormatError:
    return FormatError(f"expected {expected}, got {str(got)[:80]!a}: correct the header")
