"""Sort the readouts of ISMRMRD (MRD) raw data into Cartesian k-space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.formats.ismrmrd import Header
from mri_recon.io.formats.mrd_readouts import Readouts
from mri_recon.io.formats.readout_lines import average_repeats, different_lines
from mri_recon.io.reading.limits import check_declared

__all__ = ["Layout", "fill", "lay_out"]

_MAX_SPREAD = 64  # declared samples for each stored one: 64-fold undersampling
_ALWAYS_FINE = 2**24


@dataclass(frozen=True)
class Layout:
    """Describe where readouts lie in k-space.

    Attributes:
        shape: `(slab, partition, coil, readout, phase)`.
        first_sample: first kept sample of a readout, after those to discard.
        num_samples: number of kept samples.
        row: row of the first kept sample.
        columns, partitions: column and partition of every readout of the file, valid for the chosen ones.
        slabs: values of the slice counter, sorted.
        padding: first column that the limits allow and the one after the last; None if the header has no limits.
        asymmetric: whether the echo is not in the middle of the kept samples.
    """

    shape: tuple[int, int, int, int, int]
    first_sample: int
    num_samples: int
    row: int
    columns: npt.NDArray[np.int64]
    partitions: npt.NDArray[np.int64]
    slabs: list[int]
    padding: tuple[int, int] | None
    asymmetric: bool


def lay_out(readouts: Readouts, chosen: npt.NDArray[np.int64], header: Header, *, max_bytes: int) -> Layout:
    """Find the place of chosen readouts of one size in k-space, with its centre at N//2 of each axis.

    Args:
        readouts: all readouts of the file.
        chosen: indices of the readouts, at least one, of one number of samples and channels.
        header: header of their encoding.
        max_bytes: largest array.

    Raises:
        FormatError: readouts outside the encoded space, or too large.
    """
    name = readouts.name
    if header.encoded_size is None:
        raise FormatError(f"expected the size of the encoded space in the header of {name}, found none: correct it")
    first = readouts.heads[chosen[0]]
    before, after = int(first["discard_pre"]), int(first["discard_post"])
    kept = int(first["number_of_samples"]) - before - after
    if kept < 1:
        raise FormatError(f"expected samples to keep in the readouts of {name}, they discard all: it is damaged")
    center = int(first["center_sample"]) - before
    asymmetric = 0 < center < kept and abs(center - kept // 2) > max(1, kept // 64)
    if not asymmetric:
        center = kept // 2
    # An echo far from the middle may need more room than the encoded space has.
    length = max(header.encoded_size[0], 2 * center, 2 * (kept - center) - 1)
    phase, depth = header.encoded_size[1], header.depth or 1
    limit = phase // 2 if header.limit_center is None else header.limit_center
    middle = depth // 2 if header.partition_center is None else header.partition_center
    columns = readouts.counter("kspace_encode_step_1") - limit + phase // 2
    partitions = readouts.counter("kspace_encode_step_2") - middle + depth // 2
    for what, numbers, size in (("lines", columns, phase), ("partitions", partitions, depth)):
        low, high = int(numbers[chosen].min()), int(numbers[chosen].max())
        if low < 0 or high >= size:
            raise FormatError(
                f"expected {what} inside the {size} of the encoded space of {name}, got {low} to {high}: "
                "the limits or the size in the header are wrong"
            )
    slabs = sorted({int(one) for one in readouts.counter("slice")[chosen]})
    shape = (len(slabs), depth, int(first["active_channels"]), length, phase)
    declared = check_declared(shape, 8, where=name, max_bytes=max_bytes)
    stored = 8 * len(chosen) * int(first["number_of_samples"]) * shape[2]
    if declared > max(_ALWAYS_FINE, _MAX_SPREAD * stored):
        raise FormatError(
            f"expected readouts of one scan in {name}, {len(chosen)} of them declare shape {shape}: it is damaged"
        )
    return Layout(
        shape, before, kept, length // 2 - center, columns, partitions, slabs, _padding(header, phase), asymmetric
    )


def fill(
    readouts: Readouts, chosen: npt.NDArray[np.int64], layout: Layout
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.bool_], int]:
    """Read chosen readouts to their places; readouts of one place are averaged, reversed ones turned round.

    Returns:
        k-space `(slab, partition, coil, readout, phase)`, the acquired columns, bool `(phase,)`, and the largest number
        of readouts of one place.

    Raises:
        FormatError: slices that are sampled differently, or a damaged file.
    """
    kspace = np.zeros(layout.shape, dtype=np.complex64)
    count = np.zeros((*layout.shape[:2], layout.shape[-1]), dtype=np.int64)
    slab = {value: index for index, value in enumerate(layout.slabs)}
    slices, turned = readouts.counter("slice"), readouts.has("reversed lines")
    keep = slice(layout.first_sample, layout.first_sample + layout.num_samples)
    rows = slice(layout.row, layout.row + layout.num_samples)
    for index, data in readouts.samples([int(one) for one in chosen]):
        at = (slab[int(slices[index])], int(layout.partitions[index]))
        column = int(layout.columns[index])
        part = data[:, ::-1] if turned[index] else data
        with np.errstate(over="ignore", invalid="ignore"):
            kspace[(*at, slice(None), rows, column)] += part[:, keep]
        count[(*at, column)] += 1
    acquired, repeats = average_repeats(kspace, count)
    planes = count.any(axis=-1)  # partitions that were left out are zero in every slab
    if not (count[planes][:, acquired] > 0).all() or (planes.any(axis=0) & ~planes).any():
        raise different_lines(readouts.name)
    return kspace, acquired, repeats


def _padding(header: Header, phase: int) -> tuple[int, int] | None:
    if header.padding is None:
        return None
    left, right = max(0, header.padding[0]), min(phase, header.padding[1])
    return (left, right) if left < right else None
