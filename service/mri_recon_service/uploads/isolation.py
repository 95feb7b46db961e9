"""Restrict a process before it opens untrusted files: network, other files, new processes, memory, time.

The process that calls these functions cannot undo them. They work on Linux only; elsewhere `restrict` reports that
nothing is restricted. Each layer is independent. A layer that the kernel lacks is left out and reported.

Sources: unshare(2), user_namespaces(7), seccomp(2), landlock(7), prctl(2), getrlimit(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Isolation",
    "confine_files",
    "die_with_parent",
    "forbid_syscalls",
    "leave_network",
    "limit",
    "limit_memory",
    "limit_seconds",
    "restrict",
]

_PR_SET_DUMPABLE, _PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 1, 22, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIGKILL = 9

# Name -> number on x86-64 and on AArch64 (None: that machine has no such call).
_FORBIDDEN: dict[str, tuple[int, int | None]] = {
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "bind": (49, 200),
    "listen": (50, 201),
    "socketpair": (53, 199),
    "accept4": (288, 242),
    "sendmmsg": (307, 269),
    "io_uring_setup": (425, 425),  # its rings reach the network without any of the above
    "io_uring_enter": (426, 426),
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "clone3": (435, 435),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
}
_AUDIT_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000  # numbers from here on are x86-64's second set of calls

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # the same on every machine
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_WRITE_FILE, _MAKE_REG, _TRUNCATE = 1 << 1, 1 << 8, 1 << 14
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL_RIGHTS = (1 << 16) - 1


@dataclass(frozen=True)
class Isolation:
    """The restrictions that are in force.

    Attributes:
        network: "namespace" (a network of its own, with nothing in it), "seccomp" (no call that opens or uses a
            socket), or None.
        seccomp: whether the calls of `forbid_syscalls` are refused.
        landlock: version of the kernel's landlock that confines the files. 0: the files are not confined.
    """

    network: str | None
    seccomp: bool
    landlock: int


class _Filter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filters", ctypes.POINTER(_Filter))]


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def restrict(*, readable: Path, writable: Path) -> Isolation:
    """Give up privileges, network, other files and new processes. The process must have one thread.

    Args:
        readable: folder whose files the process may read.
        writable: folder in which it may make and write files.
    """
    if sys.platform != "linux":
        return Isolation(None, False, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    namespace = leave_network()
    landlock = confine_files(readable, writable)
    seccomp = forbid_syscalls()
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


def forbid_syscalls() -> bool:
    """Have the kernel refuse (EPERM) every call that opens a socket, starts a program or reaches into another process.

    Returns False if the kernel has no seccomp filters, or the machine is neither x86-64 nor AArch64. Needs
    no-new-privileges.
    """
    machine = platform.machine()
    arch = _AUDIT_ARCHES.get(machine)
    if arch is None:
        return False
    column = 0 if machine == "x86_64" else 1
    numbers = [both[column] for both in _FORBIDDEN.values()]
    load, equal, at_least, leave = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM
    calls = [number for number in numbers if number is not None]
    steps = [(load, 0, 0, 4), (equal, 0, len(calls) + 3, arch), (load, 0, 0, 0), (at_least, len(calls) + 1, 0, _X32)]
    steps += [(equal, len(calls) - index, 0, number) for index, number in enumerate(calls)]
    steps += [(leave, 0, 0, allow), (leave, 0, 0, refuse)]
    filters = (_Filter * len(steps))(*(_Filter(*step) for step in steps))
    program = _Program(len(steps), filters)
    return bool(_libc().prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0) == 0)


def confine_files(readable: Path, writable: Path) -> int:
    """Confine the process by landlock: it reads below one folder, writes below another, and opens no other file.

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
        for folder, wanted in ((readable, _READ_FILE | _READ_DIR), (writable, _WRITE_FILE | _MAKE_REG | _TRUNCATE)):
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


def _unshare(flags: int) -> bool:
    return bool(_libc().unshare(flags) == 0)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {value}): {os.strerror(code)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
