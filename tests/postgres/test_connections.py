"""Connections that died, hang, or cannot be had: the next ones are had in time."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator

import pytest

import turnlock
from tests.conformance.test_backend import KEY, taken
from tests.helpers import LONG_PATIENCE, eventually
from tests.postgres.fixtures import TestDatabase, idle
from tests.postgres.proxy import proxy
from turnlock.backends.postgres import LEASE_TIME, PostgresBackend, database
from turnlock.backends.postgres.lease import LeaseTime, PostgresLease
from turnlock.turns.watchdog import TICK

pytestmark = pytest.mark.postgres

_END_ALL = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_FREE = 1100


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


def test_who_waits_for_a_server_that_is_down_has_it_when_it_is_back(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried for as long as there is patience, and not for as long as the pool has."""
    monkeypatch.setattr(database, "_POOL_PATIENCE", LONG_PATIENCE)
    answers: list[float] = []
    with proxy(None) as net:
        backend = postgres.backend(through=net.port)
        waiting = threading.Thread(target=lambda: answers.append(backend.now()))
        waiting.start()
        eventually(lambda: net.refused >= 5)
        net.lead_to(postgres.server.port)
        waiting.join()
        backend.close()
    assert len(answers) == 1


def test_a_renewal_is_not_kept_by_connections_that_hang(postgres: TestDatabase) -> None:
    """Of several that were open, as a pooler or a router that was replaced leaves them."""
    with proxy(postgres.server.port) as net:
        backend = postgres.backend(through=net.port, lease_time=3.0)
        lease = taken(backend)
        idle(backend, 4)
        net.freeze()
        lease.renew_at = 0.0
        assert backend.renew([lease]) == []
        assert lease.renew_at > 0.0
        backend.close()


def test_two_renewals_fit_into_what_is_left_when_the_first_is_begun_late() -> None:
    lease = PostgresLease(KEY, 1, 1, "G", (), 300.0)
    time = LeaseTime(LEASE_TIME)
    time.extend(lease, 0.0)
    assert lease.renew_at + TICK + 2 * time.patience < lease.trusted_until


def test_a_renewal_is_not_turned_away(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = postgres.backend()
    lease = taken(backend)
    monkeypatch.setattr(database, "_WAITING_MAX", 0)
    with pytest.raises(turnlock.StoreError):
        backend.now()
    lease.renew_at = 0.0
    assert backend.renew([lease]) == []
    assert lease.renew_at > 0.0


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
