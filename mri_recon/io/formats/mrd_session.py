"""Read the readouts of a recorded MRD session: the messages of version 1, as a scanner sends them over a network.

A recording begins with the header. Readouts, waveforms, images and texts follow, and the end. The libraries ismrmrd for
Python and C++ write such files with their `ProtocolSerializer`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mri_recon.errors import FormatError
from mri_recon.io.formats.ismrmrd import parse_header
from mri_recon.io.formats.mrd_messages import (
    ACQUISITION,
    ACQUISITION_HEADER,
    BYTE_ORDER_MARK,
    CLOSE,
    HEADER,
    IMAGE,
    MESSAGES,
    NUMBER_BYTES,
    WAVEFORM,
    text_of,
    trajectory_bytes,
)
from mri_recon.io.formats.mrd_readouts import FIELDS, Readouts

__all__ = ["is_mrd_session", "open_session"]

_LARGEST_HEADER = 2**22  # bytes; the parser of headers takes as many as a quarter of it in characters
_BEGINNINGS = (b"<?xml", b"<ismrmrdHeader")


def is_mrd_session(head: bytes) -> bool:
    """Tell from its first bytes whether a file is a recorded session: the number of a header, its length, and XML."""
    start = NUMBER_BYTES + MESSAGES[HEADER].fixed
    length = int.from_bytes(head[NUMBER_BYTES:start], "little")
    text = head[start:].removeprefix(BYTE_ORDER_MARK).lstrip()
    return (
        head[:NUMBER_BYTES] == HEADER.to_bytes(NUMBER_BYTES, "little") and length > 0 and text.startswith(_BEGINNINGS)
    )


@contextmanager
def open_session(path: Path) -> Iterator[Readouts]:
    """Read the headers of all readouts of a recorded session. Samples are read when they are asked for.

    Raises:
        FormatError: damaged, cut short, or without header or readouts.
    """
    with path.open("rb") as stream:
        found = _index(stream, path)

        def read(first: int, last: int) -> Sequence[Any]:
            return [_samples(stream, found.heads[index], found.places[index], path) for index in range(first, last)]

        yield Readouts(
            path.name,
            lambda number: parse_header(found.header, where=path.name, encoding=number),
            found.heads[list(FIELDS)],
            tuple(f"{count} {what}" for what, count in found.others.items()),
            read,
        )


class _Index(NamedTuple):
    header: str
    heads: npt.NDArray[Any]
    places: list[int]  # of the samples of each readout
    others: Counter[str]


def _index(stream: IO[bytes], path: Path) -> _Index:
    """Go through the messages, and skip all samples."""
    size = path.stat().st_size
    header: str | None = None
    heads: list[bytes] = []
    places: list[int] = []
    others = Counter[str]()

    def take(count: int) -> bytes:
        found = stream.read(count) if count <= size - stream.tell() else b""
        if len(found) < count:
            raise FormatError(f"expected whole messages in {path.name}, the last one is cut short: copy it again")
        return found

    while True:
        number = int.from_bytes(take(NUMBER_BYTES), "little")
        if number not in MESSAGES:
            raise FormatError(f"expected messages of MRD in {path.name}, got number {number}: it is damaged")
        fixed = take(MESSAGES[number].fixed)
        rest = MESSAGES[number].rest(fixed)
        if number == CLOSE:
            break
        if number == HEADER and header is None:
            header = _text(take, rest, path)
            continue
        if rest > size - stream.tell():
            take(rest)
        if number == ACQUISITION:
            heads.append(fixed)
            places.append(stream.tell() + trajectory_bytes(fixed))
        elif number in (IMAGE, WAVEFORM):
            others[f"{MESSAGES[number].name}s"] += 1
        stream.seek(rest, 1)
    if header is None or not heads:
        raise FormatError(f"expected a header and readouts in {path.name}, found none: it holds other data")
    return _Index(header, np.frombuffer(b"".join(heads), dtype=ACQUISITION_HEADER), places, others)


def _text(take: Callable[[int], bytes], length: int, path: Path) -> str:
    if length > _LARGEST_HEADER:
        raise FormatError(
            f"expected a header of at most {_LARGEST_HEADER} bytes in {path.name}, got {length}: shorten it"
        )
    try:
        return text_of(take(length))
    except UnicodeDecodeError as error:
        raise FormatError(f"expected a header in UTF-8 in {path.name}, got other bytes: it is damaged") from error


def _samples(stream: IO[bytes], head: Any, place: int, path: Path) -> npt.NDArray[np.float32]:
    count = 8 * int(head["number_of_samples"]) * int(head["active_channels"])
    stream.seek(place)
    found = stream.read(count)
    if len(found) < count:
        raise FormatError(f"expected whole messages in {path.name}, it was cut short meanwhile: copy it again")
    return np.frombuffer(found, dtype=np.float32)
