"""A client of the streaming server, by the wire format of the Python library ismrmrd (its serializer of sessions)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from tests.support.patience import PATIENCE

__all__ = ["Answer", "Client", "hold_session"]


@dataclass
class Answer:
    """What a server sent: images of the library ismrmrd, texts, and whether it said that this was all."""

    images: list[Any] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    closed: bool = False

    @property
    def pixels(self) -> Any:
        """The images in the order in which they came, `(image, readout, phase)`."""
        return np.stack([one.data[0, 0].T for one in self.images])


class Client:
    """A connection that sends by `ProtocolSerializer`, and reads by `ProtocolDeserializer` in a thread of its own."""

    def __init__(self, port: int, *, read: bool = True) -> None:
        from ismrmrd.serialization import ProtocolSerializer

        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.file = self.socket.makefile("wb")
        self.serializer = ProtocolSerializer(self.file)
        self.answer = Answer()
        self._thread = threading.Thread(target=self._read, daemon=True)
        if read:
            self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # the reading thread holds the connection too
        with suppress(OSError, ValueError):
            self.file.close()
        self.socket.close()

    def configure(self, name: str | None = None, text: str | None = None) -> None:
        from ismrmrd.serialization import ConfigFile, ConfigText

        if name is not None:
            self.serializer.serialize(ConfigFile(name))
        if text is not None:
            self.serializer.serialize(ConfigText(text))

    def header(self, xml: str) -> None:
        content = xml.encode()
        self.file.write(b"\x03\x00" + len(content).to_bytes(4, "little") + content)

    def send(self, several: Iterable[Any]) -> None:
        for one in several:
            self.serializer.serialize(one)
        self.file.flush()

    def raw(self, content: bytes) -> None:
        self.file.write(content)
        self.file.flush()

    def finish(self) -> Answer:
        """Send CLOSE, and wait for the server's."""
        self.serializer.close()
        return self.wait()

    def wait(self) -> Answer:
        """Wait until the server sends no more."""
        if self._thread.ident is None:
            self._thread.start()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.answer

    def _read(self) -> None:
        from ismrmrd import Image
        from ismrmrd.serialization import ProtocolDeserializer

        stream = self.socket.makefile("rb")
        try:
            for one in ProtocolDeserializer(stream).deserialize():
                (self.answer.images if isinstance(one, Image) else self.answer.texts).append(one)
            self.answer.closed = True
        except (EOFError, OSError, ValueError):
            pass


def converse(port: int, content: bytes) -> bytes:
    """Send bytes, half-close, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        found = b""
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                found += piece
        except ConnectionError:
            pass
        return found


def hold_session(
    port: int, configuration: str | None, header: str, several: Sequence[Any], *, read: bool = True
) -> Answer:
    """Send a whole scan and return the answer; `read=False` reads nothing before all is sent."""
    with Client(port, read=read) as client:
        if configuration is not None:
            client.configure(text=configuration)
        client.header(header)
        client.send(several)
        return client.finish()
