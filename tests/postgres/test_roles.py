"""The roles that the documentation describes: what they need, and nothing that they do not."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

import turnlock
from tests.conformance.test_backend import KEY, request
from tests.docs.pages import ROOT
from tests.helpers import kinds
from tests.postgres.server import Server
from turnlock.backends import Holder, Wake
from turnlock.backends.postgres import INDEXES, PostgresBackend, migrate
from turnlock.pruning import Fate
from turnlock.store import Store

pytestmark = pytest.mark.postgres

PAGE = (ROOT / "docs/howto/postgresql.md").read_text()
BEFORE, GRANTS, SETTINGS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def url(postgres_server: Server) -> Iterator[str]:
    """A gateway's URL of a database that was set up as the page says."""
    admin = postgres_server.make_database("roles")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(BEFORE.replace("DATABASE turnlock", "DATABASE roles"))
    owner = postgres_server.url("roles", user="turnlock_owner")
    migrate(owner)
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(GRANTS)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(SETTINGS)
    yield postgres_server.url("roles", user="turnlock")
    postgres_server.drop("roles")
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute("DROP ROLE turnlock; DROP ROLE turnlock_owner")


def test_a_gateways_role_can_do_all_that_a_gateway_does_and_change_no_entry(url: str) -> None:
    one, other = PostgresBackend(url), PostgresBackend(url)
    with Store(one, location="test") as store:
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("x"))
            found = other.take(KEY, request("W"))
            assert isinstance(found, Holder)
            standing = other.line_up(KEY)
            other.wait(KEY, found, standing, 0.01, Wake())
            standing.close()
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
            store.revoke("main/a")
        assert store.clean_stale() == []
        assert one.health().indexes == INDEXES
        assert one.torn() == []
        assert kinds(store) == ["turn", "user:x", "end", "turn", "operator"]
    other.close()
    for forbidden in (
        "UPDATE turnlock.entry SET line = ''",
        "DELETE FROM turnlock.entry",
        "DELETE FROM turnlock.session",
        "DROP TABLE turnlock.entry",
        "INSERT INTO turnlock.migration (version, name, works_with) VALUES (9, 'x', 9)",
    ):
        with (
            psycopg.connect(url, autocommit=True) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(forbidden)


def test_a_role_that_may_too_little_is_told_where_to_read(
    postgres_server: Server, url: str
) -> None:
    owner = postgres_server.url("roles", user="turnlock_owner")
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("REVOKE INSERT ON turnlock.entry FROM turnlock")
    with turnlock.open_store(url) as store, pytest.raises(turnlock.StoreError) as caught:
        store.turn("main/a").__enter__()
    assert "docs/howto/postgresql.md" in caught.value.hint


def test_only_the_owner_of_the_tables_takes_sessions_away(
    postgres_server: Server, url: str
) -> None:
    with turnlock.open_store(url) as store:
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("x"))
        with pytest.raises(turnlock.StoreError) as caught:
            store.prune("main/a", idle=0.0, archive=None)
        assert "docs/howto/postgresql.md" in caught.value.hint
        assert kinds(store) == ["turn", "user:x", "end"]
        assert store.locks() == []
        owner = postgres_server.url("roles", user="turnlock_owner")
        with turnlock.open_store(owner) as owned:
            assert owned.prune("main/a", idle=0.0, archive=None).fate is Fate.GONE
        assert list(store.sessions()) == []
