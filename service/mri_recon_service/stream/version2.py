"""Speak MRD version 2 with a client: one stream of a header and items each way, in the encoding of mrd-python.

The library decodes and encodes. It blocks and believes lengths, so it runs in a thread on a source that bounds both.
Version 2 has no texts: a session that fails ends without the end of its stream.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

import numpy as np

from mri_recon.io.formats.ismrmrd import Header
from mri_recon.io.formats.mrd_stream import header_of, mrd_library
from mri_recon.io.writers.mrd import ImageSet
from mri_recon_service.stream.connection import Sink, Source
from mri_recon_service.stream.errors import Disconnected, SessionError
from mri_recon_service.stream.messages import End, Message, Other, Readout, ScanHeader

__all__ = ["MAGIC", "PARAMETER", "VersionTwo"]

MAGIC = b"yardl"
"""First bytes of a stream."""

PARAMETER = "mri-recon"
"""Name of the header's user parameter (string) that chooses the configuration."""

_ENDING = b"\0"
_MOST_VARINT = 10  # bytes of a number of 64 bits
_LARGEST_COUNTER = 65535  # the headers of images have 16 bits for it
_COUNTERS = ("slice", "contrast", "phase", "repetition", "set")


class VersionTwo:
    """A `messages.Link` of version 2.

    Args:
        source: bytes from the client.
        sink: bytes to the client.
        executor: has a free thread for this session.
        max_message_bytes: largest item.

    Raises:
        FormatError: mrd-python is not installed.
    """

    def __init__(self, source: Source, sink: Sink, *, executor: Executor, max_message_bytes: int) -> None:
        self._mrd = mrd_library()
        self._source = source
        self._sink = sink
        self._executor = executor
        self._most = max_message_bytes
        self._encoder: _Encoder | None = None
        self._answer = _Encoder(self._mrd)
        self._header: Any = None
        self._answered = False

    async def receive(self) -> AsyncGenerator[Message, None]:
        """Yield the client's messages, see `messages.Link`. Images and waveforms are skipped."""
        schema = _Encoder(self._mrd).take()
        if await self._source.exactly(len(schema)) != schema:
            raise SessionError(
                "expected MRD version 2 with the schema of the installed mrd-python, got another one: use the same "
                "version on both sides, or MRD version 1"
            )
        source = _Blocking(self._source, asyncio.get_running_loop())
        decoder = _Decoder(self._mrd, schema, source.read, self._most)
        try:
            self._header = header = await self._decoded(decoder.header)
            self._encoder = _Encoder(self._mrd)
            yield ScanHeader(
                preface=self._encoder.header(header),
                ending=_ENDING,
                encoding=partial(_encoding, header),
                configuration=_configuration(header),
            )
            while (item := await self._decoded(decoder.item)) is not None:
                is_readout = isinstance(item, self._mrd.Acquisition)
                yield self._readout(item) if is_readout else Other(type(item).__name__.lower())
            yield End()
        finally:
            source.close()

    async def tell(self, text: str) -> None:
        """Send nothing: version 2 has no texts."""

    async def send(self, images: ImageSet, number: int) -> None:
        """Send an image item, after the header in front of the first one."""
        content = self._beginning() + self._answer.item(_image(self._mrd, images, number))
        await self._sink.write(content)

    async def close(self, *, complete: bool) -> None:
        """Send the end of the stream; none if the client must not take the images for all of them."""
        if complete:
            await self._sink.write(self._beginning() + _ENDING)

    def _beginning(self) -> bytes:
        if self._answered:
            return b""
        self._answered = True
        return self._answer.header(self._header)

    async def _decoded(self, work: Callable[[], Any]) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except (Disconnected, SessionError):
            raise
        except Exception as error:  # the library raises errors of many kinds for damaged streams
            raise SessionError(
                "expected MRD version 2, got a stream that is damaged or has items of more bytes than the limit: "
                "send it again"
            ) from error

    def _readout(self, acquisition: Any) -> Readout:
        assert self._encoder is not None
        head = acquisition.head
        counters = {name: int(getattr(head.idx, name) or 0) for name in _COUNTERS}
        encoding = int(head.encoding_space_ref or 0)
        if max(encoding, *counters.values()) > _LARGEST_COUNTER:
            raise SessionError(
                f"expected counters of at most {_LARGEST_COUNTER}, got {max(encoding, *counters.values())}: the "
                "stream is damaged"
            )
        stamps = [int(one) for one in head.physiology_time_stamp[:3]]
        return Readout(
            content=self._encoder.item(self._mrd.StreamItem.Acquisition(acquisition)),
            flags=int(head.flags.value),
            encoding=encoding,
            **counters,
            line=int(head.idx.kspace_encode_step_1 or 0),
            partition=int(head.idx.kspace_encode_step_2 or 0),
            average=int(head.idx.average or 0),
            measurement_uid=int(head.measurement_uid),
            acquisition_time_stamp=int(head.acquisition_time_stamp or 0),
            physiology_time_stamp=tuple(stamps),
            patient_table_position=tuple(float(one) for one in head.patient_table_position),
        )


def _encoding(header: Any, number: int) -> Header:
    return header_of(header, number, "the stream")


def _configuration(header: Any) -> str | None:
    parameters = header.user_parameters
    if parameters is None:
        return None
    return next((str(one.value) for one in parameters.user_parameter_string if one.name == PARAMETER), None)


class _Encoder:
    """Encode the parts of a stream as bytes."""

    def __init__(self, mrd: Any) -> None:
        self._buffer = io.BytesIO()
        self._writer = mrd.BinaryMrdWriter(self._buffer)

    def header(self, header: Any) -> bytes:
        """Encode the beginning of a stream and its header."""
        self._writer.write_header(header)
        return self.take()

    def item(self, item: Any) -> bytes:
        """Encode an item."""
        self._writer.write_data([item])
        return self.take()

    def take(self) -> bytes:
        """Return what was encoded since the last time."""
        self._writer._stream.flush()
        found = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return found


