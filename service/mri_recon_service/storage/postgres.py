"""Keep jobs in PostgreSQL, which processes of several machines share.

A waiting job is claimed under a lock of its row that other claims skip. Changes are announced to every process by
NOTIFY. Who lost its lease (`leases`) has lost its jobs: a change names the owner of the job, and is made for no other.
"""

from __future__ import annotations

import functools
import json
import logging
import threading
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mri_recon.errors import ConfigError
from mri_recon_service import clock
from mri_recon_service.job import FINISHED, DeliveryState, Event, Job, NewJob, Status, document
from mri_recon_service.problems import Problem
from mri_recon_service.shares import admits
from mri_recon_service.storage.database import Database, code_of
from mri_recon_service.storage.rows import job_of
from mri_recon_service.storage.schema import upgrade
from mri_recon_service.storage.store import (
    Bounds,
    DeliveriesFull,
    DiskShareFull,
    JobChange,
    KeyInUse,
    QueueFull,
    StoreFault,
)
from mri_recon_service.storage.tables import deliveries, events, jobs

__all__ = ["PostgresStore"]

log = logging.getLogger("mri_recon_service")

T = TypeVar("T")

_PROGRESS_SECONDS = 2.0  # the work waits for the record of its progress
_PROBE_SECONDS = 1.0
_FOLLOW_SECONDS = 1.0
_ADDITIONS_LOCK = 0x6D7270  # held while a job is added, so that bounds are counted by one at a time
_CHANNEL = "mri_recon_jobs"

_other = jobs.alias("other")
_SELECT = select(
    jobs,
    deliveries.c.target,
    deliveries.c.state,
    deliveries.c.attempts.label("delivery_attempts"),
    deliveries.c.stored,
    deliveries.c.instances,
    deliveries.c.reason,
    deliveries.c.due,
    deliveries.c.ended,
    case(
        (
            jobs.c.status == "queued",
            select(func.count())
            .select_from(_other)
            .where(_other.c.status == "queued", _other.c.seq <= jobs.c.seq)
            .scalar_subquery(),
        )
    ).label("position"),
).select_from(jobs.outerjoin(deliveries, deliveries.c.job == jobs.c.id))


