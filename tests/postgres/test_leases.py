"""Leases run on the database's clock, are renewed on progress only, and are reclaimed once."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest

import turnlock
from tests.conformance.test_backend import KEY, append, line, request, taken
from tests.helpers import child, eventually, kinds
from tests.postgres.fixtures import TestDatabase
from tests.postgres.proxy import Net, proxy
from tests.postgres.test_fence import HOLD
from turnlock.backends import Holder, LockRecord
from turnlock.backends.postgres import PostgresBackend
from turnlock.backends.postgres.database import Database
from turnlock.backends.postgres.lease import LeaseTime, PostgresLease
from turnlock.clock import SystemClock
from turnlock.session import SessionKey
from turnlock.store import Store
from turnlock.testing import ManualClock
from turnlock.turns.lease import Lease, State
from turnlock.turns.queue import Ticket
from turnlock.turns.watchdog import deadline_of

pytestmark = pytest.mark.postgres

SHORT = 2.0
DAY = 86400.0


def left(postgres: TestDatabase) -> float:
    """Seconds that the lease still runs, by the database."""
    seconds = "extract(epoch FROM lease_until - turnlock.clock())::float8"
    ((found,),) = postgres.rows(f"SELECT {seconds} FROM turnlock.session")
    assert isinstance(found, float)
    return found


def expire(postgres: TestDatabase) -> None:
    """As if the holder had not renewed its lease for long."""
    postgres.execute("UPDATE turnlock.session SET lease_until = turnlock.clock()")


# Trust


def test_trust_begins_before_the_message_and_ends_before_the_lease() -> None:
    lease = PostgresLease(KEY, 1, 1, "G", (), 300.0)
    LeaseTime(10.0).extend(lease, 100.0)
    assert lease.trusted_until == 109.0
    assert lease.renew_at == pytest.approx(103.33, abs=0.01)
    LeaseTime(2.0).extend(lease, 100.0)
    assert lease.trusted_until == pytest.approx(101.6)


def test_the_database_gives_a_lease_more_time_than_its_holder_trusts_it(
    postgres: TestDatabase,
) -> None:
    backend = postgres.backend(lease_time=60.0)
    lease = taken(backend)
    clock = SystemClock()
    began = clock.monotonic()
    given = left(postgres)
    now = clock.monotonic()
    # However long the question took: by now the database has at least this much left.
    assert given - (now - began) > lease.trusted_until - now - (now - began)


def test_who_cannot_renew_is_overdue_when_its_trust_ends() -> None:
    held = PostgresLease(KEY, 1, 1, "G", (), 300.0)
    held.trusted_until = 105.0
    ticket = Ticket("identity", None, "T1", lambda: None)
    lease = Lease(
        KEY, "T1", None, held, ticket,  # type: ignore[arg-type]
        taken=100.0, max_hold=300.0, max_stall=None, frames=list, is_turn=True,
    )  # fmt: skip
    assert deadline_of(lease) == (105.0, "interrupted")
    held.trusted_until = 1000.0
    assert deadline_of(lease) == (400.0, "hold-limit")


def test_a_holder_that_is_cut_off_stops_by_itself(
    postgres: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """Its turn is revoked without a word from the database, and marked once when that is back."""
    with proxy(postgres.server.port) as net:
        backend = postgres.backend(through=net.port, lease_time=SHORT)
        store = Store(backend, location="test")
        with pytest.raises(turnlock.LeaseRevoked) as caught, store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            net.become(Net.FROZEN)
            eventually(lambda: turn.revoked)
            net.become(Net.WHOLE)
        assert caught.value.reason == "interrupted"
        reader = Store(postgres.backend(), location="test")
        eventually(lambda: kinds(reader) == ["turn", "user:1", "interrupted"])
        store.close()
    assert "internal" not in caplog.text


# Renewal


def test_a_turn_that_is_within_its_limits_keeps_its_session(postgres: TestDatabase) -> None:
    """It is renewed without an append: the lease's end in the database moves on."""
    with Store(postgres.backend(lease_time=6.0), location="test") as store:
        with store.turn("main/a", turn_id="T1"):
            first = lease_end(postgres)
            eventually(lambda: lease_end(postgres) > first)
            assert store.statistics().revoked == 0
        assert kinds(store) == []


def test_a_lease_is_not_renewed_before_its_time(postgres: TestDatabase) -> None:
    clock = ManualClock()
    backend = PostgresBackend(postgres.url, clock=clock, lease_time=9.0)
    lease = taken(backend)
    first = lease_end(postgres)
    assert backend.renew([lease]) == []
    assert lease_end(postgres) == first
    clock.advance(3.1)
    assert backend.renew([lease]) == []
    assert lease_end(postgres) > first
    backend.close()


