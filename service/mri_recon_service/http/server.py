"""Make the server that runs the application: uvicorn, with bounded connections.

uvicorn bounds neither the time of a header nor of an unread answer, but takes a class for its connections. Granian and
Hypercorn were tried: neither bounds connections by address; Hypercorn ends no unread answer.
"""

from __future__ import annotations

import functools
import resource
import socket
from typing import Any, cast

import anyio
import uvicorn
from fastapi import FastAPI

from mri_recon_service.http.connections import ConnectionLimits, Connections, GuardedConnection
from mri_recon_service.settings import Settings

__all__ = ["make_server"]

_AT_ONCE = 32  # connections that the event loop accepts before it looks at the first of them
_QUEUE = 1024  # connections that wait in the kernel to be accepted
_OTHER_FILES = 128  # parser processes, the store of jobs, libraries
_FILES_OF_UPLOAD = 3
_FEWEST = 16
_STOP_SECONDS = 5.0
_READING_SECONDS = 1.0  # also where a stop took all of that
_LOOK_SECONDS = 0.02


def make_server(app: FastAPI, settings: Settings, **more: Any) -> uvicorn.Server:
    """Make the server of an application, with the bounds of its settings.

    Args:
        app: the application of `create_app`.
        settings: its settings.
        more: further arguments of `uvicorn.Config`.
    """
    most = _affordable(settings)
    limits = ConnectionLimits(
        most=most,
        most_of_address=settings.max_connections_per_address,
        header_seconds=settings.header_timeout_seconds,
        patience=settings.stall_seconds,
        rate=settings.min_bytes_per_second,
    )
    connections = Connections(limits, app.state.metrics.observe_closed_connection)
    protocol = functools.partial(GuardedConnection, connections=connections)
    config = uvicorn.Config(
        app,
        http=cast(Any, protocol),  # it is called like the class
        ws="none",
        backlog=min(_AT_ONCE, most // 4),  # so that each lives until its first bytes are read
        access_log=False,  # the service writes its own, without query strings
        log_level="warning",
        server_header=False,
        **more,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """A server that accepts few connections at once, while many may wait in the kernel."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_QUEUE)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`. Clients that still send have the rest of the time to read why it stops."""
        end = anyio.current_time() + _STOP_SECONDS
        await super().shutdown(sockets)
        with anyio.CancelScope(deadline=max(end, anyio.current_time() + _READING_SECONDS)):
            while self.server_state.connections and not self.force_exit:
                await anyio.sleep(_LOOK_SECONDS)


def _affordable(settings: Settings) -> int:
    """Count the connections for which the process has file descriptors, up to the setting. Raises its own limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    uploads = _FILES_OF_UPLOAD * settings.max_concurrent_uploads
    wanted = 2 * settings.max_connections + uploads + _OTHER_FILES  # a connection, and the file of its answer
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return settings.max_connections
    return max(_FEWEST, min(settings.max_connections, (soft - uploads - _OTHER_FILES) // 2))
