"""One line of waiters across gateways: woken by a notification, and by themselves without one."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import turnlock
from tests.conformance.test_backend import KEY, append, line, request, taken
from tests.helpers import Child, child, eventually, kinds
from tests.postgres.fixtures import TestDatabase
from turnlock.backends import Holder, Lost, Wake
from turnlock.backends.postgres import PostgresBackend, waiting
from turnlock.backends.postgres.database import Database
from turnlock.backends.postgres.lease import PostgresLease
from turnlock.session import SessionKey
from turnlock.store import Store

pytestmark = pytest.mark.postgres

WAIT = """
    import turnlock
    with turnlock.open_store(sys.argv[1]) as store:
        print("waiting", flush=True)
        with store.turn("main/a", wait=60, turn_id=sys.argv[2]) as turn:
            turn.append(turnlock.user(sys.argv[2]))
        print("done", flush=True)
"""
NEVER = 3600.0


def in_line(postgres: TestDatabase) -> int:
    return len(postgres.rows("SELECT FROM turnlock.waiter"))


def holder(backend: PostgresBackend) -> Holder:
    found = backend.take(KEY, request("W"))
    assert isinstance(found, Holder)
    return found


@pytest.fixture
def without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiters do not look by themselves, so that nothing but a notification wakes them."""
    monkeypatch.setattr(waiting, "POLL", NEVER)
    monkeypatch.setattr(waiting, "ALIVE", NEVER)


def hear(backend: PostgresBackend) -> None:
    """Have the listener listen already: when it begins to, it wakes all."""
    listener = backend._line.listener
    listener.watch(0, lambda: None)
    assert listener.listening.wait(20)


def wait_apart(backend: PostgresBackend) -> tuple[threading.Thread, waiting.Place]:
    """A waiter in a thread of its own, which has gone to sleep."""
    found, standing = holder(backend), backend.line_up(KEY)
    hear(backend)
    asleep = threading.Event()
    clock = backend._line._clock

    class Clock:
        def wait(self, event: threading.Event, timeout: float | None) -> bool:
            asleep.set()
            return clock.wait(event, timeout)

    backend._line._clock = Clock()  # type: ignore[assignment]
    thread = threading.Thread(target=backend.wait, args=(KEY, found, standing, NEVER, Wake()))
    thread.start()
    assert asleep.wait(20)
    return thread, standing


@pytest.mark.usefixtures("without_looking")
def test_a_release_wakes_a_waiter_of_another_gateway(postgres: TestDatabase) -> None:
    lease = taken(postgres.backend(lease_time=NEVER))
    other = postgres.backend()
    thread, standing = wait_apart(other)
    postgres.backend().release(lease)
    thread.join(20)
    assert not thread.is_alive()
    assert not isinstance(other.take(KEY, request("W"), standing=standing), Holder)


@pytest.mark.usefixtures("without_looking")
def test_a_listener_that_lost_its_connection_wakes_all_when_it_has_another(
    postgres: TestDatabase,
) -> None:
    """Nobody knows what was missed meanwhile."""
    taken(postgres.backend(lease_time=NEVER))
    other = postgres.backend()
    thread, _ = wait_apart(other)
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                     " WHERE query LIKE 'LISTEN%'")  # fmt: skip
    thread.join(20)
    assert not thread.is_alive()


def test_a_holder_hears_that_its_session_was_taken(postgres: TestDatabase) -> None:
    """By the watchdog's next look, though its lease need not be renewed for long."""
    holding = postgres.backend(lease_time=NEVER)
    listener = holding._line.listener
    with (
        Store(holding, location="test") as store,
        pytest.raises(turnlock.LeaseRevoked) as caught,
        store.turn("main/a") as turn,
    ):
        turn.append(turnlock.user("x"))
        assert listener.listening.wait(20)
        with Store(postgres.backend(), location="other") as other:
            # Not by this process's own knowledge of its leases, as another host has none.
            assert other._backend.supersede(KEY, request("T2"), lease=None, reason="operator")
        eventually(lambda: turn.revoked)
    assert caught.value.reason == "superseded"
    # Nobody listens for a lease that is over.
    assert listener._watching == {}