def test_leases_of_one_gateway_are_renewed_by_one_message(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand turns of seconds each would else be a thousand commits, one after the other."""
    backend = postgres.backend()
    leases: list[Any] = [
        backend.take(SessionKey("main", f"s{number}"), request()) for number in range(5)
    ]
    messages: list[str] = []
    run = Database.run_each

    def noted(self: Database, operation: str, *names: str, **values: Any) -> Any:
        messages.append(operation)
        return run(self, operation, *names, **values)

    monkeypatch.setattr(Database, "run_each", noted)
    for lease in leases:
        lease.renew_at = 0.0
    assert backend.renew(leases) == []
    assert messages == ["renew"]
    # Each has been extended, so that none is asked for again before its time.
    assert all(lease.renew_at > 0.0 for lease in leases)


def test_a_row_that_somebody_has_locked_keeps_no_other_lease_waiting(
    postgres: TestDatabase,
) -> None:
    """It is not lost either: it is asked for again by the next look."""
    backend = postgres.backend()
    locked, free = (backend.take(SessionKey("main", name), request()) for name in "ab")
    assert isinstance(locked, PostgresLease)
    assert isinstance(free, PostgresLease)
    locked.renew_at = free.renew_at = 0.0
    with psycopg.connect(postgres.url) as other:
        other.execute("SELECT FROM turnlock.session WHERE name = 'a' FOR UPDATE")
        assert backend.renew([locked, free]) == []
        assert locked.renew_at == 0.0
        assert free.renew_at > 0.0
    assert backend.renew([locked, free]) == []
    assert locked.renew_at > 0.0


def test_a_turn_that_is_being_revoked_is_renewed_no_more(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    backend = postgres.backend()

    def renew(leases: list[object]) -> list[object]:
        asked.extend(leases)
        return []

    monkeypatch.setattr(backend, "renew", renew)
    with Store(backend, location="test") as store, store.turn("main/a"):
        (lease,) = store._runtime.leases()
        store._runtime._verify([lease])
        assert asked == [lease.held]
        for state in (State.ENDING, State.REVOKING):
            lease.state = state
            store._runtime._verify([lease])
        lease.state = State.HELD
        assert asked == [lease.held]


def test_an_append_extends_the_lease(postgres: TestDatabase) -> None:
    backend = postgres.backend(lease_time=60.0)
    lease = taken(backend)
    expire(postgres)
    append(backend, lease, line("1"))
    assert left(postgres) > 30


def lease_end(postgres: TestDatabase) -> float:
    ((end,),) = postgres.rows(
        "SELECT extract(epoch FROM lease_until)::float8 FROM turnlock.session"
    )
    assert isinstance(end, float)
    return end


# Reclaiming


@pytest.mark.processes
def test_a_gateway_that_was_killed_loses_its_session_within_the_lease(
    postgres: TestDatabase,
) -> None:
    with child(HOLD, postgres.url) as gateway:
        gateway.expect("holding")
        gateway.kill()
        killed = time.monotonic()
        with Store(postgres.backend(), location="test") as store:
            with store.turn("main/a", wait=30) as turn:
                turn.append(turnlock.user("next"))
                took = time.monotonic() - killed
            assert kinds(store) == [
                "turn",
                "user:from T1",
                "interrupted",
                "turn",
                "user:next",
                "end",
            ]
    # Not before: the lease is what it was promised. (How soon after, a benchmark says.)
    assert took > 0.5


def test_of_many_gateways_that_find_a_dead_one_each_turn_is_marked_by_one(
    postgres: TestDatabase,
) -> None:
    holder = postgres.backend()
    for number in range(5):
        found = holder.take(KEY._replace(name=f"s{number}"), request(f"T{number}"))
        assert not isinstance(found, Holder)
    expire(postgres)
    stores = [Store(postgres.backend(), location="test") for _ in range(4)]
    barrier = threading.Barrier(len(stores))
    cleaned: list[LockRecord] = []

    def clean(store: Store) -> None:
        barrier.wait()
        cleaned.extend(store.reclaim_expired())

    threads = [threading.Thread(target=clean, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(5):
        assert kinds(stores[0], f"main/s{number}") == ["turn", "interrupted"]
    assert sum(store.statistics().markers for store in stores) == 5
    assert sum(record.removed for record in cleaned) == 5
    assert stores[0].locks() == []
    for store in stores:
        store.close()


def test_a_live_lease_is_not_reclaimed(postgres: TestDatabase) -> None:
    backend = postgres.backend()
    lease = taken(backend)
    (record,) = backend.locks()
    assert (record.stale, record.pid_status, record.reasons) == (False, "alive", ())
    assert list(backend.expired()) == []
    assert backend.reclaim(record, request("T2")) is None
    expire(postgres)
    (record,) = backend.expired()
    assert (record.stale, record.pid_status, record.reasons) == (
        True,
        "unknown",
        ("lease-expired",),
    )
    lease.doubted = True
    assert backend.renew([lease]) == []
    # It was stale when it was looked at, and is not any more.
    assert backend.reclaim(record, request("T2")) is None
    assert backend.holds(lease)


def test_who_dies_as_it_reclaims_passes_the_debt_on(postgres: TestDatabase) -> None:
    backend = postgres.backend()
    taken(backend, "T1")
    expire(postgres)
    (record,) = backend.locks()
    assert backend.reclaim(record, request("T2")._replace(turn_id=None)) is not None
    expire(postgres)
    with Store(backend, location="test") as store:
        with store.turn("main/a", turn_id="T3", wait=0) as turn:
            turn.append(turnlock.user("x"))
        assert kinds(store) == ["turn", "interrupted", "turn", "user:x", "end"]


# Clocks


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_wrong_clock_of_a_gateways_host_changes_nothing(
    postgres: TestDatabase, jump: float
) -> None:
    clock = ManualClock()
    wrong = PostgresBackend(postgres.url, clock=clock, lease_time=60.0)
    lease = taken(wrong)
    clock.jump_wall(jump)
    right = postgres.backend()
    found: Any = right.take(KEY, request("T2"))
    assert isinstance(found, Holder)
    assert 0 <= (found.age or 0.0) < 60
    append(wrong, lease, line("1"))
    assert right.holds(lease)
    wrong.close()


def test_a_database_clock_that_jumps_ahead_ends_leases_and_never_the_fence(
    postgres: TestDatabase,
) -> None:
    backend = postgres.backend()
    old = taken(backend, "T1")
    postgres.move_clock(DAY)
    new = taken(backend, "T2")
    assert not backend.holds(old)
    assert backend.holds(new)
    assert [turn.turn_id for turn in new.owed] == ["T1"]


def test_a_database_clock_that_jumps_back_takes_nothing_from_its_holder(
    postgres: TestDatabase,
) -> None:
    backend = postgres.backend()
    lease = taken(backend, "T1")
    postgres.move_clock(-DAY)
    assert isinstance(backend.take(KEY, request("T2")), Holder)
    lease.doubted = True
    assert backend.renew([lease]) == []
    # From the renewal on the lease is as long as ever.
    assert left(postgres) < 60
    backend.release(lease)
    taken(backend, "T2")


# What cannot be written stays owed


def test_a_marker_that_cannot_be_written_is_owed_once_however_often_it_is_tried(
    postgres: TestDatabase,
) -> None:
    """Who comes to write it for nobody's turn is named as long as it is the last one."""
    backend = postgres.backend()
    taken(backend, "T1")
    expire(postgres)
    nobody = request("")._replace(turn_id=None)
    for _ in range(4):
        (record,) = backend.locks()
        lease = backend.reclaim(record, nobody)
        assert lease is not None
        backend.leave_owing(lease)
    last = taken(backend, "T2")
    assert [turn.turn_id for turn in last.owed] == ["T1", None]


def test_a_lease_may_be_left_out_of_what_is_reclaimed(postgres: TestDatabase) -> None:
    taken(postgres.backend(), "T1")
    expire(postgres)
    with Store(postgres.backend(), location="test") as store:
        assert store.reclaim_expired(but={"main/a"}) == []
        assert [record.removed for record in store.reclaim_expired(but={"main/b"})] == [True]


def test_a_database_that_fails_after_one_reclaim_stops_no_other(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be looked at again was not seen to be gone; the others are."""
    holder = postgres.backend()
    for name in "ab":
        assert not isinstance(holder.take(KEY._replace(name=name), request("T")), Holder)
    expire(postgres)
    backend = postgres.backend()
    is_gone = backend.is_gone

    def fails_once(record: LockRecord) -> bool:
        monkeypatch.setattr(backend, "is_gone", is_gone)
        raise turnlock.StoreError("db", "list", "the connection is lost")

    monkeypatch.setattr(backend, "is_gone", fails_once)
    with Store(backend, location="test") as store:
        assert [record.removed for record in store.reclaim_expired()] == [False, True]
        assert store.locks() == []
