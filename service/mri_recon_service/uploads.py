"""Request bodies, counted while they stream, into private files with names of the server's own.

Two forms: multipart/form-data with the scan as the part `file`, and the scan itself as the body, with the fields in the
query string. Of a client's file name only the suffix is looked at, and only to choose a format from an allow list.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import anyio
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings

__all__ = ["FILE_FIELDS", "MULTIPART", "RAW_TYPES", "SUFFIXES", "Upload", "UploadGate", "receive"]

MULTIPART = "multipart/form-data"
RAW_TYPES = {
    "application/x-hdf5": ".h5",
    "application/x-npy": ".npy",
    "application/x-npz": ".npz",
    "application/x-matlab-data": ".mat",
}
"""Content types of a scan or mask, and the suffix of the format; application/octet-stream needs a file name instead."""

OCTETS = "application/octet-stream"
SUFFIXES = (".h5", ".hdf5", ".npy", ".npz", ".mat", ".dat", ".7")
"""Suffixes of file names that name a format."""

FILE_FIELDS = ("file", "mask")
"""Parts that may be files: the scan, and a sampling mask."""

_MAX_FIELDS = 64
_MAX_FIELD_BYTES = 1 << 14
_MAX_PART_HEADER_BYTES = 1 << 13
_BLOCK = 1 << 20  # written at once, so that few hops to a thread are needed


@dataclass
class Upload:
    """What a request brought.

    Attributes:
        folder: private to this request; `remove` deletes it.
        files: path of each file by the name of its field.
        fields: all other fields.
        sha256: SHA-256 of each file by the name of its field, computed while it came.
    """

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)

    def remove(self) -> None:
        """Delete the files; again is no error."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def sources(self) -> dict[str, dict[str, Any]]:
        """What is known of each file by the name of its field: `name`, of the server's making, `sha256`, `bytes`."""
        return {
            name: {"name": path.name, "sha256": self.sha256[name], "bytes": path.stat().st_size}
            for name, path in self.files.items()
        }

    def set_field(self, name: str, value: str) -> None:
        """Note a field.

        Raises:
            Problem: invalid-request, when it came before.
        """
        if name in self.fields or name in self.files:
            raise Problem("invalid-request", f"expected the field {name[:60]!a} once, got it twice: send one")
        self.fields[name] = value


class UploadGate:
    """Lets in a bounded number of uploads at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = 0

    async def receive(self, request: Request) -> Upload:
        """The upload of a request; the caller removes it.

        Raises:
            Problem: busy, and as the function `receive`.
        """
        if self._open >= self._settings.max_concurrent_uploads:
            raise Problem(
                "busy",
                f"{self._open} uploads are being received, as many as this service takes: try again later",
                headers={"Retry-After": "5"},
            )
        self._open += 1
        try:
            return await receive(request, self._settings)
        finally:
            self._open -= 1


async def receive(request: Request, settings: Settings) -> Upload:
    """The body of a request on disk. The caller removes it.

    Raises:
        Problem: malformed-body, upload-timeout, upload-too-large, unsupported-media-type, invalid-request,
            missing-file, empty-file, storage-full.
    """
    content_type, parameters = _content_type(request)
    _check_declared_length(request, settings)
    raw_suffix = None if content_type == MULTIPART else _raw_suffix(content_type, request.query_params.get("filename"))
    try:
        folder = tempfile.mkdtemp(prefix="mri-recon-", dir=settings.upload_dir)
    except OSError as error:
        raise _storage_full() from error
    upload = Upload(Path(folder))
    try:
        for name, value in request.query_params.multi_items():
            if name != "filename":
                upload.set_field(name, value)
        stream = _counted(request, settings.max_upload_bytes)
        with anyio.fail_after(settings.upload_timeout_seconds):
            if raw_suffix is None:
                await _Multipart(upload, parameters.get(b"boundary", b"")).read(stream)
            else:
                await _read_raw(upload, stream, raw_suffix)
        _check_files(upload)
    except BaseException as error:
        upload.remove()
        problem = _problem_of(error, settings)
        if problem is None:
            raise
        raise problem from error
    return upload


def _problem_of(error: BaseException, settings: Settings) -> Problem | None:
    match error:
        case TimeoutError():
            return Problem(
                "upload-timeout",
                f"expected the whole body within {settings.upload_timeout_seconds:g} s: send it faster",
                headers={"Connection": "close"},
            )
        case ClientDisconnect():
            return Problem("malformed-body", "the connection closed before the body was complete")
        case FormParserError():
            return Problem("malformed-body", f"expected multipart/form-data as RFC 7578 defines it, got {error}")
        case OSError():
            return _storage_full()
        case _:
            return None


def _storage_full() -> Problem:
    return Problem("storage-full", "the upload cannot be stored: the operator must look at the upload folder")


def _content_type(request: Request) -> tuple[str, dict[bytes, bytes]]:
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    return kind.decode("latin-1"), parameters


def _check_declared_length(request: Request, settings: Settings) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > settings.max_upload_bytes:
        raise _too_large(settings.max_upload_bytes)


def _too_large(limit: int) -> Problem:
    return Problem(
        "upload-too-large",
        f"expected a body of at most {limit} bytes, got more: send fewer slices, or have the limit raised",
        limit=limit,
    )


async def _counted(request: Request, limit: int) -> AsyncIterator[bytes]:
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > limit:
            raise _too_large(limit)
        yield chunk


def _raw_suffix(content_type: str, filename: str | None) -> str:
    if content_type in RAW_TYPES:
        return RAW_TYPES[content_type]
    if content_type == OCTETS and filename is not None:
        return _suffix(filename, OCTETS)
    valid = [MULTIPART, *RAW_TYPES, f"{OCTETS} with the query parameter filename"]
    raise Problem(
        "unsupported-media-type",
        f"expected a body of type {', '.join(valid)}, got {_shown(content_type) or 'none'}: set the Content-Type",
        valid=valid,
    )


def _suffix(filename: str, content_type: str) -> str:
    """A suffix of the allow list, by the file name, else by the type of the part."""
    suffix = PurePosixPath(filename.replace("\\", "/")).suffix.lower()
    if suffix in SUFFIXES:
        return suffix
    if content_type in RAW_TYPES:
        return RAW_TYPES[content_type]
    raise Problem(
        "unsupported-media-type",
        f"expected a file name that ends in one of {', '.join(SUFFIXES)}, got {_shown(suffix) or 'no suffix'}: "
        "name the file by its format",
        valid=[*SUFFIXES, *RAW_TYPES],
    )


def _shown(text: str) -> str:
    """A client's text for a message: escaped and short."""
    return ascii(text[:60]) if text else ""


