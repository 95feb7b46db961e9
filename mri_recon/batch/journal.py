"""Keep finished work in a file, so that an interrupted or repeated command does nothing twice.

The file has one JSON record in each line and only ever grows: a line that a killed process left unfinished is ignored,
and the last record of an input counts. A record counts if the command has the same settings, the input has the same
content, and the files that were written are still as they were written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mri_recon._system.files import unwritable
from mri_recon._system.jsonable import jsonable
from mri_recon._system.text import printable
from mri_recon.batch.inputs import Input
from mri_recon.batch.jobs import FileState, Outcome, input_files
from mri_recon.errors import OutputError

__all__ = ["Journal", "settings_id"]

_FORMAT = 1
_FORMAT_OF_FAILURES = 2
"""Format of a record of an input that failed; versions that knew none leave it aside."""


def settings_id(settings: Mapping[str, Any]) -> str:
    """Return a short identifier of settings: equal ones have equal identifiers, on every machine."""
    text = json.dumps(jsonable(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Journal:
    """Hold a journal within a `with` block; no other process can hold it meanwhile.

    Args:
        path: the file; it is made if there is none.
        settings: everything besides the input that decides a result.

    Raises:
        OutputError: the file cannot be written, is another file, or another command holds it.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._settings = settings_id(settings)
        self._file: IO[bytes] | None = None
        self._records: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Journal:
        try:
            self._file = self._path.open("a+b")
            _lock(self._file, self._path)
            self._records = self._read(self._file)
        except OSError as error:
            self._close()
            raise unwritable(self._path, error) from error
        except OutputError:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def finished(self, item: Input, outputs: Sequence[Path], *, retry_failed: bool = True) -> Outcome | None:
        """Return the outcome of an input that an earlier run finished and that is unchanged; None if there is none.

        Args:
            item: the input.
            outputs: files that the job writes for it.
            retry_failed: whether an input that failed counts as not finished.
        """
        record = self._records.get(item.name)
        if record is None or record["settings"] != self._settings:
            return None
        outcome = _outcome(record)
        if outcome.failed and retry_failed:
            return None
        read = [str(path.absolute()) for path in input_files(item.path)]
        written = {str(path.absolute()) for path in outputs}  # a picture may be left out
        if [one.path for one in outcome.inputs] != read or not {one.path for one in outcome.outputs} <= written:
            return None
        return outcome if all(one.is_current() for one in (*outcome.inputs, *outcome.outputs)) else None

    def has_other_settings(self, item: Input) -> bool:
        """Tell whether an input was finished with other settings."""
        record = self._records.get(item.name)
        return record is not None and record["settings"] != self._settings and not _outcome(record).failed

    def add(self, outcome: Outcome) -> None:
        """Write an outcome; it survives if the machine stops right afterwards.

        Raises:
            OutputError: the record cannot be written.
        """
        assert self._file is not None
        content = {key: value for key, value in asdict(outcome).items() if key != "resumed"}
        number = _FORMAT_OF_FAILURES if outcome.failed else _FORMAT
        record = jsonable({"format": number, "settings": self._settings, **content})
        try:
            # A line of its own, even behind a line that a killed process left unfinished.
            self._file.write(b"\n" + json.dumps(record).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._records[outcome.name] = record

    def _read(self, file: IO[bytes]) -> dict[str, dict[str, Any]]:
        file.seek(0)
        found: dict[str, dict[str, Any]] = {}
        lines = [line for line in file.read().split(b"\n") if line.strip()]
        for line in lines:
            try:
                record = json.loads(line)
                if record["format"] in (_FORMAT, _FORMAT_OF_FAILURES):
                    _outcome(record)
                    found[record["name"]] = record
            except (ValueError, KeyError, TypeError, RecursionError):  # a line that was not finished
                continue
        if lines and not found and not all(line.startswith(b'{"format"') for line in lines):
            raise OutputError(
                f"expected {printable(self._path)} to be the journal of this command, which names finished files, "
                "got another file: choose another name for the results, or move that file"
            )
        return found

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()  # gives up the lock
            self._file = None


def _outcome(record: Mapping[str, Any]) -> Outcome:
    content = {key: value for key, value in record.items() if key not in ("format", "settings")}
    inputs, outputs = (tuple(FileState(**one) for one in content.pop(key)) for key in ("inputs", "outputs"))
    notes = tuple(content.pop("notes"))
    return Outcome(**content, inputs=inputs, outputs=outputs, notes=notes, resumed=True)


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"another command is working on {printable(path)}: wait until it has ended, or choose another output"
        ) from error
    except OSError:  # a file system without locks
        return
