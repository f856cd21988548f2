"""Connections that died, hang, or cannot be had: the next ones are had in time."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import turnlock
from tests.helpers import LONG_PATIENCE, eventually
from tests.postgres.fixtures import TestDatabase
from tests.postgres.proxy import proxy
from turnlock.backends.postgres import PostgresBackend, database

pytestmark = pytest.mark.postgres

_END_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_FREE = 1100


def idle(backend: PostgresBackend, connections: int) -> None:
    """Have so many connections open, and nobody who uses them."""
    with ExitStack() as used:
        for _ in range(connections):
            used.enter_context(backend._database._opened().connection())


def test_after_a_restart_of_the_server_the_first_call_works(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connections were idle: a dead one costs no wait, and no call."""
    # Less than psycopg's pool would wait before it looks at the third.
    monkeypatch.setattr(database, "_POOL_PATIENCE", 2.5)
    backend = postgres.backend()
    idle(backend, 10)
    postgres.execute(_END_ALL)
    assert backend.now() > 0


def test_after_a_long_outage_calls_work_again(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who waited in vain count no more among those who wait."""
    monkeypatch.setattr(database, "_POOL_PATIENCE", 0.1)
    monkeypatch.setattr(database, "_WAITING_MAX", 2)
    monkeypatch.setattr(database, "_RECONNECT", 0.1)
    with proxy(None) as net:
        backend = postgres.backend(through=net.port)
        for _ in range(4):
            with pytest.raises(turnlock.StoreError):
                backend.now()
        net.lead_to(postgres.server.port)
        eventually(lambda: works(backend), patience=LONG_PATIENCE)
        backend.close()


def test_an_outage_of_days_fills_no_memory_with_those_who_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "_POOL_PATIENCE", 0.1)
    monkeypatch.setattr(database, "_IN_VAIN_MAX", 2)
    with proxy(None) as net:
        one = database.Database(f"postgresql://127.0.0.1:{net.port}/db")
        pools = []
        for _ in range(3):
            pools.append(one._opened())
            with pytest.raises(turnlock.StoreError):
                one.run("look", "now")
        assert pools[0] is pools[1]
        assert pools[2] is not pools[1]
        assert pools[1].closed
        one.close()


def works(backend: PostgresBackend) -> bool:
    try:
        return backend.now() > 0
    except turnlock.StoreError:
        return False


@pytest.fixture
def many_files() -> Iterator[None]:
    """Every descriptor that `select` could be asked for is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * _FREE:
        pytest.skip(f"not run here: no more than {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * _FREE), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(_FREE)]
    try:
        yield
    finally:
        for one in opened:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_process_with_thousands_of_files_has_connections(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_POOL_PATIENCE", 2.0)
    assert postgres.backend().now() > 0
