"""Behind PgBouncer in transaction mode: nothing depends on the server's session."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import turnlock
from tests.conformance.test_backend import KEY, append, ids, line, request, taken
from tests.helpers import eventually, kinds
from tests.postgres.fixtures import DATABASE, TestDatabase
from tests.postgres.server import Server, free_port, unprivileged
from turnlock.backends import Holder, Lost
from turnlock.store import Store

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(
        PGBOUNCER is None, reason="no pgbouncer (Debian: apt-get install pgbouncer)"
    ),
]

# Two connections to the server for all clients, handed on after each transaction.
_CONFIGURATION = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
"""


@pytest.fixture(scope="module")
def pooler(postgres_server: Server) -> Iterator[int]:
    """The port of a pooler in front of the server."""
    assert PGBOUNCER is not None
    with tempfile.TemporaryDirectory(prefix="turnlock-pgbouncer-") as made:
        port = free_port()
        path = Path(made) / "pgbouncer.ini"
        path.write_text(
            _CONFIGURATION.format(
                host=postgres_server.directory, port=postgres_server.port, listen=port
            )
        )
        Path(made).chmod(0o755)
        process = subprocess.Popen(
            [*unprivileged(), PGBOUNCER, "-q", str(path)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: answers(postgres_server.url(DATABASE, port=port)))
            yield port
        finally:
            process.terminate()
            process.wait()


def answers(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=5).close()
        return True
    return False


def test_the_pooler_gives_one_connection_to_many(postgres: TestDatabase, pooler: int) -> None:
    """The control: an advisory lock is granted twice here, and a setting is another's."""
    url = postgres.server.url(DATABASE, port=pooler)
    with (
        psycopg.connect(url, autocommit=True) as one,
        psycopg.connect(url, autocommit=True) as other,
    ):
        for connection in (one, other):
            row = connection.execute("SELECT pg_try_advisory_lock(1)").fetchone()
            assert row == (True,)
        one.execute("SELECT pg_advisory_unlock_all()")


def test_settings_of_ours_stay_in_their_transaction(postgres: TestDatabase, pooler: int) -> None:
    backend = postgres.backend(through=pooler)
    backend.release(taken(backend))
    with psycopg.connect(postgres.server.url(DATABASE, port=pooler), autocommit=True) as other:
        for _ in range(4):
            row = other.execute("SHOW statement_timeout").fetchone()
            assert row == ("0",)


def test_turns_of_two_gateways_follow_each_other(postgres: TestDatabase, pooler: int) -> None:
    def work(name: str) -> None:
        with Store(postgres.backend(through=pooler), location="test") as store:
            for number in range(5):
                with store.turn("main/a", wait=30, turn_id=f"{name}{number}") as turn:
                    turn.append(turnlock.user("1"))
                    turn.append(turnlock.user("2"))

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Store(postgres.backend(), location="test") as store:
        assert kinds(store) == ["turn", "user:1", "user:2", "end"] * 10


def test_the_fence_holds(postgres: TestDatabase, pooler: int) -> None:
    one, other = postgres.backend(through=pooler), postgres.backend(through=pooler)
    old = taken(one, "T1")
    append(one, old, line("1"))
    new = other.supersede(KEY, request("T2"), lease=None, reason="operator")
    assert new is not None
    with pytest.raises(Lost):
        append(one, old, line("late"))
    append(other, new, line("2", epoch=2))
    assert ids(one) == ["1", "2"]


def test_a_waiter_hears_nothing_and_is_served_all_the_same(
    postgres: TestDatabase, pooler: int
) -> None:
    one, other = postgres.backend(through=pooler), postgres.backend(through=pooler)
    lease = taken(one)
    assert isinstance(other.take(KEY, request("W")), Holder)
    got: list[bool] = []

    def wait() -> None:
        with Store(other, location="test") as store, store.turn("main/a", wait=30):
            got.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(lambda: one.in_line([KEY]) == {KEY: 1})
    one.release(lease)
    waiting.join(30)
    assert got == [True]
