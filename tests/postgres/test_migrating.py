"""The tables are made by ``migrate``, which is safe beside gateways and beside itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

import turnlock
from tests.helpers import kinds
from tests.postgres.fixtures import TestDatabase
from tests.postgres.server import Server
from turnlock.backends.postgres import VERSION, PostgresBackend, migrate
from turnlock.backends.postgres.migrating import WORKS_WITH, migrations
from turnlock.store import Store

pytestmark = pytest.mark.postgres


@pytest.fixture
def empty(postgres_server: Server) -> Iterator[str]:
    """The URL of a database without tables."""
    yield postgres_server.make_database("nothing_in_it")
    postgres_server.drop("nothing_in_it")


def test_every_version_has_one_file_and_says_whom_it_works_with() -> None:
    assert [one.version for one in migrations()] == sorted(WORKS_WITH)
    assert all(oldest <= version for version, oldest in WORKS_WITH.items())


def test_a_database_without_tables_says_what_to_do(empty: str) -> None:
    with turnlock.open_store(empty) as store, pytest.raises(turnlock.StoreError) as caught:
        store.turn("main/a").__enter__()
    assert "turnlock db migrate" in caught.value.hint
    assert caught.value.path.endswith("/nothing_in_it")


def test_migrating_twice_changes_nothing_the_second_time(empty: str) -> None:
    assert [one.version for one in migrate(empty)] == sorted(WORKS_WITH)
    assert migrate(empty) == []
    with turnlock.open_store(empty) as store, store.turn("main/a") as turn:
        turn.append(turnlock.user("x"))


def test_of_many_that_migrate_at_once_each_version_is_applied_by_one(empty: str) -> None:
    barrier = threading.Barrier(4)
    applied: list[int] = []

    def work() -> None:
        barrier.wait()
        applied.extend(one.version for one in migrate(empty))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == sorted(WORKS_WITH)


def test_a_gateway_goes_on_while_somebody_migrates(postgres: TestDatabase) -> None:
    with Store(postgres.backend(), location="test") as store, store.turn("main/a") as turn:
        turn.append(turnlock.user("before"))
        assert migrate(postgres.url) == []
        turn.append(turnlock.user("after"))
    with Store(postgres.backend(), location="test") as store:
        assert kinds(store) == ["turn", "user:before", "user:after", "end"]


@pytest.mark.parametrize(("works_with", "refused"), [(VERSION, False), (VERSION + 1, True)])
def test_newer_tables_are_used_as_long_as_they_say_so(
    empty: str, works_with: int, refused: bool
) -> None:
    migrate(empty)
    with psycopg.connect(empty, autocommit=True) as connection:
        newer = "INSERT INTO turnlock.migration (version, name, works_with) VALUES (%s, 'x', %s)"
        connection.execute(newer, (VERSION + 1, works_with))
    backend = PostgresBackend(empty)
    try:
        if refused:
            with pytest.raises(turnlock.StoreError, match="use the newer turnlock"):
                list(backend.sessions())
        else:
            assert list(backend.sessions()) == []
    finally:
        backend.close()


def test_a_database_that_is_not_utf8_is_refused(postgres_server: Server) -> None:
    url = postgres_server.make_database("latin", "ENCODING 'LATIN1' TEMPLATE template0")
    try:
        with pytest.raises(turnlock.StoreError, match="LATIN1"):
            migrate(url)
    finally:
        postgres_server.drop("latin")
