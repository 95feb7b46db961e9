"""What only the PostgreSQL store has: migrations, leases, announcements, and the life after a restart of its server.

What every store has is tested in test_recovery.py and test_deliveries.py, which run for both kinds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from mri_recon.errors import ConfigError
from mri_recon_service.problems import Problem
from tests.support.postgres import PostgresServer, skip_without_postgres
from tests.support.service import new_job, until

skip_without_postgres()

from alembic.autogenerate import compare_metadata  # noqa: E402
from alembic.migration import MigrationContext  # noqa: E402
from sqlalchemy import insert, select, text, update  # noqa: E402

from mri_recon_service.storage.database import Database, driver_url  # noqa: E402
from mri_recon_service.storage.leases import Leases  # noqa: E402
from mri_recon_service.storage.postgres import PostgresStore  # noqa: E402
from mri_recon_service.storage.schema import VERSION_TABLE  # noqa: E402
from mri_recon_service.storage.store import Bounds, DiskShareFull, QueueFull  # noqa: E402
from mri_recon_service.storage.tables import metadata, owners  # noqa: E402

LOST = {"code": "worker-lost", "detail": "died", "extensions": {}}
SECONDS = 600.0  # a lease that does not end in a test


@pytest.fixture
def address(postgres: PostgresServer) -> str:
    return postgres.database()


@pytest.fixture
def database(address: str) -> Iterator[Database]:
    with closing(Database(address)) as one:
        yield one


@pytest.fixture
def store(address: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(Database(address))) as one:
        yield one


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that the test may kill."""
    server = PostgresServer()
    yield server
    server.stop()


def test_migrations_make_the_tables_that_the_code_names(store: PostgresStore, database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "version_table": VERSION_TABLE}
        )
        assert compare_metadata(context, metadata) == []


def test_a_store_of_a_newer_version_is_refused(store: PostgresStore, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="of version 0001 at most, got 9999"):
        PostgresStore(database)


def test_processes_that_start_together_make_the_tables_once(address: str) -> None:
    def start(_: int) -> int:
        with closing(PostgresStore(Database(address))) as one:
            return one.queued()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, range(4))) == [0] * 4


@pytest.mark.parametrize("wrong", ["mysql://host/name", "no address: geheim", "postgresql://geheim@host:port/name"])
def test_an_address_of_something_else_is_not_repeated(wrong: str) -> None:
    with pytest.raises(ConfigError, match="MRI_RECON_STORE") as caught:
        driver_url(wrong)
    assert "geheim" not in str(caught.value)


def test_a_database_that_is_not_there(postgres: PostgresServer) -> None:
    address = postgres.database().replace("/t", "/other", 1)
    with closing(Database(address, patience=0)) as one, pytest.raises(ConfigError, match="does not exist"):
        PostgresStore(one)


def test_no_two_claims_get_one_job(store: PostgresStore, address: str) -> None:
    names = [f"j{number}" for number in range(40)]
    for name in names:
        store.add(new_job(name, batch_key="x"), Bounds(99))

    def claim_all(owner: str) -> list[str]:
        with closing(PostgresStore(Database(address))) as one:
            taken: list[str] = []
            while one.queued():
                taken += [job.id for job in one.claim(owner, most=3)]
            return taken

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(claim_all, "abcd"))
    assert sorted(name for taken in found for name in taken) == sorted(names)


def test_bounds_hold_between_processes(store: PostgresStore, address: str) -> None:
    def add(number: int) -> int:
        try:
            store.add(replace(new_job(f"j{number}"), disk_bytes=10), Bounds(9, disk_bytes=50))
        except (QueueFull, DiskShareFull):
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(24))) == 5


def test_a_lease_that_ended_is_taken_for_ever(address: str, store: PostgresStore) -> None:
    database = Database(address)
    ours, other = Leases(database, seconds=SECONDS), Leases(Database(address), seconds=SECONDS)
    store.add(new_job("j"), Bounds(9))
    store.claim(other.id, most=1)
    name = other.id
    assert ours.alive(name)
    assert not ours.alive("nobody")

    def end(seconds: float) -> None:
        """Let both lease and start of the server be long ago."""
        ours._time *= 0
        with database.engine.begin() as connection:
            ended = text(f"clock_timestamp() - interval '{seconds} s'")
            connection.execute(update(owners).where(owners.c.id == name).values(until=ended))

    end(1)
    assert store.recover(ours.alive, most_attempts=3, lost=LOST, expires=9) == [name]
    other._pause = 0
    assert not store.finish("j", name, "succeeded", problem=None, expires=9)  # its result counts no more
    (job,) = store.claim(ours.id, most=1)
    assert job.run != ""
    store.progress("j", name, {"iteration": 1})
    store.release("j", name)
    found = store.get("j")
    assert found is not None
    assert (found.status, found.owner, found.progress) == ("running", ours.id, None)
    assert not ours.alive(name)  # though it renews
    other.close()
    ours.close()
    database.close()


def test_who_lost_its_lease_goes_on_under_another_name(address: str, store: PostgresStore) -> None:
    lease = Leases(Database(address), seconds=0.3)
    first = lease.id
    other = Leases(Database(address), seconds=SECONDS)
    other.bury(first)
    until(lambda: lease.id != first)
    assert other.alive(lease.id)
    assert not other.alive(first)
    lease.close()
    assert not other.alive(lease.id)
    other.close()


