"""The order of the axes of an array without names, and its way to (slice, coil, readout, phase)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError

__all__ = ["C_ORDER", "MATLAB_ORDER", "ORDER", "arrange", "parse_axes"]

ORDER = ("slice", "coil", "readout", "phase")
"""The order of every scan's k-space."""

C_ORDER = {2: "readout phase", 3: "slice readout phase", 4: "slice coil readout phase"}
"""What arrays of NumPy and fastMRI files are taken for, by their number of axes."""

MATLAB_ORDER = {2: "readout phase", 3: "readout phase slice", 4: "readout phase coil slice"}
"""What arrays of MATLAB files are taken for."""


def parse_axes(axes: str | None, shape: Sequence[int], defaults: dict[int, str], *, where: str) -> tuple[str, ...]:
    """Names of the axes of an array.

    Args:
        axes: names separated by spaces or commas, e.g. "coil readout phase"; None takes the default for the rank.
        shape: of the array.
        defaults: number of axes to names.
        where: the array and its file, for the message.

    Raises:
        FormatError: unknown or repeated names, readout or phase missing, or another number of names than axes.
    """
    if axes is None:
        axes = defaults.get(len(shape))
        if axes is None:
            raise FormatError(
                f"expected k-space of 2 to 4 axes, {where} has shape {tuple(shape)}: store one contrast, one average"
            )
    names = tuple(axes.replace(",", " ").lower().split())
    if set(names) - set(ORDER) or len(set(names)) < len(names) or not {"readout", "phase"} <= set(names):
        raise FormatError(
            f"expected axes out of {', '.join(ORDER)}, each once, readout and phase among them, got {axes[:80]!r}: "
            "write e.g. 'coil readout phase'"
        )
    if len(names) != len(shape):
        raise FormatError(
            f"expected one name an axis, got {' '.join(names)!r} for {where} of shape {tuple(shape)}: "
            "name every axis in order"
        )
    return names


def arrange(array: npt.NDArray[Any], names: Sequence[str]) -> npt.NDArray[Any]:
    """An array with named axes as `(slice, coil, readout, phase)`; axes it lacks have length 1. A view."""
    moved = np.transpose(array, [names.index(name) for name in ORDER if name in names])
    for position, name in enumerate(ORDER):
        if name not in names:
            moved = np.expand_dims(moved, position)
    return moved
