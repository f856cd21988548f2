"""Connections that died, hang, or cannot be had: the next ones are had in time."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.postgres.fixtures import TestDatabase
from turnlock.backends.postgres import PostgresBackend, database

pytestmark = pytest.mark.postgres

_END_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


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
