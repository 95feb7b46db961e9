"""Read and write the bytes of one client, and remember when the last ones passed."""

from __future__ import annotations

import asyncio
import time

from mri_recon_service.stream.errors import Disconnected, SessionError

__all__ = ["Sink", "Source"]

_PIECE = 1 << 18


class Source:
    """Bytes from a client.

    Args:
        reader: the connection.
        most_bytes: number of bytes after which the session is refused.

    Attributes:
        count: number of bytes so far.
        since: `time.monotonic()` since when bytes are waited for; None while none are.
    """

    def __init__(self, reader: asyncio.StreamReader, *, most_bytes: int) -> None:
        self._reader = reader
        self._most_bytes = most_bytes
        self._returned = b""
        self.count = 0
        self.since: float | None = None

    async def exactly(self, count: int) -> bytes:
        """Read `count` bytes. Memory grows with the bytes that came, not with those that were announced.

        Raises:
            Disconnected: the client sends no more.
            SessionError: the client sent too much.
        """
        found = bytearray()
        while len(found) < count:
            found += await self.some(min(_PIECE, count - len(found)))
        return bytes(found)

    async def skip(self, count: int) -> None:
        """Read `count` bytes and forget them.

        Raises:
            Disconnected: the client sends no more.
            SessionError: the client sent too much.
        """
        while count:
            count -= len(await self.some(min(_PIECE, count)))

    async def some(self, most: int) -> bytes:
        """Wait for bytes, and read at most `most` of them.

        Raises:
            Disconnected: the client sends no more.
            SessionError: the client sent too much.
        """
        if self._returned:
            found, self._returned = self._returned[:most], self._returned[most:]
            return found
        self.since = time.monotonic()
        try:
            found = await self._reader.read(most)
        except OSError as error:
            raise Disconnected("the connection broke") from error
        finally:
            self.since = None
        if not found:
            raise Disconnected("the connection ended before the client's CLOSE")
        self.count += len(found)
        if self.count > self._most_bytes:
            raise SessionError(
                f"expected at most {self._most_bytes} bytes in a session, got more: send the scan in parts, or have "
                "MRI_RECON_STREAM_MAX_SESSION_BYTES raised"
            )
        return found

    def give_back(self, content: bytes) -> None:
        """Return bytes, which are read next."""
        self._returned = content + self._returned


class Sink:
    """Bytes to a client.

    Attributes:
        since: `time.monotonic()` since when the client is waited for to take them; None while it is not.
        last: `time.monotonic()` of the last time that the client took them.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._lock = asyncio.Lock()
        self.since: float | None = None
        self.last = time.monotonic()

    async def write(self, content: bytes) -> None:
        """Send whole messages, and wait until the client has taken nearly all of them.

        Raises:
            Disconnected: the client is gone.
        """
        async with self._lock:
            self.since = time.monotonic()
            try:
                self._writer.write(content)
                await self._writer.drain()
            except OSError as error:
                raise Disconnected("the client is gone") from error
            finally:
                self.since = None
            self.last = time.monotonic()
