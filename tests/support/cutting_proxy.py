"""A proxy in front of a service that cuts connections at chosen places."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

__all__ = ["CuttingProxy"]


class CuttingProxy:
    """Passes bytes on, and counts requests by their first line.

    Attributes:
        address: its own address.
        requests: first lines of all requests so far, e.g. "GET /health/ready".
        cuts: for the beginning of a first line, after how many bytes of the answer to cut the connection; each once.
        held: beginning of the first lines of requests whose answers do not arrive, for good.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[str] = []
        self.cuts: list[tuple[str, int]] = []
        self.held = "(none)"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()

    def count(self, beginning: str) -> int:
        """Count the requests whose first line begins like this."""
        return sum(one.startswith(beginning) for one in self.requests)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                _Pair(self, self._listener.accept()[0], socket.create_connection(("127.0.0.1", self._port)))


class _Pair:
    """The two connections of one client."""

    def __init__(self, proxy: CuttingProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._held = False
        self._left: int | None = None  # bytes of the answer until the cut
        for work in (self._forth, self._back):
            threading.Thread(target=work, daemon=True).start()

    def _forth(self) -> None:
        with suppress(OSError):
            while data := self._client.recv(1 << 16):
                self._look(data)
                self._server.sendall(data)
        self._close()

    def _look(self, data: bytes) -> None:
        first = data.split(b"\r\n", 1)[0]
        if not first.endswith(b" HTTP/1.1"):
            return  # the body of a request
        line = first.removesuffix(b" HTTP/1.1").decode()
        self._proxy.requests.append(line)
        self._held = line.startswith(self._proxy.held)
        for cut in self._proxy.cuts:
            if line.startswith(cut[0]):
                self._proxy.cuts.remove(cut)
                self._left = cut[1]
                return

    def _back(self) -> None:
        with suppress(OSError):
            while data := self._server.recv(1 << 16):
                if self._held:
                    continue
                if self._left is not None:
                    data, self._left = data[: self._left], self._left - len(data)
                    if self._left <= 0:
                        self._client.sendall(data)
                        break
                self._client.sendall(data)
        self._close()

    def _close(self) -> None:
        for one in (self._client, self._server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
