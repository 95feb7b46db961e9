"""Uploaded files become arrays in other processes; what comes back is believed no more than the files were.

`ParserPool` keeps a few of them started (`parser_process`). A file is linked into the private folder of one, which may
read nothing else; its arrays come back as a safetensors file, of which the names, types, shapes and sizes are checked
before any memory is taken, and its findings as one line of JSON. `mri_recon.io.RawScan.scan` then checks the numbers.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from mri_recon.errors import FormatError, MaskError, MriReconError, ShapeError
from mri_recon.io import Scan
from mri_recon.io.scan import RawScan
from mri_recon.service.isolation import Isolation
from mri_recon.service.parser_process import ANSWER_FILE, ParserConfig, Request
from mri_recon.service.problems import Problem, problem_of
from mri_recon.service.settings import Settings

__all__ = ["Parsed", "ParserPool", "read_arrays"]

log = logging.getLogger("mri_recon.service")

_COMMAND = (sys.executable, "-P", "-c", "from mri_recon.service.parser_process import main; main()")
# Nothing of the service's environment but what Python itself needs; threads would outlive the restrictions.
_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "SYSTEMROOT")
_SET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}
_START_SECONDS = 120.0
_GRACE_SECONDS = 2.0
_MAX_MESSAGE = 2**20
_MAX_HEADER = 2**16
_MAX_AXES = 16

_ERRORS: dict[str, type[MriReconError]] = {one.__name__: one for one in (FormatError, MaskError, ShapeError)}
_NUMBERS = {
    "C64": np.complex64,
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_ALLOWED: dict[str, set[str]] = {
    "kspace": {"C64"},
    "target": {"F32"},
    "mask": set(_NUMBERS),
    "mask_file": set(_NUMBERS),
}
_RANKS = {"kspace": 4, "target": 3}
_Size = Annotated[int, Field(gt=0, lt=2**31)]
_Column = Annotated[int, Field(gt=-(2**31), lt=2**31)]


@dataclass(frozen=True)
class Parsed:
    """What was in the files of a request.

    Attributes:
        scan: the scan.
        mask: the array of the mask file, for `choose_mask(..., mask_array=...)`; None where there was no such file.
    """

    scan: Scan
    mask: npt.NDArray[Any] | None


class ParserPool:
    """Processes that open uploaded files; thread-safe, `load` blocks.

    Args:
        settings: of the service.
        command: what to start in place of the parser; its configuration is added as the last argument.
    """

    def __init__(self, settings: Settings, *, command: Sequence[str] = _COMMAND) -> None:
        self._settings = settings
        self._processes = [_Parser(settings, command) for _ in range(settings.parser_processes)]
        self._idle: queue.LifoQueue[_Parser] = queue.LifoQueue()
        for process in self._processes:
            self._idle.put(process)

    def start(self) -> None:
        """Start the processes; they import their readers while the caller goes on."""
        for process in self._processes:
            process.start()

    def close(self) -> None:
        """End the processes and delete their folders; a `load` that runs fails."""
        for process in self._processes:
            process.close()

    @property
    def isolation(self) -> str | None:
        """How the network is kept away, "namespace" or "seccomp"; None where it is not. Waits for the first process."""
        return self.restrictions.network

    @property
    def restrictions(self) -> Isolation:
        """All that was reached. Waits for the first process.

        Raises:
            Problem: internal-error, when the process does not start.
        """
        process = self._processes[0]
        with process.lock:
            return process.ready()

    @property
    def pids(self) -> list[int]:
        """Process numbers of the templates that run."""
        return [pid for process in self._processes if (pid := process.pid) is not None]

    def load(
        self, path: Path, *, axes: str | None = None, variable: str | None = None, mask_file: Path | None = None
    ) -> Parsed:
        """The scan in a file, and the array of a mask file.

        Args:
            path: the scan, in a folder that nobody else writes to.
            axes: as in `mri_recon.io.load`.
            variable: as in `mri_recon.io.load`.
            mask_file: a mask.

        Raises:
            Problem: whatever the readers refuse; invalid-file when reading it broke a limit or the reader itself;
                internal-error when no process can be started.
        """
        process = self._idle.get()
        try:
            with process.lock:
                raw, mask = process.parse(path, axes=axes, variable=variable, mask_file=mask_file)
        finally:
            self._idle.put(process)
        try:
            return Parsed(raw.scan(), mask)
        except MriReconError as error:
            raise problem_of(error) from error


def read_arrays(path: Path, *, max_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a safetensors file that a stranger wrote, each checked before memory is taken for it.

    Copied out, never mapped: the writer may still change the file.

    Args:
        path: the file.
        max_bytes: limit for each array.

    Raises:
        ValueError: anything but the arrays of a scan, one after another, of the types and ranks they may have.
        OSError: no such file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("expected a regular file")
        length = int.from_bytes(_exactly(stream, 8), "little")
        if length > _MAX_HEADER:
            raise ValueError(f"expected a header of at most {_MAX_HEADER} bytes, got {length}")
        header = _json(_exactly(stream, length))
        places = {name: _place(name, one, max_bytes) for name, one in header.items()}
        position = 0
        for _, _, begin, end in places.values():
            if begin != position:
                raise ValueError("expected arrays one after another")
            position = end
        if info.st_size != 8 + length + position:
            raise ValueError(f"expected {8 + length + position} bytes, got {info.st_size}")
        return {name: _fill(stream, shape, dtype) for name, (shape, dtype, _, _) in places.items()}


class _Findings(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, StringConstraints(max_length=300)]
    meta: dict[str, JsonValue]
    padding: Annotated[list[_Column], Field(min_length=2, max_length=2)] | None
    recon_size: Annotated[list[_Size], Field(min_length=2, max_length=2)] | None
    target_source: Annotated[str, StringConstraints(max_length=300)]


class _Refusal(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    error: Annotated[str, StringConstraints(max_length=60)]
    message: Annotated[str, StringConstraints(max_length=8000)]


class _Died(Exception):
    """The worker ended, with this exit code; a negative one is the signal."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Parser:
    """One parser process with its folder, started again when it is gone. Not thread-safe: hold `lock`."""

    def __init__(self, settings: Settings, command: Sequence[str]) -> None:
        self.lock = threading.Lock()
        self._settings = settings
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._requests = self._answers = self._events = -1
        self._buffers: dict[int, bytearray] = {}
        self._restrictions: Isolation | None = None  # of the worker that waits; None when one has to come first
        self._files = 0
        self._closed = False

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    def start(self) -> None:
        settings = self._settings
        self._folder = folder = Path(tempfile.mkdtemp(prefix="mri-recon-parser-", dir=settings.upload_dir)).resolve()
        for part in ("in/scan", "in/mask", "out"):
            (folder / part).mkdir(parents=True)
        request_read, self._requests = os.pipe()
        self._answers, answer_write = os.pipe()
        self._events, event_write = os.pipe()
        self._buffers = {self._answers: bytearray(), self._events: bytearray()}
        self._restrictions, self._files = None, 0
        config = ParserConfig(
            inbox=folder / "in",
            outbox=folder / "out",
            requests=request_read,
            answers=answer_write,
            events=event_write,
            max_bytes=settings.max_decoded_bytes,
            memory_bytes=settings.parser_memory_bytes or 4 * settings.max_decoded_bytes + 2**30,
            file_bytes=4 * settings.max_decoded_bytes + _MAX_HEADER,
            cpu_seconds=settings.parser_timeout_seconds,
        )
        theirs = (request_read, answer_write, event_write)
        try:
            self._child = subprocess.Popen(
                [*self._command, config.model_dump_json()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # it might quote the file
                env={name: os.environ[name] for name in _KEPT if name in os.environ} | _SET,
                cwd=folder,
                pass_fds=theirs,
                start_new_session=True,
            )
        finally:
            for descriptor in theirs:
                os.close(descriptor)

    def close(self) -> None:
        self._closed = True
        self._stop()

    def ready(self) -> Isolation:
        """Wait for a worker.

        Raises:
            Problem: internal-error.
        """
        if self._restrictions is not None:
            return self._restrictions
        try:
            if self._child is None:
                self.start()
            deadline = time.monotonic() + _START_SECONDS
            while True:
                message = self._line([self._events], deadline)[1]
                if "ready" in message:
                    self._restrictions = Isolation(**message["ready"])
                    self._files = 0
                    return self._restrictions
        except (OSError, ValueError, TypeError, TimeoutError) as error:
            self._stop()
            log.error("the process that reads uploads does not start: %s", type(error).__name__)
            raise Problem("internal-error", "uploads cannot be read now: see the service's log") from error

    def parse(
        self, path: Path, *, axes: str | None, variable: str | None, mask_file: Path | None
    ) -> tuple[RawScan, npt.NDArray[Any] | None]:
        """Raises: Problem."""
        self.ready()
        assert self._folder is not None
        self._files += 1
        request = Request(
            scan=f"scan/{path.name}",
            mask=None if mask_file is None else f"mask/{mask_file.name}",
            axes=axes,
            variable=variable,
            last=self._files >= self._settings.parser_files,
        )
        given = {"scan": path} if mask_file is None else {"scan": path, "mask": mask_file}
        linked = [self._folder / "in" / kind / file.name for kind, file in given.items()]
        result = self._folder / "out" / ANSWER_FILE
        try:
            for file, link in zip(given.values(), linked, strict=True):
                _link(file, link)
            return self._exchange(request, path, result)
        finally:
            for link in (*linked, result):
                link.unlink(missing_ok=True)

    def _exchange(self, request: Request, path: Path, result: Path) -> tuple[RawScan, npt.NDArray[Any] | None]:
        seconds = self._settings.parser_timeout_seconds
        try:
            os.write(self._requests, request.model_dump_json().encode() + b"\n")
            message = self._answer(time.monotonic() + seconds + _GRACE_SECONDS)
            if "error" in message:
                self._restrictions = None  # the worker ends
                raise _problem(_Refusal.model_validate(message), path)
            if request.last:
                self._restrictions = None
            findings = _Findings.model_validate(message)
            arrays = read_arrays(result, max_bytes=2 * self._settings.max_decoded_bytes)
            mask_file = arrays.pop("mask_file", None)
            if (mask_file is None) != (request.mask is None) or "kspace" not in arrays or findings.name != path.name:
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
            self._restrictions = None  # another one is coming
            raise self._broken(path, died.code) from died
        except TimeoutError as error:
            self._stop()
            raise Problem(
                "invalid-file", f"{path.name} was not read within {seconds:g} s: it is damaged, or far too large"
            ) from error
        except (ValueError, ValidationError, OSError) as error:
            self._stop()
            if self._closed:
                raise Problem("internal-error", "the service is stopping") from error
            log.warning("a process that reads uploads answered what it should not (%s); it was ended", type(error))
            raise self._broken(path, None) from error
        return raw, mask_file

    def _answer(self, deadline: float) -> dict[str, Any]:
        source, message = self._line([self._answers, self._events], deadline)
        if source == self._answers:
            return message
        ended = message.get("ended")
        raise _Died(ended if isinstance(ended, int) else 1)

    def _line(self, sources: Sequence[int], deadline: float) -> tuple[int, dict[str, Any]]:
        """The next message on one of the pipes, the earlier one first."""
        while True:
            for source in sources:
                line, found, rest = self._buffers[source].partition(b"\n")
                if found:
                    self._buffers[source] = rest
                    return source, _json(line)
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
                    raise OSError("the process is gone")
                self._buffers[source] += data

    def _broken(self, path: Path, code: int | None) -> Problem:
        if code == -signal.SIGXCPU:
            seconds = self._settings.parser_timeout_seconds
            detail = f"{path.name} was not read within {seconds:g} s: it is damaged, or far too large"
        else:
            detail = f"{path.name} cannot be read: the reader failed on it; it is damaged, or made to do harm"
        return Problem("invalid-file", detail)

    def _stop(self) -> None:
        """End the process and whatever it forked; the next request starts another."""
        child, self._child, self._restrictions = self._child, None, None
        if child is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.kill()
            child.wait()
        for descriptor in (self._requests, self._answers, self._events):
            if descriptor >= 0:
                os.close(descriptor)
        self._requests = self._answers = self._events = -1
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _problem(refusal: _Refusal, path: Path) -> Problem:
    if refusal.error == "MemoryError":
        return Problem("invalid-file", f"{path.name} takes more memory to read than a file may: send fewer slices")
    kind = _ERRORS.get(refusal.error)
    if kind is None:
        raise ValueError("expected an error that a reader raises")
    return problem_of(kind(refusal.message))


def _link(file: Path, link: Path) -> None:
    """The same file under another name; a copy where the folders lie on different file systems."""
    try:
        os.link(file, link)
    except OSError:
        shutil.copyfile(file, link)


def _json(data: bytes | bytearray) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("expected flat JSON") from error
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return value


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise ValueError("expected more bytes")
    return data


def _place(name: str, one: Any, max_bytes: int) -> tuple[tuple[int, ...], np.dtype[Any], int, int]:
    """Shape, type, first byte and the one after the last of an array, checked."""
    if name not in _ALLOWED or not isinstance(one, dict) or set(one) != {"dtype", "shape", "data_offsets"}:
        raise ValueError("expected an array of a scan")
    shape, offsets = one["shape"], one["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or len(numbers) > _MAX_AXES:
            raise ValueError("expected a list of numbers")
        if not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
            raise ValueError("expected whole numbers")
    if one["dtype"] not in _ALLOWED[name] or len(shape) != _RANKS.get(name, len(shape)) or len(offsets) != 2:
        raise ValueError(f"expected another type or rank of {name}")
    dtype = np.dtype(_NUMBERS[one["dtype"]])
    size = dtype.itemsize
    for number in shape:
        size *= number
    if size > max_bytes or size != offsets[1] - offsets[0]:
        raise ValueError(f"expected another size of {name}")
    return tuple(shape), dtype, offsets[0], offsets[1]


def _fill(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    array = np.empty(shape, dtype=dtype)
    view: memoryview = array.reshape(-1).view(np.uint8).data
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]  # an unbuffered file has it
        if not count:
            raise ValueError("expected more bytes")
        view = view[count:]
    return array
