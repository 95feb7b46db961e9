"""Find the order of the axes of an array without names, and rearrange it to (slice, coil, readout, phase)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.reading.pairs import copy_as_complex, join_axis, pair_fields

__all__ = ["COMPLEX", "C_ORDER", "MATLAB_ORDER", "ORDER", "Layout", "find_layout", "parse_axes", "refuse_axes"]

ORDER = ("slice", "coil", "readout", "phase")
"""Order of the axes in the k-space of every scan."""

COMPLEX = "complex"
"""Name of an axis of length 2 that holds real and imaginary part."""

C_ORDER = {2: "readout phase", 3: "slice readout phase", 4: "slice coil readout phase"}
"""Default names of the axes in NumPy and fastMRI files, by their number."""

MATLAB_ORDER = {2: "readout phase", 3: "readout phase slice", 4: "readout phase coil slice"}
"""Default names of the axes in MATLAB files, by their number."""


@dataclass(frozen=True)
class Layout:
    """Describe the axes of a stored array.

    Attributes:
        names: one name for each axis, out of `ORDER` and `COMPLEX`.
        assumed: whether the names are only the defaults for this number of axes.
        notes: further assumptions, in words.
    """

    names: tuple[str, ...]
    assumed: bool
    notes: tuple[str, ...] = ()

    @property
    def slice_axis(self) -> int | None:
        """Axis of the slices; None if the array is a single slice."""
        return self.names.index("slice") if "slice" in self.names else None

    def length(self, name: str, shape: Sequence[int]) -> int:
        """Return the length of a named axis of an array of this shape; 1 if it has no such axis."""
        return int(shape[self.names.index(name)]) if name in self.names else 1

    def arrange(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Arrange the array as complex `(slice, coil, readout, phase)`, with missing axes of length 1.

        The result is a view if possible.
        """
        names = [name for name in self.names if name != COMPLEX]
        if COMPLEX in self.names:
            array = join_axis(array, self.names.index(COMPLEX))
        elif pair_fields(array.dtype):
            joined = np.empty(array.shape, dtype=np.complex64)
            copy_as_complex(joined, array)
            array = joined
        moved = np.transpose(array, [names.index(name) for name in ORDER if name in names])
        for position, name in enumerate(ORDER):
            if name not in names:
                moved = np.expand_dims(moved, position)
        return moved

    def meta(self) -> dict[str, Any]:
        """Describe the axes for `meta`: `axes`, `axes_assumed`, and `reader_notes` if more was assumed."""
        said: dict[str, Any] = {"axes": " ".join(self.names), "axes_assumed": self.assumed}
        return said | ({"reader_notes": list(self.notes)} if self.notes else {})


def find_layout(
    shape: Sequence[int], dtype: np.dtype[Any], axes: str | None, defaults: dict[int, str], *, where: str
) -> Layout:
    """Find the layout of an array of k-space from its shape and type only.

    A real array is k-space if an axis of 2 holds real and imaginary part: `axes` names it `complex`, or the array has
    five axes, of which either the first or the last has length 2 and no other explanation.

    Args:
        shape: shape of the array as stored.
        dtype: type of its elements.
        axes: names separated by spaces or commas, e.g. "coil readout phase"; None takes the default for the rank.
        defaults: default names for each number of axes.
        where: the array and its file, for the message.

    Raises:
        FormatError: as `parse_axes`; real numbers otherwise.
    """
    if dtype.kind == "c" or pair_fields(dtype):
        return Layout(parse_axes(axes, shape, defaults, where=where), axes is None)
    if axes is not None and COMPLEX in _words(axes) and dtype.kind in "if":
        names = parse_axes(axes, shape, defaults, where=where, others=(COMPLEX,))
        length = int(shape[names.index(COMPLEX)])
        if length != 2:
            raise FormatError(
                f"expected an axis of 2 for real and imaginary part, the axis {COMPLEX!r} of {where} has {length}: "
                f"check the order of the axes {axes[:80]!r} against the shape {tuple(shape)}",
                argument="axes",
            )
        return Layout(names, False)
    paired = [end for end in (0, -1) if len(shape) == 5 and int(shape[end]) == 2 and dtype.kind in "if"]
    if axes is None and len(paired) == 1:
        four = tuple(defaults[4].split())
        names = (*four, COMPLEX) if paired[0] else (COMPLEX, *four)
        which = "last" if paired[0] else "first"
        return Layout(names, True, (f"the {which} axis, of length 2, was taken for real and imaginary part",))
    pairs = " ".join([*defaults.get(len(shape) - 1, "slice readout phase").split(), COMPLEX])
    cure = (
        f"an axis of 2 is not joined as real and imaginary part unless it is named, e.g. axes='{pairs}'"
        if 2 in shape and dtype.kind in "if"
        else "magnitudes, images and masks are no k-space"
    )
    raise FormatError(
        f"expected complex k-space in {where}, got {dtype} of shape {tuple(shape)}: save the complex array (or name "
        f"another one with variable); {cure}"
    )


def parse_axes(
    axes: str | None, shape: Sequence[int], defaults: dict[int, str], *, where: str, others: Sequence[str] = ()
) -> tuple[str, ...]:
    """Read the names of the axes of an array.

    Args:
        axes: names separated by spaces or commas, e.g. "coil readout phase"; None takes the default for the rank.
        shape: shape of the array.
        defaults: default names for each number of axes.
        where: the array and its file, for the message.
        others: names that are allowed in `axes` in addition to `ORDER`.

    Raises:
        FormatError: unknown or repeated names, readout or phase missing, or a wrong number of names.
    """
    if axes is None:
        axes = defaults.get(len(shape))
        if axes is None:
            raise FormatError(
                f"expected k-space of 2 to 4 axes, {where} has shape {tuple(shape)}: store one contrast, one average"
            )
    names = _words(axes)
    allowed = {*ORDER, *others}
    if COMPLEX in names and COMPLEX not in allowed:
        raise FormatError(
            f"expected real numbers where an axis is named {COMPLEX!r}, {where} has complex ones or none of that kind: "
            f"leave {COMPLEX!r} out of the axes {axes[:80]!r}",
            argument="axes",
        )
    if set(names) - allowed or len(set(names)) < len(names) or not {"readout", "phase"} <= set(names):
        raise FormatError(
            f"expected axes out of {', '.join(ORDER)}, each once, readout and phase among them, got {axes[:80]!r}: "
            "write e.g. 'coil readout phase'",
            argument="axes",
        )
    if len(names) != len(shape):
        raise FormatError(
            f"expected one name an axis, got {' '.join(names)!r} for {where} of shape {tuple(shape)}: "
            "name every axis in order",
            argument="axes",
        )
    return names


def refuse_axes(axes: str | None, what: str, why: str) -> None:
    """Refuse names of axes for a format that says them itself.

    Args:
        axes: the names; None is right.
        what: the file with its format, e.g. "the BART array x.cfl".
        why: why it needs none, e.g. "its dimensions are fixed".

    Raises:
        FormatError: `axes` was given.
    """
    if axes is not None:
        raise FormatError(f"expected no axes for {what}, {why}: leave axes out", argument="axes")


def _words(axes: str) -> tuple[str, ...]:
    return tuple(axes.replace(",", " ").lower().split())
