"""Share one SQLite connection between threads, and report a full or failing disk as a `Problem`."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mri_recon_service.problems import Problem, storage_full

__all__ = ["Connection", "is_busy"]

log = logging.getLogger("mri_recon_service")

_RETRY_AFTER = {"Retry-After": "10"}
_DISK = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})


class Connection:
    """One connection with a write-ahead log. Threads use it one after the other.

    Args:
        path: the database file, made if it does not exist.
        synchronous: SQLite's setting: "FULL" writes every change to the disk before it returns, "NORMAL" may lose the
            latest changes in a power cut.
        patience: seconds to wait for another process that changes the file.
    """

    def __init__(self, path: Path, *, synchronous: str, patience: float = 30.0) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {synchronous}")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for a block that changes nothing."""
        with self._lock, _disk():
            yield self._db

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Make the block one transaction: all of its changes are kept, or none."""
        with self._lock, _disk():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:  # SQLite may have rolled back itself
                    with suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                if _of_the_disk(error):
                    self._reuse_log()
                raise

    def _reuse_log(self) -> None:
        """Move the changes in the write-ahead log into the file, so that the next change begins the log again.

        If only the log had no room on the disk, the next change has room: the log need not grow for it.
        """
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def empty_log(self) -> None:
        """Move the write-ahead log into the file and cut it, unless another process reads from it for long."""
        with self.read() as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


@contextmanager
def _disk() -> Iterator[None]:
    """Turn SQLite's errors about a full or failing disk, or a file that another process holds, into a `Problem`."""
    try:
        yield
    except sqlite3.Error as error:
        if is_busy(error):
            log.error("the store of jobs: another process keeps it from changes (%s)", error)
            raise Problem(
                "busy", "another process keeps the store of jobs: try again later", headers=_RETRY_AFTER
            ) from error
        if not _of_the_disk(error):
            raise
        log.error("the store of jobs: %s (%s)", error, getattr(error, "sqlite_errorname", "no name"))
        raise storage_full() from error


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether an error is SQLite's report that another connection holds the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _of_the_disk(error: BaseException) -> bool:
    """Tell whether an error is SQLite's report of a full or failing disk."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its extension, the failed step
    return isinstance(error, sqlite3.Error) and code in _DISK
