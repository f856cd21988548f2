"""The line of waiters: who came first goes first, also between processes; nobody blocks it.

Two backends on one directory stand for two processes here: each opens the transcript by itself, and
that is what the kernel tells apart.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.helpers import Child, child, eventually
from turnlock.backends import Holder, TakeRequest, Wake
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.backends.files.line import PATIENCE
from turnlock.events import TurnQueued
from turnlock.session import SessionKey
from turnlock.testing import ManualClock

KEY = SessionKey("main", "a")
Make = Callable[..., FilesBackend]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def process(state: Path, clock: ManualClock) -> Make:
    """A backend such as another process would have."""

    def make(files: FileOps | None = None) -> FilesBackend:
        return FilesBackend(StateDirectory(str(state)), clock=clock, files=files)

    return make


def request(turn_id: str = "T") -> TakeRequest:
    return TakeRequest(turn_id, 300.0)


def take(backend: FilesBackend, standing: Any = None) -> Any:
    found = backend.take(KEY, request(), standing=standing)
    if isinstance(found, Holder):
        found.close()
        return None
    return found


class NoByteLocks(FileOps):
    """A file system without locks of an open file description."""

    def lock_byte(self, handle: Handle, offset: int) -> None:
        raise OSError(22, "Invalid argument")

    def locked_byte(self, handle: Handle, start: int, stop: int) -> int | None:
        raise OSError(22, "Invalid argument")


def in_line(clock: ManualClock, *backends: FilesBackend) -> list[Any]:
    """Each lines up in turn; time passes in between, as it is what a place is told by."""
    standings = []
    for backend in backends:
        clock.advance(0.001)
        standings.append(backend.line_up(KEY))
    return standings


def test_waiters_come_in_the_order_of_their_coming(process: Make, clock: ManualClock) -> None:
    holder, early, late = process(), process(), process()
    lease = take(holder)
    first, second = in_line(clock, early, late)
    holder.release(lease)

    assert take(late, second) is None
    lease = take(early, first)
    assert lease is not None
    first.close()
    early.release(lease)
    assert take(late, second) is not None


def test_a_waiter_that_is_woken_does_not_wait_for_who_comes_first(
    process: Make, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled task gives its worker back at once."""
    holder, early, late = process(), process(), process()
    lease = take(holder)
    _, second = in_line(clock, early, late)
    holder.release(lease)
    found = late.take(KEY, request(), standing=second)
    assert isinstance(found, Holder)
    wake = Wake()

    def slept(duration: float) -> None:
        assert not wake.is_set()
        wake.set()

    monkeypatch.setattr(clock, "sleep", slept)
    late.wait(KEY, found, second, 60.0, wake)
    assert wake.is_set()


def test_who_came_before_there_was_a_transcript_keeps_its_place(
    process: Make, clock: ManualClock
) -> None:
    holder, early, late = process(), process(), process()
    (first,) = in_line(clock, early)
    lease = take(holder)
    assert take(early, first) is None
    (second,) = in_line(clock, late)
    holder.release(lease)

    assert take(late, second) is None
    assert take(early, first) is not None


def test_without_byte_locks_the_quickest_comes_first(process: Make, clock: ManualClock) -> None:
    # What the line is for: this is the order when there is none.
    holder, early, late = (process(NoByteLocks()) for _ in range(3))
    lease = take(holder)
    _, second = in_line(clock, early, late)
    holder.release(lease)
    assert take(late, second) is not None


def test_who_released_lets_a_waiter_go_first(process: Make, clock: ManualClock) -> None:
    greedy, patient = process(), process()
    lease = take(greedy)
    (standing,) = in_line(clock, patient)
    greedy.release(lease)

    assert take(greedy) is None
    assert take(patient, standing) is not None


def test_who_released_takes_again_when_nobody_waits(process: Make, clock: ManualClock) -> None:
    backend, other = process(), process()
    lease = take(backend)
    (standing,) = in_line(clock, other)
    backend.release(lease)
    # It gave up in this very moment.
    standing.close()
    assert take(backend) is not None


def test_who_gives_way_on_one_session_takes_another(process: Make, clock: ManualClock) -> None:
    backend, patient = process(), process()
    lease = take(backend)
    (standing,) = in_line(clock, patient)
    backend.release(lease)
    assert not isinstance(backend.take(SessionKey("main", "b"), request()), Holder)
    assert take(backend) is None
    standing.close()


def test_who_released_gives_way_for_a_moment_only(process: Make, clock: ManualClock) -> None:
    """The waiter may be stopped."""
    backend, stopped = process(), process()
    lease = take(backend)
    (standing,) = in_line(clock, stopped)
    backend.release(lease)
    clock.advance(1.01 * PATIENCE)
    assert take(backend) is not None
    standing.close()