def test_a_waiter_that_hears_nothing_looks_by_itself(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "POLL", 0.2)
    backend, other = postgres.backend(), postgres.backend()
    lease = taken(backend)
    hear(other)
    monkeypatch.setattr(other._line.listener, "watch", lambda *_: lambda: None)
    thread, _ = wait_apart(other)
    backend.release(lease)
    thread.join(20)
    assert not thread.is_alive()


def test_a_release_before_the_waiter_looks_is_not_missed(postgres: TestDatabase) -> None:
    backend, other = postgres.backend(), postgres.backend()
    lease = taken(backend)
    found, standing = holder(other), other.line_up(KEY)
    backend.release(lease)
    # Returning at all is the point.
    other.wait(KEY, found, standing, NEVER, Wake())
    assert not isinstance(other.take(KEY, request("W"), standing=standing), Holder)
    assert in_line(postgres) == 0


def test_who_comes_new_goes_behind_those_who_wait(postgres: TestDatabase) -> None:
    backend, other = postgres.backend(), postgres.backend()
    lease = taken(backend)
    holder(other)
    standing = other.line_up(KEY)
    backend.release(lease)
    found = backend.take(KEY, request("new"))
    assert isinstance(found, Holder)
    # Nobody holds it, so nobody is named.
    assert (found.pid, found.turn_id) == (None, None)
    assert not isinstance(other.take(KEY, request("W"), standing=standing), Holder)


def test_a_waiter_that_lets_a_free_session_lie_is_passed_once(postgres: TestDatabase) -> None:
    """It costs the others a moment, and no second one until it is heard of again."""
    backend, slow = postgres.backend(), postgres.backend()
    lease = taken(backend)
    holder(slow)
    first = slow.line_up(KEY)
    second = backend.line_up(KEY)
    backend.release(lease)
    assert isinstance(backend.take(KEY, request("T2"), standing=second), Holder)
    postgres.move_clock(waiting.PATIENCE)
    lease = taken_in_line(backend, second)
    backend.release(lease)
    # Passed: a session that is free this instant is not kept for it.
    third = backend.line_up(KEY)
    lease = taken_in_line(backend, third)
    # It is heard of, and stands in front again.
    slow.wait(KEY, holder(slow), first, 0.01, Wake())
    backend.release(lease)
    assert isinstance(backend.take(KEY, request("T2")), Holder)
    taken_in_line(slow, first)


def taken_in_line(backend: PostgresBackend, standing: waiting.Place) -> PostgresLease:
    found = backend.take(KEY, request("T"), standing=standing)
    assert not isinstance(found, Holder)
    return found


@pytest.mark.processes
def test_gateways_get_their_turn_in_the_order_in_which_they_came(postgres: TestDatabase) -> None:
    lease = taken(postgres.backend(lease_time=NEVER))
    with child(WAIT, postgres.url, "W1") as one, child_in_line(postgres, "W2", 1) as two:
        eventually(lambda: in_line(postgres) == 2)
        with child_in_line(postgres, "W3", 2) as three:
            eventually(lambda: in_line(postgres) == 3)
            postgres.backend().release(lease)
            for process in (one, two, three):
                process.expect("waiting")
                process.expect("done")
    with Store(postgres.backend(), location="test") as store:
        said = [kind for kind in kinds(store) if kind.startswith("user:")]
    assert said == ["user:W1", "user:W2", "user:W3"]


@pytest.mark.processes
def test_a_stopped_waiter_blocks_nobody(postgres: TestDatabase) -> None:
    backend = postgres.backend(lease_time=NEVER)
    lease = taken(backend)
    with child(WAIT, postgres.url, "W1") as stopped:
        eventually(lambda: in_line(postgres) == 1)
        stopped.stop()
        with child_in_line(postgres, "W2", 1) as second:
            eventually(lambda: in_line(postgres) == 2)
            backend.release(lease)
            second.expect("waiting")
            second.expect("done")
        stopped.go_on()
        stopped.expect("waiting")
        stopped.expect("done")


@contextmanager
def child_in_line(postgres: TestDatabase, name: str, behind: int) -> Iterator[Child]:
    """A waiter that comes when so many stand in line."""
    eventually(lambda: in_line(postgres) == behind)
    with child(WAIT, postgres.url, name) as process:
        yield process


