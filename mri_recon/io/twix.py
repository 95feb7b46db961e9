"""Siemens raw data (`.dat`, "twix") of the software versions VB and VD/VE, Cartesian.

The headers of the blocks are decoded by the library twixtools. Its own loop over them trusts every length in the file,
so positions and sizes are checked here before a block is read; the protocol, of which one number is needed, is searched
and not parsed. twixtools was preferred to pymapvbvd, which gave the same samples for every file that was tried: it
decodes one block at a time, so that a block can be checked before it is read.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mri_recon._arrays import center_window
from mri_recon.errors import FormatError
from mri_recon.io.choice import parse_choice, pick_index
from mri_recon.io.limits import DEFAULT_MAX_BYTES, check_declared
from mri_recon.io.scan import RawScan
from mri_recon.io.slices import Slices, chosen_slices, slices_meta
from mri_recon.transforms.array_fourier import fft_of_array, ifft_of_array

__all__ = ["is_twix", "read_twix"]

_MAX_MEASUREMENTS = 64  # places in the table at the beginning of a VD/VE file
_MAX_PROTOCOL = 2**26
_MAX_SPREAD = 64  # declared samples a stored one: 64-fold undersampling
_ALWAYS_FINE = 2**24
_NAMES = {
    "measurement": "number of the measurement in the file",
    "echo": "contrast",
    "repetition": "repetition",
    "cardiac": "cardiac phase",
    "set": "set",
    "interleave": "I/N keeps every N-th line from line I on, for echoes that the sequence did not label",
}
_COUNTED = ("Lin", "Sli", "Par", "Eco", "Phs", "Rep", "Set", "Ida", "Idb")
_COUNTERS = {"echo": "Eco", "cardiac": "Phs", "repetition": "Rep", "set": "Set"}
_OVERSAMPLING = re.compile(
    rb'<ParamDouble\."flReadoutOSFactor">\s{0,20}\{\s{0,20}(?:<Precision>\s{0,20}\d{1,4})?\s{0,20}([0-9.]{1,12})\s{0,20}\}'
)
_LEFT_OUT = {
    "NOISEADJSCAN": "noise scans",
    "PHASCOR": "phase-correction lines",
    "PATREFSCAN": "calibration lines of parallel imaging",
    "RTFEEDBACK": "feedback lines",
    "HPFEEDBACK": "feedback lines",
    "REFPHASESTABSCAN": "phase-stabilisation lines",
    "PHASESTABSCAN": "phase-stabilisation lines",
}


@dataclass(frozen=True)
class _Measurement:
    start: int
    end: int
    header_size: int
    per_channel: bool
    """VB: a header before every channel. VD/VE: one before all, and a short one before each."""


@dataclass(frozen=True)
class _Line:
    """One readout of all channels."""

    position: int
    """Of its header in the file."""
    samples: int
    channels: int
    counter: dict[str, int]
    reversed: bool
    center_column: int
    center_line: int
    center_partition: int


@dataclass(frozen=True)
class _Placement:
    """Where the acquired lines (or samples) lie on the full axis."""

    before: int
    length: int
    partial: bool = False


def is_twix(head: bytes) -> bool:
    """Whether a file that begins with these bytes (at least 24) is Siemens raw data."""
    if len(head) < 24:
        return False
    first, second = struct.unpack_from("<II", head)
    if first < 10000:  # VD/VE: a table of measurements, the first of which begins after it
        (offset,) = struct.unpack_from("<Q", head, 16)
        return 1 <= second <= _MAX_MEASUREMENTS and offset in range(512, 2**20, 8) and first in (0, 1)
    # VB: the size of the protocol, the number of its parts, and the name of the first.
    return second in range(1, 33) and re.match(rb"[A-Z][A-Za-z]{3,15}\x00", head[8:24]) is not None


def read_twix(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read one k-space of a Siemens raw-data file; see `mri_recon.io.load`.

    Reflected lines are turned round, averages are averaged, readout oversampling is removed, a second phase-encoding
    direction (3-D) becomes slices. Noise scans, calibration and phase-correction lines are left out. `meta["done"]` and
    `meta["left_out"]` say which of these happened.

    Args:
        path: the file.
        axes: must be None: the file says them.
        variable: which k-space, where there are several, e.g. "echo=1, repetition=0" or "interleave=0/3"; by default
            the last measurement that has image lines, and the first of everything else.
        slices: of the scan.
        max_bytes: largest array to take.

    Raises:
        FormatError: damaged, cut short, not Cartesian as far as the lines show it, or twixtools is not installed.
    """
    if axes is not None:
        raise FormatError(f"expected no axes for the Siemens file {path.name}, it says them itself: leave axes out")
    chosen = parse_choice(variable, _NAMES, where=path.name)
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        measurements = _measurements(stream, size, path.name)
        number, lines, left_out = _find_lines(stream, measurements, chosen, path.name)
        measurement = measurements[number]
        if len(measurements) > 1:
            left_out[f"other measurements of the file (this is number {number})"] = len(measurements) - 1
        lines = _choose(lines, chosen, left_out, path.name)
        stream.seek(measurement.start)
        found = _OVERSAMPLING.search(stream.read(measurement.header_size))
        factor = _factor(found[1]) if found else 1.0
        kspace, acquired, done = _fill(stream, lines, measurement, slices, factor, path.name, max_bytes)
    num_lines, samples = kspace.shape[-1], kspace.shape[-2]
    count = len({line.counter["Sli"] for line in lines}) * (max(line.counter["Par"] for line in lines) + 1)
    meta: dict[str, Any] = {
        "format": f"Siemens raw data ({'VB' if measurement.per_channel else 'VD/VE'})",
        "file": path.name,
        "axes": "slice coil readout phase",
        "axes_assumed": False,
        "readout_oversampling": factor,
        "done": done,
        "left_out": [f"{number} {what}" for what, number in left_out.items()],
        **slices_meta(chosen_slices(slices, count, where=path.name), count),
    }
    warnings = []
    if len({line.reversed for line in lines}) > 1:
        warnings.append(
            "Some lines were acquired in the opposite direction (echo-planar imaging?): they are turned round, but "
            "their phase is not corrected, so ghosts are to be expected half a field of view away."
        )
    if "interleave" not in chosen and num_lines % samples == 0 and 2 <= (parts := num_lines // samples) <= 8:
        warnings.append(
            f"{num_lines} lines of {samples} samples: where {parts} echoes follow each other unlabelled, choose one "
            f"with variable 'interleave=0/{parts}'."
        )
    if warnings:
        meta["reader_warnings"] = warnings
    first, last = int(np.flatnonzero(acquired)[0]), int(np.flatnonzero(acquired)[-1]) + 1
    return RawScan(
        kspace,
        name=path.name,
        meta=meta,
        mask=None if acquired[first:last].all() else acquired.astype(np.uint8),
        padding=None if acquired[0] and acquired[-1] else (first, last),
    )


def _measurements(stream: IO[bytes], size: int, name: str) -> list[_Measurement]:
    """Where the measurements of the file lie, each inside the file."""
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
        # Files of one measurement may have been written without its length, which was not known at the beginning.
        places = [(start, length or (size - start if count == 1 else 0)) for start, length in places]
    found = []
    for start, length in places:
        if start + 24 > size or length < 24 or start + length > size:
            raise damaged
        stream.seek(start)
        header_size, parts = struct.unpack("<II", stream.read(8))
        if not 24 <= header_size <= min(length, _MAX_PROTOCOL) or not 1 <= parts <= 32:
            raise damaged
        found.append(_Measurement(start, start + length, header_size, per_channel))
    return found


def _find_lines(
    stream: IO[bytes], measurements: Sequence[_Measurement], chosen: dict[str, str], name: str
) -> tuple[int, list[_Line], Counter[str]]:
    """The measurement asked for, else the last one with image lines: adjustments and noise come before."""
    asked = "measurement" in chosen
    numbers = range(len(measurements) - 1, -1, -1)
    for number in [pick_index(chosen, "measurement", len(measurements), where=name)] if asked else numbers:
        left_out: Counter[str] = Counter()
        lines = list(_image_lines(stream, measurements[number], left_out, name))
        if lines:
            return number, lines, left_out
    which = f"measurement {chosen['measurement']} of {name}" if asked else name
    raise FormatError(f"expected image lines in {which}, found none: it holds adjustments or other data only")


def _image_lines(stream: IO[bytes], measurement: _Measurement, left_out: Counter[str], name: str) -> Iterator[_Line]:
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
        if mdh.is_flag_set(one, "SYNCDATA"):
            size = int(mdh.get_dma_len(one))
            left_out["blocks of other data (SYNCDATA)"] += 1
        else:
            samples, channels = int(one.SamplesInScan), int(one.UsedChannels)
            size = channels * (8 * samples + 128) if measurement.per_channel else 192 + channels * (8 * samples + 32)
            if samples < 1 or channels < 1:
                size = 0
        if size < head_size or position + size > measurement.end:
            raise FormatError(
                f"expected Siemens raw data, got {name}, which is damaged at byte {position}: copy or export it again"
            )
        if mdh.is_image_scan(one):
            counter = one.Counter
            yield _Line(
                position,
                samples,
                channels,
                {
                    key: int(getattr(counter, key))
                    for key in ("Lin", "Sli", "Par", "Eco", "Phs", "Rep", "Set", "Ida", "Idb")
                },
                mdh.is_flag_set(one, "REFLECT"),
                int(one.CenterCol),
                int(one.CenterLin),
                int(one.CenterPar),
            )
        elif not mdh.is_flag_set(one, "SYNCDATA"):
            flags = (what for flag, what in _LEFT_OUT.items() if mdh.is_flag_set(one, flag))
            left_out[next(flags, "lines that are marked as no image")] += 1
        position += size


def _choose(lines: list[_Line], chosen: dict[str, str], left_out: Counter[str], name: str) -> list[_Line]:
    """The lines of one contrast: one size, one echo, repetition, cardiac phase and set."""
    (size, _), *_ = Counter((line.samples, line.channels) for line in lines).most_common(1)
    lines = _keep(lines, lambda line: (line.samples, line.channels) == size, left_out, "lines of another size")
    for what, key in _COUNTERS.items():
        values = sorted({line.counter[key] for line in lines})
        value = values[pick_index(chosen, what, len(values), where=name)]
        others = f"lines of other values of {what} ({len(values)} in all, this is number {values.index(value)})"
        lines = _keep(lines, lambda line, key=key, value=value: line.counter[key] == value, left_out, others)  # type: ignore[misc]
    free = (lines[0].counter["Ida"], lines[0].counter["Idb"])
    lines = _keep(
        lines,
        lambda line: (line.counter["Ida"], line.counter["Idb"]) == free,
        left_out,
        "lines with other values of the sequence's own counters",
    )
    if "interleave" in chosen:
        index, _, count = chosen["interleave"].partition("/")
        if not count or not 0 <= int(index) < int(count) <= 64:
            raise FormatError(
                f"expected interleave=I/N with I below N, N up to 64, for {name}, got {chosen['interleave']}: "
                "e.g. interleave=0/3"
            )
        part, step = int(index), int(count)
        lines = _keep(lines, lambda line: line.counter["Lin"] % step == part, left_out, "lines of other interleaves")
        if not lines:
            raise FormatError(
                f"expected lines for interleave={chosen['interleave']} in {name}, found none: choose another"
            )
        lines = [
            _Line(
                line.position, line.samples, line.channels, {**line.counter, "Lin": line.counter["Lin"] // step},
                line.reversed, line.center_column, line.center_line // step, line.center_partition,
            )
            for line in lines
        ]  # fmt: skip
    return lines


def _keep(lines: list[_Line], condition: Callable[[_Line], bool], left_out: Counter[str], what: str) -> list[_Line]:
    kept = [line for line in lines if condition(line)]
    if len(kept) < len(lines):
        left_out[what] += len(lines) - len(kept)
    return kept


def _fill(
    stream: IO[bytes],
    lines: list[_Line],
    measurement: _Measurement,
    slices: Slices | None,
    oversampling: float,
    name: str,
    max_bytes: int,
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.bool_], list[str]]:
    """k-space `(slice, coil, readout, phase)`, the acquired columns, and what was done."""
    done: list[str] = []
    slabs = sorted({line.counter["Sli"] for line in lines})
    partitions = max(line.counter["Par"] for line in lines) + 1
    order: list[int] | None = None
    if partitions == 1:  # of a 3-D scan the slices come out of a transform of all partitions
        wanted = chosen_slices(slices, len(slabs), where=name)
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
        readout = _Placement(0, samples)  # their centre is counted from the other end: not moved
    shape = (len(slabs), partitions, channels, readout.length, phase.length)
    declared = check_declared(shape, 8, where=name, max_bytes=max_bytes)
    if declared > max(_ALWAYS_FINE, _MAX_SPREAD * 8 * samples * channels * len(lines)):
        raise FormatError(
            f"expected lines of one scan in {name}, {len(lines)} of them declare shape {shape}: it is damaged"
        )
    kspace = np.zeros(shape, dtype=np.complex64)
    count = np.zeros((len(slabs), partitions, phase.length), dtype=np.int64)
    place = {slab: index for index, slab in enumerate(slabs)}
    inside = slice(readout.before, readout.before + samples)
    for line in lines:
        data = _samples(stream, line, measurement)
        at = (place[line.counter["Sli"]], line.counter["Par"])
        column = phase.before + line.counter["Lin"]
        with np.errstate(over="ignore", invalid="ignore"):
            kspace[(*at, slice(None), inside, column)] += data[:, ::-1] if line.reversed else data
        count[(*at, column)] += 1
    repeats = int(count.max())
    if repeats > 1:
        with np.errstate(over="ignore", invalid="ignore"):
            kspace /= np.maximum(count, 1)[:, :, None, None].astype(np.float32)
        done.append(f"up to {repeats} averages of a line averaged")
    acquired: npt.NDArray[np.bool_] = np.asarray(count.any(axis=(0, 1)), dtype=np.bool_)
    if not (count[..., acquired] > 0).all():
        raise FormatError(
            f"expected the same lines in every slice and partition of {name}, got different ones: it was not finished, "
            "or it is undersampled in two directions, which is not read; read some slices only"
        )
    if readout.partial or phase.partial:
        done.append("partial Fourier: what was not acquired is zero, with the centre of k-space in the middle")
    if partitions > 1:
        kspace = _partitions_to_slices(kspace, lines[0].center_partition, name)
        done.append(f"{partitions} partitions transformed to slices")
        order = chosen_slices(slices, len(kspace), where=name)
    else:
        kspace = kspace[:, 0]
    if order is not None:
        kspace = kspace[order]
    size = round(readout.length / oversampling)
    if size < readout.length:
        kspace = _crop_readout(kspace, size)
        done.append(f"readout oversampling of {oversampling:g} removed")
    return kspace, acquired, done


def _place(stored: int, center: int) -> _Placement:
    """Where `stored` lines with the centre of k-space at `center` lie on an axis with its centre at N//2.

    A centre of 0 was not filled in by the sequence, and one a line or so off the middle is no partial Fourier.
    """
    off = center - stored // 2
    close = max(1, stored // 128)
    if not 0 < center < stored or -close <= off <= 0:
        return _Placement(0, stored)
    if off > 0:  # the last lines are missing, if only because every other one was skipped
        return _Placement(0, max(stored, 2 * center), partial=off > close)
    length = 2 * (stored - center)
    return _Placement(length - stored, length, partial=True)


def _samples(stream: IO[bytes], line: _Line, measurement: _Measurement) -> npt.NDArray[np.complex64]:
    """Samples `(coil, readout)` of a line; its size was checked."""
    stream.seek(line.position + (0 if measurement.per_channel else 192))
    layout = np.dtype([("header", f"V{128 if measurement.per_channel else 32}"), ("data", "<c8", (line.samples,))])
    content = stream.read(layout.itemsize * line.channels)
    if len(content) < layout.itemsize * line.channels:
        raise FormatError("expected Siemens raw data of the size it had, got less: another program changed the file")
    data: npt.NDArray[np.complex64] = np.frombuffer(content, dtype=layout)["data"]
    return data


def _partitions_to_slices(kspace: npt.NDArray[np.complex64], center: int, name: str) -> npt.NDArray[np.complex64]:
    slabs, partitions = kspace.shape[:2]
    if center > 0 and abs(center - partitions // 2) > 2:
        raise FormatError(
            f"expected all partitions of the 3-D scan {name}, their centre is number {center} of {partitions}: "
            "partial Fourier along partitions is not read"
        )
    images = np.stack([ifft_of_array(slab, (0,)) for slab in kspace])
    return images.reshape(slabs * partitions, *kspace.shape[2:])


def _crop_readout(kspace: npt.NDArray[np.complex64], size: int) -> npt.NDArray[np.complex64]:
    out = np.empty((*kspace.shape[:2], size, kspace.shape[-1]), dtype=np.complex64)
    rows, _ = center_window(kspace.shape[-2:], (size, kspace.shape[-1]))
    for index, part in enumerate(kspace):  # slice by slice: no second copy of the whole in memory
        out[index] = fft_of_array(ifft_of_array(part, (-2,))[:, rows], (-2,))
    return out


def _factor(text: bytes) -> float:
    try:
        factor = float(text)
    except ValueError:
        return 1.0
    return factor if 1.0 <= factor <= 16.0 else 1.0


def _twixtools() -> Any:
    try:
        from twixtools import mdh_def  # here: it imports matplotlib, and only this format needs it
    except ImportError as error:
        raise FormatError(
            "expected the library twixtools for Siemens raw data, it is not installed: "
            "pip install 'mri-recon[scanners]'"
        ) from error
    return mdh_def
