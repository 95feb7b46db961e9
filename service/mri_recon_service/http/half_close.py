"""Close a connection so that a client that still sends can read its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["HalfClosing"]


class HalfClosing:
    """A transport whose `close` may close one direction only.

    A connection that is closed on unread data is reset, and the client sees the reset instead of the answer. Closing
    the sending direction ends the answer; the rest of what the client sends can then be read and thrown away until
    the client closes too.

    Args:
        transport: the transport. Whatever is not here is its own.
        awaits: called by `close`; returns whether the client still sends.
    """

    def __init__(self, transport: asyncio.Transport, awaits: Callable[[], bool]) -> None:
        self._transport = transport
        self._awaits = awaits
        self._half_closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Tell whether nothing more can be written."""
        return self._half_closed or self._transport.is_closing()

    def close(self) -> None:
        """End the answer. Where the client still sends, its owner has to close the rest: by `abort`, after a time."""
        if self.is_closing():
            return
        if self._transport.can_write_eof() and self._awaits():
            self._half_closed = True
            try:
                self._transport.write_eof()
                self._transport.resume_reading()
                return
            except OSError:
                pass  # the client is gone
        self._transport.close()
