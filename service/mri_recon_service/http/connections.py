"""Bound the connections of the server: their number in all and by address, and how long each may take.

A connection either waits for a request or works on one. Where there are too many, a new connection takes the place of
the one that has waited longest, so idle connections and half headers keep nobody out. Where all of them work, a few
further connections are admitted for `/health` alone, so that a supervisor gets its answer.

uvicorn runs the connections. It bounds neither half headers nor unread answers, so `GuardedConnection` adds that.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from mri_recon_service.http.half_close import HalfClosing
from mri_recon_service.http.pace import Pace
from mri_recon_service.http.security import route_path
from mri_recon_service.problems import Problem

__all__ = ["ConnectionLimits", "Connections", "Crowd", "GuardedConnection"]

_LOW_WATER = 16 << 10
_HIGH_WATER = 64 << 10
_UNSENT_BYTES = 64 << 10
"""Most of an answer that the kernel keeps beyond what the client takes at once. By itself it keeps megabytes."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Bounds of the connections of one server.

    Attributes:
        most: connections in all.
        most_of_address: connections of one address. The machine's own addresses have no such bound: a proxy is there.
        reserved: further connections, for `/health`, while all others work.
        header_seconds: longest time from the first byte of a request (of the first one: from the connection) to the
            end of its header, and for the rest of a body whose answer is complete.
        patience: longest time in which a client reads nothing of its answer.
        rate: least number of bytes a second that a client has to read.
    """

    most: int
    most_of_address: int
    reserved: int = 16
    header_seconds: float = 10.0
    patience: float = 30.0
    rate: float = 16 << 10


class Connections:
    """The open connections of one server, for one event loop.

    Args:
        limits: their bounds.
        closed: told why a connection was closed: "crowded", "header-timeout" or "unread".
    """

    def __init__(self, limits: ConnectionLimits, closed: Callable[[str], None] = lambda reason: None) -> None:
        self.limits = limits
        self._closed = closed
        self._waiting: dict[GuardedConnection, str] = {}  # the one that waits longest is the first
        self._of_address: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """Number of open connections."""
        return self._of_address.total()

    def admit(self, connection: GuardedConnection, address: str) -> bool:
        """Take a new connection, which waits for a request.

        Returns:
            False if it may ask for `/health` alone.
        """
        bound = self.limits.most_of_address
        if not _own(address) and self._of_address[address] >= bound and not self._make_room(address):
            self.close(connection, "crowded")
            return False
        admitted = self.open < self.limits.most or self._make_room()
        if not admitted and self.open >= self.limits.most + self.limits.reserved:
            self.close(connection, "crowded")
            return False
        self._of_address[address] += 1
        self._waiting[connection] = address
        return admitted

    def waits(self, connection: GuardedConnection, address: str) -> None:
        """Note that a connection waits for its next request."""
        self._waiting.setdefault(connection, address)

    def works(self, connection: GuardedConnection) -> None:
        """Note that a connection works on a request."""
        self._waiting.pop(connection, None)

    def lost(self, connection: GuardedConnection, address: str) -> None:
        """Forget a closed connection that was admitted."""
        self._waiting.pop(connection, None)
        self._of_address[address] -= 1
        if self._of_address[address] <= 0:
            del self._of_address[address]

    def close(self, connection: GuardedConnection, reason: str) -> None:
        """Close a connection at once, whatever is still to be sent."""
        self._closed(reason)
        connection.drop()

    def _make_room(self, address: str | None = None) -> bool:
        """Close the connection, of an address if one is given, that has waited longest. Returns False without one."""
        for connection, of in self._waiting.items():
            if address is None or of == address:
                self.close(connection, "crowded")
                connection.leave()  # the loop tells it later; its place is free now
                return True
        return False


class GuardedConnection(H11Protocol):
    """One connection of uvicorn, with the bounds of `ConnectionLimits`.

    Args:
        connections: the connections of its server.
        arguments: of uvicorn's class.
    """

    def __init__(self, *arguments: Any, connections: Connections, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._connections = connections
        self._address = ""
        self._admitted = False
        self._header_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._pace = Pace(connections.limits.patience, connections.limits.rate)
        self._paused = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(cast(asyncio.Transport, HalfClosing(transport, self._awaits_rest)))
        transport.set_write_buffer_limits(high=_HIGH_WATER, low=_LOW_WATER)
        self._bound_unsent()
        self._address = _network(self.client)
        crowded = not self._connections.admit(self, self._address)
        self._admitted = not transport.is_closing()
        self.app_state = {**self.app_state, "crowded": crowded}
        self._wait_for_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._stop(self._header_timer)
        self._stop(self._unread_timer)
        self.leave()
        super().connection_lost(exc)

    def leave(self) -> None:
        """Give the place of this connection to another. A second call does nothing."""
        if self._admitted:
            self._admitted = False
            self._connections.lost(self, self._address)

    def drop(self) -> None:
        """Reset the connection. What the client has not read is forgotten, also by the kernel."""
        opened = self.transport.get_extra_info("socket")
        if opened is not None and not self.transport.is_closing():
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _bound_unsent(self) -> None:
        """Have the kernel hold little that is not on its way. The speed is kept: data under way are not bounded."""
        opened = self.transport.get_extra_info("socket")
        if opened is not None and opened.family != socket.AF_UNIX and sys.platform == "linux":
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. The first byte of a request starts the clock of its header."""
        if self.transport.is_closing():
            return  # the rest of a body whose answer is complete
        if self._header_timer is None and not self._works:
            self._wait_for_header()
        super().data_received(data)

    def handle_events(self) -> None:
        """See `H11Protocol`."""
        super().handle_events()
        self._note()

    def on_response_complete(self) -> None:
        """See `H11Protocol`."""
        super().on_response_complete()
        self._note()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`. The client reads more slowly than the answer is written."""
        super().pause_writing()
        self._paused = time.monotonic()
        self._stop(self._unread_timer)
        self._unread_timer = self.loop.call_later(self._pace.left, self._connections.close, self, "unread")

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._stop(self._unread_timer)
        self._unread_timer = None
        self._pace.passed(_HIGH_WATER - _LOW_WATER, waited=time.monotonic() - self._paused)
        super().resume_writing()

    @property
    def _works(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _note(self) -> None:
        if self.transport.is_closing():
            return
        if self._works:
            self._stop(self._header_timer)
            self._header_timer = None
            self._connections.works(self)
        elif self._admitted:
            self._connections.waits(self, self._address)
            if self.conn.their_state is not h11.IDLE and self._header_timer is None:
                self._wait_for_header()  # the rest of a body that the answer did not wait for

    def _awaits_rest(self) -> bool:
        """Tell whether the client still sends, when its answer is complete. It has as long as for a header."""
        if self.conn.their_state not in (h11.SEND_BODY, h11.ERROR):
            return False
        if self._admitted:
            self._connections.waits(self, self._address)
        if self._header_timer is None:
            self._wait_for_header()
        return True

    def _wait_for_header(self) -> None:
        if not self.transport.is_closing():
            seconds = self._connections.limits.header_seconds
            self._header_timer = self.loop.call_later(seconds, self._connections.close, self, "header-timeout")

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()


class Crowd:
    """Answer connections beyond the bound: `/health` as ever, everything else by `busy`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request.

        Raises:
            Problem: busy.
        """
        crowded = scope["type"] == "http" and scope.get("state", {}).get("crowded", False)
        if crowded and not route_path(scope).startswith("/health/"):
            raise Problem(
                "busy",
                "as many connections are open as this service takes: try again later",
                headers={"Retry-After": "5", "Connection": "close"},
            )
        await self.app(scope, receive, send)


def _network(client: tuple[str, int] | None) -> str:
    """Name the network that one client controls: an IPv4 address, or 64 bits of an IPv6 address."""
    if client is None:
        return ""
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return client[0]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False).network_address) if not _own(client[0]) else "::1"
    return str(address)


def _own(address: str) -> bool:
    """Tell whether an address is one of this machine's loopback addresses, or of no network."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return True
