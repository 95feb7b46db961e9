"""A streaming server in a thread, on a free loopback port, with a real engine."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mri_recon.methods.estimates import Estimates
from mri_recon_service.buffers import Buffers
from mri_recon_service.http.prometheus import Metrics
from mri_recon_service.jobs.engine import Engine, open_engine
from mri_recon_service.settings import Settings
from mri_recon_service.stream.configuration import allowed_methods
from mri_recon_service.stream.jobs import EngineJobs
from mri_recon_service.stream.server import StreamServer
from mri_recon_service.stream.session import Rules
from mri_recon_service.stream.settings import StreamSettings
from mri_recon_service.targets import Targets
from mri_recon_service.uploads.parser_pool import ParserPool
from tests.support.patience import PATIENCE
from tests.support.service import until


@dataclass
class Running:
    """A server that runs in a thread: its port, its parts, the folder of its sessions, and what stops it."""

    port: int
    server: StreamServer
    engine: Engine
    folder: Path
    stop: Callable[[], object]
    thread: threading.Thread

    def idle(self) -> bool:
        """Whether it has no session, no file of one, and no job."""
        jobs = self.engine.store.queued() + self.engine.runner.running
        files = list(self.folder.iterdir()) + list((self.folder.parent / "jobs").iterdir())
        return not (self.server.num_sessions or files or jobs)


@pytest.fixture(scope="session")
def parsers() -> Iterator[ParserPool]:
    """Parser processes for all servers: each takes seconds to start."""
    pool = ParserPool(Settings(parser_processes=1))
    pool.start()
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def streaming(parsers: ParserPool) -> Callable[..., Any]:
    """`with streaming(idle_seconds=3) as running:`; `settings` and `owner` are those of the service and the keys."""

    @contextmanager
    def run(
        *, settings: Settings | None = None, owner: Callable[[str], str | None] | None = None, **values: Any
    ) -> Iterator[Running]:
        with tempfile.TemporaryDirectory() as data:
            chosen = StreamSettings(**values)
            service = (settings or Settings()).model_copy(update={"data_dir": Path(data)})
            engine = open_engine(service, parsers, Buffers(service.buffer_bytes), Estimates(), Metrics(), Targets())
            engine.start()
            folder = Path(data) / "sessions"
            folder.mkdir()
            rules = Rules(allowed_methods(chosen.methods), chosen.names, service.option_limits, owner)
            server = StreamServer(EngineJobs(engine, service), chosen, rules, folder=folder)
            listener = socket.create_server(("127.0.0.1", 0))
            ready = threading.Event()
            stops: list[Callable[[], object]] = []

            async def main() -> None:
                stop = asyncio.Event()
                loop = asyncio.get_running_loop()
                stops.append(lambda: loop.call_soon_threadsafe(stop.set))
                ready.set()
                await server.serve(listener, stop)

            thread = threading.Thread(target=lambda: asyncio.run(main()))
            thread.start()
            assert ready.wait(PATIENCE)
            try:
                yield Running(listener.getsockname()[1], server, engine, folder, stops[0], thread)
            finally:
                if thread.is_alive():
                    stops[0]()
                thread.join(PATIENCE)
                assert not thread.is_alive()
                engine.close()

    return run


@pytest.fixture(scope="session")
def server(streaming: Callable[..., Any]) -> Iterator[Running]:
    """One server for the whole run, with small limits where a test reaches them."""
    with streaming(max_message_bytes=1 << 20, max_images=40, max_session_bytes=20_000_000, stop_seconds=0) as running:
        yield running


@pytest.fixture
def left_nothing(server: Running) -> Iterator[None]:
    """After the test the server has no session, file or job of it."""
    yield
    try:
        until(server.idle)
    except AssertionError:
        jobs = server.engine.store.queued(), server.engine.runner.running
        files = [str(one) for one in server.folder.parent.rglob("*")]
        pytest.fail(f"{server.server.num_sessions} sessions, jobs {jobs}, {files}")
