"""Listen for clients of the streaming server, and hold a session with each."""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from mri_recon.errors import FormatError
from mri_recon_service.problems import storage_full
from mri_recon_service.stream.connection import Sink, Source
from mri_recon_service.stream.errors import Disconnected, SessionError
from mri_recon_service.stream.jobs import Jobs
from mri_recon_service.stream.messages import Link
from mri_recon_service.stream.session import Rules, Session
from mri_recon_service.stream.settings import StreamSettings
from mri_recon_service.stream.version1 import VersionOne
from mri_recon_service.stream.version2 import MAGIC, VersionTwo

__all__ = ["StreamServer"]

log = logging.getLogger("mri_recon_service")

_READ_AHEAD = 1 << 19  # bytes that are taken of a client before it has to wait
_GREETING_SECONDS = 30.0  # a client says what it wants as soon as it is connected
_LINGER_SECONDS = 5.0
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # a dead machine is noticed after a minute


class StreamServer:
    """The streaming server of one process.

    Args:
        jobs: does the work.
        settings: the server's settings.
        rules: what clients may ask for.
        folder: parent of the sessions' folders.
    """

    def __init__(self, jobs: Jobs, settings: StreamSettings, rules: Rules, *, folder: Path) -> None:
        self._jobs = jobs
        self._settings = settings
        self._rules = rules
        self._folder = folder
        self._sessions: set[asyncio.Task[None]] = set()
        self._refusals: set[asyncio.Task[None]] = set()
        self._executor = ThreadPoolExecutor(settings.max_clients, thread_name_prefix="stream")

    @property
    def num_sessions(self) -> int:
        """Number of sessions."""
        return len(self._sessions)

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Hold sessions until `stop` is set. Sessions then have `stop_seconds` to end, and are ended after that."""
        server = await asyncio.start_server(self._accept, sock=listener, limit=_READ_AHEAD)
        try:
            await stop.wait()
        finally:
            server.close()
            if self._sessions:
                await asyncio.wait(self._sessions, timeout=self._settings.stop_seconds)
            left = self._sessions | self._refusals
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")  # None: the client has left already
        if peer is None or not self._settings.admits(str(peer[0])):
            if peer is not None:
                log.warning("stream: a client of %s is not among the clients of the settings", peer[0])
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        admitted = len(self._sessions) < self._settings.max_clients
        tasks = self._sessions if admitted else self._refusals
        tasks.add(task)
        try:
            if admitted:
                await self._hold(reader, writer)
            elif len(self._refusals) <= self._settings.max_clients:
                await self._refuse(reader, writer)
        finally:
            tasks.discard(task)
            writer.transport.abort()

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = uuid.uuid4().hex[:12]
        _keep_alive(writer.get_extra_info("socket"))
        source = Source(reader, most_bytes=self._settings.max_session_bytes)
        sink = Sink(writer)
        try:
            link = await self._link(source, sink)
        except (Disconnected, TimeoutError):
            return
        except FormatError as error:
            log.error("stream session %s: %s", name, error)
            return
        folder = self._folder / name
        try:
            folder.mkdir(mode=0o700)
        except OSError:
            log.exception("stream session %s: no folder", name)
            with suppress(Disconnected):
                await link.tell(f"error: {storage_full().detail}")
            return
        session = Session(name, source, sink, link, self._jobs, folder, self._settings, self._rules)
        await session.run()
        await _linger(reader, writer)

    async def _link(self, source: Source, sink: Sink) -> Link:
        """Choose the version by the first bytes, which are not the number of any message in version 2."""
        async with asyncio.timeout(min(_GREETING_SECONDS, self._settings.idle_seconds)):
            head = await source.exactly(2)
        source.give_back(head)
        most = self._settings.max_message_bytes
        if MAGIC.startswith(head):
            return VersionTwo(source, sink, executor=self._executor, max_message_bytes=most)
        return VersionOne(source, sink, max_message_bytes=most)

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        most = self._settings.max_clients
        link = VersionOne(Source(reader, most_bytes=0), Sink(writer), max_message_bytes=0)
        with suppress(Disconnected, SessionError, TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await link.tell(f"error: {most} clients are connected, as many as this server takes: try again later")
                await link.close(complete=False)
        await _linger(reader, writer)


def _keep_alive(connection: socket.socket) -> None:
    with suppress(OSError):  # the client has left already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):  # Linux has them all
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait until the client closes. Closing on unread bytes would take back the last texts."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(_READ_AHEAD):
                pass