class _Decoder:
    """Decode a stream from a blocking source. Only items whose lengths can be bounded are decoded.

    Args:
        mrd: the library.
        schema: the beginning of the stream, which was read before.
        read: function that blocks until there are bytes and returns at most as many as asked for.
        most: largest header or item.
    """

    def __init__(self, mrd: Any, schema: bytes, read: Callable[[int], bytes], most: int) -> None:
        self._mrd = mrd
        self._read = read
        self._most = most
        self._left = most
        self._in_block = 0
        self._reader = mrd.BinaryMrdReader(io.BytesIO(schema))
        self._stream = self._reader._stream
        self._bound(self._stream)
        binary, coded = mrd.binary, mrd._binary
        pixels = ("uint16", "int16", "uint32", "int32", "float32", "float64", "complexfloat32", "complexfloat64")
        self._items = [
            binary.AcquisitionSerializer(),
            binary.WaveformSerializer(coded.uint32_serializer),
            *(binary.ImageSerializer(getattr(coded, f"{kind}_serializer")) for kind in pixels),
        ]  # in the order of the union StreamItem; further kinds are arrays of records, whose lengths are not checked

    def header(self) -> Any:
        """Decode the header."""
        self._left = self._most
        header = self._reader._read_header()
        if header is None:
            raise SessionError("expected a header in the stream, got none: send it first")
        return header

    def item(self) -> Any:
        """Decode the next item; None at the end of the stream."""
        self._left = self._most
        if not self._in_block:
            self._in_block = self._stream.read_unsigned_varint()
            if not self._in_block:
                return None
        self._in_block -= 1
        kind = self._stream.read_byte()
        if kind >= len(self._items):
            raise SessionError(
                "expected acquisitions, waveforms or images in the stream, got an item of another kind: leave it out"
            )
        return self._items[kind].read(self._stream)

    def _bound(self, stream: Any) -> None:
        """Replace the ways in which the library's stream takes bytes: they wait for what is needed and no more."""

        def fill(least: int = 1) -> None:
            kept = bytes(stream._buffer[stream._offset : stream._last_read_count])
            stream._offset, stream._last_read_count = 0, len(kept)
            stream._buffer[: len(kept)] = kept
            while stream._last_read_count < max(1, least):
                found = self._take(len(stream._buffer) - stream._last_read_count)
                stream._buffer[stream._last_read_count : stream._last_read_count + len(found)] = found
                stream._last_read_count += len(found)

        def several(count: int) -> bytearray:
            if count > self._left + len(stream._buffer):
                raise ValueError(f"{count} bytes are announced")
            found = bytearray(stream._buffer[stream._offset : min(stream._last_read_count, stream._offset + count)])
            stream._offset += len(found)
            while len(found) < count:
                found += self._take(count - len(found))
            return found

        def number() -> int:
            result = 0
            for place in range(_MOST_VARINT):
                byte = int(stream.read_byte())
                result |= (byte & 0x7F) << (7 * place)
                if byte < 0x80:
                    return result
            raise ValueError("a number of more than 64 bits")

        stream._fill_buffer = fill
        stream.read_bytearray = several
        stream.read_view = lambda count: memoryview(several(count))
        stream.read_unsigned_varint = number

    def _take(self, most: int) -> bytes:
        if self._left <= 0:
            raise ValueError("an item of too many bytes")
        found = self._read(most)
        self._left -= len(found)
        return found


class _Blocking:
    """Let a thread read from a source of the event loop."""

    def __init__(self, source: Source, loop: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self._loop = loop
        self._pending: Future[bytes] | None = None
        self._closed = False

    def read(self, most: int) -> bytes:
        """Wait for bytes, in the thread.

        Raises:
            Disconnected: the client sends no more, or the source is closed.
            SessionError: the client sent too much.
        """
        if self._closed:
            raise Disconnected("the session ended")
        self._pending = asyncio.run_coroutine_threadsafe(self._source.some(most), self._loop)
        return self._pending.result()

    def close(self) -> None:
        """End the thread's waiting, in the event loop."""
        self._closed = True
        if self._pending is not None:
            self._pending.cancel()


def _image(mrd: Any, images: ImageSet, number: int) -> Any:
    head = images.headers[number]
    is_complex = images.pixels.dtype.kind == "c"
    header = mrd.ImageHeader(
        image_type=mrd.ImageType.COMPLEX if is_complex else mrd.ImageType.MAGNITUDE,
        measurement_uid=int(head["measurement_uid"]),
        field_of_view=np.array(head["field_of_view"]),
        position=np.array(head["position"]),
        col_dir=np.array(head["read_dir"]),
        line_dir=np.array(head["phase_dir"]),
        slice_dir=np.array(head["slice_dir"]),
        patient_table_position=np.array(head["patient_table_position"]),
        **{name: int(head[name]) for name in _COUNTERS},
        acquisition_time_stamp=int(head["acquisition_time_stamp"]),
        physiology_time_stamp=[int(one) for one in head["physiology_time_stamp"]],
        image_index=int(head["image_index"]),
        image_series_index=int(head["image_series_index"]),
    )
    meta = {name: [mrd.ImageMetaValue.String(value)] for name, value in images.meta.items()}
    image = mrd.Image(head=header, data=images.pixels[number], meta=meta)
    return mrd.StreamItem.ImageComplexFloat(image) if is_complex else mrd.StreamItem.ImageFloat(image)
