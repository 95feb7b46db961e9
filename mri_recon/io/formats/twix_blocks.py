"""Walk through the blocks of Siemens raw data: the measurements, lines and samples of a file.

The library twixtools decodes the headers of the blocks. Its own loop over the blocks trusts every length in the file,
so this module checks positions and sizes before it reads a block. Only one number of the protocol is needed, so the
protocol is searched and not parsed. twixtools was preferred to pymapvbvd, which gave the same samples for all tested
files, because twixtools decodes one block at a time, so that a block can be checked before it is read.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.reading.choice import pick_index

__all__ = [
    "Line",
    "Measurement",
    "find_lines",
    "find_measurements",
    "find_noise",
    "is_twix",
    "oversampling",
    "read_channels",
    "read_protocol",
    "read_samples",
]

_MAX_MEASUREMENTS = 64  # places in the table at the beginning of a VD/VE file
_MAX_PROTOCOL = 2**26
_COUNTED = ("Lin", "Sli", "Par", "Eco", "Phs", "Rep", "Set", "Ida", "Idb")
_OVERSAMPLING = re.compile(
    rb'<ParamDouble\."flReadoutOSFactor">\s{0,20}\{\s{0,20}(?:<Precision>\s{0,20}\d{1,4})?\s{0,20}([0-9.]{1,12})\s{0,20}\}'
)
_NOISE = "noise scans"
_LEFT_OUT = {
    "NOISEADJSCAN": _NOISE,
    "PHASCOR": "phase-correction lines",
    "PATREFSCAN": "calibration lines of parallel imaging",
    "RTFEEDBACK": "feedback lines",
    "HPFEEDBACK": "feedback lines",
    "REFPHASESTABSCAN": "phase-stabilisation lines",
    "PHASESTABSCAN": "phase-stabilisation lines",
}


@dataclass(frozen=True)
class Measurement:
    """Describe one measurement of the file: its first byte, the byte after its last, and the size of its protocol."""

    start: int
    end: int
    header_size: int
    per_channel: bool
    """True for VB, with a header before every channel; VD/VE has one header before all and a short one before each."""


@dataclass(frozen=True)
class Line:
    """Describe one readout of all channels."""

    position: int
    """Position of its header in the file."""
    samples: int
    channels: int
    counter: dict[str, int]
    reversed: bool
    center_column: int
    center_line: int
    center_partition: int
    place: tuple[float, ...] = ()
    """Position of the slice (x, y, z), patient frame LPS, in mm, and its orientation as a quaternion (w, x, y, z)."""


def is_twix(head: bytes) -> bool:
    """Tell whether a file that begins with these bytes (at least 24) is Siemens raw data."""
    if len(head) < 24:
        return False
    first, second = struct.unpack_from("<II", head)
    if first < 10000:  # VD/VE: a table of measurements, the first of which begins after it
        (offset,) = struct.unpack_from("<Q", head, 16)
        return 1 <= second <= _MAX_MEASUREMENTS and offset in range(512, 2**20, 8) and first in (0, 1)
    # VB: the size of the protocol, the number of its parts, and the name of the first.
    return second in range(1, 33) and re.match(rb"[A-Z][A-Za-z]{3,15}\x00", head[8:24]) is not None


def find_measurements(stream: IO[bytes], size: int, name: str) -> list[Measurement]:
    """Find the positions of the measurements, each inside the file."""
    damaged = FormatError(
        f"expected Siemens raw data, got {name}, which is damaged or cut short: copy or export it again"
    )
    head = stream.read(8 + 152 * _MAX_MEASUREMENTS)
    if not is_twix(head):
        raise damaged
    first, count = struct.unpack_from("<II", head)
    per_channel = first >= 10000
    places = [(0, size)]
    if not per_channel:
        if len(head) < 8 + 152 * count:
            raise damaged
        places = [struct.unpack_from("<QQ", head, 16 + 152 * k) for k in range(count)]
        # In files of one measurement, its length may be missing, because it was unknown when writing began.
        places = [(start, length or (size - start if count == 1 else 0)) for start, length in places]
    found = []
    for start, length in places:
        if start + 24 > size or length < 24 or start + length > size:
            raise damaged
        stream.seek(start)
        header_size, parts = struct.unpack("<II", stream.read(8))
        if not 24 <= header_size <= min(length, _MAX_PROTOCOL) or not 1 <= parts <= 32:
            raise damaged
        found.append(Measurement(start, start + length, header_size, per_channel))
    return found


def find_lines(
    stream: IO[bytes], measurements: Sequence[Measurement], chosen: dict[str, str], name: str
) -> tuple[int, list[Line], Counter[str]]:
    """Find the image lines of the chosen measurement, else of the last one with any, because adjustments come first."""
    asked = "measurement" in chosen
    numbers = range(len(measurements) - 1, -1, -1)
    for number in [pick_index(chosen, "measurement", len(measurements), where=name)] if asked else numbers:
        left_out: Counter[str] = Counter()
        lines = list(_image_lines(stream, measurements[number], left_out, name))
        if lines:
            return number, lines, left_out
    which = f"measurement {chosen['measurement']} of {name}" if asked else name
    raise FormatError(f"expected image lines in {which}, found none: it holds adjustments or other data only")


def find_noise(stream: IO[bytes], measurement: Measurement, name: str) -> list[Line]:
    """Find the noise scans of a measurement, readouts without excitation; empty if it has none.

    Raises:
        FormatError: as `find_lines`.
    """
    return [line for kind, line in _walk(stream, measurement, name) if kind == _NOISE and line is not None]


def _image_lines(stream: IO[bytes], measurement: Measurement, left_out: Counter[str], name: str) -> Iterator[Line]:
    for kind, line in _walk(stream, measurement, name):
        if not kind and line is not None:
            yield line
        else:
            left_out[kind] += 1


def _walk(stream: IO[bytes], measurement: Measurement, name: str) -> Iterator[tuple[str, Line | None]]:
    """Yield every block: "" and the line of an image line, else what it is, in words, and the line if it has one."""
    mdh = _twixtools()
    header = mdh.VB17_header if measurement.per_channel else mdh.Scan_header
    head_size = 128 if measurement.per_channel else 192
    position = measurement.start + measurement.header_size
    while True:
        stream.seek(position)
        head = stream.read(head_size)
        if len(head) < head_size or position + head_size > measurement.end:
            raise FormatError(
                f"expected an end-of-scan block in {name}, the file ends before it: it is cut short or was not finished"
            )
        one = header.from_buffer_copy(head)
        if mdh.is_flag_set(one, "ACQEND"):
            return
        other = bool(mdh.is_flag_set(one, "SYNCDATA"))
        if other:
            size = int(mdh.get_dma_len(one))
        else:
            samples, channels = int(one.SamplesInScan), int(one.UsedChannels)
            size = channels * (8 * samples + 128) if measurement.per_channel else 192 + channels * (8 * samples + 32)
            if samples < 1 or channels < 1:
                size = 0
        if size < head_size or position + size > measurement.end:
            raise FormatError(
                f"expected Siemens raw data, got {name}, which is damaged at byte {position}: copy or export it again"
            )
        if other:
            yield "blocks of other data (SYNCDATA)", None
        else:
            flags = (what for flag, what in _LEFT_OUT.items() if mdh.is_flag_set(one, flag))
            kind = "" if mdh.is_image_scan(one) else next(flags, "lines that are marked as no image")
            yield kind, _line(mdh, one, position)
        position += size


def _line(mdh: Any, one: Any, position: int) -> Line:
    counter = one.Counter
    return Line(
        position,
        int(one.SamplesInScan),
        int(one.UsedChannels),
        {key: int(getattr(counter, key)) for key in _COUNTED},
        mdh.is_flag_set(one, "REFLECT"),
        int(one.CenterCol),
        int(one.CenterLin),
        int(one.CenterPar),
        _place(one.SliceData),
    )


def _place(data: Any) -> tuple[float, ...]:
    place = data.SlicePos
    return (float(place.Sag), float(place.Cor), float(place.Tra), *(float(one) for one in data.Quaternion))


def read_samples(stream: IO[bytes], line: Line, measurement: Measurement) -> npt.NDArray[np.complex64]:
    """Read the samples `(coil, readout)` of a line, whose size was checked."""
    data: npt.NDArray[np.complex64] = _records(stream, line, measurement)["data"]
    return data


def read_channels(stream: IO[bytes], line: Line, measurement: Measurement) -> list[int]:
    """Read the numbers of the receive channels of a line, in the order of its samples."""
    heads = _records(stream, line, measurement)["header"]
    at = 124 if measurement.per_channel else 24
    return [int.from_bytes(bytes(head)[at : at + 2], "little") for head in heads]


def _records(stream: IO[bytes], line: Line, measurement: Measurement) -> npt.NDArray[Any]:
    stream.seek(line.position + (0 if measurement.per_channel else 192))
    layout = np.dtype([("header", f"V{128 if measurement.per_channel else 32}"), ("data", "<c8", (line.samples,))])
    content = stream.read(layout.itemsize * line.channels)
    if len(content) < layout.itemsize * line.channels:
        raise FormatError("expected Siemens raw data of the size it had, got less: another program changed the file")
    return np.frombuffer(content, dtype=layout)


def read_protocol(stream: IO[bytes], measurement: Measurement) -> bytes:
    """Read the protocol of a measurement, whose size was checked."""
    stream.seek(measurement.start)
    return stream.read(measurement.header_size)


def oversampling(stream: IO[bytes], measurement: Measurement) -> float:
    """Find the oversampling factor of the readout in the protocol of a measurement; 1 if it is missing."""
    found = _OVERSAMPLING.search(read_protocol(stream, measurement))
    try:
        factor = float(found[1]) if found else 1.0
    except ValueError:
        return 1.0
    return factor if 1.0 <= factor <= 16.0 else 1.0


def _twixtools() -> Any:
    try:
        from twixtools import mdh_def  # imported here, because it imports matplotlib and only this format needs it
    except ImportError as error:
        raise FormatError(
            "expected the library twixtools for Siemens raw data, it is not installed: "
            "pip install 'mri-recon[scanners]'"
        ) from error
    return mdh_def
