"""Read server-sent events from the bytes of a stream, by the rules of the HTML standard."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Decoder", "Message"]


@dataclass(frozen=True)
class Message:
    """A server-sent event: its kind, its data, and the id that a client sends to get the events after it."""

    kind: str
    data: str
    id: str


class Decoder:
    """Turn bytes into messages, in whatever pieces they come.

    An own one: libraries for httpx pass over comments, and it is by the service's comments, one every 15 seconds, that
    a client knows a silent stream from a dead one and looks at its clock.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._after_return = False
        self._kind = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, chunk: bytes) -> list[Message]:
        """Take the next bytes, and return the messages that they complete."""
        if self._after_return and chunk.startswith(b"\n"):  # \r\n in two pieces
            chunk = chunk[1:]
            self._after_return = False
        if not chunk:
            return []
        self._after_return = chunk.endswith(b"\r")
        lines = (self._rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop()
        found = [self._line(line.decode("utf-8", "replace")) for line in lines]
        return [one for one in found if one is not None]

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._complete()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None  # comments have no name; other fields mean nothing here

    def _complete(self) -> Message | None:
        kind, data = self._kind, self._data
        self._kind, self._data = "", []
        return Message(kind or "message", "\n".join(data), self._id) if data else None
