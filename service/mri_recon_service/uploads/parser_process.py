"""Start, use and end one child process that parses uploaded files."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mri_recon._system.files import is_full
from mri_recon.errors import FormatError, MaskError, MriReconError, ShapeError
from mri_recon.io.scan import RawScan
from mri_recon_service.problems import Problem, problem_of, storage_full
from mri_recon_service.settings import Settings
from mri_recon_service.uploads.isolation import Isolation
from mri_recon_service.uploads.parser_folder import ParserFolder
from mri_recon_service.uploads.protocol import (
    END_WORKER,
    MAX_HEADER,
    NO_ROOM,
    NO_ROOM_STATUS,
    TOO_LARGE,
    Findings,
    ParserConfig,
    Refusal,
    Request,
    read_arrays,
    read_json,
)

__all__ = [
    "Bounds",
    "Parser",
    "TooLarge",
    "TooSlow",
]


log = logging.getLogger("mri_recon_service")

_STOPPING = "the service is stopping: try again later"

# Variables of the environment that Python itself needs.
_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "SYSTEMROOT")

# One thread: further threads would escape the restrictions.
_SET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}

_START_SECONDS = 120.0
_ENDING_SECONDS = 5.0
"""Time in which a worker that answered its last request has to end: one that was taken over may answer and stay."""

_GRACE_SECONDS = 2.0

_MAX_MESSAGE = 2**23

_ERRORS: dict[str, type[MriReconError]] = {one.__name__: one for one in (FormatError, MaskError, ShapeError)}


@dataclass(frozen=True)
class Bounds:
    """Bounds for one file.

    Attributes:
        max_bytes: largest array, as in `mri_recon.io.load`.
        memory_bytes: address space.
        seconds: longest elapsed time and processor time.
    """

    max_bytes: int
    memory_bytes: int
    seconds: float


class TooLarge(Exception):
    """Report a file that takes more memory than `Bounds` allow.

    Attributes:
        problem: the refusal, if it may have no more.
        size: bytes of the array that is too large. None: not known.
    """

    def __init__(self, problem: Problem, size: int | None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.size = size


class TooSlow(Exception):
    """Report a file that takes more time than `Bounds` allow.

    Attributes:
        problem: the refusal, if it may have no more.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class _Died(Exception):
    """Report the exit code of a worker that ended. A negative code is a signal."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Gone(OSError):
    """Report that somebody else ended the process, perhaps before it saw the file."""


class Parser:
    """One parser process with its folder. A process that ended is started again. Not thread-safe: hold `lock`."""

    def __init__(self, settings: Settings, place: Path, command: Sequence[str]) -> None:
        self.lock = threading.Lock()
        self._settings = settings
        self._place = place
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None
        self._folder: ParserFolder | None = None
        self._requests = self._answers = self._events = -1
        self._buffers: dict[int, bytearray] = {}
        self.started = 0
        self._restrictions: Isolation | None = None  # of the waiting worker; None until one is ready
        self.known: Isolation | None = None  # of the last worker that was ready
        self._ends = False  # whether a worker has answered its last request and has to end
        self._files = 0
        self._number = 0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the child, or None before its start."""
        return None if self._child is None else self._child.pid

    def start(self) -> None:
        """Start the process.

        Raises:
            OSError: the folder cannot be made, or the program cannot be started.
        """
        try:
            self._start()
        except OSError:
            self.stop()
            raise

    def _start(self) -> None:
        settings = self._settings
        self._folder = folder = ParserFolder(self._place)
        request_read, self._requests = os.pipe()
        self._answers, answer_write = os.pipe()
        self._events, event_write = os.pipe()
        self._buffers = {self._answers: bytearray(), self._events: bytearray()}
        self._restrictions, self._files = None, 0
        config = ParserConfig(
            inbox=folder.inbox,
            outbox=folder.outbox,
            requests=request_read,
            answers=answer_write,
            events=event_write,
            memory_bytes=settings.parser_memory_bytes or 4 * settings.max_decoded_bytes + 2**30,
            file_bytes=4 * settings.max_decoded_bytes + MAX_HEADER,
        )
        theirs = (request_read, answer_write, event_write)
        try:
            self._child = subprocess.Popen(
                [*self._command, config.model_dump_json()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # it might quote the file
                env={name: os.environ[name] for name in _KEPT if name in os.environ} | _SET,
                cwd=folder.path,
                pass_fds=theirs,
                start_new_session=True,
            )
        finally:
            for descriptor in theirs:
                os.close(descriptor)

    def kill(self) -> None:
        """End the process for good. Any thread may call this. A thread that waits for the process stops waiting."""
        self._closed = True
        child = self._child
        if child is not None:
            _kill(child)

    def ready(self) -> Isolation:
        """Wait until a worker is ready, and return its restrictions.

        Raises:
            Problem: internal-error, storage-full.
        """
        if self._closed:
            raise Problem("internal-error", _STOPPING)
        try:
            if self._child is not None and self._child.poll() is not None:
                self.stop()  # ended by somebody else
            if self._child is not None and self._pending(self._events):
                self._restrictions = None  # the worker ended while it waited
            if self._restrictions is not None:
                return self._restrictions
            if self._child is None:
                self.start()
            deadline = time.monotonic() + (_ENDING_SECONDS if self._ends else _START_SECONDS)
            while True:
                try:
                    message = self._line([self._events], deadline)[1]
                except TimeoutError:
                    if not self._ends:
                        raise
                    self._replace()
                    deadline = time.monotonic() + _START_SECONDS
                    continue
                self._ends = False
                if "ready" in message:
                    self._restrictions = self.known = Isolation(**message["ready"])
                    self.started += 1
                    self._files = 0
                    self._forget_the_last()
                    return self._restrictions
        except (OSError, ValueError, TypeError, TimeoutError) as error:
            no_room = is_full(error) or (self._child is not None and _status(self._child) == NO_ROOM_STATUS)
            self.stop()
            if self._closed:
                raise Problem("internal-error", _STOPPING) from error
            if no_room:
                log.error("the process that reads uploads does not start: the upload folder cannot be written to")
                raise storage_full() from error
            log.error("the process that reads uploads does not start: %s", type(error).__name__)
            raise Problem("internal-error", "uploads cannot be read now: see the service's log") from error

    def parse(
        self, path: Path, bounds: Bounds, *, axes: str | None, variable: str | None, mask_file: Path | None
    ) -> tuple[RawScan, npt.NDArray[Any] | None]:
        """Read a scan and a mask file. A process that somebody else ended is replaced once.

        Raises:
            TooLarge, TooSlow: the files exceed the bounds.
            Problem: the files cannot be read, or the process cannot be started.
        """
        for last in (False, True):
            try:
                return self._parse(path, bounds, axes=axes, variable=variable, mask_file=mask_file)
            except _Gone as error:
                self.stop()
                if last or self._closed:
                    raise self._broken(path) from error
        raise AssertionError

    def _parse(
        self, path: Path, bounds: Bounds, *, axes: str | None, variable: str | None, mask_file: Path | None
    ) -> tuple[RawScan, npt.NDArray[Any] | None]:
        self.ready()
        assert self._folder is not None
        self._files += 1
        self._number += 1
        request = Request(
            number=self._number,
            scan=f"scan/{path.name}",
            mask=None if mask_file is None else f"mask/{mask_file.name}",
            axes=axes,
            variable=variable,
            last=self._files >= self._settings.parser_files,
            max_bytes=bounds.max_bytes,
            memory_bytes=bounds.memory_bytes,
            cpu_seconds=bounds.seconds,
        )
        given = {"scan": path} if mask_file is None else {"scan": path, "mask": mask_file}
        with self._folder.given(given) as answer:
            return self._exchange(request, path, answer)

    def _exchange(self, request: Request, path: Path, result: Path) -> tuple[RawScan, npt.NDArray[Any] | None]:
        try:
            os.write(self._requests, request.model_dump_json().encode() + b"\n")
            message = self._answer(time.monotonic() + request.cpu_seconds + _GRACE_SECONDS)
            if message.get("number") != request.number:
                raise ValueError("expected the answer to this request")
            if "error" in message:
                self._restrictions, self._ends = None, True  # the worker ends
                raise _refused(Refusal.model_validate(message), path)
            if request.last:
                self._restrictions, self._ends = None, True
            findings = Findings.model_validate(message)
            arrays = read_arrays(result, max_bytes=2 * request.max_bytes)
            mask_file = arrays.pop("mask_file", None)
            if (mask_file is None) != (request.mask is None) or findings.name != path.name:
                raise ValueError("expected the arrays that were asked for")
            raw = RawScan(
                kspace=arrays["kspace"],
                name=path.name,
                meta=findings.meta,
                mask=arrays.get("mask"),
                padding=None if findings.padding is None else (findings.padding[0], findings.padding[1]),
                recon_size=None if findings.recon_size is None else (findings.recon_size[0], findings.recon_size[1]),
                target=arrays.get("target"),
                target_source=findings.target_source,
            )
        except _Died as died:
            self._restrictions = None  # the template forks another
            if died.code == -signal.SIGXCPU:
                raise TooSlow(_slow(path, request.cpu_seconds)) from died
            raise self._broken(path) from died
        except TimeoutError as error:
            self._replace()
            raise TooSlow(_slow(path, request.cpu_seconds)) from error
        except _Gone:
            raise
        except (ValueError, OSError) as error:
            self._replace()
            log.warning("a process that reads uploads sent an invalid answer (%s) and was ended", type(error).__name__)
            raise self._broken(path) from error
        return raw, mask_file

    def _pending(self, source: int) -> bool:
        """Tell whether a pipe has something to read, or its other end is closed."""
        poll = select.poll()
        poll.register(source, select.POLLIN)
        return bool(self._buffers[source]) or bool(poll.poll(0))

    def _forget_the_last(self) -> None:
        """Discard messages and files of the worker before this one, which has ended and adds no more."""
        self._buffers[self._answers].clear()
        while self._pending(self._answers):
            if not os.read(self._answers, 1 << 16):
                raise OSError("the process is gone")
        assert self._folder is not None
        self._folder.renew_outbox()

    def _answer(self, deadline: float) -> dict[str, Any]:
        source, message = self._line([self._answers, self._events], deadline)
        if source == self._answers:
            return message
        ended = message.get("ended")
        if ended == -signal.SIGKILL:
            raise _Gone
        raise _Died(ended if isinstance(ended, int) else 1)

    def _line(self, sources: Sequence[int], deadline: float) -> tuple[int, dict[str, Any]]:
        """Read the next message from one of the pipes; earlier pipes come first."""
        while True:
            for source in sources:
                line, found, rest = self._buffers[source].partition(b"\n")
                if found:
                    self._buffers[source] = rest
                    return source, read_json(line)
                if len(line) > _MAX_MESSAGE:
                    raise ValueError("expected a short message")
            poll = select.poll()
            for source in sources:
                poll.register(source, select.POLLIN)
            left = deadline - time.monotonic()
            events = poll.poll(max(0.0, left) * 1000)
            if not events:
                raise TimeoutError
            for source, _ in events:
                data = os.read(source, 1 << 16)
                if not data:
                    raise _Gone
                self._buffers[source] += data

    def _broken(self, path: Path) -> Problem:
        if self._closed:
            return Problem("internal-error", _STOPPING)
        return Problem(
            "invalid-file",
            f"{path.name} cannot be read: the reader failed on it, because it is damaged or made to do harm",
        )

    def _replace(self) -> None:
        """Have the template kill the worker, whatever it does, and fork another."""
        self._restrictions, self._ends = None, False
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.send_signal(END_WORKER)

    def stop(self) -> None:
        """Kill the process and its forks. The next request starts another."""
        child, self._child, self._restrictions, self._ends = self._child, None, None, False
        if child is not None:
            _kill(child)
            child.wait()
        for descriptor in (self._requests, self._answers, self._events):
            if descriptor >= 0:
                os.close(descriptor)
        self._requests = self._answers = self._events = -1
        if self._folder is not None:
            self._folder.remove()
            self._folder = None


def _refused(refusal: Refusal, path: Path) -> Exception:
    if refusal.error == NO_ROOM:
        log.error("a process that reads uploads cannot write its arrays: its folder is full, or a limit is reached")
        return storage_full()
    if refusal.error == "MemoryError":
        what = f"{path.name} takes more memory to read than a file may: send fewer slices"
        return TooLarge(Problem("invalid-file", what), None)
    if refusal.error == TOO_LARGE:
        return TooLarge(problem_of(FormatError(refusal.message)), refusal.size)
    kind = _ERRORS.get(refusal.error)
    if kind is None:
        raise ValueError("expected an error that a reader raises")
    return problem_of(
        FormatError(refusal.message, argument=refusal.argument) if kind is FormatError else kind(refusal.message)
    )


def _slow(path: Path, seconds: float) -> Problem:
    return Problem("invalid-file", f"{path.name} was not read within {seconds:g} s: it is damaged, or far too large")


def _status(child: subprocess.Popen[bytes]) -> int | None:
    """Return the exit status of a process whose pipes are closed. None: it has not ended after all."""
    try:
        return child.wait(1.0)
    except subprocess.TimeoutExpired:
        return None


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill a process and its forks. The process is not reaped yet, so the id is still its own."""
    if child.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
