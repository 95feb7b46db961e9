"""Send requests by httpx, blocking or asynchronously."""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any, BinaryIO, TypedDict, TypeVar, cast

import anyio
import anyio.to_thread
import httpx

from mri_recon._system.text import printable
from mri_recon.errors import ConfigError
from mri_recon_service.client.errors import ServiceError
from mri_recon_service.client.wire import Answer, Call, EventConnection

__all__ = ["AsyncTransport", "BlockingTransport", "HttpOptions", "checked_address", "checked_key", "http_options"]

T = TypeVar("T")

_CONNECT_SECONDS = 10.0
_PIECES = 16  # of 64 KiB each, read by one visit to a thread


class HttpOptions(TypedDict):
    """Arguments of `httpx.Client` and `httpx.AsyncClient`."""

    base_url: httpx.URL
    headers: dict[str, str]
    timeout: httpx.Timeout
    verify: ssl.SSLContext | bool
    trust_env: bool
    follow_redirects: bool


def checked_address(address: str) -> httpx.URL:
    """Read the address of a service.

    Raises:
        ConfigError: it is none.
    """
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, TypeError) as error:
        raise ConfigError(f"expected an address such as http://127.0.0.1:8000, got {printable(address)!r}") from error
    if url.userinfo:
        raise ConfigError("expected an address without a user name and password, got one with: pass the key by key=...")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ConfigError(
            f"expected an address such as http://127.0.0.1:8000, got {printable(address)!r}: begin it with http:// or "
            "https://, and leave out what follows the path"
        )
    return url


def checked_key(key: str | None) -> str | None:
    """Read an API key.

    Raises:
        ConfigError: no header can hold it.
    """
    if key is None:
        return None
    key = key.strip()  # files that hold a key end in a line break
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError("expected a key as `mri-recon key add` prints it, got one with other characters or none")
    return key


def http_options(address: httpx.URL, *, timeout: float, verify: ssl.SSLContext | bool) -> HttpOptions:
    """Make the arguments of the HTTP client."""
    return {
        "base_url": address,
        "headers": {"User-Agent": f"mri-recon-client/{_version()}"},
        "timeout": httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
        "verify": verify,
        "trust_env": not _is_loopback(address.host),  # a proxy does not reach this machine
        "follow_redirects": False,
    }


class BlockingTransport:
    """A `Transport` whose methods block and never suspend; `wire.run` runs what is written for it."""

    def __init__(self, options: HttpOptions) -> None:
        self._http = httpx.Client(**options)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    async def send(self, call: Call, into: BinaryIO | None = None) -> Answer:
        """See `Transport`."""
        response = self._http.send(_request(self._http, call), stream=True)
        try:
            if into is None or response.status_code != 200:
                return _answer(response, response.read())
            _empty(into)
            for chunk in response.iter_bytes():
                into.write(chunk)
            return _answer(response)
        finally:
            response.close()

    async def listen(self, call: Call, *, silence: float) -> tuple[Answer, EventConnection | None]:
        """See `Transport`."""
        request = _request(self._http, call, silence=silence)
        response = self._http.send(request, stream=True)
        if response.status_code == 200:
            return _answer(response), _BlockingEvents(response)
        try:
            return _answer(response, response.read()), None
        finally:
            response.close()

    async def pause(self, seconds: float) -> None:
        """See `Transport`."""
        time.sleep(seconds)

    async def blocking(self, function: Callable[..., T], *args: Any) -> T:
        """See `Transport`."""
        return function(*args)

    async def sheltered(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """See `Transport`. A second Ctrl-C ends the work."""
        await work()


class AsyncTransport:
    """A `Transport` for an event loop, of asyncio or Trio. Files are read and written in threads."""

    def __init__(self, options: HttpOptions) -> None:
        self._http = httpx.AsyncClient(**options)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call, into: BinaryIO | None = None) -> Answer:
        """See `Transport`."""
        response = await self._http.send(_in_threads(_request(self._http, call)), stream=True)
        try:
            if into is None or response.status_code != 200:
                return _answer(response, await response.aread())
            _empty(into)
            async for chunk in response.aiter_bytes():
                await anyio.to_thread.run_sync(into.write, chunk)
            return _answer(response)
        finally:
            await response.aclose()

    async def listen(self, call: Call, *, silence: float) -> tuple[Answer, EventConnection | None]:
        """See `Transport`."""
        response = await self._http.send(_request(self._http, call, silence=silence), stream=True)
        if response.status_code == 200:
            return _answer(response), _AsyncEvents(response)
        try:
            return _answer(response, await response.aread()), None
        finally:
            await response.aclose()

    async def pause(self, seconds: float) -> None:
        """See `Transport`."""
        await anyio.sleep(seconds)

    async def blocking(self, function: Callable[..., T], *args: Any) -> T:
        """See `Transport`."""
        return await anyio.to_thread.run_sync(partial(function, *args))

    async def sheltered(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """See `Transport`."""
        with anyio.CancelScope(shield=True):
            await work()


class _BlockingEvents:
    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._chunks = response.iter_bytes()

    async def read(self) -> bytes | None:
        return next(self._chunks, None)

    async def close(self) -> None:
        self._response.close()


class _AsyncEvents:
    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._chunks = response.aiter_bytes()

    async def read(self) -> bytes | None:
        return await anext(self._chunks, None)

    async def close(self) -> None:
        await self._response.aclose()


class _Threaded(httpx.AsyncByteStream):
    """A request body that is read from disk in a thread."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = iter(self._stream)
        while chunk := await anyio.to_thread.run_sync(_joined, pieces):
            yield chunk


def _joined(pieces: Iterator[bytes]) -> bytes:
    return b"".join(islice(pieces, _PIECES))


def _request(http: httpx.Client | httpx.AsyncClient, call: Call, *, silence: float | None = None) -> httpx.Request:
    """Make a request.

    Raises:
        ServiceError: the client is closed.
    """
    if http.is_closed:
        raise ServiceError(
            "the client is closed: fetch and save results inside of its `with` block, or find the job again with a new "
            "client by its id",
            members={"code": "client-closed"},
        )
    files = {field: (one.name, one.content, "application/octet-stream") for field, one in call.files.items()}
    limits = http.timeout.as_dict() if silence is None else {**http.timeout.as_dict(), "read": silence}
    return http.build_request(
        call.method,
        call.path,
        params=dict(call.query) or None,
        headers=dict(call.headers),
        data=dict(call.fields) or None,
        files=files or None,
        timeout=httpx.Timeout(**limits),
    )


def _in_threads(request: httpx.Request) -> httpx.Request:
    if not request.headers.get("content-type", "").startswith("multipart/"):
        return request
    return httpx.Request(
        request.method,
        request.url,
        headers=request.headers,
        stream=_Threaded(cast(httpx.SyncByteStream, request.stream)),
        extensions=request.extensions,
    )


def _answer(response: httpx.Response, content: bytes = b"") -> Answer:
    return Answer(response.status_code, response.reason_phrase, response.headers, content)


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _version() -> str:
    try:
        return version("mri-recon")
    except PackageNotFoundError:  # run from its folder
        return "0"