def _check_files(upload: Upload) -> None:
    if "file" not in upload.files:
        raise Problem(
            "missing-file",
            f"expected the scan as a file in the form field 'file', got the fields {sorted(upload.fields)[:20]}: "
            "with curl, -F file=@scan.h5",
        )
    for name, path in upload.files.items():
        if path.stat().st_size == 0:
            raise Problem("empty-file", f"expected a file in {name!r}, got 0 bytes: check the path that was uploaded")


async def _read_raw(upload: Upload, stream: AsyncIterator[bytes], suffix: str) -> None:
    sink = _Sink(upload.folder / f"upload{suffix}")
    try:
        async for chunk in stream:
            await sink.write(chunk)
    finally:
        await sink.close()
    upload.files["file"], upload.sha256["file"] = sink.path, sink.sha256


class _Sink:
    """A private file, written in large blocks by a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] = path.open("xb")
        self._pending = bytearray()
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of everything that was written."""
        return self._digest.hexdigest()

    def add(self, data: bytes) -> None:
        """Take data in memory; `flush` writes it."""
        self._pending += data

    async def write(self, data: bytes) -> None:
        self.add(data)
        if len(self._pending) >= _BLOCK:
            await self.flush()

    async def flush(self) -> None:
        if self._pending:
            block, self._pending = self._pending, bytearray()
            await anyio.to_thread.run_sync(self._put, block)

    async def close(self) -> None:
        """Write the rest; what is left after an error or a cancellation goes with the folder."""
        try:
            if self._pending:
                self._put(self._pending)  # at most a block: no thread, for this also runs when cancelled
        finally:
            self._file.close()

    def _put(self, block: bytearray) -> None:
        self._digest.update(block)
        self._file.write(block)


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    value: bytearray = field(default_factory=bytearray)
    sink: _Sink | None = None


class _Multipart:
    """One multipart body: files go to disk as they come, fields are bounded in number and length."""

    def __init__(self, upload: Upload, boundary: bytes) -> None:
        if not boundary:
            raise Problem("malformed-body", "expected multipart/form-data with a boundary in Content-Type, got none")
        self._upload = upload
        self._part = _Part()
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._sinks: dict[str, _Sink] = {}
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
        self._part = _Part()
        if self._parts > _MAX_FIELDS:
            raise Problem(
                "invalid-request", f"expected at most {_MAX_FIELDS} fields, got more: send what is documented"
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
                f"expected files in the fields {', '.join(FILE_FIELDS)}, got one in {name[:60]!a}: send it as text",
            )
        if name in self._upload.files or name in self._upload.fields:
            raise Problem("invalid-request", f"expected the field {name!r} once, got it twice: send one")
        kind, _ = parse_options_header(self._part.headers.get(b"content-type", b""))
        suffix = _suffix(options[b"filename"].decode("utf-8", "replace"), kind.decode("latin-1"))
        self._part.sink = _Sink(self._upload.folder / f"{'upload' if name == 'file' else name}{suffix}")
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
                f"expected at most {_MAX_FIELD_BYTES} bytes in a field, got more in {self._part.name[:60]!a}: "
                "send files with a file name",
            )

    def _end(self) -> None:
        if self._part.sink is None:
            self._upload.set_field(self._part.name, self._part.value.decode("utf-8", "replace"))

    def _finish(self) -> None:
        self._ended = True
