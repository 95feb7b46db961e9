"""Receive request bodies into private files, and count their bytes while they stream.

A body is multipart/form-data with the scan as the part `file`, or the scan itself, with the fields in the query string.
Only the suffix of a client's file name is used, to choose a format from an allow list.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from mri_recon_service.locked_folder import LockedFolder, remove_abandoned
from mri_recon_service.problems import Problem, shown
from mri_recon_service.settings import Settings
from mri_recon_service.shares import Shares
from mri_recon_service.uploads.multipart import Multipart, Sink
from mri_recon_service.uploads.upload import RAW_TYPES, Upload, allowed_suffix
from mri_recon_service.whole_numbers import whole_number

__all__ = [
    "MULTIPART",
    "UploadGate",
    "receive",
]


MULTIPART = "multipart/form-data"

OCTETS = "application/octet-stream"

_PREFIX = "mri-recon-upload-"


class UploadGate:
    """Admits a bounded number of uploads at a time, shared between clients.

    Uploads that killed services left in the upload folder are deleted first.
    """

    def __init__(self, settings: Settings) -> None:
        remove_abandoned(settings.upload_folder, _PREFIX)
        self._settings = settings
        self._open = Shares(settings.max_concurrent_uploads, shared=settings.keys_required)

    async def receive(self, request: Request, client: str) -> Upload:
        """Receive the upload of a client's request. The caller removes it.

        Raises:
            Problem: busy, and the problems of the function `receive`.
        """
        place = self._open.take(client)
        if place is None:
            raise Problem(
                "busy",
                f"{self._open.used} uploads are being received, as many as this service takes, of all clients or of "
                "one: try again later",
                headers={"Retry-After": "5"},
            )
        try:
            return await receive(request, self._settings)
        finally:
            place.release()


async def receive(request: Request, settings: Settings) -> Upload:
    """Receive the body of a request into files. The caller removes them.

    Raises:
        Problem: malformed-body, upload-timeout, upload-too-large, unsupported-media-type, invalid-request,
            missing-file, empty-file, storage-full.
    """
    content_type, parameters = _content_type(request)
    _check_declared_length(request, settings)
    raw_suffix = None if content_type == MULTIPART else _raw_suffix(content_type, request.query_params.get("filename"))
    try:
        upload = Upload(LockedFolder(settings.upload_folder, _PREFIX, sweep=False))
    except OSError as error:
        raise _storage_full() from error
    try:
        for name, value in request.query_params.multi_items():
            if name != "filename":
                upload.set_field(name, value)
        stream = _counted(request, settings.max_upload_bytes)
        with anyio.fail_after(settings.upload_timeout_seconds):
            if raw_suffix is None:
                await Multipart(upload, parameters.get(b"boundary", b"")).read(stream)
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
    declared = request.headers.get("content-length")
    if declared is None:
        return
    length = whole_number(declared)
    if length is None:
        raise Problem(
            "invalid-header",
            f"expected the number of bytes in Content-Length, got {shown(declared)}: send the size of the body",
            headers={"Connection": "close"},
        )
    if length > settings.max_upload_bytes:
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
        return allowed_suffix(filename, OCTETS)
    got = shown(content_type) if content_type else "none"
    valid = [MULTIPART, *RAW_TYPES, f"{OCTETS} with the query parameter filename"]
    raise Problem(
        "unsupported-media-type",
        f"expected a body of type {', '.join(valid)}, got {got}: set the Content-Type",
        valid=valid,
    )


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
    sink = Sink(upload.folder / f"upload{suffix}")
    try:
        async for chunk in stream:
            await sink.write(chunk)
    finally:
        await sink.close()
    upload.files["file"], upload.sha256["file"] = sink.path, sink.sha256