class PostgresStore:
    """Jobs in a PostgreSQL database. Processes of several machines may share it.

    Every change but progress is on the server's disk when its method returns.
    """

    def __init__(self, database: Database) -> None:
        """Bring the database's tables to this package's version.

        Raises:
            ConfigError: the database cannot be used, or a newer version of this package made its tables.
        """
        self._database = database
        self._closed = threading.Event()
        self._follower: threading.Thread | None = None
        self._lock = threading.Lock()
        self._unsure_jobs: set[str] = set()  # of additions that may have been kept after all
        self._unsure_claims: set[str] = set()
        try:
            database.transaction(upgrade)
        except (SQLAlchemyError, Problem) as error:
            cause = error.__cause__ if isinstance(error, Problem) else error
            reason = str(getattr(cause, "orig", None) or cause).partition("\n")[0]
            raise ConfigError(
                f"expected a store of jobs that can be used, got a PostgreSQL database that cannot ({reason}): correct "
                "MRI_RECON_STORE, or let its role make tables"
            ) from error

    def add(self, job: NewJob, bounds: Bounds) -> Job:
        """See `JobStore`."""

        def work(db: Connection) -> Job:
            db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADDITIONS_LOCK})
            kept = _one(db, jobs.c.id == job.id)
            if kept is not None:  # by this very call, before its connection was lost
                return kept
            if job.key is not None:
                earlier = _one(db, jobs.c.client == job.client, jobs.c.key == job.key)
                if earlier is not None:
                    raise KeyInUse(earlier)
            _check_bounds(db, job, bounds)
            db.execute(
                insert(jobs).values(
                    id=job.id,
                    kind=job.kind,
                    client=job.client,
                    status="queued",
                    request=json.dumps(job.request),
                    created=job.created,
                    deadline=job.deadline,
                    batch_key=job.batch_key,
                    memory=job.memory,
                    key=job.key,
                    fingerprint=job.fingerprint,
                    request_id=job.request_id,
                    disk_bytes=job.disk_bytes,
                )
            )
            if job.deliver is not None:
                db.execute(insert(deliveries).values(job=job.id, target=job.deliver))
            return _tell(db, job.id)

        try:
            return self._change(work)
        except Problem:
            with self._lock:
                self._unsure_jobs.add(job.id)
            raise

    def get(self, job_id: str) -> Job | None:
        """See `JobStore`."""
        if not _is_text(job_id):
            return None
        return self._database.transaction(lambda db: _one(db, jobs.c.id == job_id))

    def of_client(self, client: str, *, most: int, before: str | None = None) -> list[Job]:
        """See `JobStore`."""
        query = _SELECT.where(jobs.c.client == client).order_by(jobs.c.seq.desc()).limit(most)
        if before is not None:
            if not _is_text(before):
                return []
            older = select(_other.c.seq).where(_other.c.id == before, _other.c.client == client).scalar_subquery()
            query = query.where(jobs.c.seq < older)
        return self._database.transaction(lambda db: _found(db, query))

    def of_all(
        self, *, most: int | None = None, client: str | None = None, statuses: Collection[Status] = ()
    ) -> list[Job]:
        """See `JobStore`."""
        query = _SELECT.order_by(jobs.c.seq.desc()).limit(most)
        if client is not None:
            query = query.where(jobs.c.client == client)
        if statuses:
            query = query.where(jobs.c.status.in_(statuses))
        return self._database.transaction(lambda db: _found(db, query))

    def by_key(self, client: str, key: str) -> Job | None:
        """See `JobStore`."""
        return self._database.transaction(lambda db: _one(db, jobs.c.client == client, jobs.c.key == key))

    def queued(self) -> int:
        """See `JobStore`."""
        return self._database.transaction(lambda db: _count(db, _QUEUED))

    def oldest_waiting(self) -> float | None:
        """See `JobStore`."""
        query = select(func.min(jobs.c.created)).where(jobs.c.status == "queued")
        oldest: float | None = self._database.transaction(lambda db: db.scalar(query))
        return oldest

    def failed_with(self, code: str) -> int:
        """See `JobStore`."""
        # Not by a JSON function: they refuse a record with the escape of NUL. Its code is first (`problem_record`).
        record = jobs.c.problem.startswith(f'{{"code": {json.dumps(code)}', autoescape=True)
        query = select(func.count()).select_from(jobs).where(jobs.c.status == "failed", record)
        return self._database.transaction(lambda db: _count(db, query))

    def claim(self, owner: str, *, most: int, memory: int | None = None, alone: bool = True) -> list[Job]:
        """See `JobStore`."""
        if not self.queued():
            return []
        run = uuid.uuid4().hex

        def work(db: Connection) -> list[Job]:
            kept = db.scalars(select(jobs.c.id).where(jobs.c.run == run).order_by(jobs.c.seq)).all()
            if kept:  # by this very call, before its connection was lost
                return [_known(db, job_id) for job_id in kept]
            taken = _next(db, most=most, memory=memory, alone=alone)
            db.execute(
                update(jobs)
                .where(jobs.c.id.in_(taken))
                .values(status="running", started=clock.now(), owner=owner, run=run, began=None, progress=None)
            )
            return [_tell(db, job_id) for job_id in taken]

        return self._claimed(run, work)

    def begin(self, owner: str, jobs: Sequence[str], *, alone: bool, waiting: Sequence[str] = ()) -> None:
        """See `JobStore`."""
        began = "alone" if alone else "beside"
        self._change(lambda db: _begin(db, owner, began, jobs, waiting), durable=False)

    def progress(self, job_id: str, owner: str, progress: Mapping[str, Any]) -> None:
        """See `JobStore`."""
        record = json.dumps(progress)

        def work(db: Connection) -> None:
            if _changed(db, update(jobs).where(*_run_by(job_id, owner)).values(progress=record)):
                _announce(db, job_id, "progress", record)

        self._database.transaction(work, durable=False, patience=_PROGRESS_SECONDS)

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
        finished = clock.now()
        ours = select(func.count()).where(jobs.c.id == job_id, jobs.c.status == status, jobs.c.finished == finished)
        change = update(jobs).where(*_run_by(job_id, owner))
        values = {
            "status": status,
            "finished": finished,
            "expires": expires,
            "problem": record,
            "disk_bytes": disk_bytes,
            "owner": None,
        }

        def work(db: Connection) -> bool:
            if _changed(db, change.values(values)):
                _tell(db, job_id)
                return True
            # The time tells whether this very call ended it, before its connection was lost.
            return _count(db, ours) > 0

        return self._change(work)

    def release(self, job_id: str, owner: str) -> None:
        """See `JobStore`."""

        def work(db: Connection) -> None:
            if _changed(db, _RELEASE.where(*_run_by(job_id, owner))):
                _tell(db, job_id)

        self._change(work)

    def cancel(self, job_id: str, *, expires: float) -> Job | None:
        """See `JobStore`."""
        waits = update(jobs).where(jobs.c.id == job_id, jobs.c.status == "queued")
        runs = update(jobs).where(jobs.c.id == job_id, jobs.c.status == "running")
        ended = {"status": "cancelled", "finished": clock.now(), "expires": expires, "disk_bytes": 0}

        def work(db: Connection) -> Job | None:
            if _changed(db, waits.values(ended)):
                return _tell(db, job_id)
            if _changed(db, runs.values(stop=True)):
                _notify(db, "stop", job_id)
            return _one(db, jobs.c.id == job_id)

        return self._change(work)

    def to_stop(self, owner: str) -> set[str]:
        """See `JobStore`."""
        query = select(jobs.c.id).where(jobs.c.status == "running", jobs.c.owner == owner, jobs.c.stop)
        return self._database.transaction(lambda db: set(db.scalars(query)))

    def recover(
        self, alive: Callable[[str], bool], *, most_attempts: int, lost: Mapping[str, Any], expires: float
    ) -> list[str]:
        """See `JobStore`."""
        running = select(jobs.c.owner).where(jobs.c.status == "running")
        sending = select(deliveries.c.sender).where(deliveries.c.state == "sending")
        owners = self._database.transaction(lambda db: [*db.scalars(running.union(sending))])
        dead = [owner for owner in owners if not alive(owner)]
        for owner in dead:
            self._change(functools.partial(_recover, owner, most_attempts, lost, expires))
        return dead

    def delete(self, job_id: str) -> bool:
        """See `JobStore`."""
        gone = delete(jobs).where(jobs.c.id == job_id, jobs.c.status.in_(FINISHED))
        return self._change(lambda db: _changed(db, gone))

    def expire(self, now: float) -> list[str]:
        """See `JobStore`."""
        query = select(jobs.c.id).where(jobs.c.expires <= now, ~jobs.c.expired)
        ended = self._database.transaction(lambda db: [*db.scalars(query)])
        if ended:
            rows = select(jobs.c.id).where(jobs.c.id.in_(ended)).order_by(jobs.c.seq).with_for_update(skip_locked=True)
            self._change(
                lambda db: db.execute(update(jobs).where(jobs.c.id.in_(rows)).values(expired=True, disk_bytes=0))
            )
        return ended

    def forget(self, before: float) -> list[str]:
        """See `JobStore`."""
        query = select(jobs.c.id).where(jobs.c.expires <= before, jobs.c.expired)
        gone = self._database.transaction(lambda db: [*db.scalars(query)])
        if gone:
            rows = select(jobs.c.id).where(jobs.c.id.in_(gone)).order_by(jobs.c.seq).with_for_update(skip_locked=True)
            self._change(lambda db: db.execute(delete(jobs).where(jobs.c.id.in_(rows))))
        return gone

    def scrub(self) -> None:
        """See `JobStore`. It is the server's: autovacuum frees the room of deleted rows."""

    def known(self, job_ids: list[str]) -> set[str]:
        """See `JobStore`."""
        query = select(jobs.c.id).where(jobs.c.id.in_(filter(_is_text, job_ids)))
        return self._database.transaction(lambda db: set(db.scalars(query)))

    def events(self, job_id: str, *, after: int) -> list[Event]:
        """See `JobStore`."""
        query = (
            select(events.c.id, events.c.kind, events.c.data)
            .where(events.c.job == job_id, events.c.id > after)
            .order_by(events.c.id)
        )
        rows = self._database.transaction(lambda db: db.execute(query).all())
        return [Event(row.id, row.kind, row.data) for row in rows]

    def waiting_deliveries(self) -> int:
        """See `JobStore`."""
        return self._database.transaction(lambda db: _count(db, _UNDELIVERED))

    def claim_delivery(self, owner: str, now: float) -> Job | None:
        """See `JobStore`."""
        due = (
            select(deliveries.c.job)
            .join(jobs, jobs.c.id == deliveries.c.job)
            .where(
                deliveries.c.state == "waiting",
                jobs.c.status == "succeeded",
                or_(deliveries.c.due.is_(None), deliveries.c.due <= now),
            )
            .order_by(func.coalesce(deliveries.c.due, jobs.c.finished), jobs.c.seq)
            .limit(1)
        )
        if self._database.transaction(lambda db: db.scalar(due)) is None:
            return None
        claim = uuid.uuid4().hex

        def work(db: Connection) -> list[Job]:
            kept = db.scalar(select(deliveries.c.job).where(deliveries.c.claim == claim))
            if kept is None:
                kept = db.scalar(due.with_for_update(of=deliveries, skip_locked=True))
                if kept is None:
                    return []
                change = update(deliveries).where(deliveries.c.job == kept)
                attempts = deliveries.c.attempts + 1
                db.execute(change.values(state="sending", sender=owner, claim=claim, attempts=attempts, due=None))
            return [_known(db, kept)]

        taken = self._claimed(claim, work)
        return taken[0] if taken else None

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
        values = {
            "state": state,
            "stored": stored,
            "instances": instances,
            "reason": _as_text(reason),
            "due": due,
            "ended": ended,
            "sender": None,
        }
        self._change(lambda db: db.execute(update(deliveries).where(*_sent_by(job_id, owner)).values(values)))

    def release_delivery(self, job_id: str, owner: str) -> None:
        """See `JobStore`."""
        change = update(deliveries).where(*_sent_by(job_id, owner))
        values = {"state": "waiting", "sender": None, "attempts": deliveries.c.attempts - 1}
        self._change(lambda db: db.execute(change.values(values)))

    def fault(self) -> StoreFault | None:
        """See `JobStore`."""

        def work(db: Connection) -> None:
            db.execute(text(f"SET LOCAL statement_timeout = {int(1000 * _PROBE_SECONDS)}"))
            _count(db, _QUEUED)
            if db.scalar(text("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'")):
                raise Problem("busy", "the database takes no changes")
            if not db.scalar(text("SELECT pg_try_advisory_xact_lock_shared(:lock)"), {"lock": _ADDITIONS_LOCK}):
                db.execute(text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": _ADDITIONS_LOCK})

        try:
            self._database.transaction(work, patience=_PROBE_SECONDS)
        except Problem as problem:
            held = isinstance(problem.__cause__, DBAPIError) and code_of(problem.__cause__) == "57014"
            return "store-busy" if held else "store-failed"
        except SQLAlchemyError as error:
            log.error("the store of jobs cannot be used: %s", type(getattr(error, "orig", error)).__name__)
            return "store-failed"
        return None

    def follow(self, changed: Callable[[JobChange, str], None]) -> None:
        """See `JobStore`."""
        self._follower = threading.Thread(target=self._listen, args=(changed,), name="changes of jobs", daemon=True)
        self._follower.start()

    def close(self) -> None:
        """See `JobStore`."""
        self._closed.set()
        if self._follower is not None:
            self._follower.join(2 * _FOLLOW_SECONDS)
        self._database.close()

    def _change(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Do work that changes the store, after what earlier calls left unsure."""
        with self._lock:
            unsure_jobs, unsure_claims = set(self._unsure_jobs), set(self._unsure_claims)

        def settled(db: Connection) -> T:
            if unsure_jobs:
                db.execute(delete(jobs).where(jobs.c.id.in_(unsure_jobs), jobs.c.status == "queued"))
            if unsure_claims:
                for job_id in db.scalars(_RELEASE.where(jobs.c.run.in_(unsure_claims)).returning(jobs.c.id)).all():
                    _tell(db, job_id)
                db.execute(
                    update(deliveries)
                    .where(deliveries.c.claim.in_(unsure_claims), deliveries.c.state == "sending")
                    .values(state="waiting", sender=None, attempts=deliveries.c.attempts - 1)
                )
            return work(db)

        answer = self._database.transaction(settled, durable=durable)
        if durable:
            with self._lock:
                self._unsure_jobs -= unsure_jobs
                self._unsure_claims -= unsure_claims
        return answer

    def _claimed(self, claim: str, work: Callable[[Connection], list[Job]]) -> list[Job]:
        """Claim. Where it is not known whether the server kept the claim, the next change gives it back."""
        try:
            return self._change(work)
        except Problem:
            with self._lock:
                self._unsure_claims.add(claim)
            raise

    def _listen(self, changed: Callable[[JobChange, str], None]) -> None:
        while not self._closed.is_set():
            try:
                pooled = self._database.engine.raw_connection()
            except SQLAlchemyError:  # the tasks that wait look into the store themselves meanwhile
                self._closed.wait(_FOLLOW_SECONDS)
                continue
            try:
                connection = cast(Any, pooled.driver_connection)
                connection.autocommit = True
                connection.execute(f"LISTEN {_CHANNEL}")
                while not self._closed.is_set():
                    for one in connection.notifies(timeout=_FOLLOW_SECONDS, stop_after=1):
                        kind, _, job_id = one.payload.partition(" ")
                        changed(kind, job_id)
            except Exception as error:
                log.warning("changes of jobs by other processes come late (%s)", type(error).__name__)
                self._closed.wait(_FOLLOW_SECONDS)
            finally:
                pooled.invalidate()  # closed, since it listens
                pooled.close()


_QUEUED = select(func.count()).select_from(jobs).where(jobs.c.status == "queued")
_UNDELIVERED = (
    select(func.count())
    .select_from(deliveries.join(jobs, jobs.c.id == deliveries.c.job))
    .where(deliveries.c.state.in_(["waiting", "sending"]), jobs.c.status.not_in(["failed", "cancelled"]))
)
_RELEASE = (
    update(jobs)
    .where(jobs.c.status == "running")
    .values(
        status="queued",
        started=None,
        owner=None,
        progress=None,
        began=None,
        attempts=jobs.c.attempts - case((jobs.c.began == "alone", 1), else_=0),
    )
)


def _run_by(job_id: str, owner: str) -> tuple[ColumnElement[bool], ...]:
    return jobs.c.id == job_id, jobs.c.owner == owner, jobs.c.status == "running"


def _sent_by(job_id: str, owner: str) -> tuple[ColumnElement[bool], ...]:
    return deliveries.c.job == job_id, deliveries.c.sender == owner, deliveries.c.state == "sending"


def _next(db: Connection, *, most: int, memory: int | None, alone: bool) -> list[str]:
    """Choose and lock the jobs of a claim. Jobs that another claim has locked are passed over."""
    waiting = select(jobs).where(jobs.c.status == "queued").order_by(jobs.c.seq)
    oldest = db.execute(waiting.limit(1)).mappings().first()
    if oldest is None or (oldest["suspected"] and not alone):
        return []
    fitting = waiting if memory is None else waiting.where(jobs.c.memory <= memory)
    if not alone:
        fitting = fitting.where(~jobs.c.suspected)
    first = db.execute(fitting.limit(1).with_for_update(skip_locked=True)).mappings().first()
    if first is None:
        return []
    if memory is not None and first["memory"] > 0:  # jobs of one batch key take equal memory
        most = min(most, memory // first["memory"])
    if first["batch_key"] is None or most <= 1 or first["suspected"]:
        return [first["id"]]
    alike = (
        select(jobs.c.id)
        .where(
            jobs.c.status == "queued",
            jobs.c.batch_key == first["batch_key"],
            jobs.c.id != first["id"],
            ~jobs.c.suspected,
        )
        .order_by(jobs.c.seq)
        .limit(most - 1)
        .with_for_update(skip_locked=True)
    )
    return [first["id"], *db.scalars(alike)]


def _begin(db: Connection, owner: str, began: str, beginning: Sequence[str], waiting: Sequence[str]) -> None:
    for job_id in beginning:
        fresh = case((and_(literal(began) == "alone", jobs.c.began.is_distinct_from("alone")), 1), else_=0)
        values = {"began": began, "attempts": jobs.c.attempts + fresh}
        db.execute(update(jobs).where(*_run_by(job_id, owner)).values(values))
    for job_id in waiting:
        db.execute(update(jobs).where(*_run_by(job_id, owner)).values(began=None))


def _recover(owner: str, most_attempts: int, lost: Mapping[str, Any], expires: float, db: Connection) -> None:
    """Take the jobs and deliveries of a dead owner from it."""
    rows = db.execute(
        select(jobs.c.id, jobs.c.attempts, jobs.c.stop, jobs.c.began)
        .where(jobs.c.status == "running", jobs.c.owner == owner)
        .order_by(jobs.c.seq)
        .with_for_update()
    ).all()
    for row in rows:
        change = update(jobs).where(jobs.c.id == row.id)
        ended = {"finished": clock.now(), "expires": expires, "owner": None, "disk_bytes": 0}
        if row.stop:
            db.execute(change.values(status="cancelled", **ended))
        elif row.began == "alone" and row.attempts >= most_attempts:
            db.execute(change.values(status="failed", problem=json.dumps(lost), **ended))
        else:
            db.execute(
                change.values(
                    status="queued",
                    started=None,
                    owner=None,
                    progress=None,
                    suspected=or_(jobs.c.suspected, jobs.c.began.is_not(None)),
                    began=None,
                )
            )
        _tell(db, row.id)
    db.execute(
        update(deliveries)
        .where(deliveries.c.state == "sending", deliveries.c.sender == owner)
        .values(state="waiting", sender=None)
    )


def _check_bounds(db: Connection, job: NewJob, bounds: Bounds) -> None:
    """Check that there is room for a job.

    Raises:
        QueueFull, DiskShareFull, DeliveriesFull: there is none.
    """
    ours = jobs.c.client == job.client
    waiting = select(func.count(), func.count().filter(ours)).where(jobs.c.status == "queued")
    used, mine = db.execute(waiting).one()
    if not admits(bounds.queued, used, mine, shared=bounds.shared):
        raise QueueFull
    if bounds.disk_bytes is not None:
        kept = func.sum(jobs.c.disk_bytes)
        used, mine = db.execute(select(func.coalesce(kept, 0), func.coalesce(kept.filter(ours), 0))).one()
        if not admits(bounds.disk_bytes, int(used), int(mine), job.disk_bytes, shared=bounds.shared):
            raise DiskShareFull(int(mine))
    if job.deliver is not None and bounds.deliveries is not None and _count(db, _UNDELIVERED) >= bounds.deliveries:
        raise DeliveriesFull


def _tell(db: Connection, job_id: str) -> Job:
    """Write the event of a job's new state, announce it, and return the job."""
    job = _known(db, job_id)
    _announce(db, job_id, "end" if job.status in FINISHED else "status", json.dumps(document(job)))
    if job.status == "queued":
        _notify(db, "queued", job_id)
    return job


def _announce(db: Connection, job_id: str, kind: str, data: str) -> None:
    """Write an event. Its job's row is locked by this transaction, so that its events are numbered in their order."""
    db.execute(insert(events).values(job=job_id, kind=kind, data=data))
    _notify(db, "changed", job_id)


def _notify(db: Connection, kind: JobChange, job_id: str) -> None:
    db.execute(select(func.pg_notify(_CHANNEL, f"{kind} {job_id}")))


def _known(db: Connection, job_id: str) -> Job:
    return cast(Job, _one(db, jobs.c.id == job_id))


def _one(db: Connection, *where: ColumnElement[bool]) -> Job | None:
    found = _found(db, _SELECT.where(*where))
    return found[0] if found else None


def _found(db: Connection, query: Select[Any]) -> list[Job]:
    return [job_of(row, run=row["run"]) for row in db.execute(query).mappings()]


def _changed(db: Connection, change: Any) -> bool:
    return bool(db.execute(change).rowcount)


def _count(db: Connection, query: Select[Any]) -> int:
    return int(db.execute(query).scalar_one())


def _is_text(value: str) -> bool:
    """Tell whether PostgreSQL can hold a text. If not, no row has it."""
    return "\0" not in value and value.isprintable()


def _as_text(value: str) -> str:
    """Replace what PostgreSQL cannot hold in a text."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
