"""The watchdog's thread wakes for what comes earlier than it meant to, and outlives its errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.helpers import PATIENCE, child, eventually
from turnlock.clock import SystemClock
from turnlock.store import Store
from turnlock.turns.lease import Lease
from turnlock.turns.sync import Turn
from turnlock.turns.watchdog import Overdue, Watchdog

from .test_watchdog import lease


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """Its watchdog looks every quarter of an hour, unless it is woken."""
    monkeypatch.setattr("turnlock.turns.watchdog.TICK", 1000.0)
    return turnlock.open_store("memory:")


@pytest.fixture
def asleep(store: Store) -> Iterator[None]:
    """The thread sleeps, with a lease in sight that has hours."""
    with store.turn("main/long", max_hold=3600.0):
        eventually(lambda: store._runtime.watchdog._wakes_at > SystemClock().monotonic())
        yield


def revoked_in_time(store: Store, work: Callable[[Turn], Any], **limits: Any) -> str:
    """Why a block in another thread was revoked, that would never end by itself."""
    reasons: list[str] = []

    def run() -> None:
        try:
            with store.turn("main/a", **limits) as turn:
                kept = work(turn)
                eventually(lambda: turn.revoked)
                del kept
        except turnlock.LeaseRevoked as error:
            reasons.append(error.reason)
        except AssertionError:
            reasons.append("never")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return reasons[0]


@pytest.mark.usefixtures("asleep")
def test_a_lease_with_an_earlier_deadline_wakes_it(store: Store) -> None:
    assert revoked_in_time(store, lambda turn: None, max_hold=0.1) == "hold-limit"


def seen_by_the_thread(store: Store, hold: float) -> bool:
    """Whether the thread sleeps for as long as that lease has."""
    left = store._runtime.watchdog._wakes_at - SystemClock().monotonic()
    return hold / 2 < left <= hold


@pytest.mark.usefixtures("asleep")
def test_a_call_with_an_earlier_deadline_wakes_it(store: Store) -> None:
    def call(turn: Turn) -> object:
        eventually(lambda: seen_by_the_thread(store, 600.0))
        return turn.watch(iter([1]), first=0.1)

    assert revoked_in_time(store, call, max_hold=600.0) == "model-limit"


@pytest.mark.usefixtures("asleep")
def test_a_pause_that_is_shorter_than_the_first_wait_wakes_it(store: Store) -> None:
    def call(turn: Turn) -> object:
        stream = turn.watch(iter([1, 2]), first=500.0, idle=0.1)
        eventually(lambda: seen_by_the_thread(store, 500.0))
        assert next(stream) == 1
        return stream

    assert revoked_in_time(store, call, max_hold=600.0) == "model-limit"


class Falling:
    """A clock on which the thread goes to sleep once, and says whether it was woken at once."""

    woken: bool | None = None

    def monotonic(self) -> float:
        return 100.0

    def wall(self) -> float:
        return 0.0

    def sleep(self, duration: float) -> None:
        raise AssertionError

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        self.woken = event.is_set()
        return True


def test_a_lease_that_comes_while_it_goes_to_sleep_wakes_it() -> None:
    clock = Falling()
    watchdog: Watchdog

    def leases() -> list[Lease]:
        # What comes after this is not in the list.
        watchdog.expect(100.9)
        return []

    watchdog = Watchdog(
        clock, leases=leases, revoke=lambda due: None, verify=lambda all: None, on_gap=print
    )
    watchdog._sleep(100.0, 101.0)
    assert clock.woken is True


def since(before: set[threading.Thread]) -> set[threading.Thread]:
    return set(threading.enumerate()) - before


def test_a_store_that_is_closed_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with turnlock.open_store("memory:") as store, store.turn("main/a") as turn:
        turn.append(turnlock.user("x"))
    eventually(lambda: not [one for one in since(before) if "watchdog" in one.name])


def test_a_store_that_is_left_alone_has_no_thread_until_there_is_something_to_watch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("turnlock.turns.watchdog.TICK", 0.01)
    monkeypatch.setattr("turnlock.turns.watchdog._LINGER_TICKS", 1)
    before = set(threading.enumerate())
    store = turnlock.open_store("memory:")
    for _ in range(2):
        with store.turn("main/a"):
            assert [one for one in since(before) if "watchdog" in one.name]
        eventually(lambda: not [one for one in since(before) if "watchdog" in one.name])
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a", max_hold=0.05) as turn:
        eventually(lambda: turn.revoked)


def test_a_lease_that_comes_as_the_thread_ends_has_another() -> None:
    """Who comes in the last look finds no thread, or is seen by it."""
    comes = threading.Thread(target=lambda: watchdog.start())

    def leases() -> list[Lease]:
        # Too late to be in the list.
        comes.start()
        comes.join(0.2)
        return []

    watchdog = Watchdog(
        SystemClock(), leases=leases, revoke=lambda due: None, verify=lambda all: None, on_gap=print
    )
    started: list[str] = []
    watchdog._started = True
    watchdog._start = lambda: started.append("thread")  # type: ignore[method-assign]
    assert watchdog._ends()
    comes.join()
    assert started == ["thread"]


def test_a_last_look_that_fails_is_not_the_last_one() -> None:
    def leases() -> list[Lease]:
        raise MemoryError

    watchdog = Watchdog(
        SystemClock(), leases=leases, revoke=lambda due: None, verify=lambda all: None, on_gap=print
    )
    watchdog._started = True
    with pytest.raises(MemoryError):
        watchdog._ends()
    # The thread goes on, and nobody starts another.
    assert watchdog._started


def test_a_look_that_fails_is_not_the_last_one(caplog: pytest.LogCaptureFixture) -> None:
    overdue = lease()
    looks = 0
    revoked: list[Overdue] = []

    def leases() -> list[Lease]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise MemoryError
        return [overdue] if not revoked else []

    watchdog = Watchdog(
        SystemClock(), leases=leases, revoke=revoked.append, verify=lambda all: None, on_gap=print
    )
    watchdog.start()
    eventually(lambda: revoked, patience=PATIENCE)
    assert "look failed" in caplog.text


FORKS = """
    import os
    import time
    import turnlock
    store = turnlock.open_store(sys.argv[1])
    with store.turn("main/parent") as turn:
        child = os.fork()
        if child == 0:
            try:
                with store.turn("main/a", max_hold=0.1) as turn:
                    for _ in range(20_000):
                        turn.check()
                        time.sleep(0.001)
            except turnlock.LeaseRevoked as error:
                print(error.reason, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
"""


def test_a_forked_child_has_a_watchdog_of_its_own(state: Path) -> None:
    with child(FORKS, state) as process:
        process.expect("hold-limit")
