"""Share connections to PostgreSQL between threads, and outlive its restarts.

A transaction that loses its connection is repeated: the server may have kept it or not. So what is done in one must be
right when it is done twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mri_recon.errors import ConfigError
from mri_recon_service.problems import Problem, storage_full

__all__ = ["Database", "code_of", "driver_url"]

log = logging.getLogger("mri_recon_service")

T = TypeVar("T")

_RETRY_AFTER = {"Retry-After": "10"}
_PATIENCE_SECONDS = 15.0  # a restart of PostgreSQL takes less
_LONGEST_PAUSE = 0.5
_CONNECTIONS = 8
_MORE_CONNECTIONS = 24
_SETTINGS = (  # of every connection: nothing waits for ever, in the server or for it
    "-c statement_timeout=30000 -c lock_timeout=30000 -c idle_in_transaction_session_timeout=60000"
)
_CLASS_CONNECTION, _CLASS_RESOURCES, _CLASS_INTERVENTION = "08", "53", "57P"
_REPEATED = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_HELD = frozenset({"55P03", "57014"})  # lock or statement took too long
_FULL = frozenset({"53100"})


def driver_url(address: str) -> str:
    """Complete the address of a database, `postgresql://...`, by the driver that this package uses.

    Raises:
        ConfigError: it is no such address. The message does not repeat it: it may have a password.
    """
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.get_backend_name() != "postgresql":
        raise ConfigError(
            "expected an address like postgresql://user@host/database in MRI_RECON_STORE, got another: correct it, or "
            "leave it out for a file in the data folder"
        )
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


class Database:
    """Connections to one PostgreSQL database. Any thread may use them.

    Args:
        address: `postgresql://user:password@host:port/database?...`, with libpq's parameters.
        patience: seconds for which a transaction is repeated while the server cannot be reached.
    """

    def __init__(self, address: str, *, patience: float = _PATIENCE_SECONDS) -> None:
        self._patience = patience
        self.engine = create_engine(
            driver_url(address),
            pool_size=_CONNECTIONS,
            max_overflow=_MORE_CONNECTIONS,
            pool_timeout=10,
            pool_recycle=1800,
            connect_args={
                "options": _SETTINGS,
                "connect_timeout": 5,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 15000,
                "application_name": "mri-recon",
                "prepare_threshold": None,  # so that a pooler such as PgBouncer may stand between
            },
        )

    def transaction(self, work: Callable[[Connection], T], *, durable: bool = True, patience: float | None = None) -> T:
        """Do work in one transaction. It is repeated while the connection is lost, so it must bear that.

        Args:
            work: the work.
            durable: whether the changes are on the disk when this returns.
            patience: as of the class, for this one.

        Raises:
            Problem: busy, if the server cannot be reached or another process holds what is needed; storage-full. The
                transaction may have been kept all the same.
        """
        deadline = time.monotonic() + (self._patience if patience is None else patience)
        pause = 0.02
        while True:
            try:
                with self.engine.begin() as connection:
                    if not durable:
                        connection.execute(text("SET LOCAL synchronous_commit = off"))
                    return work(connection)
            except PoolTimeout as error:
                raise _busy(error) from error
            except DBAPIError as error:
                code = code_of(error)
                if code in _FULL:
                    log.error("the store of jobs: %s", type(error.orig).__name__)
                    raise storage_full() from error
                if not _repeatable(error, code):
                    if code in _HELD:
                        raise _busy(error) from error
                    raise
                if time.monotonic() >= deadline:
                    raise _busy(error) from error
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def code_of(error: SQLAlchemyError) -> str:
    """Return PostgreSQL's code of an error; "" if the server sent none, as when the connection is lost."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _repeatable(error: DBAPIError, code: str) -> bool:
    """Tell whether the connection was lost, or could not be made, or the server asks for another try."""
    if error.connection_invalidated or code in _REPEATED:
        return True
    if code:
        return code not in _HELD and code.startswith((_CLASS_CONNECTION, _CLASS_RESOURCES, _CLASS_INTERVENTION))
    return type(error.orig).__name__ in ("OperationalError", "ConnectionTimeout")


def _busy(error: Exception) -> Problem:
    log.error("the store of jobs cannot be reached or is held (%s)", _described(error))
    return Problem("busy", "the store of jobs cannot be reached: try again later", headers=_RETRY_AFTER)


def _described(error: Exception) -> str:
    """Describe an error without its message, which may repeat the address or a client's data."""
    code = code_of(error) if isinstance(error, DBAPIError) else ""
    return f"{type(getattr(error, 'orig', None) or error).__name__} {code}".strip()
