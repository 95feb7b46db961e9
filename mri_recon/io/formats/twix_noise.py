"""Read the noise scans of Siemens raw data, in the units of its image lines.

A noise scan is a readout without excitation. In VB files, and in VD/VE files of some sequences, it stands before the
image lines; in most VD/VE files it is in an adjustment, an earlier measurement of the file. Its sample time is in no
header: as in ISMRMRD's converter (siemens_to_ismrmrd) it follows from the number of samples, or from the kind of
adjustment.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.formats.readout_lines import noise_scale
from mri_recon.io.formats.twix_blocks import (
    Line,
    Measurement,
    find_noise,
    read_channels,
    read_protocol,
    read_samples,
)
from mri_recon.io.reading.limits import check_declared

__all__ = ["RECEIVER_BANDWIDTH", "count_noise", "image_sample_time", "noise_of", "noise_sample_time"]

RECEIVER_BANDWIDTH = 0.793
"""Noise power that a Siemens receiver passes, over that of a flat filter of the nominal bandwidth."""

_NAME = re.compile(rb'<ParamString\."tProtocolName">\s{0,20}\{\s{0,20}"([^"]{1,64})"')
_SHORT_NAME = re.compile(rb'tProtocolName\s{0,40}=\s{0,40}"{1,2}([^"]{1,64})"')
_ADJUSTMENTS = {"AdjCoilSens": 5.0, "AdjQuietCoilSens": 4.0}  # sample time in microseconds


def noise_of(
    stream: IO[bytes],
    measurements: Sequence[Measurement],
    number: int,
    lines: Sequence[Line],
    name: str,
    max_bytes: int,
) -> npt.NDArray[np.complex64]:
    """Read the noise scans that belong to the image lines of a measurement, complex64 `(coil, sample)`.

    They are those of the measurement itself, else of the nearest one before it that has any of its channels. They are
    scaled as `noise_scale` says, by the image lines' dwell time in the protocol.

    Args:
        stream: the file.
        measurements: all measurements of the file.
        number: the measurement of the image lines.
        lines: the image lines, of one size and contrast.
        name: name of the file, for messages.
        max_bytes: largest array to read.

    Raises:
        FormatError: no noise scans, none of these channels, or damaged.
    """
    channels = read_channels(stream, lines[0], measurements[number])
    others = False
    for index in range(number, -1, -1):
        measurement = measurements[index]
        noise: list[Line] = []
        with suppress(FormatError):  # a damaged adjustment has no noise for us
            noise = find_noise(stream, measurement, name)
        kept = [
            (line, order)
            for line in noise
            if (order := _order(read_channels(stream, line, measurement), channels)) is not None
        ]
        others |= len(kept) < len(noise)
        if not kept:
            continue
        samples = sum(line.samples for line, _ in kept)
        check_declared((len(channels), samples), 8, where=name, max_bytes=max_bytes)
        image_time = image_sample_time(read_protocol(stream, measurements[number]), lines[0].counter["Eco"])
        protocol = read_protocol(stream, measurement)
        repeats = _repeats(lines)
        parts = []
        for line, order in kept:
            time = noise_sample_time(line.samples, protocol, old=measurement.per_channel)
            scale = noise_scale(time, image_time, RECEIVER_BANDWIDTH, repeats)
            parts.append(read_samples(stream, line, measurement)[order] * scale)
        return np.concatenate(parts, axis=1)
    what = f"noise scans of its {len(channels)} channels" if others else "noise scans"
    raise FormatError(f"expected {what} in {name}, found {'others' if others else 'none'}: give another file, or edge")


def noise_sample_time(samples: int, protocol: bytes, *, old: bool) -> float:
    """Compute the sample time of a noise scan in microseconds.

    VB: 130 Hz a pixel, 1e6 / (130 N). VD/VE: 76800 / N tenths, rounded down. Adjustments of coil sensitivities have a
    fixed one.

    Args:
        samples: number of samples N of a readout.
        protocol: text of the measurement that has the noise scan.
        old: whether the file is of VB.
    """
    found = _NAME.search(protocol) or _SHORT_NAME.search(protocol)
    fixed = _ADJUSTMENTS.get(found[1].decode("latin-1")) if found else None
    if fixed is not None:
        return fixed
    return 1e6 / (130 * samples) if old else (76800 // samples) / 10


def image_sample_time(protocol: bytes, echo: int = 0) -> float:
    """Find the time of a stored sample of an echo in a protocol, in microseconds; 0 if it is missing."""
    for index in (echo, 0):
        found = re.search(rb"sRXSPEC\.alDwellTime\[%d\]\s{0,40}=\s{0,40}([0-9]{1,9})\b" % index, protocol)
        if found and int(found[1]) > 0:
            return int(found[1]) / 1000
    return 0.0


def _order(found: list[int], wanted: list[int]) -> list[int] | None:
    """Find the places of the wanted channels among those of a noise scan; None if one is not there."""
    if found == wanted:
        return list(range(len(wanted)))
    if len(set(found)) < len(found) or not set(wanted) <= set(found):
        return None
    return [found.index(one) for one in wanted]


def _repeats(lines: Sequence[Line]) -> int:
    """Count how often most places of k-space were acquired; their average has as much less noise."""
    count = Counter(tuple(line.counter[key] for key in ("Lin", "Sli", "Par")) for line in lines)
    return Counter(count.values()).most_common(1)[0][0]


def count_noise(stream: IO[bytes], measurements: Sequence[Measurement], name: str) -> int:
    """Count the noise scans of a file; a damaged measurement has none."""
    found = 0
    for measurement in measurements:
        with suppress(FormatError):
            found += len(find_noise(stream, measurement, name))
    return found
