"""Lost answers, cut connections and servers that are gone: once, or a typed error in time."""

from __future__ import annotations

import json
import threading

import psycopg
import pytest

import turnlock
from tests.conformance.test_backend import KEY, append, ids, line, request, taken
from tests.helpers import eventually, kinds
from tests.postgres.fixtures import TestDatabase
from tests.postgres.proxy import Net, proxy
from turnlock.backends import Holder, Lost, TailMoved
from turnlock.backends.postgres import PostgresBackend, database
from turnlock.store import Store

pytestmark = pytest.mark.postgres

# What an append does, by somebody who has not committed it yet.
_FIRST = """
WITH fence AS (
    UPDATE turnlock.session SET size = size + octet_length(%(line)s) + 1
    RETURNING id, epoch, size - octet_length(%(line)s) - 1 AS before
)
INSERT INTO turnlock.entry (session_id, byte_offset, epoch, id, line)
SELECT id, before, epoch, 'X', %(line)s FROM fence
"""


def test_an_append_whose_answer_is_lost_is_done_once(postgres: TestDatabase) -> None:
    with proxy(postgres.server.port) as net:
        backend = postgres.backend(through=net.port)
        lease = taken(backend)
        append(backend, lease, line("1"))
        net.become(Net.DEAF)
        append(backend, lease, line("2"), line("3"))
        append(backend, lease, line("4"))
        assert net.lost == 1
        assert ids(backend) == ["1", "2", "3", "4"]
        backend.close()


def test_a_release_whose_answer_is_lost_is_a_release(postgres: TestDatabase) -> None:
    with proxy(postgres.server.port) as net:
        backend = postgres.backend(through=net.port)
        lease = taken(backend)
        net.become(Net.DEAF)
        assert backend.release(lease)
        assert net.lost == 1
        taken(postgres.backend(), "T2")
        backend.close()


def test_a_whole_turn_goes_on_over_connections_that_are_cut(postgres: TestDatabase) -> None:
    with (
        proxy(postgres.server.port) as net,
        Store(postgres.backend(through=net.port), location="test") as store,
    ):
        with store.turn("main/a") as turn:
            for number in range(5):
                turn.append(turnlock.user(str(number)))
                net.cut()
        assert kinds(store) == ["turn", *(f"user:{number}" for number in range(5)), "end"]


def test_a_lost_answer_to_a_fenced_append_is_still_a_lost_lease(postgres: TestDatabase) -> None:
    with proxy(postgres.server.port) as net:
        backend = postgres.backend(through=net.port)
        lease = taken(backend)
        append(backend, lease, line("1"))
        postgres.backend().supersede(KEY, request("T2"), lease=lease, reason="operator")
        net.become(Net.DEAF)
        with pytest.raises(Lost):
            append(backend, lease, line("late"))
        assert ids(backend) == ["1"]
        backend.close()


def test_an_append_that_arrives_after_the_session_was_taken_is_refused(
    postgres: TestDatabase,
) -> None:
    """A network may keep a message for long; meanwhile it locks nothing, and then it is late."""
    with proxy(postgres.server.port) as net:
        backend = postgres.backend(through=net.port)
        lease = taken(backend, "T1")
        append(backend, lease, line("1"))
        net.become(Net.FROZEN)
        caught: list[BaseException] = []

        def late() -> None:
            try:
                append(backend, lease, line("late"))
            except Lost as error:
                caught.append(error)

        appending = threading.Thread(target=late)
        appending.start()
        assert net.kept.wait(20)
        other = postgres.backend()
        new = other.supersede(KEY, request("T2"), lease=None, reason="operator")
        append(other, new, line("2", epoch=2))
        net.become(Net.WHOLE)
        appending.join()
        assert len(caught) == 1
        assert ids(other) == ["1", "2"]
        backend.close()


