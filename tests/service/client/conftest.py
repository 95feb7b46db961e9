"""Each test runs with the blocking client, and with the asynchronous one driven from outside of its event loop."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from mri_recon_service.client import AsyncClient, Client
from mri_recon_service.settings import Settings
from tests.support.cutting_proxy import CuttingProxy

Connect = Callable[..., Any]


class Driven:
    """An asynchronous object as if it were a blocking one."""

    def __init__(self, portal: BlockingPortal, thing: Any) -> None:
        self._portal = portal
        self._thing = thing

    def __repr__(self) -> str:
        return repr(self._thing)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        if inspect.iscoroutine(value):  # `await job.status`
            return self._portal.call(_awaited, value)
        if inspect.ismethod(value):
            return lambda *args, **kwargs: self._called(value, args, kwargs)
        return self._driven(value)

    def _called(self, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        value = method(*args, **kwargs)
        if isinstance(value, AsyncIterator):
            return self._iterated(value)
        return self._driven(self._portal.call(_awaited, value) if inspect.iscoroutine(value) else value)

    def _iterated(self, values: Any) -> Iterator[Any]:
        try:
            while (one := self._portal.call(_next, values)) is not None:
                yield one
        finally:
            self._portal.call(values.aclose)

    def _driven(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._driven(one) for one in value]
        return Driven(self._portal, value) if type(value).__name__.startswith("Async") else value


async def _awaited(value: Any) -> Any:
    return await value


async def _next(values: AsyncIterator[Any]) -> Any:
    return await anext(values, None)


@pytest.fixture(params=["blocking", "asynchronous"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """`connect(address, **arguments)` makes a client, which is closed after the test."""
    made: list[Any] = []
    with start_blocking_portal() as portal:

        def make(address: Any, **arguments: Any) -> Any:
            address = str(getattr(address, "base_url", address))
            if request.param == "blocking":
                made.append(Client(address, **arguments))
            else:

                async def open_client() -> AsyncClient:
                    return AsyncClient(address, **arguments)

                made.append(Driven(portal, portal.call(open_client)))
            return made[-1]

        yield make
        for one in made:
            one.close()


@pytest.fixture
def service(connect: Connect, client: Any) -> Any:
    """A client of the server of the whole run."""
    return connect(client)


@pytest.fixture
def proxied(serve: Any) -> Iterator[tuple[Any, CuttingProxy]]:
    """A server of its own, and a proxy in front of it that cuts connections where a test says so."""
    with serve(Settings()) as server, CuttingProxy(server.base_url.port) as proxy:
        yield server, proxy
