"""Keep jobs in one SQLite file, which processes of one machine may share."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, cast

from mri_recon.errors import ConfigError
from mri_recon_service import clock
from mri_recon_service.job import FINISHED, DeliveryState, Event, Job, NewJob, Status, document
from mri_recon_service.private_files import make_private
from mri_recon_service.problems import Problem
from mri_recon_service.shares import admits
from mri_recon_service.storage.connection import Connection, is_busy
from mri_recon_service.storage.rows import job_of
from mri_recon_service.storage.store import (
    Bounds,
    DeliveriesFull,
    DiskShareFull,
    JobChange,
    KeyInUse,
    QueueFull,
    StoreFault,
)

__all__ = ["SqliteStore"]

log = logging.getLogger("mri_recon_service")

_PROBE_SECONDS = 1.0
_PROGRESS_SECONDS = 2.0  # the work waits for the record of its progress
_SCHEMA = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    client TEXT NOT NULL,
    status TEXT NOT NULL,
    request TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    expires REAL,
    deadline REAL,
    batch_key TEXT,
    memory INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    stop INTEGER NOT NULL DEFAULT 0,
    key TEXT,
    fingerprint TEXT NOT NULL,
    request_id TEXT NOT NULL,
    progress TEXT,
    problem TEXT,
    expired INTEGER NOT NULL DEFAULT 0,
    UNIQUE (client, key)
);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX events_by_job ON events (job, id);
"""
_DELIVERIES = """
CREATE TABLE deliveries (
    job TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    target TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0,
    stored INTEGER NOT NULL DEFAULT 0,
    instances INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    due REAL,
    ended REAL,
    sender TEXT
);
CREATE INDEX deliveries_by_state ON deliveries (state, due);
"""
_BLAME = """
ALTER TABLE jobs ADD COLUMN began TEXT;
ALTER TABLE jobs ADD COLUMN suspected INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN disk_bytes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX jobs_by_client ON jobs (client, status)
"""
_STEPS = (_SCHEMA, _DELIVERIES, _BLAME)
"""The changes from each version of the store to the next."""

_VERSION = len(_STEPS)
_SELECT = """
SELECT jobs.*, deliveries.target, deliveries.state, deliveries.attempts AS delivery_attempts, deliveries.stored,
deliveries.instances, deliveries.reason, deliveries.due, deliveries.ended,
CASE status WHEN 'queued' THEN (SELECT count(*) FROM jobs AS other WHERE other.status = 'queued'
AND other.seq <= jobs.seq) END AS position FROM jobs
LEFT JOIN deliveries ON deliveries.job = jobs.id
"""
_DUE = """
SELECT deliveries.job FROM deliveries JOIN jobs ON jobs.id = deliveries.job
WHERE deliveries.state = 'waiting' AND jobs.status = 'succeeded' AND (deliveries.due IS NULL OR deliveries.due <= ?)
ORDER BY coalesce(deliveries.due, jobs.finished), jobs.seq LIMIT 1
"""


