"""Read Siemens raw data (`.dat`, "twix") of the software versions VB and VD/VE, Cartesian.

`twix_blocks` finds the lines in the file, this module selects those of one contrast, `twix_order` fills k-space.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.formats.twix_blocks import (
    Line,
    find_lines,
    find_measurements,
    is_twix,
    oversampling,
    read_protocol,
)
from mri_recon.io.formats.twix_geometry import twix_geometry
from mri_recon.io.formats.twix_noise import count_noise, noise_of
from mri_recon.io.formats.twix_order import fill_kspace
from mri_recon.io.reading.axes import refuse_axes
from mri_recon.io.reading.choice import parse_choice, pick_index
from mri_recon.io.reading.limits import DEFAULT_MAX_BYTES
from mri_recon.io.reading.slices import Slices, chosen_slices, slices_meta
from mri_recon.io.scan import RawScan

__all__ = ["is_twix", "read_twix", "read_twix_noise"]

_NAMES = {
    "measurement": "number of the measurement in the file",
    "echo": "contrast",
    "repetition": "repetition",
    "cardiac": "cardiac phase",
    "set": "set",
    "interleave": "I/N keeps every N-th line from line I on, for echoes that the sequence did not label",
}
_COUNTERS = {"echo": "Eco", "cardiac": "Phs", "repetition": "Rep", "set": "Set"}


def read_twix(
    path: Path,
    *,
    axes: str | None = None,
    variable: str | None = None,
    slices: Slices | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> RawScan:
    """Read one k-space of a Siemens raw-data file; see `mri_recon.io.load`.

    Reflected lines are reversed, repeated averages are averaged, readout oversampling is removed, and a second
    phase-encoding direction (3-D) becomes slices. Calibration and phase-correction lines are left out, and so are noise
    scans, which `read_twix_noise` reads.
    `meta["done"]` and `meta["left_out"]` list which of these happened.

    Args:
        path: the file.
        axes: must be None, because the file defines the axes.
        variable: which k-space to read if there are several, e.g. "echo=1, repetition=0" or "interleave=0/3"; by
            default the last measurement that has image lines, and the first of everything else.
        slices: slices to read, as in `load`.
        max_bytes: largest array to read.

    Raises:
        FormatError: damaged, cut short, recognisably not Cartesian, or twixtools is not installed.
    """
    refuse_axes(axes, f"the Siemens file {path.name}", "it says them itself")
    chosen = parse_choice(variable, _NAMES, where=path.name)
    with path.open("rb") as stream:
        measurements = find_measurements(stream, os.fstat(stream.fileno()).st_size, path.name)
        number, lines, left_out = find_lines(stream, measurements, chosen, path.name)
        measurement = measurements[number]
        if len(measurements) > 1:
            left_out[f"other measurements of the file (this is number {number})"] = len(measurements) - 1
        lines = _choose(lines, chosen, left_out, path.name)
        factor = oversampling(stream, measurement)
        protocol = read_protocol(stream, measurement)
        kspace, acquired, done = fill_kspace(stream, lines, measurement, slices, factor, path.name, max_bytes)
        num_noise = count_noise(stream, measurements, path.name)
    count = len({line.counter["Sli"] for line in lines}) * (max(line.counter["Par"] for line in lines) + 1)
    warnings = _warnings(lines, kspace.shape, interleaved="interleave" in chosen)
    numbers = chosen_slices(slices, count, where=path.name)
    geometry, doubt = twix_geometry(lines, protocol, kspace.shape, factor, numbers)
    notes = [doubt] if doubt else []
    if num_noise:
        notes.append(f"{num_noise} noise scans can whiten the coils: give this file to --prewhiten")
    first, last = int(np.flatnonzero(acquired)[0]), int(np.flatnonzero(acquired)[-1]) + 1
    return RawScan(
        kspace,
        name=path.name,
        meta={
            "format": f"Siemens raw data ({'VB' if measurement.per_channel else 'VD/VE'})",
            "file": path.name,
            "axes": "slice coil readout phase",
            "axes_assumed": False,
            "readout_oversampling": factor,
            "done": done,
            "left_out": [f"{number} {what}" for what, number in left_out.items()],
            **slices_meta(numbers, count),
            **({} if geometry is None else {"geometry": geometry.as_dict()}),
            **({"reader_notes": notes} if notes else {}),
            **({"reader_warnings": warnings} if warnings else {}),
        },
        mask=None if acquired[first:last].all() else acquired.astype(np.uint8),
        padding=None if acquired[0] and acquired[-1] else (first, last),
    )


def read_twix_noise(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> npt.NDArray[np.complex64]:
    """Read the noise scans of Siemens raw data, complex64 `(coil, sample)`, in the units of its image lines.

    The image lines are those that `read_twix` reads by default.

    Raises:
        FormatError: no noise scans, or as `read_twix`.
    """
    with path.open("rb") as stream:
        measurements = find_measurements(stream, os.fstat(stream.fileno()).st_size, path.name)
        number, lines, left_out = find_lines(stream, measurements, {}, path.name)
        lines = _choose(lines, {}, left_out, path.name)
        return noise_of(stream, measurements, number, lines, path.name, max_bytes)


def _warnings(lines: Sequence[Line], shape: tuple[int, ...], *, interleaved: bool) -> list[str]:
    """List possible image artefacts that this reader does not correct."""
    warnings = []
    if len({line.reversed for line in lines}) > 1:
        warnings.append(
            "Some lines were acquired in the opposite direction (echo-planar imaging?): they are turned round, but "
            "their phase is not corrected, so ghosts are to be expected half a field of view away."
        )
    samples, num_lines = shape[-2:]
    if not interleaved and num_lines % samples == 0 and 2 <= (parts := num_lines // samples) <= 8:
        warnings.append(
            f"{num_lines} lines of {samples} samples: where {parts} echoes follow each other unlabelled, choose one "
            f"with variable 'interleave=0/{parts}'."
        )
    return warnings


def _choose(lines: list[Line], chosen: dict[str, str], left_out: Counter[str], name: str) -> list[Line]:
    """Choose the lines of one contrast: one size, one echo, repetition, cardiac phase and set."""
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
            Line(
                line.position, line.samples, line.channels, {**line.counter, "Lin": line.counter["Lin"] // step},
                line.reversed, line.center_column, line.center_line // step, line.center_partition, line.place,
            )
            for line in lines
        ]  # fmt: skip
    return lines


def _keep(lines: list[Line], condition: Callable[[Line], bool], left_out: Counter[str], what: str) -> list[Line]:
    kept = [line for line in lines if condition(line)]
    if len(kept) < len(lines):
        left_out[what] += len(lines) - len(kept)
    return kept
