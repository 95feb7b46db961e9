"""Find voxel size and slice positions in the header of a GE P-file, revision 26.

A table has an entry for each slice: its number within the pass, and three corners of its image (RAS, mm). The corners
tell where the slice lies; how readout and phase run between them depends on the sequence, so orientation is not known.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from mri_recon.errors import FormatError
from mri_recon.io.geometry import Geometry, Vector

__all__ = ["MAX_HEADER", "pfile_geometry"]

MAX_HEADER = 2**22
"""Number of first bytes that hold the tables; longer headers are of another kind."""

_TABLES = 4  # position of the positions of the header's parts, 4 bytes each
_SLICES, _IMAGE = 3, 9  # the table of slices and the header of the first image among the parts
_ENTRY = 72
_THICKNESS = 316  # in the header of the image, followed by the gap
_TOLERANCE = 1e-2  # mm


def pfile_geometry(head: bytes, num_slices: int, readout: int, phase: int) -> tuple[Geometry | None, str]:
    """Make the geometry of the slices in the order of the file.

    Args:
        head: the first bytes of the file, up to its samples.
        num_slices: number of slices in the file.
        readout, phase: samples of k-space along both axes.

    Returns:
        the geometry, without orientation; None, with the reason in words, if the tables are not as expected.
    """
    try:
        return _geometry(head, num_slices, readout, phase), ""
    except (struct.error, FormatError, ValueError, OverflowError) as error:
        reason = "they lie elsewhere" if isinstance(error, struct.error) else str(error)
        return None, f"the positions of the slices are not read ({reason})"


def _geometry(head: bytes, num_slices: int, readout: int, phase: int) -> Geometry:
    table, image = (struct.unpack_from("<I", head, _TABLES + 4 * part)[0] for part in (_SLICES, _IMAGE))
    numbers, places, sides = [], [], []
    for index in range(num_slices):
        turn, number = struct.unpack_from("<hh", head, table + _ENTRY * index)
        corners = np.array(struct.unpack_from("<9f", head, table + _ENTRY * index + 4), dtype=np.float64).reshape(3, 3)
        if turn != 0 or not np.isfinite(corners).all():
            raise ValueError("several passes, or places that are no numbers")
        numbers.append(int(number))
        places.append(_left_back_head((corners[1] + corners[2]) / 2))
        sides.append([float(np.linalg.norm(corners[one] - corners[0])) for one in (1, 2)])
    if sorted(numbers) != list(range(1, num_slices + 1)):
        raise ValueError(f"the slices are numbered {str(numbers)[:60]}")
    if np.ptp(np.asarray(sides)) > _TOLERANCE:
        raise ValueError("the field of view is not square, or differs between slices")
    thickness, gap = struct.unpack_from("<2f", head, image + _THICKNESS)
    ordered = tuple(place for _, place in sorted(zip(numbers, places, strict=True)))
    found = Geometry((sides[0][0] / readout, sides[0][0] / phase, float(thickness)), ordered)
    spacing = found.slice_spacing
    if not math.isfinite(gap) or (spacing is not None and abs(spacing - thickness - gap) > _TOLERANCE):
        raise ValueError("thickness and gap do not add up to the distance of the slices")
    return found


def _left_back_head(place: np.ndarray) -> Vector:
    """Turn right, front, head (RAS) into left, back, head (LPS)."""
    return -float(place[0]), -float(place[1]), float(place[2])