class SqliteStore:
    """Jobs in one SQLite file with a write-ahead log. Processes of one machine may share the file.

    Every change but progress is on the disk (`synchronous=FULL`) when its method returns.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, and make it if it does not exist.

        Raises:
            ConfigError: the file cannot be made or read, or a newer version of this package made it.
        """
        self._path = path
        with ExitStack() as opened:  # closed again where the file cannot be used
            try:
                _keep_private(path)
                self._durable = opened.enter_context(closing(Connection(path, synchronous="FULL")))
                light = Connection(path, synchronous="NORMAL", patience=_PROGRESS_SECONDS)
                self._light = opened.enter_context(closing(light))
                # This one never waits for who writes.
                self._reads = opened.enter_context(closing(Connection(path, synchronous="NORMAL")))
                with self._durable.change() as db:
                    (version,) = db.execute("PRAGMA user_version").fetchone()
                    for step in _STEPS[version:]:
                        for statement in step.split(";"):
                            db.execute(statement)
                    db.execute(f"PRAGMA user_version = {max(version, _VERSION)}")
            except (sqlite3.Error, OSError, Problem) as error:
                raise ConfigError(
                    f"expected a store of jobs that can be written to, got {path} ({error}): check the folder's rights "
                    "and free space, or choose another by MRI_RECON_DATA_DIR"
                ) from error
            if version > _VERSION:
                raise ConfigError(
                    f"expected a store of jobs of version {_VERSION} at most, got {version} in {path}: a newer "
                    "mri-recon made it; use that one, or another folder by MRI_RECON_DATA_DIR"
                )
            opened.pop_all()

    def add(self, job: NewJob, bounds: Bounds) -> Job:
        """See `JobStore`."""
        with self._durable.change() as db:
            if job.key is not None:
                earlier = _one(db, "WHERE client = ? AND key = ?", job.client, job.key)
                if earlier is not None:
                    raise KeyInUse(earlier)
            _check_bounds(db, job, bounds)
            db.execute(
                "INSERT INTO jobs (id, kind, client, status, request, created, deadline, batch_key, memory, key, "
                "fingerprint, request_id, disk_bytes) VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(job.id, job.kind, job.client, json.dumps(job.request), job.created, job.deadline, job.batch_key),
                    *(job.memory, job.key, job.fingerprint, job.request_id, job.disk_bytes),
                ),
            )
            if job.deliver is not None:
                db.execute("INSERT INTO deliveries (job, target) VALUES (?, ?)", (job.id, job.deliver))
            return _tell(db, job.id)

    def get(self, job_id: str) -> Job | None:
        """See `JobStore`."""
        with self._reads.read() as db:
            return _one(db, "WHERE id = ?", job_id)

    def of_client(self, client: str, *, most: int, before: str | None = None) -> list[Job]:
        """See `JobStore`."""
        older = "" if before is None else "AND jobs.seq < (SELECT seq FROM jobs WHERE id = ? AND client = ?) "
        values = () if before is None else (before, client)
        with self._reads.read() as db:
            rows = db.execute(
                f"{_SELECT} WHERE client = ? {older}ORDER BY jobs.seq DESC LIMIT ?", (client, *values, most)
            ).fetchall()
        return [job_of(row) for row in rows]

    def of_all(
        self, *, most: int | None = None, client: str | None = None, statuses: Collection[Status] = ()
    ) -> list[Job]:
        """See `JobStore`."""
        wanted = "TRUE" if not statuses else f"status IN ({', '.join('?' * len(statuses))})"
        with self._reads.read() as db:
            rows = db.execute(
                f"{_SELECT} WHERE {wanted} AND (? IS NULL OR client = ?) ORDER BY jobs.seq DESC LIMIT ?",
                (*statuses, client, client, -1 if most is None else most),
            ).fetchall()
        return [job_of(row) for row in rows]

    def by_key(self, client: str, key: str) -> Job | None:
        """See `JobStore`."""
        with self._reads.read() as db:
            return _one(db, "WHERE client = ? AND key = ?", client, key)

    def queued(self) -> int:
        """See `JobStore`."""
        with self._reads.read() as db:
            return _queued(db)

    def oldest_waiting(self) -> float | None:
        """See `JobStore`."""
        with self._reads.read() as db:
            (created,) = db.execute("SELECT min(created) FROM jobs WHERE status = 'queued'").fetchone()
        return None if created is None else float(created)

    def failed_with(self, code: str) -> int:
        """See `JobStore`."""
        with self._reads.read() as db:
            found = db.execute(
                "SELECT count(*) FROM jobs WHERE status = 'failed' AND json_extract(problem, '$.code') = ?", (code,)
            )
            return int(found.fetchone()[0])

    def claim(self, owner: str, *, most: int, memory: int | None = None, alone: bool = True) -> list[Job]:
        """See `JobStore`."""
        if not self.queued():
            return []  # without waiting jobs, take no write lock
        with self._durable.change() as db:
            oldest = db.execute(
                "SELECT id, suspected FROM jobs WHERE status = 'queued' ORDER BY seq LIMIT 1"
            ).fetchone()
            if oldest is None or (oldest["suspected"] and not alone):
                return []
            first = db.execute(
                "SELECT id, batch_key, memory, suspected FROM jobs WHERE status = 'queued' "
                "AND (? IS NULL OR memory <= ?) AND (? OR NOT suspected) ORDER BY seq LIMIT 1",
                (memory, memory, alone),
            ).fetchone()
            if first is None:
                return []
            taken = [first["id"]]
            if memory is not None and first["memory"] > 0:  # jobs of one batch key take equal memory
                most = min(most, memory // first["memory"])
            if first["batch_key"] is not None and most > 1 and not first["suspected"]:
                alike = db.execute(
                    "SELECT id FROM jobs WHERE status = 'queued' AND batch_key = ? AND id != ? AND NOT suspected "
                    "ORDER BY seq LIMIT ?",
                    (first["batch_key"], first["id"], most - 1),
                )
                taken += [row["id"] for row in alike]
            now = clock.now()
            for job_id in taken:
                db.execute(
                    "UPDATE jobs SET status = 'running', started = ?, owner = ?, began = NULL, progress = NULL "
                    "WHERE id = ?",
                    (now, owner, job_id),
                )
            return [_tell(db, job_id) for job_id in taken]

    def begin(self, owner: str, jobs: Sequence[str], *, alone: bool, waiting: Sequence[str] = ()) -> None:
        """See `JobStore`."""
        began = "alone" if alone else "beside"
        changes: list[tuple[str | None, int, str, str]] = [(began, int(alone), job_id, owner) for job_id in jobs]
        changes += [(None, 0, job_id, owner) for job_id in waiting]
        with self._light.change() as db:
            db.executemany(
                "UPDATE jobs SET began = ?, attempts = attempts + ? WHERE id = ? AND owner = ? AND status = 'running'",
                changes,
            )

    def progress(self, job_id: str, owner: str, progress: Mapping[str, Any]) -> None:
        """See `JobStore`."""
        text = json.dumps(progress)
        with self._light.change() as db:
            changed = db.execute(
                "UPDATE jobs SET progress = ? WHERE id = ? AND owner = ? AND status = 'running'", (text, job_id, owner)
            )
            if changed.rowcount:
                db.execute("INSERT INTO events (job, kind, data) VALUES (?, 'progress', ?)", (job_id, text))

    def finish(
        self,
        job_id: str,
        owner: str,
        status: Status,
        *,
        problem: Mapping[str, Any] | None,
        expires: float,
        disk_bytes: int = 0,
    ) -> bool:
        """See `JobStore`."""
        record = None if problem is None else json.dumps(problem)
        with self._durable.change() as db:
            changed = db.execute(
                "UPDATE jobs SET status = ?, finished = ?, expires = ?, problem = ?, disk_bytes = ?, owner = NULL "
                "WHERE id = ? AND owner = ? AND status = 'running'",
                (status, clock.now(), expires, record, disk_bytes, job_id, owner),
            )
            if changed.rowcount:
                _tell(db, job_id)
            return bool(changed.rowcount)

    def release(self, job_id: str, owner: str) -> None:
        """See `JobStore`."""
        with self._durable.change() as db:
            changed = db.execute(
                "UPDATE jobs SET status = 'queued', started = NULL, owner = NULL, progress = NULL, began = NULL, "
                "attempts = attempts - (began IS 'alone') WHERE id = ? AND owner = ? AND status = 'running'",
                (job_id, owner),
            )
            if changed.rowcount:
                _tell(db, job_id)

    def cancel(self, job_id: str, *, expires: float) -> Job | None:
        """See `JobStore`."""
        with self._durable.change() as db:
            ended = db.execute(
                "UPDATE jobs SET status = 'cancelled', finished = ?, expires = ?, disk_bytes = 0 "
                "WHERE id = ? AND status = 'queued'",
                (clock.now(), expires, job_id),
            )
            if ended.rowcount:
                return _tell(db, job_id)
            db.execute("UPDATE jobs SET stop = 1 WHERE id = ? AND status = 'running'", (job_id,))
            return _one(db, "WHERE id = ?", job_id)

    def to_stop(self, owner: str) -> set[str]:
        """See `JobStore`."""
        with self._reads.read() as db:
            rows = db.execute("SELECT id FROM jobs WHERE status = 'running' AND owner = ? AND stop = 1", (owner,))
            return {row["id"] for row in rows}

    def recover(
        self, alive: Callable[[str], bool], *, most_attempts: int, lost: Mapping[str, Any], expires: float
    ) -> list[str]:
        """See `JobStore`."""
        with self._reads.read() as db:
            found = db.execute(
                "SELECT owner FROM jobs WHERE status = 'running' UNION SELECT sender FROM deliveries "
                "WHERE state = 'sending'"
            )
            owners = [row["owner"] for row in found]
        dead = [owner for owner in owners if not alive(owner)]
        for owner in dead:
            with self._durable.change() as db:
                rows = db.execute(
                    "SELECT id, attempts, stop, began FROM jobs WHERE status = 'running' AND owner = ? ORDER BY seq",
                    (owner,),
                ).fetchall()
                for row in rows:
                    if row["stop"]:
                        _end(db, row["id"], "cancelled", None, expires)
                    elif row["began"] == "alone" and row["attempts"] >= most_attempts:
                        _end(db, row["id"], "failed", lost, expires)
                    else:
                        db.execute(
                            "UPDATE jobs SET status = 'queued', started = NULL, owner = NULL, progress = NULL, "
                            "suspected = suspected OR began IS NOT NULL, began = NULL WHERE id = ?",
                            (row["id"],),
                        )
                    _tell(db, row["id"])
                db.execute(
                    "UPDATE deliveries SET state = 'waiting', sender = NULL WHERE state = 'sending' AND sender = ?",
                    (owner,),
                )
        return dead

    def delete(self, job_id: str) -> bool:
        """See `JobStore`."""
        with self._durable.change() as db:
            marks = ", ".join("?" * len(FINISHED))
            found = db.execute(f"DELETE FROM jobs WHERE id = ? AND status IN ({marks})", (job_id, *FINISHED))
            return bool(found.rowcount)

    def expire(self, now: float) -> list[str]:
        """See `JobStore`."""
        with self._reads.read() as db:
            rows = db.execute("SELECT id FROM jobs WHERE expires <= ? AND expired = 0", (now,)).fetchall()
        if rows:
            # On a full disk the mark waits: the caller deletes the files of these jobs, which makes room for it.
            with suppress(Problem), self._durable.change() as db:
                db.execute("UPDATE jobs SET expired = 1, disk_bytes = 0 WHERE expires <= ?", (now,))
        return [row["id"] for row in rows]

    def forget(self, before: float) -> list[str]:
        """See `JobStore`."""
        with self._reads.read() as db:
            rows = db.execute("SELECT id FROM jobs WHERE expires <= ? AND expired = 1", (before,)).fetchall()
        gone = [row["id"] for row in rows]
        if gone:
            with self._durable.change() as db:
                db.executemany("DELETE FROM jobs WHERE id = ?", [(job_id,) for job_id in gone])
        return gone

    def scrub(self) -> None:
        """See `JobStore`."""
        self._light.empty_log()

    def known(self, job_ids: list[str]) -> set[str]:
        """See `JobStore`."""
        with self._reads.read() as db:
            return {job_id for job_id in job_ids if db.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,)).fetchone()}

    def events(self, job_id: str, *, after: int) -> list[Event]:
        """See `JobStore`."""
        with self._reads.read() as db:
            rows = db.execute(
                "SELECT id, kind, data FROM events WHERE job = ? AND id > ? ORDER BY id", (job_id, after)
            ).fetchall()
        return [Event(row["id"], row["kind"], row["data"]) for row in rows]

    def waiting_deliveries(self) -> int:
        """See `JobStore`."""
        with self._reads.read() as db:
            return _undelivered(db)

    def claim_delivery(self, owner: str, now: float) -> Job | None:
        """See `JobStore`."""
        with self._reads.read() as db:
            if db.execute(_DUE, (now,)).fetchone() is None:
                return None  # without due deliveries, take no write lock
        with self._durable.change() as db:
            row = db.execute(_DUE, (now,)).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE deliveries SET state = 'sending', sender = ?, attempts = attempts + 1, due = NULL "
                "WHERE job = ?",
                (owner, row["job"]),
            )
            return _one(db, "WHERE id = ?", row["job"])

    def end_delivery(
        self,
        job_id: str,
        owner: str,
        state: DeliveryState,
        *,
        stored: int,
        instances: int,
        reason: str,
        due: float | None,
    ) -> None:
        """See `JobStore`."""
        ended = None if state == "waiting" else clock.now()
        with self._durable.change() as db:
            db.execute(
                "UPDATE deliveries SET state = ?, stored = ?, instances = ?, reason = ?, due = ?, ended = ?, "
                "sender = NULL WHERE job = ? AND state = 'sending' AND sender = ?",
                (state, stored, instances, reason, due, ended, job_id, owner),
            )

    def release_delivery(self, job_id: str, owner: str) -> None:
        """See `JobStore`."""
        with self._durable.change() as db:
            db.execute(
                "UPDATE deliveries SET state = 'waiting', sender = NULL, attempts = attempts - 1 "
                "WHERE job = ? AND state = 'sending' AND sender = ?",
                (job_id, owner),
            )

    def fault(self) -> StoreFault | None:
        """See `JobStore`."""
        address = f"{self._path.absolute().as_uri()}?mode=rw"  # a deleted file stays open in the other connections
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=_PROBE_SECONDS, isolation_level=None)) as db:
                db.execute("SELECT count(*) FROM jobs WHERE status = 'queued'").fetchone()
                db.execute("BEGIN IMMEDIATE")
                db.execute("ROLLBACK")
        except sqlite3.Error as error:
            if is_busy(error):
                return "store-busy"
            log.error("the store of jobs cannot be used: %s", error)
            return "store-failed"
        return None

    def follow(self, changed: Callable[[JobChange, str], None]) -> None:
        """See `JobStore`. The processes of one machine look into the file."""

    def close(self) -> None:
        """See `JobStore`."""
        self._durable.close()
        self._light.close()
        self._reads.close()


