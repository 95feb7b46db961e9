"""A parser process that a file has taken over: what the file says is done. It shows what such a one still can do."""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import platform
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
        "more memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2),
        "larger files": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)),
        "another file": lambda: (_config().outbox / "another").touch(),
    }
    return [name for name, attempt in attempts.items() if _works(attempt)]


def call(path: str, neighbour: str) -> list[str]:
    """The system calls, of those that a reader has no use for, that the kernel looked at.

    Arguments are such that a kernel without the filter does what is asked, or complains of them by another error.
    """
    pid, name, there = int(neighbour), path.encode(), -100
    limits = (ctypes.c_uint64 * 2)(1, 1)
    calls: dict[str, tuple[Any, ...]] = {
        "chmod": (name, 0o777),
        "fchmodat": (there, name, 0o777, 0),
        "chown": (name, 1, 1),
        "unlink": (name,),
        "rename": (name, name + b".moved"),
        "mkdir": (name + b".folder", 0o700),
        "symlink": (name, name + b".link"),
        "mknod": (name + b".node", 0o10600, 0),
        "truncate": (name, 0),
        "utimes": (name, None),
        "setxattr": (name, b"user.a", b"a", 1, 0),
        "prlimit": (pid, 7, ctypes.byref(limits), None),
        "kill": (pid, 0),
        "tgkill": (pid, pid, 0),
        "ptrace": (16, pid, None, None),
        "process_vm_readv": (pid, None, 0, None, 0, 0),
        "process_vm_writev": (pid, None, 0, None, 0, 0),
        "sched_setaffinity": (pid, 8, ctypes.byref(limits)),
        "setpriority": (0, pid, 19),
        "getpgid": (pid,),
        "socket": (1, 1, 0),
        "pipe": (ctypes.byref(limits),),
        "memfd_create": (b"a", 0),
        "mount": (b"none", b"/nowhere", b"tmpfs", 0, None),
        "umount2": (b"/nowhere", 0),
        "chroot": (b"/nowhere",),
        "unshare": (0x10000000,),
        "setns": (0, 0),
        "setuid": (os.getuid(),),
        "capset": (None, None),
        "prctl": (4, 1, 0, 0, 0),
        "personality": (0,),
        "mlock": (ctypes.byref(limits), 8),
        "shmget": (0, 4096, 0o1600),
        "inotify_init": (),
        "epoll_create": (1,),
        "sethostname": (b"a", 1),
        "swapon": (name, 0),
        "reboot": (0,),
    }
    numbers = {  # on x86-64 and AArch64, of calls that the C library has no function for
        "io_uring_setup": (425, 425),
        "pidfd_send_signal": (424, 424),
        "pidfd_getfd": (438, 438),
        "openat2": (437, 437),
        "clone3": (435, 435),
        "keyctl": (250, 219),
        "add_key": (248, 217),
        "bpf": (321, 280),
        "userfaultfd": (323, 282),
        "perf_event_open": (298, 241),
        "seccomp": (317, 277),
        "kexec_load": (246, 104),
        "one to come": (1000, 1000),
    }
    libc = ctypes.CDLL(None, use_errno=True)
    column = platform.machine() == "aarch64"
    attempts = {name: functools.partial(getattr(libc, name), *values) for name, values in calls.items()}
    attempts |= {name: functools.partial(libc.syscall, both[column], 0, 0, 0, 0) for name, both in numbers.items()}
    attempts["fcntl F_SETOWN"] = functools.partial(libc.fcntl, _config().answers, 8, pid)
    attempts["x32 socket"] = functools.partial(libc.syscall, 0x40000000 + 41, 1, 1, 0)
    return [name for name, attempt in attempts.items() if not _unseen(attempt)]


def _unseen(attempt: Callable[[], int]) -> bool:
    ctypes.set_errno(0)
    return attempt() == -1 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS)


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
        with (_config().outbox / ANSWER_FILE).open("wb") as stream:
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
    "call": call,
    "write_much": write_much,
    "forge": forge,
    "babble": babble,
    "lie": lie,
}
