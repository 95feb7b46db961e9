"""Hypothesis strategies of places in a patient: any rotation, mirrored axes, slices in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from mri_recon.io import Geometry
from mri_recon.io.geometry import PATIENT_POSITIONS

Quaternion = tuple[float, float, float, float]


@st.composite
def quaternions(draw: Any) -> Quaternion:
    """Unit quaternions (w, x, y, z), evenly spread."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.standard_normal(4)
    w, x, y, z = values / np.linalg.norm(values)
    return float(w), float(x), float(y), float(z)


def rotation(quaternion: Quaternion) -> npt.NDArray[np.float64]:
    """Rotation matrix, by the product q v q* of each unit vector."""
    w, *rest = quaternion
    axis = np.asarray(rest)
    columns = [
        vector + 2 * w * np.cross(axis, vector) + 2 * np.cross(axis, np.cross(axis, vector)) for vector in np.eye(3)
    ]
    return np.stack(columns, axis=1)


@st.composite
def geometries(draw: Any, num_slices: int, *, ordered: bool = False) -> Geometry:
    """Slices at equal distances, in any order unless `ordered`, with directions of either handedness."""
    directions = rotation(draw(quaternions())).T * np.array(draw(st.tuples(*[st.sampled_from([1, -1])] * 3)))[:, None]
    sizes = [draw(st.floats(0.25, 8, width=32)) for _ in range(3)]
    step = sizes[2] * draw(st.sampled_from([1.0, 1.5]))
    middle = np.array([draw(st.floats(-200, 200, width=32)) for _ in range(3)])
    order = list(range(num_slices)) if ordered else draw(st.permutations(range(num_slices)))
    places = [middle + number * step * directions[2] for number in order]
    return Geometry(
        (sizes[0], sizes[1], sizes[2]),
        tuple((float(x), float(y), float(z)) for x, y, z in places),
        tuple((float(x), float(y), float(z)) for x, y, z in directions),  # type: ignore[arg-type]
        draw(st.sampled_from(["", *PATIENT_POSITIONS])),
    )
