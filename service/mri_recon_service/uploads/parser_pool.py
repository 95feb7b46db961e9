"""Parse uploaded files in sandboxed child processes. Their answers are validated like untrusted input.

`ParserPool` keeps a few of them started (`uploads.parser`). A file is linked into the private folder of one process,
which can read nothing else. The arrays come back as a safetensors file; their names, types, shapes and sizes are
checked before any memory is allocated. All else comes back as one line of JSON. `mri_recon.io.RawScan.scan` then
checks the numbers.
"""

from __future__ import annotations

import logging
import queue
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mri_recon.errors import MriReconError
from mri_recon.io import Scan
from mri_recon_service.problems import Problem, problem_of
from mri_recon_service.settings import Settings
from mri_recon_service.uploads.isolation import Isolation
from mri_recon_service.uploads.parser_process import Parser

__all__ = [
    "Parsed",
    "ParserPool",
]


log = logging.getLogger("mri_recon_service")

_COMMAND = (sys.executable, "-P", "-c", "from mri_recon_service.uploads.parser import main; main()")

_MAX_TEXT = 1000


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

    Args:
        settings: the service's settings.
        folder: parent of the processes' folders. On another file system than the uploads, each upload is copied.
            None: the upload folder.
        command: program to start as the parser. The configuration is added as its last argument.
    """

    def __init__(self, settings: Settings, *, folder: Path | None = None, command: Sequence[str] = _COMMAND) -> None:
        place = Path(folder or settings.upload_dir or tempfile.gettempdir())
        self._processes = [Parser(settings, place, command) for _ in range(settings.parser_processes)]
        self._idle: queue.LifoQueue[Parser] = queue.LifoQueue()
        for process in self._processes:
            self._idle.put(process)

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
    def isolation(self) -> str | None:
        """Means that keep the network away, "namespace" or "seccomp", or None. Waits for the first process."""
        return self.restrictions.network

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
    def pids(self) -> list[int]:
        """Process ids of the running templates."""
        return [pid for process in self._processes if (pid := process.pid) is not None]

    def load(
        self, path: Path, *, axes: str | None = None, variable: str | None = None, mask_file: Path | None = None
    ) -> Parsed:
        """Read the scan in a file, and the array in a mask file.

        Args:
            path: file of the scan, in a folder that nobody else writes to.
            axes: as in `mri_recon.io.load`.
            variable: as in `mri_recon.io.load`.
            mask_file: file of a mask. None: no mask came.

        Raises:
            Problem: the readers refuse the file; invalid-file if the file exceeds a limit or breaks the reader;
                internal-error if no process can be started.
        """
        for name, text in (("axes", axes), ("variable", variable)):
            if text is not None and len(text) > _MAX_TEXT:
                raise Problem("invalid-file", f"{name}: expected at most {_MAX_TEXT} characters, got {len(text)}")
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
