"""Speak MRD version 1 with a client: numbered messages, as Gadgetron and the vendors' interfaces send them.

Source: https://ismrmrd.readthedocs.io, "MR Data Streaming Protocol" and "MR Data Message Format".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import numpy as np

from mri_recon.io.formats.ismrmrd import parse_header
from mri_recon.io.formats.mrd_messages import (
    ACQUISITION,
    ACQUISITION_HEADER,
    CLOSE,
    CONFIG_FILE,
    CONFIG_TEXT,
    HEADER,
    IMAGE,
    MESSAGES,
    NUMBER_BYTES,
    TEXT,
    text_of,
)
from mri_recon.io.writers.mrd import ImageSet
from mri_recon_service.stream.connection import Sink, Source
from mri_recon_service.stream.errors import SessionError
from mri_recon_service.stream.messages import Configuration, End, Message, Other, Readout, ScanHeader

__all__ = ["VersionOne"]

_LARGEST_TEXT = {HEADER: 1 << 22, CONFIG_TEXT: 1 << 16}
_NUMBERS = {number: number.to_bytes(NUMBER_BYTES, "little") for number in MESSAGES}


class VersionOne:
    """A `messages.Link` of version 1.

    Args:
        source: bytes from the client.
        sink: bytes to the client.
        max_message_bytes: largest message.
    """

    def __init__(self, source: Source, sink: Sink, *, max_message_bytes: int) -> None:
        self._source = source
        self._sink = sink
        self._max_message_bytes = max_message_bytes

    async def receive(self) -> AsyncGenerator[Message, None]:
        """Yield the client's messages, see `messages.Link`. Images and waveforms are skipped."""
        while True:
            number = int.from_bytes(await self._source.exactly(NUMBER_BYTES), "little")
            kind = MESSAGES.get(number)
            if kind is None:
                raise SessionError(
                    f"expected a message of MRD ({', '.join(map(str, MESSAGES))}), got number {number}: the stream is "
                    "damaged, or of another protocol"
                )
            fixed = await self._source.exactly(kind.fixed)
            rest = kind.rest(fixed)
            most = _LARGEST_TEXT.get(number, self._max_message_bytes)
            if rest > most:
                raise SessionError(
                    f"expected a {kind.name} of at most {most} bytes, got one that announces {rest}: the stream is "
                    "damaged, or have the limit raised"
                )
            match number:
                case _ if number == ACQUISITION:
                    yield _readout(fixed, await self._source.exactly(rest))
                case _ if number == HEADER:
                    yield _header(fixed, await self._source.exactly(rest))
                case _ if number == CONFIG_FILE:
                    yield Configuration(_text(fixed.partition(b"\0")[0], kind.name))
                case _ if number == CONFIG_TEXT:
                    yield Configuration(_text(await self._source.exactly(rest), kind.name))
                case _ if number == CLOSE:
                    yield End()
                    return
                case _:
                    await self._source.skip(rest)
                    yield Other(kind.name)

    async def tell(self, text: str) -> None:
        """Send a text message."""
        content = text.encode()
        await self._sink.write(_NUMBERS[TEXT] + len(content).to_bytes(4, "little") + content)

    async def send(self, images: ImageSet, number: int) -> None:
        """Send an image message."""
        attributes = images.attributes.encode()
        await self._sink.write(
            b"".join(
                (
                    _NUMBERS[IMAGE],
                    images.headers[number].tobytes(),
                    len(attributes).to_bytes(8, "little"),
                    attributes,
                    images.pixels[number].tobytes(),
                )
            )
        )

    async def close(self, *, complete: bool) -> None:
        """Send the message that ends the session. A text said before why it is not complete."""
        del complete
        await self._sink.write(_NUMBERS[CLOSE])


def _readout(head: bytes, samples: bytes) -> Readout:
    (record,) = np.frombuffer(head, dtype=ACQUISITION_HEADER)
    counters = record["idx"]
    return Readout(
        content=b"".join((_NUMBERS[ACQUISITION], head, samples)),
        flags=int(record["flags"]),
        encoding=int(record["encoding_space_ref"]),
        slice=int(counters["slice"]),
        contrast=int(counters["contrast"]),
        phase=int(counters["phase"]),
        repetition=int(counters["repetition"]),
        set=int(counters["set"]),
        line=int(counters["kspace_encode_step_1"]),
        partition=int(counters["kspace_encode_step_2"]),
        average=int(counters["average"]),
        measurement_uid=int(record["measurement_uid"]),
        acquisition_time_stamp=int(record["acquisition_time_stamp"]),
        physiology_time_stamp=tuple(record["physiology_time_stamp"].tolist()),
        patient_table_position=tuple(record["patient_table_position"].tolist()),
    )


def _header(length: bytes, content: bytes) -> ScanHeader:
    text = _text(content, "header")
    parse_header(text, where="the stream")  # refused now rather than with the first slice
    return ScanHeader(
        preface=b"".join((_NUMBERS[HEADER], length, content)),
        ending=_NUMBERS[CLOSE],
        encoding=lambda number: parse_header(text, where="the stream", encoding=number),
    )


def _text(content: bytes, what: str) -> str:
    try:
        return text_of(content)
    except UnicodeDecodeError as error:
        raise SessionError(f"expected a {what} in UTF-8, got other bytes: the stream is damaged") from error
