"""Say what a client sends and gets, and run the same code on blocking and on asynchronous connections.

What the client does is written once, as coroutines on a `Transport`. An asynchronous client awaits them. A blocking
client runs them by `run`: its transport blocks inside of its methods and never suspends, so a coroutine on it ends
within one step. Ctrl-C (`KeyboardInterrupt`) and cancellation (`CancelledError`) are then exceptions of the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol, TypeVar

__all__ = ["Answer", "Call", "EventConnection", "File", "Transport", "run"]

T = TypeVar("T")


@dataclass(frozen=True)
class File:
    """A file to send.

    Attributes:
        name: name that is told to the service, which uses its suffix.
        content: the open file. It is read from its beginning for every attempt.
    """

    name: str
    content: BinaryIO


@dataclass(frozen=True)
class Call:
    """A request.

    Attributes:
        method: HTTP method.
        path: address below that of the service.
        headers: headers beside those of every request.
        query: query parameters.
        fields: fields of a form.
        files: files of the form by field.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        status: HTTP status.
        reason: its phrase.
        headers: headers by lower-case name.
        content: the body; empty where it went to a file.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes = b""


class EventConnection(Protocol):
    """An open stream of events."""

    async def read(self) -> bytes | None:
        """Return the next bytes; None at the end of the stream.

        Raises:
            httpx.TransportError: the connection is lost, or silent for too long.
        """
        ...

    async def close(self) -> None:
        """Close the connection. A second call does nothing."""
        ...


class Transport(Protocol):
    """Sends requests over HTTP, and waits. It follows no redirection."""

    async def send(self, call: Call, into: BinaryIO | None = None) -> Answer:
        """Send a request once and read its answer; the body of a 200 goes into a file, from its beginning, if given.

        Raises:
            httpx.TransportError: the service cannot be reached, or the connection is lost.
        """
        ...

    async def listen(self, call: Call, *, silence: float) -> tuple[Answer, EventConnection | None]:
        """Send a request, and return the answer; with status 200 its body is an open stream.

        Args:
            call: the request.
            silence: seconds without a byte after which the connection counts as lost.

        Raises:
            httpx.TransportError: as `send`.
        """
        ...

    async def pause(self, seconds: float) -> None:
        """Wait."""
        ...

    async def blocking(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that reads or writes a disk."""
        ...

    async def sheltered(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do some work to its end although the caller is being cancelled."""
        ...


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine whose transport blocks, and return its result."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("expected work that never suspends, got one that does: use AsyncClient")
