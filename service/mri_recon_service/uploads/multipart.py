"""Parse multipart form bodies while they stream."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import anyio
from python_multipart.multipart import MultipartParser, parse_options_header

from mri_recon_service.private_files import private_opener
from mri_recon_service.problems import Problem, shown
from mri_recon_service.uploads.upload import FILE_FIELDS, Upload, allowed_suffix

__all__ = [
    "Multipart",
    "Part",
    "Sink",
]


_MAX_FIELDS = 64

_MAX_FIELD_BYTES = 1 << 14

_MAX_PART_HEADER_BYTES = 1 << 13

_BLOCK = 1 << 20  # bytes written at once, so that few calls of a thread are needed


class Sink:
    """A private file that a thread writes in large blocks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] = os.fdopen(private_opener(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")
        self._pending = bytearray()
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """SHA-256 of all written data."""
        return self._digest.hexdigest()

    def add(self, data: bytes) -> None:
        """Keep data in memory until `flush` writes it."""
        self._pending += data

    async def write(self, data: bytes) -> None:
        """Add bytes, and write them in whole blocks."""
        self.add(data)
        if len(self._pending) >= _BLOCK:
            await self.flush()

    async def flush(self) -> None:
        """Write the data that is still in memory."""
        if self._pending:
            block, self._pending = self._pending, bytearray()
            await anyio.to_thread.run_sync(self._put, block)

    async def close(self) -> None:
        """Write the rest and close the file. After an error, the removal of the folder deletes the file."""
        try:
            if self._pending:
                self._put(self._pending)  # at most a block: no thread, since this also runs when cancelled
        finally:
            self._file.close()

    def _put(self, block: bytearray) -> None:
        self._digest.update(block)
        self._file.write(block)


@dataclass
class Part:
    """One part of a multipart body: its headers and its name."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    value: bytearray = field(default_factory=bytearray)
    sink: Sink | None = None


class Multipart:
    """One multipart body. Its files go to the disk as they arrive. Its fields are bounded in number and length."""

    def __init__(self, upload: Upload, boundary: bytes) -> None:
        if not boundary:
            raise Problem("malformed-body", "expected multipart/form-data with a boundary in Content-Type, got none")
        self._upload = upload
        self._part = Part()
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._sinks: dict[str, Sink] = {}
        self._parts = 0
        self._header_bytes = 0
        self._ended = False
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._extend_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._extend_header(1, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }
        self._parser = MultipartParser(boundary, callbacks)

    async def read(self, stream: AsyncIterator[bytes]) -> None:
        """Parse the body while it streams."""
        try:
            async for chunk in stream:
                if chunk:
                    self._parser.write(chunk)
                if self._part.sink is not None:
                    await self._part.sink.write(b"")
            if not self._ended:
                raise Problem("malformed-body", "expected a complete multipart body, got one that is cut short")
        finally:
            for name, sink in self._sinks.items():
                await sink.close()
                self._upload.sha256[name] = sink.sha256

    def _begin(self) -> None:
        self._parts += 1
        self._header_bytes = 0
        self._part = Part()
        if self._parts > _MAX_FIELDS:
            raise Problem(
                "invalid-request", f"expected at most {_MAX_FIELDS} fields, got more: send documented fields only"
            )

    def _extend_header(self, which: int, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > _MAX_PART_HEADER_BYTES:
            raise Problem("malformed-body", "expected short headers in each part, got very long ones")
        self._header[which].extend(data)

    def _end_header(self) -> None:
        name, value = self._header
        self._part.headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _open(self) -> None:
        disposition, options = parse_options_header(self._part.headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if disposition != b"form-data" or not name:
            raise Problem("malformed-body", "expected a name in the Content-Disposition of each part, got none")
        self._part.name = name
        if b"filename" not in options:
            return
        if name not in FILE_FIELDS:
            raise Problem(
                "invalid-request",
                f"expected files in the fields {', '.join(FILE_FIELDS)}, got one in {shown(name)}: send it as text",
            )
        if name in self._upload.files or name in self._upload.fields:
            raise Problem("invalid-request", f"expected the field {name!r} once, got it twice: send one")
        kind, _ = parse_options_header(self._part.headers.get(b"content-type", b""))
        suffix = allowed_suffix(options[b"filename"].decode("utf-8", "replace"), kind.decode("latin-1"))
        self._part.sink = Sink(self._upload.folder / f"{'upload' if name == 'file' else name}{suffix}")
        self._sinks[name] = self._part.sink
        self._upload.files[name] = self._part.sink.path

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.sink is not None:
            self._part.sink.add(data[start:end])
            return
        self._part.value += data[start:end]
        if len(self._part.value) > _MAX_FIELD_BYTES:
            raise Problem(
                "invalid-request",
                f"expected at most {_MAX_FIELD_BYTES} bytes in a field, got more in {shown(self._part.name)}: "
                "send files with a file name",
            )

    def _end(self) -> None:
        if self._part.sink is None:
            self._upload.set_field(self._part.name, self._part.value.decode("utf-8", "replace"))

    def _finish(self) -> None:
        self._ended = True
