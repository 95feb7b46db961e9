"""Refuses every connection and name look-up that leaves this machine.

Python imports a module of this name at its start: with this folder on PYTHONPATH, every Python process that a test
starts is held to it too. `tests/conftest.py` imports it in the test process and puts the folder there.
"""

from __future__ import annotations

import importlib
import ipaddress
import socket
import sys
from pathlib import Path
from typing import Any

attempts: list[str] = []
"""What was refused in this process."""

_WITH_ADDRESS = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0}


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    place = _WITH_ADDRESS.get(event)
    if place is None:
        return
    address = arguments[place]
    if event == "socket.getaddrinfo":
        host = address
        if isinstance(host, str | bytes) and _is_number(host):  # nobody is asked
            return
        if isinstance(host, str | bytes) and _text(host).endswith(".invalid"):  # a test that needs a name of nobody's
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")  # RFC 6761
    elif isinstance(address, tuple):
        host = address[0]
    else:  # a Unix socket, netlink, or no address: connected before
        return
    if not _is_here(host):
        attempts.append(f"{event} {host!r}")
        raise ConnectionRefusedError(f"tests reach no network, but {event} was called for {host!r}")


def _text(host: str | bytes) -> str:
    return (host.decode("ascii", "replace") if isinstance(host, bytes) else host).partition("%")[0]


def _is_number(host: str | bytes) -> bool:
    try:
        ipaddress.ip_address(_text(host))
    except ValueError:
        return False
    return True


def _is_here(host: str | bytes | None) -> bool:
    if host is None or _text(host) in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(_text(host))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


_earlier = sys.modules.get("sitecustomize")
if __name__ != "sitecustomize" and hasattr(_earlier, "attempts"):  # this process was started with it
    attempts = _earlier.attempts
else:
    sys.addaudithook(_refuse)


def _import_the_other() -> None:
    """Import the `sitecustomize` that this one stands in front of, if there is one."""
    here = Path(__file__).parent
    path, sys.path[:] = list(sys.path), [entry for entry in sys.path if Path(entry or ".").absolute() != here]
    mine = sys.modules.pop("sitecustomize")
    try:
        importlib.import_module("sitecustomize")
    except ImportError:
        pass
    finally:
        sys.modules["sitecustomize"], sys.path[:] = mine, path


if __name__ == "sitecustomize":
    _import_the_other()
