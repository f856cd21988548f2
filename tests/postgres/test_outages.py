"""The server crashes, or takes no more connections: typed errors, nothing lost, no restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import turnlock
from tests.conformance.test_backend import KEY, request, taken
from tests.helpers import LONG_PATIENCE, eventually, kinds
from tests.postgres.fixtures import DATABASE, NO_SERVER, TestDatabase, idle, renewed
from tests.postgres.server import Server, programs, running
from turnlock.backends import Holder
from turnlock.backends.postgres import PostgresBackend, database, migrate
from turnlock.store import Store

pytestmark = pytest.mark.postgres


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that no other test uses."""
    found = programs()
    if found is None:
        pytest.skip(NO_SERVER)
    with running(found) as server:
        migrate(server.make_database(DATABASE))
        yield server


def test_a_turn_goes_on_over_a_crash_of_the_server(
    own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_POOL_PATIENCE", 2.0)
    backend = PostgresBackend(own_server.url(DATABASE), lease_time=300.0)
    with Store(backend, location="test") as store:
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("before"))
            own_server.crash()
            with pytest.raises(turnlock.StoreError) as caught:
                turn.append(turnlock.user("lost") | {"id": "mine"})
            assert caught.value.operation == "read"  # whether the id is there already
            own_server.start()
            turn.append(turnlock.user("after") | {"id": "mine"})
        assert kinds(store) == ["turn", "user:before", "user:after", "end"]
        # The line is gone with the crash, and everybody can stand in it again.
        backend.line_up(KEY).close()


def test_a_turn_that_appends_nothing_goes_on_over_a_restart_of_the_server(
    own_server: Server,
) -> None:
    """With a lease as long as anybody's, and with connections that were idle: all of them die."""
    backend = PostgresBackend(own_server.url(DATABASE))
    with Store(backend, location="test") as store:
        with store.turn("main/a") as turn:
            idle(backend, 10)
            turn.append(turnlock.user("before"))
            own_server.crash()
            own_server.start()
            renewed(store)
            turn.append(turnlock.user("after"))
        assert kinds(store) == ["turn", "user:before", "user:after", "end"]


def test_a_server_without_a_free_connection_is_named_as_the_reason(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_POOL_PATIENCE", 1.0)
    postgres.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
    try:
        url = postgres.server.url(DATABASE, user="crowded")
        with turnlock.open_store(url) as store:
            with pytest.raises(turnlock.StoreError) as caught:
                store.turn("main/a").__enter__()
            assert "too many connections" in caught.value.why
            # It goes on by itself when there is room, though not by the very next attempt.
            postgres.execute("ALTER ROLE crowded CONNECTION LIMIT -1 SUPERUSER")
            eventually(lambda: worked(store), patience=LONG_PATIENCE)
            assert kinds(store) == ["turn", "user:x", "end"]
    finally:
        postgres.execute("DROP ROLE crowded")


def worked(store: Store) -> bool:
    try:
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("x"))
    except turnlock.StoreError:
        return False
    return True


def test_a_session_of_a_standby_is_no_place_to_write(postgres: TestDatabase) -> None:
    """After a fail-over a connection may be to a server that only reads; it is used once."""
    backend = postgres.backend()
    taken(backend)
    with backend._database._opened().connection() as connection:
        connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(turnlock.StoreError, match="read-only"):
        backend.take(KEY, request())
    assert isinstance(backend.take(KEY, request()), Holder)


def test_everything_of_the_crash_is_in_the_past(own_server: Server) -> None:
    """What was acknowledged before a crash is there after it, byte for byte."""
    with turnlock.open_store(own_server.url(DATABASE)) as store:
        with store.turn("main/a") as turn:
            turn.append(*(turnlock.user(f"{number} é\\n\u2028") for number in range(50)))
        before = [line.raw for line in store.read_lines("main/a")]
        own_server.crash()
        own_server.start()
        assert [line.raw for line in store.read_lines("main/a")] == before
    with psycopg.connect(own_server.url(DATABASE)) as connection:
        rows = connection.execute("SELECT line FROM turnlock.entry ORDER BY byte_offset")
        assert [row[0].encode() for row in rows] == before


def test_what_a_pooler_says_of_a_server_that_went_away_is_asked_again(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PgBouncer has one code for it all, also when the statement was sent: 08P01."""
    backend = postgres.backend()
    execute: Any = psycopg.Connection.execute
    failures = [psycopg.errors.ProtocolViolation("server conn crashed?")]

    def fails_once(*arguments: object, **options: object) -> object:
        if failures:
            raise failures.pop()
        return execute(*arguments, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", fails_once)
    backend.release(taken(backend))
    assert failures == []