def _keep_private(path: Path) -> None:
    """Make the file, if it does not exist, for its owner only. SQLite gives its other files the rights of this one."""
    with suppress(FileExistsError):  # not opened, since closing it would unlock it for a store of this process
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for file in (path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal"))):
        make_private(file)


def _end(
    db: sqlite3.Connection, job_id: str, status: Status, problem: Mapping[str, Any] | None, expires: float
) -> None:
    db.execute(
        "UPDATE jobs SET status = ?, finished = ?, expires = ?, problem = ?, owner = NULL, disk_bytes = 0 WHERE id = ?",
        (status, clock.now(), expires, None if problem is None else json.dumps(problem), job_id),
    )


def _check_bounds(db: sqlite3.Connection, job: NewJob, bounds: Bounds) -> None:
    """Check that there is room for a job.

    Raises:
        QueueFull, DiskShareFull, DeliveriesFull: there is none.
    """
    waiting = "SELECT count(*), coalesce(sum(client = ?), 0) FROM jobs WHERE status = 'queued'"
    used, mine = db.execute(waiting, (job.client,)).fetchone()
    if not admits(bounds.queued, used, mine, shared=bounds.shared):
        raise QueueFull
    if bounds.disk_bytes is not None:
        kept = "SELECT coalesce(sum(disk_bytes), 0), coalesce(sum(disk_bytes * (client = ?)), 0) FROM jobs"
        used, mine = db.execute(kept, (job.client,)).fetchone()
        if not admits(bounds.disk_bytes, used, mine, job.disk_bytes, shared=bounds.shared):
            raise DiskShareFull(mine)
    if job.deliver is not None and bounds.deliveries is not None and _undelivered(db) >= bounds.deliveries:
        raise DeliveriesFull


def _queued(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM jobs WHERE status = 'queued'").fetchone()[0])


def _undelivered(db: sqlite3.Connection) -> int:
    found = db.execute(
        "SELECT count(*) FROM deliveries JOIN jobs ON jobs.id = deliveries.job "
        "WHERE deliveries.state IN ('waiting', 'sending') AND jobs.status NOT IN ('failed', 'cancelled')"
    )
    return int(found.fetchone()[0])


def _tell(db: sqlite3.Connection, job_id: str) -> Job:
    """Write the event of a job's new state, and return the job."""
    job = cast(Job, _one(db, "WHERE id = ?", job_id))
    kind = "end" if job.status in FINISHED else "status"
    db.execute("INSERT INTO events (job, kind, data) VALUES (?, ?, ?)", (job_id, kind, json.dumps(document(job))))
    return job


def _one(db: sqlite3.Connection, where: str, *values: Any) -> Job | None:
    row = db.execute(f"{_SELECT} {where}", values).fetchone()
    return None if row is None else job_of(row)
