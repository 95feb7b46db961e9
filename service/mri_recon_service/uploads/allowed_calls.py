"""List the system calls that a process may make while it reads untrusted files, and write the list as a filter.

Everything else is refused, calls that a later kernel will have too. A deny list cannot do that: it left `chmod`,
`prlimit` of other processes and whatever nobody thought of. The filter is written here and not by libseccomp, which
would be a library of the system that Python's packages do not bring, for a table of this size.

Sources: seccomp(2), the tables of calls of Linux (arch/x86/entry/syscalls/syscall_64.tbl, scripts/syscall.tbl).
"""

from __future__ import annotations

import errno
import os
import resource

__all__ = ["MACHINES", "Step", "filter_steps"]

Step = tuple[int, int, int, int]
"""One instruction: code, steps to skip if true, steps to skip if false, operand."""

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machines whose numbers are here, with the name that the kernel gives them in a filter. Both are little-endian."""

# Name -> number on x86-64 and on AArch64 (None: that machine has no such call).
_CALLS: dict[str, tuple[int | None, int | None]] = {
    # files: landlock says which
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "open": (2, None),
    "openat": (257, 56),
    "close": (3, 57),
    "dup": (32, 23),
    "lseek": (8, 62),
    "ftruncate": (77, 46),
    "stat": (4, None),
    "lstat": (6, None),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "flock": (73, 32),  # HDF5 locks what it reads
    # memory
    "brk": (12, 214),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "madvise": (28, 233),
    "futex": (202, 98),
    # this process: who it is, its time, its signals, its end
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getrusage": (98, 165),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "sysinfo": (99, 179),  # by which the C library chooses how to sort
    "uname": (63, 160),
    "getrandom": (318, 278),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "restart_syscall": (219, 128),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
_FCNTL, _TGKILL, _PRLIMIT = (72, 25), (234, 131), (302, 261)

_NEWER = 424
"""Numbers from here on are the same on every machine. The C library tries such a call and falls back on an older one
where the kernel says that it has none."""

_LOAD, _EQUAL, _AT_LEAST, _LEAVE = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16

# Commands of fcntl that concern descriptors and locks. Others would send signals to processes.
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030)


def filter_steps(machine: str) -> list[Step]:
    """Write the filter for this process and a machine: `EPERM` for whatever is not allowed, `ENOSYS` for new calls.

    Args:
        machine: one of `MACHINES`.
    """
    column = list(MACHINES).index(machine)
    low, high = 0, 1  # words of an argument
    rules: dict[int, list[list[tuple[int, int]]]] = {
        number: [[]] for numbers in _CALLS.values() if (number := numbers[column]) is not None
    }
    rules[_FCNTL[column]] = [[(_word(1, low), command)] for command in _FCNTL_COMMANDS]
    rules[_TGKILL[column]] = [[(_word(0, low), os.getpid())]]  # by which `abort` ends a process
    own = (_word(0, low), 0)
    rules[_PRLIMIT[column]] = [
        [own, (_word(2, low), 0), (_word(2, high), 0)],  # reads a limit
        *([own, (_word(1, low), which)] for which in (resource.RLIMIT_AS, resource.RLIMIT_CPU)),
    ]
    steps: list[Step] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, MACHINES[machine]),
        (_LEAVE, 0, 0, _ERROR | errno.EPERM),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for number, alternatives in rules.items():
        allowed = _any_of(alternatives)
        steps += [(_EQUAL, 0, len(allowed), number), *allowed]
    steps += [
        (_AT_LEAST, 0, 1, _NEWER),
        (_LEAVE, 0, 0, _ERROR | errno.ENOSYS),
        (_LEAVE, 0, 0, _ERROR | errno.EPERM),
    ]
    return steps


def _any_of(alternatives: list[list[tuple[int, int]]]) -> list[Step]:
    """Allow a call if all words of one alternative, at their offsets, have their values."""
    steps: list[Step] = []
    for wanted in alternatives:
        for index, (offset, value) in enumerate(wanted):
            to_next = 2 * (len(wanted) - index - 1) + 1
            steps += [(_LOAD, 0, 0, offset), (_EQUAL, 0, to_next, value)]
        steps.append((_LEAVE, 0, 0, _ALLOW))
    return [*steps, (_LEAVE, 0, 0, _ERROR | errno.EPERM)] if alternatives != [[]] else steps


def _word(argument: int, half: int) -> int:
    """Return where half a call's argument is, the low one first."""
    return _ARGUMENTS_AT + 8 * argument + 4 * half
