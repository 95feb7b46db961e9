"""An oblique geometry, as a scanner might have it."""

from __future__ import annotations

import numpy as np

from mri_recon.io import Geometry


def _rotation() -> np.ndarray:
    """Directions of readout, phase and slice as rows: three turns, so that no cosine is 0 or 1, and right-handed."""
    a, b, c = np.deg2rad([12.0, -21.0, 33.0])
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    tip = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    spin = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    readout, phase, normal = (turn @ tip @ spin).T
    return np.stack([phase, readout, normal])  # as scanners have it: rows along phase, so phase x readout is the normal


ROTATION = _rotation()


def oblique(num_slices: int, *, gap: float = 0.0) -> Geometry:
    """Slices of 5 mm with pixels of 1.5 x 2 mm; the first is centred at (-12, 31, 8) mm."""
    places = np.array([-12.0, 31.0, 8.0]) + np.arange(num_slices)[:, None] * ROTATION[2] * (5.0 + gap)
    return Geometry(
        (1.5, 2.0, 5.0),
        tuple((float(x), float(y), float(z)) for x, y, z in places),
        tuple((float(x), float(y), float(z)) for x, y, z in ROTATION),  # type: ignore[arg-type]
        "HFS",
    )
