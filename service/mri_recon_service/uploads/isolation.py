"""Restrict a process before it opens untrusted files: network, other files, new processes, memory, time.

The process that calls these functions cannot undo them. They work on Linux only; elsewhere `restrict` reports that
nothing is restricted. Each layer is independent. A layer that the kernel lacks is left out and reported.

Sources: unshare(2), user_namespaces(7), seccomp(2), landlock(7), prctl(2), getrlimit(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mri_recon_service.uploads.allowed_calls import MACHINES, filter_steps

__all__ = [
    "Isolation",
    "Layer",
    "allow_syscalls",
    "confine_files",
    "die_with_parent",
    "drop_capabilities",
    "leave_network",
    "limit",
    "limit_memory",
    "limit_seconds",
    "restrict",
]

Layer = Literal["network", "calls", "files"]
"""A layer of the sandbox: no network, only listed system calls, no files but those of the request."""

_PR_SET_DUMPABLE, _PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 1, 22, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIGKILL = 9
_CAPABILITIES_VERSION = 0x20080522

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # the same on every machine
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL_RIGHTS = (1 << 16) - 1


@dataclass(frozen=True)
class Isolation:
    """The restrictions that are in force.

    Attributes:
        network: "namespace" (a network of its own, with nothing in it), "seccomp" (no call that opens or uses a
            socket), or None.
        seccomp: whether all but the calls of `allowed_calls` are refused.
        landlock: version of the kernel's landlock that confines the files. 0: the files are not confined.
    """

    network: str | None
    seccomp: bool
    landlock: int

    @property
    def lacks(self) -> list[Layer]:
        """Layers that this machine does not have."""
        layers: dict[Layer, object] = {"network": self.network, "calls": self.seccomp, "files": self.landlock}
        return [layer for layer, there in layers.items() if not there]


class _Filter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filters", ctypes.POINTER(_Filter))]


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("process", ctypes.c_int)]


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def restrict(*, readable: Path, writable: Path) -> Isolation:
    """Give up privileges, network, other files and new processes. The process must have one thread.

    Args:
        readable: folder whose files the process may read.
        writable: folder whose files it may write; it makes none.
    """
    if sys.platform != "linux":
        return Isolation(None, False, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    namespace = leave_network()
    landlock = confine_files(readable, writable)
    drop_capabilities()
    seccomp = allow_syscalls()
    return Isolation("namespace" if namespace else "seccomp" if seccomp else None, seccomp, landlock)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def limit(*, memory_bytes: int, file_bytes: int, open_files: int = 64) -> int:
    """Bound the resources of the process from now on. Returns the address space that is mapped already.

    Args:
        memory_bytes: address space, beyond the part that is mapped already.
        file_bytes: size of the largest file that it may write.
        open_files: number of file descriptors.
    """
    if sys.platform != "linux":
        return 0
    import resource

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for which, amount in (
        (resource.RLIMIT_AS, mapped + memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(which)
        wanted = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(which, (wanted, wanted))
    return mapped


def limit_memory(address_space: int) -> None:
    """Bound the address space from now on, within the bound of `limit`. It can be raised again."""
    if sys.platform != "linux":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = address_space if hard == resource.RLIM_INFINITY else min(address_space, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def limit_seconds(seconds: float) -> None:
    """Bound the processor time from now on. Afterwards the kernel ends the process (SIGXCPU)."""
    if sys.platform != "linux":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def leave_network() -> bool:
    """Enter a new network namespace, in which not even the loopback device is up. Returns False if not allowed.

    Without the privilege for it, the process first enters a user namespace that has the privilege.
    """
    return _unshare(_CLONE_NEWNET) or _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def allow_syscalls() -> bool:
    """Have the kernel refuse every call that `allowed_calls` does not list: sockets, programs, other processes, rights.

    Returns False if the kernel has no seccomp filters, or the machine is none of `MACHINES`. Needs no-new-privileges.
    """
    machine = platform.machine()
    if machine not in MACHINES:
        return False
    steps = filter_steps(machine)
    filters = (_Filter * len(steps))(*(_Filter(*step) for step in steps))
    program = _Program(len(steps), filters)
    return bool(_libc().prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0) == 0)


def confine_files(readable: Path, writable: Path) -> int:
    """Confine the process by landlock: it reads below one folder, writes files below another, and opens no other.

    It makes no file, so all that it can fill of a disk are the files that are there, each up to the limit of `limit`.
    Files that are open stay open. As far as the kernel supports it, TCP, signals to processes outside and
    their abstract sockets are forbidden too.

    Returns:
        Version of landlock. 0: the kernel has none, and nothing is confined.
    """
    libc = _libc()
    version = int(libc.syscall(_LANDLOCK_CREATE, None, 0, 1))
    if version < 1:
        return 0
    rights = _RIGHTS.get(version, _ALL_RIGHTS)
    ruleset = _Ruleset(rights, 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    handle = int(libc.syscall(_LANDLOCK_CREATE, ctypes.byref(ruleset), ctypes.c_size_t(size), 0))
    if handle < 0:
        return 0
    try:
        for folder, wanted in ((readable, _READ_FILE | _READ_DIR), (writable, _WRITE_FILE | _TRUNCATE)):
            opened = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = _Beneath(wanted & rights, opened)
                if libc.syscall(_LANDLOCK_ADD, handle, 1, ctypes.byref(rule), 0) != 0:
                    return 0
            finally:
                os.close(opened)
        return version if libc.syscall(_LANDLOCK_RESTRICT, handle, 0) == 0 else 0
    finally:
        os.close(handle)


def drop_capabilities() -> None:
    """Give up what root may do beyond others, such as raising limits. A process of another user has none."""
    none = (ctypes.c_uint32 * 6)()
    libc = _libc()
    if libc.capset(ctypes.byref(_CapabilityHeader(_CAPABILITIES_VERSION, 0)), none) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")


def _unshare(flags: int) -> bool:
    return bool(_libc().unshare(flags) == 0)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {value}): {os.strerror(code)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
