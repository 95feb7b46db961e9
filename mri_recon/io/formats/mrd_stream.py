"""Read the readouts of MRD raw data, version 2: a stream of a header and of acquisitions, images and waveforms.

The library mrd-python decodes the stream. It believes every length in the file, so lengths beyond the file are refused
before memory is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.formats.ismrmrd import Header, plausible_bandwidth, scan_marks
from mri_recon.io.formats.mrd_readouts import COUNTERS, Readouts
from mri_recon.io.geometry import PATIENT_POSITIONS

__all__ = ["header_of", "is_mrd_stream", "mrd_library", "open_stream"]

_MAGIC = b"yardl\x01\x00\x00\x00"
_WHOLE = ("discard_pre", "discard_post", "center_sample", "encoding_space_ref")
_VECTORS = ("position", "read_dir", "phase_dir", "slice_dir")
_HEAD = np.dtype(
    [
        ("flags", "<u8"), ("number_of_samples", "<i8"), ("active_channels", "<i8"), *((one, "<i8") for one in _WHOLE),
        ("sample_time_us", "<f4"), *((one, "<f4", 3) for one in _VECTORS), ("idx", [(one, "<i8") for one in COUNTERS]),
    ]
)  # fmt: skip


def is_mrd_stream(head: bytes) -> bool:
    """Tell from its first bytes whether a file is a stream of MRD version 2 (or another one of its encoding)."""
    return head.startswith(_MAGIC)


@contextmanager
def open_stream(path: Path) -> Iterator[Readouts]:
    """Read a stream: the headers and samples of all readouts, which take the size of the file in memory.

    Raises:
        FormatError: damaged, cut short, without header or readouts, or mrd-python is not installed.
    """
    mrd = mrd_library()
    try:
        with path.open("rb") as stream:
            header, heads, samples, others = _read(mrd, stream, path.stat().st_size)
    except Exception as error:  # the library raises errors of many kinds for damaged files
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"expected MRD raw data of version 2, got {path.name}, which is damaged, cut short or of another version: "
            "copy or convert it again"
        ) from error
    if header is None or not heads:
        raise FormatError(f"expected a header and readouts in {path.name}, found none: it holds other data")
    yield Readouts(
        path.name,
        lambda number: header_of(header, number, path.name),
        np.array(heads, dtype=_HEAD),
        tuple(f"{count} {what}" for what, count in others.items()),
        lambda first, last: samples[first:last],
    )


def _read(
    mrd: Any, stream: IO[bytes], size: int
) -> tuple[Any, list[tuple[Any, ...]], list[npt.NDArray[np.float32]], Counter[str]]:
    heads, samples, others = [], [], Counter[str]()
    with mrd.BinaryMrdReader(stream) as reader:
        _bound(reader, size)
        header = reader.read_header()
        for item in reader.read_data():
            value = item.value
            if not isinstance(value, mrd.Acquisition):
                others[type(value).__name__.lower() + "s"] += 1
                continue
            data = np.ascontiguousarray(value.data, dtype=np.complex64)
            if data.ndim != 2 or 0 in data.shape:
                raise ValueError("a readout without samples")
            heads.append(_head(value.head, data.shape))
            samples.append(data.reshape(-1).view(np.float32))
    return header, heads, samples, others


def _bound(reader: Any, size: int) -> None:
    """Let the reader's stream refuse lengths beyond the file, which would fill the memory."""

    def bounded(read: Callable[[int], Any]) -> Callable[[int], Any]:
        def call(count: int) -> Any:
            if count > size:
                raise EOFError(f"{count} bytes are declared, the file has {size}")
            return read(count)

        return call

    stream = reader._stream
    stream.read_view, stream.read_bytearray = bounded(stream.read_view), bounded(stream.read_bytearray)


def _head(head: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    whole = (int(getattr(head, one) or 0) for one in _WHOLE)
    vectors = (tuple(float(one) for one in np.asarray(getattr(head, name)).reshape(3)) for name in _VECTORS)
    counters = tuple(int(getattr(head.idx, one) or 0) for one in COUNTERS)
    return (int(head.flags.value), shape[1], shape[0], *whole, float(head.sample_time_us or 0), *vectors, counters)


def header_of(header: Any, number: int, name: str) -> Header:
    """Take the fields of one encoding from a header of the library.

    Raises:
        FormatError: the header has no such encoding.
    """
    if number >= len(header.encoding):
        raise FormatError(
            f"expected encoding {number} in the header of {name}, it has {len(header.encoding)}: it is damaged"
        )
    one = header.encoding[number]
    encoded, recon, limits = one.encoded_space, one.recon_space, one.encoding_limits
    lines, partitions = limits.kspace_encoding_step_1, limits.kspace_encoding_step_2
    about = header.measurement_information
    position = "" if about is None else about.patient_position.name.replace("_", "")
    system = header.acquisition_system_information
    strings = [] if header.user_parameters is None else header.user_parameters.user_parameter_string
    mode = None if one.parallel_imaging is None else one.parallel_imaging.calibration_mode
    return Header(
        encoded_size=_size(encoded.matrix_size),
        recon_size=_size(recon.matrix_size),
        limit_center=None if lines is None else int(lines.center),
        limit_maximum=None if lines is None else int(lines.maximum),
        field_of_view=_lengths(encoded.field_of_view_mm),
        depth=max(1, int(encoded.matrix_size.z)),
        patient_position=position if position in PATIENT_POSITIONS else "",
        recon_field_of_view=_lengths(recon.field_of_view_mm),
        partition_center=None if partitions is None else int(partitions.center),
        partition_maximum=None if partitions is None else int(partitions.maximum),
        average_maximum=None if limits.average is None else int(limits.average.maximum),
        trajectory=one.trajectory.name.lower(),
        calibration_mode="" if mode is None else mode.name.lower(),
        protocol="" if about is None or about.protocol_name is None else about.protocol_name[:100],
        noise_bandwidth=1.0 if system is None else plausible_bandwidth(system.relative_receiver_noise_bandwidth or 1.0),
        marks=scan_marks((str(one.name), str(one.value)) for one in strings),
    )


def _size(size: Any) -> tuple[int, int] | None:
    x, y = int(size.x), int(size.y)
    return (x, y) if min(x, y) >= 1 else None


def _lengths(lengths: Any) -> tuple[float, float, float] | None:
    x, y, z = float(lengths.x), float(lengths.y), float(lengths.z)
    known = all(0 < one < 1e5 for one in (x, y, z)) and (x, y, z) != (1.0, 1.0, 1.0)
    return (x, y, z) if known else None


def mrd_library() -> Any:
    """Import the library mrd-python.

    Raises:
        FormatError: it is not installed.
    """
    try:
        import mrd
    except ImportError as error:
        raise FormatError(
            "expected the library mrd-python for MRD raw data of version 2, it is not installed: "
            "pip install 'mri-recon[scanners]'"
        ) from error
    return mrd
