"""Fixtures: one server for a run of the tests, and an empty database for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from tests.helpers import eventually
from tests.postgres.server import Server, programs, running
from turnlock.backends.postgres import PostgresBackend, migrate
from turnlock.backends.postgres.database import Database
from turnlock.backends.postgres.lease import PostgresLease
from turnlock.clock import Clock
from turnlock.store import Store

# One for all tests, emptied after each: making one takes ten times as long.
DATABASE = "turnlock"
NO_SERVER = "no PostgreSQL server is installed (Debian: apt-get install postgresql)"

# Who is left of the test before has another's sessions no more: their numbers do not come back.
_CLEAN = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
TRUNCATE turnlock.session, turnlock.entry, turnlock.waiter;
CREATE OR REPLACE FUNCTION turnlock.clock() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT now() $$;
"""
# The database's clock, moved by what a table says.
_MOVABLE = """
CREATE TABLE IF NOT EXISTS turnlock.moved (seconds double precision NOT NULL);
DELETE FROM turnlock.moved;
INSERT INTO turnlock.moved VALUES (0);
CREATE OR REPLACE FUNCTION turnlock.clock() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT now() + make_interval(secs => (SELECT seconds FROM turnlock.moved)) $$;
"""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    found = programs()
    if found is None:
        pytest.skip(NO_SERVER)
    with running(found) as server:
        server.make_database(DATABASE)
        migrate(server.url(DATABASE))
        yield server


class TestDatabase:
    """A database with the tables, for one test."""

    __test__ = False

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.url = server.url(name)
        self._opened: list[PostgresBackend] = []

    def backend(self, *, through: int | None = None, **settings: Any) -> PostgresBackend:
        """A gateway's backend; all of one test see the same sessions. ``through``: a port."""
        url = self.url if through is None else self.server.url(self.name, port=through)
        backend = PostgresBackend(url, **settings)
        self._opened.append(backend)
        return backend

    def following(self, clock: Clock) -> PostgresBackend:
        """One for which the database's clock stands still as well, and moves with this one."""
        self.execute(_MOVABLE)
        database = _Following(self.url, clock)
        # Nobody renews a lease where no time passes.
        return self.backend(clock=clock, database=database, lease_time=3600.0)

    def move_clock(self, seconds: float) -> None:
        """Have the database's clock jump, for all its clients."""
        self.execute(f"{_MOVABLE}; UPDATE turnlock.moved SET seconds = {seconds}")

    def execute(self, text: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(text)

    def rows(self, text: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(text).fetchall()

    def close(self) -> None:
        for backend in self._opened:
            backend.close()
        self.execute(_CLEAN)


def idle(backend: PostgresBackend, connections: int) -> None:
    """Have so many connections open, and nobody who uses them."""
    with ExitStack() as used:
        for _ in range(connections):
            used.enter_context(backend._database._opened().connection())


def renewed(store: Store) -> None:
    """Returns when the lease of the store's only turn was renewed; fails if it was revoked."""
    (lease,) = store._runtime.leases()
    held = lease.held
    assert isinstance(held, PostgresLease)
    first = held.trusted_until
    eventually(lambda: held.trusted_until > first or lease.is_revoked)
    assert not lease.is_revoked


class _Following(Database):
    def __init__(self, url: str, clock: Clock) -> None:
        super().__init__(url)
        self._clock = clock
        self._begin = clock.monotonic()

    def run_each(self, *arguments: Any, **values: Any) -> list[list[Any]]:
        moved = self._clock.monotonic() - self._begin
        with self._opened().connection() as connection:
            connection.execute("UPDATE turnlock.moved SET seconds = %s", (moved,))
        return super().run_each(*arguments, **values)


@pytest.fixture
def postgres(postgres_server: Server) -> Iterator[TestDatabase]:
    database = TestDatabase(postgres_server, DATABASE)
    yield database
    database.close()
