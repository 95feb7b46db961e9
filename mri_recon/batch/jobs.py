"""Describe the work on one file, and do it: an error becomes part of the outcome, and the other files go on."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mri_recon._system.files import is_full, remove_unfinished
from mri_recon._system.hashes import file_sha256, file_size
from mri_recon._system.reasons import DEBUG, explain
from mri_recon.batch.inputs import Input

__all__ = ["Aide", "FileState", "Job", "Outcome", "file_state", "input_files", "perform"]

_BESIDE = {".cfl": lambda path: path.with_suffix(".hdr"), "fid": lambda path: path.with_name("procpar")}
"""The second file of a format that has two, by the suffix or name of the first."""


@dataclass(frozen=True)
class Aide:
    """Give a job what it needs from the process that runs it.

    Attributes:
        reserve: wait until this many bytes of memory are free for the job.
        report: show a step of the work: its text, the finished amount and the total (None if unknown).
    """

    reserve: Callable[[int], None] = lambda num_bytes: None
    report: Callable[[str, int, int | None], None] = lambda text, done, total: None


class Job(Protocol):
    """Describe the work that is done on each file; it is pickled when it goes to another process."""

    def settings(self) -> Mapping[str, Any]:
        """Name everything besides the input that decides the result: options, versions, other files."""
        ...

    def outputs(self, item: Input) -> list[Path]:
        """List the files that are written for an input."""
        ...

    def run(self, item: Input, aide: Aide) -> Mapping[str, Any]:
        """Do the work, and return what is to be known of it, as JSON."""
        ...


@dataclass(frozen=True)
class FileState:
    """Identify the content of a file: by size and time, or by its SHA-256.

    Attributes:
        path: the file.
        size: bytes.
        mtime_ns: time of the last change.
        sha256: of the content; "" if it was not computed.
    """

    path: str
    size: int
    mtime_ns: int
    sha256: str = ""

    def is_current(self) -> bool:
        """Tell whether the file still has this content. It is read again only where its time has changed."""
        try:
            now = Path(self.path).stat()
            if (now.st_size, now.st_mtime_ns) == (self.size, self.mtime_ns):
                return True
            return bool(self.sha256) and now.st_size == self.size and file_sha256(Path(self.path)) == self.sha256
        except Exception:  # gone, or not readable
            return False


@dataclass(frozen=True)
class Outcome:
    """Hold what became of one file.

    Attributes:
        name: name of the input.
        error: why it failed, in one line; "" if it did not.
        result: what the job returned; empty if it failed.
        inputs: state of the files that were read.
        outputs: state of the files that were written.
        seconds: time of the work.
        notes: warnings of libraries.
        resumed: whether an earlier run did the work.
    """

    name: str
    error: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[FileState, ...] = ()
    outputs: tuple[FileState, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    resumed: bool = False

    @property
    def failed(self) -> bool:
        """Whether the file could not be processed."""
        return bool(self.error)


def perform(job: Job, item: Input, aide: Aide) -> Outcome:
    """Do the work on one file. Any error of it is in the outcome, but for a full disk, which all files share.

    Raises:
        OutputError, OSError: a full disk.
    """
    start = time.perf_counter()
    inputs: tuple[FileState, ...] = ()
    outputs = job.outputs(item)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("default")
            inputs = tuple(file_state(path) for path in input_files(item.path))
            for path in outputs:
                path.parent.mkdir(parents=True, exist_ok=True)
                remove_unfinished(path)
            result = job.run(item, aide)
        written = tuple(file_state(path, content=False) for path in outputs if path.exists())
    except Exception as error:
        if is_full(error):
            raise
        if os.environ.get(DEBUG):
            traceback.print_exception(error)
        return Outcome(item.name, explain(error), inputs=inputs, seconds=time.perf_counter() - start)
    notes = tuple(dict.fromkeys(str(one.message) for one in warned))
    return Outcome(item.name, "", result, inputs, written, time.perf_counter() - start, notes)


def input_files(path: Path) -> list[Path]:
    """List the files that are read for an input: the file, and the second one of a format of two files."""
    beside = _BESIDE.get(path.suffix.lower()) or _BESIDE.get(path.name)
    second = None if beside is None else beside(path)
    return [path] if second is None or not second.exists() else [path, second]


def file_state(path: Path, *, content: bool = True) -> FileState:
    """Identify a file as it is now.

    Args:
        path: the file.
        content: whether to compute its SHA-256 too.

    Raises:
        FormatError: the file cannot be read.
    """
    file_size(path)  # a clear error where there is no file
    found = path.stat()
    return FileState(str(path.absolute()), found.st_size, found.st_mtime_ns, file_sha256(path) if content else "")