def test_an_append_that_is_asked_for_again_while_the_first_commits_is_one_entry(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first hangs in its commit, without a connection; nobody sees it before it is there."""
    monkeypatch.setattr(database, "_LOCK_TIMEOUT", 20.0)
    monkeypatch.setattr(database, "_STATEMENT_TIMEOUT", 20.0)
    monkeypatch.setattr(database, "_PATIENCE", 30.0)
    with Store(postgres.backend(lease_time=300.0), location="test") as store:
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            with psycopg.connect(postgres.url) as first:
                first.execute(_FIRST, {"line": line("X").decode().rstrip("\n")})
                again = threading.Thread(
                    target=turn.append, args=(turnlock.user("x") | {"id": "X"},)
                )
                again.start()
                eventually(lambda: postgres.rows("SELECT FROM pg_locks WHERE NOT granted"))
                first.commit()
            again.join()
            turn.append(turnlock.user("2"))
        found = [json.loads(one.raw).get("id") for one in store.read_lines("main/a")]
        assert found.count("X") == 1


def test_of_an_append_of_which_a_part_is_there_the_rest_is_written(postgres: TestDatabase) -> None:
    """Its first line was written by an append that had no more."""
    backend = postgres.backend()
    lease = taken(backend)
    before = lease.tail
    append(backend, lease, line("1"))
    lease.tail = before
    with pytest.raises(TailMoved):
        append(backend, lease, line("1"), line("2"))


def test_a_line_with_nothing_in_it_is_a_line(postgres: TestDatabase) -> None:
    """None of ours is; a transcript that is copied may have one."""
    backend = postgres.backend()
    lease = taken(backend)
    for batch in ([b"\n"], [b"\n", b"\n"], [line("1"), b"\n"]):
        backend.append(lease, batch, lease.tail)
    raw = [one.raw for one in backend.read(KEY)]
    assert raw[1:] == [b"", b"", b"", line("1").rstrip(), b""]


def test_a_transcript_that_moved_is_read_again(postgres: TestDatabase) -> None:
    backend = postgres.backend()
    lease = taken(backend)
    append(backend, lease, line("1"))
    lease.tail = lease.tail._replace(size=-1)
    with pytest.raises(TailMoved):
        append(backend, lease, line("2"))
    assert lease.tail.last_id == "1"
    append(backend, lease, line("2"))
    assert ids(backend) == ["1", "2"]


def test_a_server_that_is_not_there_is_an_error_that_says_so(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_POOL_PATIENCE", 0.5)
    with proxy(postgres.server.port) as net:
        port = net.port
    url = f"postgresql://somebody:secret@127.0.0.1:{port}/db"
    with turnlock.open_store(url) as store, pytest.raises(turnlock.StoreError) as caught:
        store.turn("main/a").__enter__()
    assert "refused" in caught.value.why
    assert caught.value.path == f"postgresql://127.0.0.1:{port}/db"
    assert "secret" not in str(caught.value) + str(store.location)


def test_a_server_that_answers_nothing_is_given_up_in_time(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_PATIENCE", 0.3)
    monkeypatch.setattr(database, "_POOL_PATIENCE", 2.0)
    with proxy(postgres.server.port) as net:
        backend = postgres.backend(through=net.port)
        lease = taken(backend)
        append(backend, lease, line("1"))
        net.become(Net.FROZEN)
        with pytest.raises(turnlock.StoreError) as caught:
            append(backend, lease, line("2"))
        assert caught.value.operation == "append"
        monkeypatch.undo()
        net.become(Net.WHOLE)
        # The connection on which nothing came is closed, and the next call has another.
        assert backend.holds(lease)
        backend.close()


def test_a_row_that_somebody_keeps_locked_is_an_error_and_no_hang(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_LOCK_TIMEOUT", 0.2)
    backend = postgres.backend()
    lease = taken(backend)
    with psycopg.connect(postgres.url) as other:
        other.execute("SELECT FROM turnlock.session FOR UPDATE")
        with pytest.raises(turnlock.StoreError, match="locked"):
            append(backend, lease, line("1"))
        other.rollback()
    append(backend, lease, line("1"))
    assert ids(backend) == ["1"]


def test_a_flood_of_callers_is_turned_away_and_not_piled_up(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_CONNECTIONS_MAX", 1)
    monkeypatch.setattr(database, "_WAITING_MAX", 1)
    backend = postgres.backend()
    taken(backend)
    errors: list[str] = []

    def take() -> None:
        try:
            backend.take(KEY, request("T2"))
        except turnlock.StoreError as error:
            errors.append(error.why)

    with psycopg.connect(postgres.url) as other:
        other.execute("LOCK TABLE turnlock.session IN ACCESS EXCLUSIVE MODE")
        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads[:]:
            thread.join(0.2)
        other.rollback()
    for thread in threads:
        thread.join()
    assert len([why for why in errors if "waiting" in why]) >= 4, errors
    assert isinstance(backend.take(KEY, request("T2")), Holder)


def test_what_the_library_needs_is_named_when_it_is_missing() -> None:
    import subprocess
    import sys

    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "import turnlock\n"
        "try: turnlock.open_store('postgresql://me:secret@host/db')\n"
        "except turnlock.StoreError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'turnlock[postgres]'" in done.stdout, done
    assert "secret" not in done.stdout


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5433/db?sslmode=require", "postgresql://host:5433/db"),
        ("postgresql://host/db?user=me&password=a%40secret", "postgresql://host/db"),
        ("postgresql://me:sec?ret@host/db", "postgresql://host/db"),
        ("postgres://a:1,b:2/db", "postgresql://a:1,b:2/db"),
        ("postgresql://a,b:2/db", "postgresql://a,b:2/db"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db"),
        ("postgresql://[::1]:5/db", "postgresql://::1:5/db"),
        ("postgresql://", "postgresql:///"),
    ],
)
def test_of_a_url_only_the_place_is_shown(url: str, shown: str) -> None:
    assert PostgresBackend(url).location == shown


def test_a_url_that_cannot_be_read_tells_no_password() -> None:
    with pytest.raises(turnlock.StoreError) as caught:
        PostgresBackend("postgresql://me:secret@host:port:x/db?nonsense=1")
    assert "secret" not in str(caught.value)