def test_a_waiter_that_gives_up_leaves_no_place_behind(postgres: TestDatabase) -> None:
    taken(postgres.backend())
    with Store(postgres.backend(), location="test") as store:
        with pytest.raises(turnlock.SessionBusy) as caught, store.turn("main/a", wait=0.05):
            pass
        assert (caught.value.holder_turn, caught.value.limit) == ("T1", 300.0)
        assert store.waiters(["main/a"]) == {"main/a": 0}
    assert in_line(postgres) == 0


def test_places_of_the_dead_go_with_time(postgres: TestDatabase) -> None:
    backend = postgres.backend()
    taken(backend)
    backend.line_up(KEY)
    assert backend.in_line([KEY]) == {KEY: 1}
    postgres.move_clock(3600.0)
    assert backend.in_line([KEY]) == {KEY: 0}
    backend.line_up(KEY)
    assert in_line(postgres) == 1


def test_who_waits_goes_on_in_the_line_of_the_session_that_is_made_anew(
    postgres: TestDatabase,
) -> None:
    """Its place is of a session that was taken away; there it would find nothing to wait for."""
    backend, other = postgres.backend(), postgres.backend()
    lease = taken(backend, "T1")
    standing = other.line_up(KEY)
    backend.remove(lease, lease.tail.size)
    taken(backend, "T2")
    waits: list[float | None] = []

    class Clock:
        def wait(self, event: threading.Event, timeout: float | None) -> bool:
            waits.append(timeout)
            return False

    def has_waited() -> list[float | None]:
        other.wait(KEY, holder(other), standing, NEVER, Wake())
        return waits

    other._line._clock = Clock()  # type: ignore[assignment]
    # It is woken at once while there is news of what happened.
    eventually(has_waited)
    assert backend.in_line([KEY]) == {KEY: 1}


def test_nobody_listens_for_a_lease_whose_holder_was_told_that_it_is_lost(
    postgres: TestDatabase,
) -> None:
    """By its append, by a look, or when it would take the session away."""
    backend, other = postgres.backend(), postgres.backend()

    def refused(lease: PostgresLease) -> None:
        with pytest.raises(Lost):
            append(backend, lease, line("late"))

    def removed(lease: PostgresLease) -> None:
        with pytest.raises(Lost):
            backend.remove(lease, lease.tail.size)

    for tell in (refused, removed, backend.holds):
        lease = taken(backend)
        assert backend.renew([lease]) == []
        assert backend._line.listener._watching
        new = other.supersede(KEY, request("T2"), lease=None, reason="operator")
        assert new is not None
        tell(lease)
        assert backend._line.listener._watching == {}
        # It is renewed until its turn is over, and that leaves nothing behind either.
        assert backend.renew([lease]) == [lease]
        assert backend._line.listener._watching == {}
        other.release(new)


def test_a_waiter_that_looks_waits_for_no_disk(
    postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It locks the session's row, so that its look commits; nothing is lost with that."""
    backend = postgres.backend()
    taken(backend)
    settings: list[str] = []
    message = Database.message

    def noted(self: Database, *names: str, **bounds: Any) -> str:
        text = message(self, *names, **bounds)
        settings.extend(re.findall(r"synchronous_commit = (\w+)", text))
        return text

    monkeypatch.setattr(Database, "message", noted)
    place = backend.line_up(KEY)
    backend._line._delay(place, place_of(postgres))
    place.close()
    assert settings == ["off"] * 3
    backend.line_up(SessionKey("main", "b"))
    assert not isinstance(backend.take(SessionKey("main", "b"), request("T2")), Holder)
    assert settings[-1] == "on"


def place_of(postgres: TestDatabase) -> int:
    ((found,),) = postgres.rows("SELECT id FROM turnlock.session")
    assert isinstance(found, int)
    return found


def test_a_database_clock_that_jumps_back_keeps_no_free_session_from_those_who_wait(
    postgres: TestDatabase,
) -> None:
    """Though the first in line has died, and is alive by that clock for a day."""
    backend, other = postgres.backend(), postgres.backend()
    lease = taken(backend)
    backend.line_up(KEY)
    found, standing = holder(other), other.line_up(KEY)
    backend.release(lease)
    postgres.move_clock(-86400.0)
    # Returning at all is the point.
    other.wait(KEY, found, standing, NEVER, Wake())
    assert not isinstance(other.take(KEY, request("W"), standing=standing), Holder)
