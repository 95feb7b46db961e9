"""Small scans as lists of readouts, with their header."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.io.mrd_files import Complex, Readout, readouts_of, step, xml
from tests.support.oblique import ROTATION, oblique

__all__ = ["LAST_IN_MEASUREMENT", "LAST_IN_SLICE", "header_of", "scan_lines", "undersampled"]

LAST_IN_SLICE, LAST_IN_MEASUREMENT = 1 << 7, 1 << 24


def undersampled(width: int) -> list[int]:
    """Columns of a mask: every third, and a quarter in the middle."""
    middle = range(width // 2 - width // 8, width // 2 + width // 8)
    return sorted({*range(0, width, 3), *middle})


def scan_lines(
    kspace: Complex, columns: Sequence[int] | None = None, *, flag: bool = True, **fields: Any
) -> list[Readout]:
    """Readouts of k-space slice by slice, with places, and the flag of the last one of every slice."""
    geometry = oblique(len(kspace))
    assert geometry.positions is not None
    place = {"read_dir": ROTATION[0], "phase_dir": ROTATION[1], "slice_dir": ROTATION[2]}
    chosen = list(range(kspace.shape[-1])) if columns is None else list(columns)
    found = []
    for one in readouts_of(kspace, **place, **fields):
        column, number = one.idx["kspace_encode_step_1"], one.idx["slice"]
        if column in chosen:
            last = LAST_IN_SLICE if flag and column == chosen[-1] else 0
            found.append(Readout(one.data, last, one.idx, {**one.fields, "position": geometry.positions[number]}))
    return found


def header_of(kspace: Complex, *, limits: bool = True, **others: Any) -> str:
    """Header of k-space, with the limits of its columns."""
    readout, phase = kspace.shape[-2:]
    given = step("kspace_encoding_step_1", phase - 1, phase // 2) if limits else ""
    return xml((readout, phase, 1), fov=(readout, phase, 5), **{"limits": given, **others})


KspaceOf = Callable[..., np.ndarray[Any, np.dtype[np.complex64]]]
