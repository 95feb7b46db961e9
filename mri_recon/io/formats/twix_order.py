"""Sort the lines of Siemens raw data into k-space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.formats.readout_lines import (
    average_repeats,
    different_lines,
    partitions_to_slices,
    without_oversampling,
)
from mri_recon.io.formats.twix_blocks import Line, Measurement, read_samples
from mri_recon.io.reading.limits import check_declared
from mri_recon.io.reading.slices import Slices, chosen_slices

__all__ = ["fill_kspace"]

_MAX_SPREAD = 64  # declared samples for each stored one: 64-fold undersampling
_ALWAYS_FINE = 2**24


@dataclass(frozen=True)
class _Placement:
    """Describe the positions of the acquired lines (or samples) on the full axis."""

    before: int
    length: int
    partial: bool = False


def fill_kspace(
    stream: IO[bytes],
    lines: list[Line],
    measurement: Measurement,
    slices: Slices | None,
    factor: float,
    name: str,
    max_bytes: int,
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.bool_], list[str]]:
    """Read lines of one size and contrast into k-space.

    Args:
        stream: the file.
        lines: the lines, at least one.
        measurement: the measurement that contains the lines.
        slices: slices to read; None for all.
        factor: oversampling factor of the readout; the oversampling is removed.
        name: name of the file, for messages.
        max_bytes: largest array to read.

    Returns:
        k-space `(slice, coil, readout, phase)`, the acquired columns, bool `(phase,)`, and the processing steps in
        words.

    Raises:
        FormatError: the lines do not form one k-space, or it is too large.
    """
    done: list[str] = []
    slabs = sorted({line.counter["Sli"] for line in lines})
    partitions = max(line.counter["Par"] for line in lines) + 1
    # The slices of a 3-D scan result from a transform of all partitions.
    wanted = chosen_slices(slices, len(slabs), where=name) if partitions == 1 else None
    order: list[int] | None = None
    if wanted is not None:
        kept = sorted(set(wanted))
        slabs, order = [slabs[number] for number in kept], [kept.index(number) for number in wanted]
        lines = [line for line in lines if line.counter["Sli"] in set(slabs)]
    samples, channels = lines[0].samples, lines[0].channels
    stored = max(line.counter["Lin"] for line in lines) + 1
    phase, readout = _place(stored, lines[0].center_line), _place(samples, lines[0].center_column)
    reflected = sum(line.reversed for line in lines)
    if reflected:
        done.append(f"{reflected} reflected lines turned round")
        readout = _Placement(0, samples)  # their centre is counted from the other end, so they are not moved
    shape = (len(slabs), partitions, channels, readout.length, phase.length)
    declared = check_declared(shape, 8, where=name, max_bytes=max_bytes)
    if declared > max(_ALWAYS_FINE, _MAX_SPREAD * 8 * samples * channels * len(lines)):
        raise FormatError(
            f"expected lines of one scan in {name}, {len(lines)} of them declare shape {shape}: it is damaged"
        )
    kspace, acquired, repeats = _averaged(
        stream, lines, measurement, slabs, shape, (readout.before, phase.before), name
    )
    if repeats > 1:
        done.append(f"up to {repeats} averages of a line averaged")
    if readout.partial or phase.partial:
        done.append("partial Fourier: unacquired samples are zero, with the centre of k-space in the middle")
    if partitions > 1:
        kspace = partitions_to_slices(kspace, lines[0].center_partition, name)
        done.append(f"{partitions} partitions transformed to slices")
        order = chosen_slices(slices, len(kspace), where=name)
    else:
        kspace = kspace[:, 0]
    kspace, cropped = without_oversampling(kspace if order is None else kspace[order], factor)
    return kspace, acquired, done + cropped


def _averaged(
    stream: IO[bytes],
    lines: Sequence[Line],
    measurement: Measurement,
    slabs: Sequence[int],
    shape: tuple[int, int, int, int, int],
    before: tuple[int, int],
    name: str,
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.bool_], int]:
    """Read every line to its position and average repeated lines.

    Returns:
        k-space `(slab, partition, coil, readout, phase)`, the acquired columns, and the largest number of repeats of a
        line.
    """
    kspace = np.zeros(shape, dtype=np.complex64)
    count = np.zeros((*shape[:2], shape[-1]), dtype=np.int64)
    place = {slab: index for index, slab in enumerate(slabs)}
    inside = slice(before[0], before[0] + lines[0].samples)
    for line in lines:
        data = read_samples(stream, line, measurement)
        at = (place[line.counter["Sli"]], line.counter["Par"])
        column = before[1] + line.counter["Lin"]
        with np.errstate(over="ignore", invalid="ignore"):
            kspace[(*at, slice(None), inside, column)] += data[:, ::-1] if line.reversed else data
        count[(*at, column)] += 1
    acquired, repeats = average_repeats(kspace, count)
    if not (count[..., acquired] > 0).all():
        raise different_lines(name)
    return kspace, acquired, repeats


def _place(stored: int, center: int) -> _Placement:
    """Find the position of `stored` lines, with the centre of k-space at `center`, on an axis centred at N//2.

    A centre of 0 means that the sequence did not fill it in. A centre about one line off the middle does not mean
    partial Fourier.
    """
    off = center - stored // 2
    close = max(1, stored // 128)
    if not 0 < center < stored or -close <= off <= 0:
        return _Placement(0, stored)
    if off > 0:  # the last lines are missing, possibly only because every other line was skipped
        return _Placement(0, max(stored, 2 * center), partial=off > close)
    length = 2 * (stored - center)
    return _Placement(length - stored, length, partial=True)
