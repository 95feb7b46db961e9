"""A parser process that a file has taken over: what the file says is done. It shows what such a one still can do."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mri_recon.errors import FormatError
from mri_recon.io.loading import read
from mri_recon.io.scan import RawScan
from mri_recon_service.uploads import parser as parser_process
from mri_recon_service.uploads.protocol import ANSWER_FILE, ParserConfig

COMMAND = (sys.executable, "-P", "-c", "from tests.service.attacks.hostile import main; main()")
"""For `ParserPool(..., command=...)`, with the repository on PYTHONPATH."""


def main() -> None:
    """The parser, with a reader that does what a file says."""
    parser_process.read = obey  # type: ignore[attr-defined]
    parser_process.main()


def obey(path: Path, **options: Any) -> RawScan:
    """`DO verb arguments`; any other file is read as usual."""
    words = path.read_bytes()[:1000].split()
    if words[:1] != [b"DO"]:
        return read(path, **options)
    verb, *rest = (word.decode() for word in words[1:])
    say(_VERBS[verb](*rest))


def say(what: object) -> NoReturn:
    """Tell the test."""
    raise FormatError(json.dumps(what))


def hang() -> None:
    while True:
        time.sleep(1)


def spin() -> None:
    while True:
        pass


def eat() -> None:
    blocks = []
    while True:
        blocks.append(np.empty(1 << 22))


def crash() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(0)


def limits() -> dict[str, Any]:
    names = ("RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_AS", "RLIMIT_CPU")
    return {name: resource.getrlimit(getattr(resource, name))[0] for name in names}


def reach() -> list[str]:
    """What works of all that should not."""
    attempts: dict[str, Callable[[], Any]] = {
        "TCP": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "TCP over IPv6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM),
        "UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "Unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "socket pair": socket.socketpair,
        "fork": os.fork,
        "program": lambda: subprocess.run(["/bin/true"], check=True),
        "signal": lambda: os.kill(os.getppid(), signal.SIGCONT),
        "namespace": lambda: os.setns(os.pidfd_open(os.getppid()), 0) if hasattr(os, "setns") else 1 / 0,
        "more memory": lambda: (
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2) if os.getuid() else 1 / 0
        ),
    }
    return [name for name, attempt in attempts.items() if _works(attempt)]


def open_file(path: str) -> dict[str, bool]:
    """What can be done with a path."""
    return {
        "read": _works(lambda: Path(path).read_bytes()),
        "list": _works(lambda: next(Path(path).parent.iterdir())),
        "write": _works(lambda: os.close(os.open(path, os.O_WRONLY))),
        "make": _works(lambda: Path(f"{path}.made").touch()),
        "link": _works(lambda: (_config().outbox / "link").symlink_to(path)),
        "remove": _works(lambda: Path(path).unlink()),
        "libraries": _works(lambda: next(Path(np.__file__).parent.iterdir())),
    }


def write_much() -> bool:
    """Whether a file may grow beyond the limit."""
    size = resource.getrlimit(resource.RLIMIT_FSIZE)[0]

    def grow() -> None:
        with (_config().outbox / "much").open("wb") as stream:
            stream.seek(size)
            stream.write(b"x")

    return _works(grow)


def forge(number: str) -> str:
    """Answer a request that has not come yet, and leave the file that it would have."""
    os.write(_config().answers, json.dumps({"number": int(number), "error": "FormatError", "message": "x"}).encode())
    os.write(_config().answers, b"\n")
    (_config().outbox / ANSWER_FILE).write_bytes(b"forged")
    return "forged"


def babble() -> None:
    """A line without an end."""
    while True:
        os.write(_config().answers, b"x" * 65536)


def lie(kind: str) -> None:
    """An answer that is none."""
    lines = {
        "deep": b"[" * 100_000,
        "number": b'{"number": -1}',
        "error": b'{"number": NUMBER, "error": "SystemExit", "message": ""}',
        "text": b"\xff\xfe",
        "fields": b'{"number": NUMBER, "name": "upload.npy"}',
        "file": b'{"number": NUMBER, "name": "upload.npy", "meta": {}, "padding": null, "recon_size": null, '
        b'"target_source": "none"}',
    }
    for number in range(1, 9):  # one of them is the request's
        os.write(_config().answers, lines[kind].replace(b"NUMBER", str(number).encode()) + b"\n")
    hang()


def refuse(number: str) -> None:
    """A proper refusal, after which a worker has to end."""
    answer = {"number": int(number), "error": "FormatError", "message": "refused"}
    os.write(_config().answers, json.dumps(answer).encode() + b"\n")
    hang()


def _works(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except (OSError, ZeroDivisionError, ValueError):
        return False
    return True


def _config() -> ParserConfig:
    return ParserConfig.model_validate_json(sys.argv[-1])


_VERBS: dict[str, Callable[..., Any]] = {
    "refuse": refuse,
    "hang": hang,
    "spin": spin,
    "eat": eat,
    "crash": crash,
    "leave": leave,
    "limits": limits,
    "reach": reach,
    "open": open_file,
    "write_much": write_much,
    "forge": forge,
    "babble": babble,
    "lie": lie,
}
