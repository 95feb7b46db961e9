"""Send answers from the disk, so that a client that reads slowly holds a file and no memory."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import IO

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mri_recon_service.answers.rendering import Rendered

__all__ = ["FileResponse", "on_disk"]

_SMALL_BYTES = 64 << 10
_BLOCK_BYTES = 64 << 10  # held for each client that reads slowly


def on_disk(rendered: Rendered, folder: Path) -> Rendered:
    """Move a large body into a file without a name, which is gone with the process.

    Raises:
        OSError: it cannot be written.
    """
    if not isinstance(rendered.content, bytes) or len(rendered.content) <= _SMALL_BYTES:
        return rendered
    file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # the answer closes it
    try:
        rest = memoryview(rendered.content)
        while rest:
            rest = rest[file.write(rest) :]
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return replace(rendered, content=file)


class FileResponse(Response):
    """An answer from an open file, which is closed at the end.

    Args:
        file: the file, at its beginning.
        media_type: type of its content.
        headers: further headers.
    """

    def __init__(self, file: IO[bytes], *, media_type: str, headers: dict[str, str]) -> None:
        length = str(os.fstat(file.fileno()).st_size)
        super().__init__(media_type=media_type, headers={**headers, "Content-Length": length})
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while block := await anyio.to_thread.run_sync(self._file.read, _BLOCK_BYTES):
                await send({"type": "http.response.body", "body": block, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._file.close()
