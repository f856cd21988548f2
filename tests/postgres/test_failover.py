"""The primary is lost, its standby promoted: turns go on, and nothing acknowledged is lost."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

import turnlock
from tests.helpers import eventually, kinds
from tests.postgres.fixtures import DATABASE, NO_SERVER, idle, renewed
from tests.postgres.server import Server, programs, running
from turnlock.backends.postgres import PostgresBackend, database, migrate
from turnlock.store import Store
from turnlock.turns.sync import Turn

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]

_STREAMING = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
# What is acknowledged is on both.
_SYNCHRONOUS = "ALTER SYSTEM SET synchronous_standby_names = '*'"


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary and its standby, which confirms every commit."""
    found = programs()
    if found is None or not (found / "pg_basebackup").exists():
        pytest.skip(NO_SERVER)
    with running(found) as primary:
        migrate(primary.make_database(DATABASE))
        with running(found, primary=primary) as standby:
            eventually(lambda: value(primary, _STREAMING) == 1, patience=60)
            primary.admin(sql.SQL(_SYNCHRONOUS))
            primary.admin(sql.SQL("SELECT pg_reload_conf()"))
            eventually(lambda: value(primary, "SHOW synchronous_standby_names") == "*")
            yield primary, standby


def value(server: Server, query: str) -> object:
    with psycopg.connect(server.url("postgres")) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def both(primary: Server, standby: Server) -> str:
    """A URL that names both, as the documentation says."""
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    return f"postgresql://postgres@{hosts}/{DATABASE}"


def test_a_turn_goes_on_over_a_failover(
    pair: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No gateway is restarted, no URL changed; what failed is told within the budget."""
    monkeypatch.setattr(database, "_POOL_PATIENCE", 2.0)
    primary, standby = pair
    backend = PostgresBackend(both(primary, standby), lease_time=300.0)
    with Store(backend, location="test") as store:
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("before"))
            epoch = turn.epoch
            primary.crash()
            # The standby answers, and may not be written: that is no place to go on.
            with pytest.raises(turnlock.StoreError):
                turn.append(turnlock.user("lost"))
            standby.promote()
            appended(turn, "after")
            assert turn.epoch == epoch
        with store.turn("main/b") as turn:
            turn.append(turnlock.user("new"))
        assert kinds(store) == ["turn", "user:before", "user:after", "end"]
        assert kinds(store, "main/b") == ["turn", "user:new", "end"]


def test_a_turn_that_appends_nothing_goes_on_over_a_failover(pair: tuple[Server, Server]) -> None:
    """With a lease as long as anybody's, and with connections that were idle: all of them die."""
    primary, standby = pair
    backend = PostgresBackend(both(primary, standby))
    with Store(backend, location="test") as store:
        with store.turn("main/a") as turn:
            idle(backend, 10)
            turn.append(turnlock.user("before"))
            primary.crash()
            standby.promote()
            renewed(store)
            turn.append(turnlock.user("after"))
        assert kinds(store) == ["turn", "user:before", "user:after", "end"]


def appended(turn: Turn, text: str) -> None:
    """As soon as there is a primary again."""

    def tried() -> bool:
        try:
            turn.append(turnlock.user(text) | {"id": text})
        except turnlock.StoreError:
            return False
        return True

    eventually(tried, patience=60)


def test_a_holder_of_before_the_failover_is_fenced_after_it(pair: tuple[Server, Server]) -> None:
    """The fence is in the row, so it goes where the row goes."""
    primary, standby = pair
    url = both(primary, standby)
    one, other = (Store(PostgresBackend(url, lease_time=300.0), location="t") for _ in range(2))
    with pytest.raises(turnlock.LeaseRevoked), one.turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("1"))
        assert other.revoke("main/a")
        primary.crash()
        standby.promote()
        appended(turn, "late")
    assert kinds(other) == ["turn", "user:1", "operator"]
    one.close()
    other.close()
