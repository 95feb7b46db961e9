"""Follow the events of a job over connections that end, and begin anew where they ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import httpx

from mri_recon.progress import Progress
from mri_recon_service.client.answers import retry_after
from mri_recon_service.client.caller import Attempts, Caller
from mri_recon_service.client.errors import ForeignServerError, UnreachableError, WaitTimeoutError
from mri_recon_service.client.sse import Decoder, Message
from mri_recon_service.client.wire import Call, EventConnection

__all__ = ["Event", "EventReader"]

_SILENCE = 45.0  # seconds; the service writes a comment into a silent stream every 15


@dataclass(frozen=True)
class Event:
    """A change of a job.

    Attributes:
        id: number, larger than that of every earlier event.
        kind: "status", "progress" or "end".
        status: the job's status; None in an event of kind "progress".
        progress: the progress; None in events of the other kinds.
        document: the job's document, or the progress, as the service sent it.
    """

    id: int
    kind: str
    status: str | None
    progress: Progress | None
    document: dict[str, Any]


class EventReader:
    """Reads the events of a job in their order, each once, over as many connections as it takes.

    Args:
        caller: sends the requests.
        path: address of the job below that of the service.
        learn: takes the documents of the job that come.
        after: number of the event after which to begin; 0 is before the first.
    """

    def __init__(self, caller: Caller, path: str, learn: Callable[[dict[str, Any]], Any], *, after: int = 0) -> None:
        self._caller = caller
        self._path = path
        self._learn = learn
        self._last = after
        self._attempts = Attempts(caller.patience)
        self._stream: EventConnection | None = None
        self._silence = _SILENCE
        self._decoder = Decoder()
        self._waiting: list[Message] = []
        self._ended = False
        self._deadline: float | None = None

    async def next(self, *, deadline: float | None = None) -> Event | None:
        """Return the next event; None after the last.

        Args:
            deadline: `time.monotonic()` at which to stop waiting.

        Raises:
            WaitTimeoutError: no event came before the deadline.
            ServiceError: the job is deleted, or the service cannot be reached.
        """
        while True:
            if self._waiting:
                return self._event(self._waiting.pop(0))
            if self._ended:
                await self.close()
                return None
            await self._mind(deadline)
            if self._stream is None:
                await self._open()
            else:
                await self._read()

    async def close(self) -> None:
        """Close the connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def _mind(self, deadline: float | None) -> None:
        """Let no connection be silent for long beyond the deadline. One that might be is opened anew."""
        self._deadline = deadline
        if deadline is None:
            return
        left = deadline - time.monotonic()
        if left <= 0:
            await self.close()
            raise WaitTimeoutError("the job has not ended within the given time: it goes on; wait again, or cancel it")
        if self._stream is not None and left < 0.9 * self._silence:  # not after every event
            await self.close()
        if self._stream is None:
            self._silence = min(_SILENCE, left)

    async def _open(self) -> None:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(self._last)} if self._last else {})
        call = Call("GET", f"{self._path}/events", headers=headers)
        try:
            answer, self._stream = await self._caller.listen(call, silence=self._silence)
        except httpx.TransportError as lost:
            await self._lost(lost)
            return
        error = self._caller.check(answer)
        if error is not None:
            await self._pause(self._attempts.after(error, at_least=retry_after(answer)))
            return
        self._attempts.reached()
        self._decoder = Decoder()
        self._ended = answer.status == 204

    async def _read(self) -> None:
        assert self._stream is not None
        try:
            chunk = await self._stream.read()
        except httpx.TransportError as lost:
            await self.close()
            await self._lost(lost)
            return
        if chunk is None:  # the service stops, or the job is deleted
            await self.close()
            gone = UnreachableError(f"the service at {self._caller.address} ends the stream of the job's events")
            await self._pause(self._attempts.after(gone))
            return
        self._attempts.succeeded()
        self._waiting += self._decoder.feed(chunk)

    async def _lost(self, lost: httpx.TransportError) -> None:
        if isinstance(lost, httpx.ReadTimeout) and self._silence < _SILENCE:
            return  # the deadline has come, and `_mind` says so
        await self._pause(self._attempts.after(self._caller.lost(lost)))

    async def _pause(self, seconds: float) -> None:
        left = seconds if self._deadline is None else self._deadline - time.monotonic()
        await self._caller.transport.pause(max(0.0, min(seconds, left)))

    def _event(self, message: Message) -> Event:
        try:
            number, document = int(message.id), json.loads(message.data)
            if message.kind == "progress":
                return self._seen(Event(number, message.kind, None, _progress(document), document))
            status = str(self._learn(document)["status"])
        except (ValueError, TypeError, KeyError, AttributeError) as broken:
            raise ForeignServerError(
                f"expected events of a job at {self._caller.address}, got something else: check the address, and "
                "that the client is not older than the service"
            ) from broken
        self._ended = message.kind == "end"
        return self._seen(Event(number, message.kind, status, None, document))

    def _seen(self, event: Event) -> Event:
        self._last = event.id
        return event


def _progress(document: Mapping[str, Any]) -> Progress:
    """Read a progress. Members that a newer service adds are left out, those that an older one lacks have defaults."""
    return Progress(**{one.name: document[one.name] for one in fields(Progress) if one.name in document})