def test_a_waiter_that_does_not_take_is_passed(process: Make, clock: ManualClock) -> None:
    holder, stopped, awake = process(), process(), process()
    lease = take(holder)
    _, second = in_line(clock, stopped, awake)
    holder.release(lease)

    assert take(awake, second) is None
    second.sees_vacancy()
    clock.advance(1.01 * PATIENCE)
    lease = take(awake, second)
    assert lease is not None
    second.close()

    # And is overlooked from then on: patience is spent on it once.
    (third,) = in_line(clock, awake)
    awake.release(lease)
    assert take(awake, third) is not None


def test_each_that_stands_in_front_gets_its_time(process: Make, clock: ManualClock) -> None:
    holder, stopped, awake, last = process(), process(), process(), process()
    lease = take(holder)
    _, second, third = in_line(clock, stopped, awake, last)
    holder.release(lease)

    third.sees_vacancy()
    clock.advance(1.01 * PATIENCE)
    assert take(last, third) is None
    second.sees_vacancy()
    clock.advance(0.6 * PATIENCE)
    assert take(last, third) is None
    clock.advance(0.6 * PATIENCE)
    assert take(awake, second) is not None


def test_time_under_a_holder_does_not_count(process: Make, clock: ManualClock) -> None:
    holder, early, late = process(), process(), process()
    lease = take(holder)
    first, second = in_line(clock, early, late)
    second.sees_vacancy()
    clock.advance(3 * PATIENCE)
    assert take(late, second) is None  # held, and seen to be
    holder.release(lease)
    assert take(late, second) is None
    assert take(early, first) is not None


def test_the_line_holds_for_a_dead_holder_too(
    process: Make, clock: ManualClock, state: Path
) -> None:
    early, late = process(), process()
    with child(HOLD, state) as dying:
        dying.expect("holding")
        first, second = in_line(clock, early, late)
        dying.kill()
    assert take(late, second) is None
    assert take(early, first) is not None


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process gives a waiter of another one the time that a busy machine takes to wake it."""
    monkeypatch.setattr("turnlock.backends.files.line.PATIENCE", 20.0)


@pytest.mark.usefixtures("patient")
def test_wait_zero_does_not_overtake_a_waiter(state: Path) -> None:
    with turnlock.open_store(state) as store, child(WAIT, state) as waiter:
        with store.turn("main/a"):
            stands_in_line(waiter, state)
        with pytest.raises(turnlock.SessionBusy) as busy, store.turn("main/a", wait=0):
            pass
        # By then the waiter has it, or is just about to.
        assert busy.value.holder_turn in (None, "W")
        waiter.expect("holding")


@pytest.mark.usefixtures("patient")
def test_a_process_that_takes_again_at_once_starves_nobody(state: Path) -> None:
    with turnlock.open_store(state) as store, child(WAIT, state) as waiter:
        with store.turn("main/a", turn_id="1"):
            stands_in_line(waiter, state)
            waiter.tell()
        for turn_id in "23":
            with store.turn("main/a", turn_id=turn_id) as turn:
                turn.append(turnlock.user("me again"))
        ends = [e for e in store.read("main/a") if e.get("customType") == "turnlock:end"]
    assert [entry["data"]["turnId"] for entry in ends] == ["W", "2", "3"]


def test_a_stopped_waiter_blocks_nobody(state: Path) -> None:
    with turnlock.open_store(state) as store, child(WAIT, state) as stopped:
        with store.turn("main/a"):
            stands_in_line(stopped, state)
            stopped.stop()
        for _ in range(3):
            with store.turn("main/a", wait=20):
                pass
        stopped.go_on()
        stopped.expect("holding")


@pytest.mark.usefixtures("patient")
def test_another_process_comes_between_two_threads(state: Path) -> None:
    order: list[str] = []
    with turnlock.open_store(state) as store, child(WAIT, state) as waiter:
        queued = threading.Event()
        store.subscribe(lambda event: queued.set() if isinstance(event, TurnQueued) else None)

        def second() -> None:
            with store.turn("main/a", turn_id="second"):
                order.append("second")

        thread = threading.Thread(target=second)
        with store.turn("main/a"):
            stands_in_line(waiter, state)
            thread.start()
            assert queued.wait(20)
        waiter.expect("holding")
        assert order == []
        waiter.tell()
        thread.join()
    assert order == ["second"]


HOLD = """
    import turnlock
    with turnlock.open_store(sys.argv[1]).turn("main/a"):
        print("holding", flush=True)
        sys.stdin.readline()
"""
WAIT = """
    import turnlock
    store = turnlock.open_store(sys.argv[1])
    print("waiting", flush=True)
    with store.turn("main/a", turn_id="W") as turn:
        turn.append(turnlock.user("I came first"))
        print("holding", flush=True)
        sys.stdin.readline()
"""


def stands_in_line(waiter: Child, state: Path) -> None:
    """Until the waiter waits for the session."""
    waiter.expect("waiting")
    files = FileOps()
    transcript = files.open(str(state / "agents/main/sessions/a.jsonl"), os.O_RDONLY)
    eventually(lambda: files.locked_byte(transcript, 1 << 62, (1 << 63) - 1) is not None)
