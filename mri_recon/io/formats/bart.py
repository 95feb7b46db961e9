"""Read BART arrays: `.cfl`, complex64 in Fortran order, and `.hdr` beside it, a text with the dimensions.

BART has sixteen dimensions: 0 readout, 1 phase, 2 partition, 3 coil, 13 slice; the others are contrasts, repetitions
and the like.
https://mrirecon.github.io/bart, doc/README
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.formats.readout_lines import partitions_to_slices
from mri_recon.io.reading.access import check_regular
from mri_recon.io.reading.axes import refuse_axes
from mri_recon.io.reading.choice import parse_choice, pick_index
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES, check_declared
from mri_recon.io.reading.slices import Slices, chosen_slices, slices_meta
from mri_recon.io.scan import RawScan

__all__ = ["BART_SUFFIXES", "is_bart", "is_bart_header", "read_bart"]

BART_SUFFIXES = (".cfl", ".hdr")
"""Suffixes of the samples and of the text with the dimensions."""

_TITLE = b"# Dimensions"
_MAX_HEADER = 2**20
_COMPLEX64 = 8
_READOUT, _PHASE, _PARTITION, _COIL, _SLICE = 0, 1, 2, 3, 13
_NAMES = {
    "maps": 4, "echo": 5, "coeff": 6, "coefftwo": 7, "iter": 8, "cshift": 9, "time": 10, "timetwo": 11, "level": 12,
    "average": 14, "batch": 15,
}  # fmt: skip
"""Names of the dimensions of which one index is read, for `variable`."""


def is_bart_header(head: bytes) -> bool:
    """Tell from its first bytes whether a file is the text with the dimensions."""
    return head.startswith(_TITLE)


def is_bart(path: Path) -> bool:
    """Tell whether a file of samples, which has no mark of its own, has a text with the dimensions beside it."""
    beside = path.with_suffix(".hdr")
    if path.suffix.lower() != ".cfl" or not beside.is_file():
        return False
    try:
        with beside.open("rb") as stream:
            return is_bart_header(stream.read(len(_TITLE)))
    except OSError:
        return False


def read_bart(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read k-space of a BART array; see `mri_recon.io.load`.

    Three encoded dimensions are a 3-D scan, whose partitions become slices. An array without a readout dimension, as
    BART's slices of 3-D scans, has readout on dimension 1 and phase on dimension 2.

    Args:
        path: the `.cfl` or the `.hdr`; both lie side by side.
        axes: must be None, because BART's dimensions have fixed meanings.
        variable: which index of the other dimensions, e.g. "echo=1, time=0"; the first of each by default.
        slices: slices to read, as in `load`.
        max_bytes: largest array to read.

    Raises:
        FormatError: damaged, one of the two files is missing, or sampled in two directions.
    """
    refuse_axes(axes, f"the BART array {path.name}", "its dimensions are fixed")
    choice = parse_choice(variable, {name: f"dimension {dim}" for name, dim in _NAMES.items()}, where=path.name)
    samples, header = path.with_suffix(".cfl"), path.with_suffix(".hdr")
    for one in (samples, header):
        if not one.is_file():
            raise FormatError(f"expected {one.name} beside {path.name}, found none: keep .cfl and .hdr together")
        check_regular(one, "a BART array")
    dims = _dims(header)
    if samples.stat().st_size != math.prod(dims) * _COMPLEX64:
        raise FormatError(
            f"expected {math.prod(dims) * _COMPLEX64} bytes for the dimensions {' '.join(map(str, dims))} in "
            f"{samples.name}, got {samples.stat().st_size}: it is damaged, or the two files are of different arrays"
        )
    stored: npt.NDArray[np.complex64] = np.memmap(samples, dtype="<c8", mode="r", shape=tuple(dims), order="F")
    left_out = []
    index: list[int | slice] = [slice(None)] * len(dims)
    for name, dim in _NAMES.items():
        index[dim] = pick_index(choice, name, dims[dim], where=path.name)
        if dims[dim] > 1:
            left_out.append(f"{dims[dim] - 1} other indices of {name} (dimension {dim})")
    array = stored[tuple(index)]  # (readout, phase, partition, coil, slice)
    if dims[_READOUT] == 1 and dims[_PHASE] > 1 and dims[_PARTITION] > 1:
        array = np.moveaxis(array, 0, 2)
    partitions, count = array.shape[2], array.shape[2] * array.shape[4]
    numbers = chosen_slices(slices, count, where=path.name)
    if numbers is not None and partitions == 1:
        array = array[..., numbers]
    check_declared(array.shape, _COMPLEX64, where=path.name, max_bytes=max_bytes)
    ordered = np.ascontiguousarray(array.transpose(4, 2, 3, 0, 1))  # (slice, partition, coil, readout, phase)
    done = []
    if partitions > 1:
        _refuse_patterns(ordered, path.name)
        kspace = partitions_to_slices(ordered, 0, path.name)
        kspace = kspace if numbers is None else kspace[numbers]
        done.append(f"{partitions} partitions transformed to slices")
    else:
        kspace = ordered[:, 0]
    return RawScan(
        kspace,
        name=path.name,
        meta={
            "format": "BART array",
            "file": path.name,
            "axes": "readout phase partition coil slice",
            "axes_assumed": False,
            **slices_meta(numbers, count),
            "done": done,
            "left_out": left_out,
        },
    )


def _dims(header: Path) -> list[int]:
    if header.stat().st_size > _MAX_HEADER:
        raise FormatError(f"expected at most {_MAX_HEADER} bytes in {header.name}, it has more: it is damaged")
    text = header.read_bytes()
    found = re.match(rb"# Dimensions\r?\n([0-9 ]{1,400})\r?\n", text + b"\n")
    dims = [int(one) for one in found[1].split()] if found else []
    if not 1 <= len(dims) <= 16 or not all(1 <= one < 2**31 for one in dims):
        raise FormatError(
            f"expected a line '# Dimensions' and a line of up to 16 positive numbers in {header.name}, got others: "
            "it is damaged"
        )
    return dims + [1] * (16 - len(dims))


def _refuse_patterns(kspace: npt.NDArray[np.complex64], name: str) -> None:
    """Refuse partitions with different lines: their transform would mix sampled and unsampled places."""
    lines: npt.NDArray[np.bool_] = np.asarray((kspace != 0).any(axis=(2, 3)))  # (slice, partition, phase)
    if any(len(np.unique(plane[plane.any(axis=-1)], axis=0)) > 1 for plane in lines):
        raise FormatError(
            f"expected the same lines in every partition of {name}, got different ones (undersampled in two "
            "directions): transform the readout with 'bart fft -i 1', take one place of it with 'bart slice 0'"
        )
