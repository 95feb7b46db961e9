"""Read the readouts (acquisitions) of ISMRMRD (MRD) raw data in HDF5, version 1.

A group, usually `dataset`, has `xml`, the header, and `data`: records of a header, a trajectory and samples of variable
length. Headers are read first; samples are read for the readouts that are wanted, after their lengths were
compared with the headers.

Inati et al., ISMRM Raw data format, Magn Reson Med 77:411 (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.formats.ismrmrd import Header, parse_header
from mri_recon.io.reading.hdf5 import get_dataset, hdf5_errors, open_hdf5, read_text
from mri_recon.io.reading.limits import show
from mri_recon.io.reading.stored import open_records

__all__ = ["COUNTERS", "FIELDS", "FLAGS", "Readouts", "find_group", "is_mrd", "open_readouts"]

FLAGS = {
    "noise scans": 19,
    "calibration lines": 20,
    "calibration and image lines": 21,
    "reversed lines": 22,
    "navigator lines": 23,
    "phase-correction lines": 24,
    "feedback lines": 26,
    "dummy lines": 27,
    "real-time feedback lines": 28,
    "surface-coil correction lines": 29,
    "phase-stabilisation reference lines": 30,
    "phase-stabilisation lines": 31,
}
"""Number of the bit, from 1, of each kind of readout in `flags`."""

_MAX_READOUTS = 2**24
FIELDS = (
    "flags", "number_of_samples", "active_channels", "discard_pre", "discard_post", "center_sample",
    "encoding_space_ref", "sample_time_us", "position", "read_dir", "phase_dir", "slice_dir", "idx",
)  # fmt: skip
COUNTERS = (
    "kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast", "phase", "repetition", "set",
)  # fmt: skip
_BLOCK = 2**26  # bytes of samples that are read at once


@dataclass(frozen=True)
class Readouts:
    """Hold the headers of all readouts of a file, and read their samples.

    Attributes:
        name: name of the file.
        header: function that returns the header of an encoding.
        heads: records of `FIELDS`, one for each readout.
        others: further contents of the file, in words: waveforms and images.
        _read: function that reads the samples of a range of readouts, float32 arrays of real and imaginary parts.
    """

    name: str
    header: Callable[[int], Header]
    heads: npt.NDArray[Any]
    others: tuple[str, ...]
    _read: Callable[[int, int], Sequence[Any]]

    def counter(self, which: str) -> npt.NDArray[np.int64]:
        """Return a counter of each readout, such as "slice" or "kspace_encode_step_1"."""
        return np.asarray(self.heads["idx"][which], dtype=np.int64)

    def field(self, which: str) -> npt.NDArray[np.int64]:
        """Return a whole number of each readout, such as "number_of_samples"."""
        return np.asarray(self.heads[which], dtype=np.int64)

    def has(self, kind: str) -> npt.NDArray[np.bool_]:
        """Tell for each readout whether it is of a kind of `FLAGS`."""
        bit = np.uint64(1 << (FLAGS[kind] - 1))
        return np.asarray((self.heads["flags"].astype(np.uint64) & bit) != 0, dtype=np.bool_)

    def samples(self, indices: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.complex64]]]:
        """Yield the index and the samples `(coil, sample)` of chosen readouts, in the order of the file.

        Raises:
            FormatError: a readout holds another number of samples than its header says, or the file is damaged.
        """
        wanted = sorted(int(one) for one in indices)
        start = 0
        while start < len(wanted):
            stop, size = start, 0
            while stop < len(wanted) and (stop == start or size < _BLOCK) and wanted[stop] - wanted[start] < 4096:
                size += self._length(wanted[stop]) * 4
                stop += 1
            first, last = wanted[start], wanted[stop - 1]
            block = self._read(first, last + 1)
            for index in wanted[start:stop]:
                values = np.asarray(block[index - first])
                if values.dtype != np.float32 or values.shape != (self._length(index),):
                    raise FormatError(
                        f"expected {self._length(index)} numbers in readout {index} of {self.name}, got "
                        f"{values.size}: it is damaged"
                    )
                channels = int(self.heads["active_channels"][index])
                yield index, np.ascontiguousarray(values).view(np.complex64).reshape(channels, -1)
            start = stop

    def _length(self, index: int) -> int:
        head = self.heads[index]
        return 2 * int(head["active_channels"]) * int(head["number_of_samples"])


def is_mrd(path: Path) -> bool:
    """Tell whether an HDF5 file has readouts of ISMRMRD; False also for a file that cannot be read."""
    try:
        with open_hdf5(path, scan=False, foreign=True) as file:
            return find_group(file, path) is not None
    except FormatError:
        return False


def find_group(file: h5py.File, path: Path) -> str | None:
    """Return the name of the first group with readouts; None if there is none."""
    with hdf5_errors(path):
        for name in sorted(file):
            group = file[name]
            if isinstance(group, h5py.Group) and "xml" in group and "data" in group:
                data = group["data"]
                if isinstance(data, h5py.Dataset) and {"head", "data"} <= set(data.dtype.names or ()):
                    return str(name)
    return None


@contextmanager
def open_readouts(path: Path) -> Iterator[Readouts]:
    """Open a file and read the headers of its readouts.

    Raises:
        FormatError: not such a file, unsafe (see `open_hdf5`) or damaged.
    """
    with open_hdf5(path, foreign=True) as file:
        name = find_group(file, path)
        if name is None:
            raise FormatError(f"expected a group with xml and data in {path.name}, found none: this is no MRD raw data")
        xml, data = get_dataset(file, f"{name}/xml"), get_dataset(file, f"{name}/data")
        if xml is None or data is None:
            raise FormatError(f"expected arrays xml and data in {show(name)} of {path.name}: it is damaged")
        _check_record(data, path)
        text = read_text(xml)
        with hdf5_errors(path):
            count = int(data.shape[0])
            if not 1 <= count <= _MAX_READOUTS:
                raise FormatError(f"expected 1 to {_MAX_READOUTS} readouts in {path.name}, got {count}: it is damaged")
            others = _others(file[name])
        with ExitStack() as stack:
            with hdf5_errors(path):
                records = stack.enter_context(open_records(data))
                heads = records.field("head")[list(FIELDS)]
            _check_sizes(heads, path)

            def read(first: int, last: int) -> Sequence[Any]:
                with hdf5_errors(path):
                    return records.lists("data", first, last)

            yield Readouts(
                path.name, lambda number: parse_header(text, where=path.name, encoding=number), heads, others, read
            )


def _check_record(data: h5py.Dataset, path: Path) -> None:
    wrong = FormatError(f"expected readouts of ISMRMRD, version 1, in {path.name}, got other records: convert it")
    with hdf5_errors(path):
        kind, shape = data.dtype, data.shape
        if len(shape) != 1 or kind["head"].names is None or not {*FIELDS} <= set(kind["head"].names):
            raise wrong
        idx = kind["head"]["idx"]
        if idx.names is None or not {*COUNTERS} <= set(idx.names):
            raise wrong
        numbers = [kind["head"][one] for one in FIELDS if one != "idx"] + [idx[one] for one in COUNTERS]
        if any(one.base.kind not in "uif" for one in numbers) or h5py.check_vlen_dtype(kind["data"]) != np.float32:
            raise wrong
        vectors = [kind["head"][one].shape for one in ("position", "read_dir", "phase_dir", "slice_dir")]
        if any(one != (3,) for one in vectors):
            raise wrong


def _check_sizes(heads: npt.NDArray[Any], path: Path) -> None:
    """Refuse readouts that declare more samples than the file has bytes, before any is read."""
    numbers = heads["number_of_samples"].astype(np.int64) * heads["active_channels"].astype(np.int64)
    declared, size = 8 * int(numbers.sum()), path.stat().st_size
    if declared > size:
        raise FormatError(
            f"expected {declared} bytes of samples in {path.name}, the file has {size}: it is damaged or cut short"
        )


def _others(group: h5py.Group) -> tuple[str, ...]:
    found = []
    for name in sorted(group):
        item = group[name]
        if name == "waveforms" and isinstance(item, h5py.Dataset):
            found.append(f"{int(item.shape[0])} waveforms")
        elif isinstance(item, h5py.Group) and "header" in item and "data" in item:
            found.append(f"images {show(name)}")
    return tuple(found)
