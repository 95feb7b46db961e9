"""Tell which processes are alive, on any machine: each renews a lease in the database, whose clock alone counts.

A lease that has ended may be taken, once: from then on its owner is dead, whatever it does, and its jobs go to others.
If it lives all the same (it stood still, or its network did), it finds that out at the next renewal, and goes on under
another name.
"""

from __future__ import annotations

import logging
import threading
import uuid
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from mri_recon_service.problems import Problem
from mri_recon_service.storage.database import Database
from mri_recon_service.storage.tables import owners

__all__ = ["Leases"]

log = logging.getLogger("mri_recon_service")

_RENEWALS = 6  # within the time of a lease
_NOW = func.clock_timestamp()
_TAKEN = text("'-infinity'::timestamptz")


class Leases:
    """The lease of this process, renewed in a thread, and those of others. See `store.Owner`.

    Args:
        database: the database, closed with this.
        seconds: time of a lease. A process that cannot reach the database for as long loses its jobs.
    """

    def __init__(self, database: Database, *, seconds: float) -> None:
        self._database = database
        self._time = timedelta(seconds=seconds)
        self._pause = seconds / _RENEWALS
        self._id = self._register()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @property
    def id(self) -> str:
        """See `Owner`. It changes when another process has taken the lease."""
        return self._id

    def alive(self, owner: str) -> bool:
        """See `Owner`. A lease that has ended is taken, unless the server has just started: nobody could renew it."""
        if owner == self._id:
            return True
        take = update(owners).where(owners.c.id == owner, *self._ended).values(until=_TAKEN)
        there = select(owners.c.id).where(owners.c.id == owner, owners.c.until > _TAKEN)

        def work(db: Connection) -> bool:
            db.execute(take)
            return db.scalar(there) is not None

        return self._database.transaction(work)

    def bury(self, owner: str) -> None:
        """See `Owner`."""
        self._database.transaction(lambda db: db.execute(delete(owners).where(owners.c.id == owner)))

    def sweep(self) -> None:
        """See `Owner`. A process that lives all the same finds its lease gone, as if it had been taken."""
        others = owners.c.id != self._id
        self._database.transaction(lambda db: db.execute(delete(owners).where(others, *self._ended)))

    def close(self) -> None:
        """See `Owner`."""
        self._closed.set()
        self._thread.join()
        try:
            self._database.transaction(lambda db: db.execute(delete(owners).where(owners.c.id == self._id)), patience=0)
        except (SQLAlchemyError, Problem):  # it ends by itself
            log.warning("the lease of this process is left to end")
        self._database.close()

    @property
    def _ended(self) -> tuple[ColumnElement[bool], ...]:
        started = func.pg_postmaster_start_time() + self._time
        return owners.c.until < _NOW, started < _NOW

    def _register(self) -> str:
        name = uuid.uuid4().hex
        values = insert(owners).values(id=name, until=_NOW + self._time)

        def work(db: Connection) -> None:
            if db.scalar(select(owners.c.id).where(owners.c.id == name)) is None:
                db.execute(values)

        self._database.transaction(work)
        return name

    def _renew(self) -> None:
        while not self._closed.wait(self._pause):
            try:
                if not self._database.transaction(self._extend, patience=self._pause):
                    self._id = self._register()
                    log.error("another process took the jobs of this one, which was out of reach for too long")
            except (SQLAlchemyError, Problem) as error:
                log.warning("the lease of this process could not be renewed (%s)", type(error).__name__)

    def _extend(self, db: Connection) -> bool:
        ours = update(owners).where(owners.c.id == self._id, owners.c.until > _TAKEN)
        return bool(db.execute(ours.values(until=_NOW + self._time)).rowcount)
