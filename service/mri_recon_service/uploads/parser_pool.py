"""Parse uploaded files in sandboxed child processes. Their answers are validated like untrusted input.

`ParserPool` keeps a few of them started (`uploads.parser`). A file is linked into the private folder of one process,
which can read nothing else. The arrays come back as a safetensors file; their names, types, shapes and sizes are
checked before any memory is allocated. All else comes back as one line of JSON. `mri_recon.io.RawScan.scan` then
checks the numbers.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mri_recon.errors import MriReconError
from mri_recon.io import Scan
from mri_recon.io.scan import RawScan
from mri_recon_service.buffers import Buffers, Held
from mri_recon_service.clock import now
from mri_recon_service.problems import Problem, problem_of
from mri_recon_service.settings import Settings
from mri_recon_service.uploads.isolation import Isolation, Layer
from mri_recon_service.uploads.parser_process import Bounds, Parser, TooLarge, TooSlow
from mri_recon_service.uploads.turns import Turns

__all__ = ["Parsed", "ParserPool", "TooLarge"]


log = logging.getLogger("mri_recon_service")

_COMMAND = (sys.executable, "-P", "-c", "from mri_recon_service.uploads.parser import main; main()")

_MAX_TEXT = 1000

_SMALL = 64 << 20
"""Bytes of the arrays of a small file. A process is kept for these."""

_SMALL_SECONDS = 10.0
_LEAST, _EXPANSION = 1 << 20, 8
"""Bytes of arrays that every file may have, and that it may have for each of its own."""

_COPIES = 3
"""Arrays like the k-space that are held at once: the reader's, its answer, and the service's copy of that."""

_PARSER_BASE = 1 << 30
_LEAST_SECONDS = 0.1


@dataclass(frozen=True)
class Parsed:
    """The content of a request's files.

    Attributes:
        scan: the scan.
        mask: the array of the mask file, for `choose_mask(..., mask_array=...)`; None without such a file.
    """

    scan: Scan
    mask: npt.NDArray[Any] | None


class ParserPool:
    """Processes that open uploaded files. Safe between threads; `load` blocks.

    A file is first given little memory and time, by its size. Only if it asks for more, it waits for a turn among the
    large files.

    Args:
        settings: the service's settings.
        buffers: memory of opened files. None: that of the settings, for the pool alone.
        folder: parent of the processes' folders. On another file system than the uploads, each upload is copied.
            None: the upload folder.
        command: program to start as the parser. The configuration is added as its last argument.
    """

    def __init__(
        self,
        settings: Settings,
        buffers: Buffers | None = None,
        *,
        folder: Path | None = None,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        place = folder or settings.upload_folder
        self._settings = settings
        self._processes = [Parser(settings, place, command) for _ in range(settings.parser_processes)]
        self._turns = Turns(self._processes, buffers or Buffers(settings.buffer_bytes))

    def start(self) -> None:
        """Start the processes. They import their readers while the caller goes on.

        Raises:
            OSError: the folder cannot be written to.
        """
        for process in self._processes:
            process.start()

    def close(self) -> None:
        """End the processes and delete their folders. A `load` in progress fails."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            with process.lock:
                process.stop()

    @property
    def started(self) -> int:
        """Number of processes made ready so far. Each reads a bounded number of files. A fault ends it earlier."""
        return sum(process.started for process in self._processes)

    @property
    def restrictions(self) -> Isolation:
        """The restrictions in force. Waits for the first process.

        Raises:
            Problem: internal-error, if the process does not start.
        """
        process = self._processes[0]
        with process.lock:
            return process.ready()

    @property
    def lacks(self) -> list[Layer] | None:
        """Layers of the sandbox that this machine does not have. None before the first process is ready."""
        known = self._processes[0].known
        return None if known is None else known.lacks

    @property
    def pids(self) -> list[int]:
        """Process ids of the running templates."""
        return [pid for process in self._processes if (pid := process.pid) is not None]

    def load(
        self,
        path: Path,
        *,
        axes: str | None = None,
        variable: str | None = None,
        mask_file: Path | None = None,
        client: str = "",
        deadline: float = math.inf,
        most_bytes: float = math.inf,
    ) -> Parsed:
        """Read the scan in a file, and the array in a mask file. The memory of the scan counts until it is freed.

        Args:
            path: file of the scan, in a folder that nobody else writes to.
            axes: as in `mri_recon.io.load`.
            variable: as in `mri_recon.io.load`.
            mask_file: file of a mask. None: no mask came.
            client: who sent the files; clients take turns.
            deadline: `clock.now()` after which nobody waits for the scan.
            most_bytes: bytes of the largest array that is of use, if fewer than the settings allow. Small files are
                read in any case.

        Raises:
            TooLarge: an array has more than `most_bytes`.
            Problem: the readers refuse the file; invalid-file if the file exceeds a limit or breaks the reader;
                timed-out after the deadline; internal-error if no process can be started.
        """
        for name, text in (("axes", axes), ("variable", variable)):
            if text is not None and len(text) > _MAX_TEXT:
                raise Problem("invalid-file", f"{name}: expected at most {_MAX_TEXT} characters, got {len(text)}")
        limit = int(min(self._settings.max_decoded_bytes, max(most_bytes, _SMALL)))
        stored = path.stat().st_size + (0 if mask_file is None else mask_file.stat().st_size)
        size, patient = min(limit, max(_LEAST, min(_EXPANSION * stored, _SMALL))), False
        while True:
            try:
                raw, mask, held = self._parse(
                    path, axes, variable, mask_file, client=client, deadline=deadline, size=size, patient=patient
                )
                break
            except TooLarge as error:
                if size >= limit or (error.size or 0) > limit:
                    if limit < self._settings.max_decoded_bytes:
                        raise
                    raise error.problem if error.size is None else _too_large(path, error.size, limit) from error
                size = min(limit, 2 * max(size, error.size or 0))
            except TooSlow as error:
                if now() >= deadline:
                    raise _late() from error
                if patient or size > _SMALL or self._settings.parser_timeout_seconds <= _SMALL_SECONDS:
                    raise error.problem from error
                patient = True
        try:
            scan = raw.scan()
        except MriReconError as error:
            held.release()
            raise problem_of(error) from error
        except BaseException:
            held.release()
            raise
        finalizer = weakref.finalize(scan, held.release)
        finalizer.atexit = False
        held.shrink(sum(array.nbytes for array in (raw.kspace, raw.target) if array is not None))
        return Parsed(scan, mask)

    def _parse(
        self,
        path: Path,
        axes: str | None,
        variable: str | None,
        mask_file: Path | None,
        *,
        client: str,
        deadline: float,
        size: int,
        patient: bool,
    ) -> tuple[RawScan, npt.NDArray[Any] | None, Held]:
        """Parse the files with arrays of at most `size` bytes; a `patient` turn may take all the time of the settings.

        Raises:
            TooLarge, TooSlow: the files exceed these bounds.
            Problem: as `load`.
        """
        settings = self._settings
        large = patient or size > _SMALL
        seconds = settings.parser_timeout_seconds if large else min(settings.parser_timeout_seconds, _SMALL_SECONDS)
        most = settings.parser_memory_bytes or 4 * settings.max_decoded_bytes + _PARSER_BASE
        memory = min(most, 4 * size + _PARSER_BASE)
        waits = min(deadline - now(), threading.TIMEOUT_MAX)
        try:
            with self._turns.turn(client, memory=_COPIES * size, large=large, seconds=waits) as (process, held):
                try:
                    bounds = Bounds(size, memory, max(min(seconds, deadline - now()), _LEAST_SECONDS))
                    with process.lock:
                        raw, mask = process.parse(path, bounds, axes=axes, variable=variable, mask_file=mask_file)
                except BaseException:
                    held.release()
                    raise
        except TimeoutError as error:
            raise _late() from error
        return raw, mask, held


def _too_large(path: Path, size: int, limit: int) -> Problem:
    return Problem(
        "invalid-file",
        f"expected at most {limit} bytes, an array of {path.name} takes {size}: it is damaged, or send fewer slices, "
        "or have MRI_RECON_MAX_DECODED_BYTES raised",
    )


def _late() -> Problem:
    return Problem(
        "timed-out",
        "the deadline passed before the file was read: ask again later, or give more time",
        headers={"Retry-After": "10"},
    )