def test_ended_leases_are_swept(address: str, store: PostgresStore) -> None:
    database = Database(address)
    ours, other = Leases(database, seconds=SECONDS), Leases(Database(address), seconds=SECONDS)
    with database.engine.begin() as connection:
        ended = {"until": text("clock_timestamp() - interval '1 s'")}
        connection.execute(insert(owners).values(id="dead", **ended))
    ours._time *= 0  # the server started long ago
    ours.sweep()
    with database.engine.begin() as connection:
        assert set(connection.scalars(select(owners.c.id))) >= {ours.id, other.id}
        assert "dead" not in set(connection.scalars(select(owners.c.id)))
    other.close()
    ours.close()


def test_nobody_is_dead_because_the_server_was(address: str, store: PostgresStore) -> None:
    """While it was down nobody could renew a lease."""
    ours, other = Leases(Database(address), seconds=SECONDS), Leases(Database(address), seconds=SECONDS)
    with ours._database.engine.begin() as connection:
        connection.execute(update(owners).values(until=text("clock_timestamp() - interval '1 s'")))
    assert ours.alive(other.id)  # the server started less than the time of a lease ago
    ours.close()
    other.close()


def test_other_processes_are_told_of_changes(store: PostgresStore, address: str) -> None:
    told: list[tuple[str, str]] = []
    with closing(PostgresStore(Database(address))) as other:
        other.follow(lambda kind, job_id: told.append((kind, job_id)))

        def add_until_heard() -> bool:
            store.add(new_job(f"probe{len(told)}-{threading.get_ident()}-{store.queued()}"), Bounds(999))
            return bool(told)

        until(add_until_heard)  # the listener may start late
        del told[:]
        store.add(new_job("j"), Bounds(999))
        store.cancel("j", expires=9)
        until(lambda: len([one for one in told if one[1] == "j"]) == 3)
        assert [one for one in told if one[1] == "j"] == [("changed", "j"), ("queued", "j"), ("changed", "j")]
        while (taken := store.claim("a", most=1)) and taken[0].id.startswith("probe"):
            store.cancel(taken[0].id, expires=9)
        until(lambda: any(kind == "stop" for kind, _ in told))


def test_a_restart_of_the_server_is_outlived(own_server: PostgresServer) -> None:
    """What was kept before is there; what is asked meanwhile waits; what was told stays true."""
    address = own_server.database()
    with closing(PostgresStore(Database(address))) as store, ThreadPoolExecutor(8) as pool:
        accepted: list[str] = []
        for round_ in range(3):
            adding = [pool.submit(store.add, new_job(f"j{round_}-{number}"), Bounds(99)) for number in range(8)]
            own_server.kill()
            own_server.start()
            accepted += [one.result().id for one in adding]
            claimed = store.claim("a", most=1)
            assert store.finish(claimed[0].id, "a", "succeeded", problem=None, expires=9)
        assert store.queued() == len(accepted) - 3
        assert store.known(accepted) == set(accepted)


def test_a_server_that_stays_away_is_a_problem(own_server: PostgresServer) -> None:
    address = own_server.database()
    with closing(PostgresStore(Database(address, patience=0.2))) as store:
        store.add(new_job("before"), Bounds(9))
        own_server.kill()
        with pytest.raises(Problem, match="cannot be reached") as caught:
            store.add(new_job("refused"), Bounds(9))
        assert (caught.value.code, caught.value.headers) == ("busy", {"Retry-After": "10"})
        assert store.fault() == "store-failed"
        own_server.start()
        assert store.fault() is None
        store.add(new_job("after"), Bounds(9))
        assert store.known(["before", "refused", "after"]) == {"before", "after"}


def test_what_the_server_kept_although_it_did_not_say_so(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks after the commit: a repeated call finds its own change, one that gave up takes it back."""
    whole = Database.transaction

    def twice(self: Database, work: Any, **more: Any) -> Any:
        whole(self, work, **more)  # as if this had brought no answer
        return whole(self, work, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "transaction", twice)
        store.add(new_job("j", key="k"), Bounds(1))
        (job,) = store.claim("a", most=1)
        store.begin("a", ["j"], alone=True)
        assert store.finish("j", "a", "failed", problem=LOST, expires=9)
    found = store.get("j")
    assert found is not None
    assert (found.attempts, found.run) == (1, job.run)
    assert [one.kind for one in store.events("j", after=0)] == ["status", "status", "end"]

    def lost(self: Database, work: Any, **more: Any) -> Any:
        if getattr(work, "__name__", "") == "settled":
            whole(self, work, **more)
            raise Problem("busy", "lost")
        return whole(self, work, **more)

    store.add(new_job("taken"), Bounds(9))
    with monkeypatch.context() as patch:
        patch.setattr(Database, "transaction", lost)
        with pytest.raises(Problem, match="lost"):
            store.claim("a", most=1)
        with pytest.raises(Problem, match="lost"):
            store.add(new_job("unsure"), Bounds(9))
    store.add(new_job("next"), Bounds(9))
    assert store.get("unsure") is None
    assert store.queued() == 2
    assert [job.id for job in store.claim("b", most=1)] == ["taken"]


def test_texts_that_the_server_cannot_hold(store: PostgresStore) -> None:
    assert store.get("a\0b") is None
    assert store.of_client("", most=1, before="\udcff") == []
    assert store.known(["a\0b"]) == set()
    store.add(new_job("j", deliver="t"), Bounds(9))
    store.claim("a", most=1)
    store.finish("j", "a", "succeeded", problem={**LOST, "detail": "NUL \0"}, expires=9)
    store.claim_delivery("a", 9e12)
    store.end_delivery("j", "a", "failed", stored=0, instances=1, reason="what it said: \0", due=None)
    found = store.get("j")
    assert found is not None
    assert found.problem == {**LOST, "detail": "NUL \0"}
    assert found.delivery is not None
    assert found.delivery.reason == "what it said: \N{REPLACEMENT CHARACTER}"
