"""Nothing of a superseded holder reaches the database: the check is in the statement."""

from __future__ import annotations

import threading

import psycopg
import pytest

import turnlock
from tests.conformance.test_backend import KEY, append, ids, line, request, taken
from tests.helpers import child, eventually, kinds
from tests.mutants import Edit, Mutant, mutated
from tests.postgres.fixtures import TestDatabase
from turnlock.backends import Lost
from turnlock.backends.postgres.lease import PostgresLease
from turnlock.store import Store

pytestmark = pytest.mark.postgres

# A gateway whose leases last two seconds; it appends what it is told.
HOLD = """
    import turnlock
    from turnlock.backends.postgres import PostgresBackend
    from turnlock.store import Store
    store = Store(PostgresBackend(sys.argv[1], lease_time=2.0), location="database")
    with store.turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("from T1"))
        print("holding", flush=True)
        try:
            for line in sys.stdin:
                turn.append(turnlock.user(line.strip()))
                print("appended", flush=True)
        except turnlock.LeaseRevoked as error:
            print("revoked", error.reason, flush=True)
            raise SystemExit(3)
"""
# An append that writes wherever the end is, whoever holds the session.
UNFENCED = Mutant(
    "append without a look at who holds the session",
    Edit(
        "backends/postgres/sql/append.sql",
        "AND epoch = %(epoch)s AND gateway = %(gateway)s AND held\n"
        "        AND size = %(size)s\n    RETURNING id, epoch",
        "RETURNING id, epoch, size - %(bytes)s AS size",
    ),
    Edit(
        "backends/postgres/sql/append.sql",
        "SELECT fence.id, lines.byte_offset,",
        "SELECT fence.id, lines.byte_offset - %(size)s + fence.size,",
    ),
    # And a holder that does not stop by itself.
    Edit(
        "turns/watchdog.py",
        'return min(earliest, (lease.held.trusted_until, "interrupted"))',
        "return earliest",
    ),
    Edit(
        "turns/runtime.py",
        "lost = asked[0].backend.renew([lease.held for lease in asked])",
        "lost: list[object] = []",
    ),
)


def late_entry(postgres: TestDatabase, path: str = "") -> str:
    """A gateway is stopped, its session is taken, it goes on and appends; what it says of that."""
    program = f"sys.path.insert(0, {path!r})\n{HOLD}" if path else HOLD
    program = program if not path else "\n    " + program
    with child(program, postgres.url) as gateway:
        gateway.expect("holding")
        gateway.stop()
        with Store(postgres.backend(), location="test") as store:
            with store.turn("main/a", wait=30, turn_id="T2") as turn:
                turn.append(turnlock.user("successor"))
            before = kinds(store)
            assert before == [
                "turn",
                "user:from T1",
                "interrupted",
                "turn",
                "user:successor",
                "end",
            ]
            gateway.tell("late")
            gateway.go_on()
            said = gateway.line()
            if not path:
                assert kinds(store) == before
                assert gateway.ended() == 3
            else:
                assert kinds(store) == [*before, "user:late"]
    return said


@pytest.mark.processes
def test_a_gateway_that_was_stopped_writes_nothing_when_it_goes_on(postgres: TestDatabase) -> None:
    assert late_entry(postgres).startswith("revoked")


@pytest.mark.processes
def test_without_the_check_its_late_entry_would_be_there(postgres: TestDatabase) -> None:
    """The fault bites: the same story against an append that looks at nothing."""
    with mutated(UNFENCED) as source:
        assert late_entry(postgres, str(source)) == "appended"


def test_an_append_that_waits_for_a_take_to_commit_is_refused(postgres: TestDatabase) -> None:
    """The check is made on the row as the other transaction leaves it, not as it was before."""
    backend = postgres.backend()
    lease = taken(backend)
    caught: list[BaseException] = []

    def late() -> None:
        try:
            append(backend, lease, line("late"))
        except Lost as error:
            caught.append(error)

    with psycopg.connect(postgres.url) as other:
        other.execute("UPDATE turnlock.session SET epoch = epoch + 1")
        appending = threading.Thread(target=late)
        appending.start()
        eventually(lambda: waits_for_a_lock(postgres))
        other.commit()
    appending.join()
    assert len(caught) == 1
    assert ids(backend) == []


def test_a_take_waits_for_an_append_that_is_under_way_and_reads_it(postgres: TestDatabase) -> None:
    """What was written before the fence is in the end that the next holder gets."""
    backend = postgres.backend()
    old = taken(backend)
    append(backend, old, line("1", epoch=7))
    new = backend.supersede(KEY, request("T2"), lease=old, reason="operator")
    assert new is not None
    assert (new.tail.epoch, new.tail.last_id) == (7, "1")
    assert (new.epoch, old.epoch) == (2, 1)


def test_a_stopped_gateway_keeps_nobody_waiting(postgres: TestDatabase) -> None:
    """No transaction is open and nothing is locked between two messages."""
    with child(HOLD, postgres.url) as gateway:
        gateway.expect("holding")
        gateway.stop()
        assert (
            postgres.rows(
                "SELECT state FROM pg_stat_activity"
                " WHERE application_name = 'turnlock' AND state <> 'idle'"
            )
            == []
        )
        with Store(postgres.backend(), location="test") as store:
            assert store.revoke("main/a")
            with store.turn("main/a", wait=0) as turn:
                turn.append(turnlock.user("at once"))


def waits_for_a_lock(postgres: TestDatabase) -> bool:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    return bool(postgres.rows(waiting))


# As when a standby that lacks the last commits is promoted, or a server that does not wait for its
# disk is killed: the session is free, and its epoch what it was before the take.
_LOST_TAKE = """
UPDATE turnlock.session SET epoch = epoch - 1, held = false, turn_id = NULL, gateway = NULL,
    host = NULL, pid = NULL, taken_at = NULL, max_hold = NULL, lease_until = NULL,
    free_since = turnlock.clock()
"""


def test_a_holder_whose_take_was_lost_by_the_database_is_fenced_all_the_same(
    postgres: TestDatabase,
) -> None:
    """Its successor has the same epoch, as the database counts on from what it remembers."""
    one, other = postgres.backend(), postgres.backend()
    old = taken(one, "T1")
    postgres.execute(_LOST_TAKE)
    new = taken(other, "T2")
    assert new.epoch == old.epoch
    append(other, new, line("2"))
    with pytest.raises(Lost):
        append(one, old, line("late"))
    old.doubted = True
    assert one.renew([old]) == [old]
    assert not one.holds(old)
    assert one.supersede(KEY, request("T3"), lease=old, reason="hold-limit") is None
    one.leave_owing(old)
    assert not one.release(unended(old))
    assert other.renew([new]) == []
    assert other.holds(new)
    assert ids(other) == ["2"]


def unended(lease: PostgresLease) -> PostgresLease:
    """The same lease as one that nobody has ended yet."""
    return PostgresLease(
        lease.session, lease.session_id, lease.epoch, lease.gateway, lease.owed, lease.max_hold
    )
