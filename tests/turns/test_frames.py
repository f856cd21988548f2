"""The stack of a holder: right where it hangs, and no harm where it runs on."""

from __future__ import annotations

import _thread
import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import turnlock
from tests.helpers import PATIENCE
from turnlock.turns import frames
from turnlock.turns.frames import thread_frames


def deep(calls: int, last: Callable[[], object]) -> None:
    if calls:
        deep(calls - 1, last)
    else:
        last()


@pytest.fixture
def hung() -> Callable[[int], list[str]]:
    """The stack of a thread that hangs so many calls deep, each as the function it is in."""

    def stack(calls: int) -> list[str]:
        there, over = threading.Event(), threading.Event()

        def hang() -> None:
            there.set()
            over.wait(PATIENCE)

        thread = threading.Thread(target=deep, args=(calls, hang))
        thread.start()
        assert there.wait(PATIENCE)
        assert thread.ident is not None
        found = thread_frames(thread.ident)()
        over.set()
        thread.join()
        return [line.rpartition(" in ")[2] for line in found]

    return stack


def test_it_ends_with_the_newest_call_and_begins_with_the_oldest(
    hung: Callable[[int], list[str]],
) -> None:
    assert hung(2)[:7] == [
        "Thread._bootstrap",
        "Thread._bootstrap_inner",
        "Thread.run",
        "deep",
        "deep",
        "deep",
        "hung.<locals>.stack.<locals>.hang",
    ]


@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_is_collected_while_the_interpreter_is_asked(
    monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    """A destructor that closes a file would let go of the GIL, and the process stand still."""
    current, seen = sys._current_frames, []

    def current_frames() -> Any:
        seen.append(gc.isenabled())
        return current()

    monkeypatch.setattr(sys, "_current_frames", current_frames)
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        assert thread_frames(threading.get_ident())()
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
    assert set(seen) == {False}


def test_who_is_interrupted_as_it_reads_a_stack_keeps_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frames, "_PATIENCE", 0.01)
    with frames._reading:
        assert thread_frames(threading.get_ident())() == []


def test_of_a_deep_one_the_newest_calls_are_told(hung: Callable[[int], list[str]]) -> None:
    found = hung(50)
    assert "Thread.run" not in found
    assert found[-2:] == ["Event.wait", "Condition.wait"]
    assert found[0] == "deep"


def test_a_thread_that_is_gone_has_none() -> None:
    thread = threading.Thread(target=list)
    thread.start()
    thread.join()
    assert thread.ident is not None
    assert thread_frames(thread.ident)() == []


def test_a_thread_of_one_call() -> None:
    """As C code may start one, or the main thread has it at the top of a script."""
    found: list[list[str]] = []
    there = threading.Event()

    def only() -> None:
        there.set()
        while not found:
            pass

    ident = _thread.start_new_thread(only, ())
    assert there.wait(PATIENCE)
    found.append(thread_frames(ident)())
    assert found[0][0].endswith("only")


def test_a_stack_that_cannot_be_read_stops_no_revocation(
    store: turnlock.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(thread_id: int) -> list[str]:
        raise SystemError("bad frame")

    monkeypatch.setattr("turnlock.turns.frames._stack", unreadable)
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
        assert store.revoke("main/a")
    with store.turn("main/a", wait=PATIENCE):
        pass
