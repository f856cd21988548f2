"""What the threads and tasks of a turn may still do while another one ends it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

import turnlock
from tests.helpers import kinds
from turnlock import LeaseRevoked
from turnlock.store import Store
from turnlock.turns.sync import Turn


def while_released(
    store: Store, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
) -> list[LeaseRevoked]:
    """Have ``act`` done when the terminal entry is written and the session not given back yet."""
    release = store._backend.release
    refused: list[LeaseRevoked] = []

    def act_first(lease: Any) -> bool:
        try:
            act()
        except LeaseRevoked as error:
            refused.append(error)
        return release(lease)

    monkeypatch.setattr(store._backend, "release", act_first)
    return refused


@pytest.mark.parametrize("wrote", [True, False])
@pytest.mark.parametrize("late", ["append", "open"])
def test_what_comes_after_the_end_is_refused(
    wrote: bool, late: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.turn("main/a", turn_id="T1") as turn:
        if wrote:
            turn.append(turnlock.user("1"))
        act = (lambda: turn.append(turnlock.user("late"))) if late == "append" else turn._core.open
        refused = while_released(store, monkeypatch, act)
    monkeypatch.undo()
    assert [(one.turn_id, one.reason) for one in refused] == [("T1", "released")]
    with store.turn("main/a"):
        pass
    assert kinds(store) == (["turn", "user:1", "end"] if wrote else [])


def test_what_comes_after_the_error_marker_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZeroDivisionError), store.turn("main/a") as turn:
        refused = while_released(store, monkeypatch, lambda: turn.append(turnlock.user("late")))
        raise ZeroDivisionError
    assert [one.reason for one in refused] == ["released"]
    assert kinds(store) == ["turn", "error"]


@pytest.mark.parametrize("wrote", [True, False])
def test_so_is_what_another_task_appends(
    wrote: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[LeaseRevoked]:
        loop = asyncio.get_running_loop()
        async with store.turn("main/a") as turn:
            if wrote:
                await turn.append(turnlock.user("1"))

            def act() -> object:
                late = turn.append(turnlock.user("late"))
                return asyncio.run_coroutine_threadsafe(late, loop).result()

            return while_released(store, monkeypatch, act)

    assert [one.reason for one in asyncio.run(main())] == ["released"]
    assert kinds(store) == (["turn", "user:1", "end"] if wrote else [])


def test_an_append_is_before_the_end_or_refused(store: Store) -> None:
    """A thread goes on appending while another leaves the block, as a tool of the turn does."""
    acknowledged: list[str] = []

    def write_on(turn: Turn, began: threading.Event) -> None:
        with contextlib.suppress(LeaseRevoked):
            while True:
                acknowledged.extend(turn.append(turnlock.user("x")))
                began.set()

    for _ in range(5):
        began = threading.Event()
        with store.turn("main/a") as turn:
            thread = threading.Thread(target=write_on, args=[turn, began])
            thread.start()
            began.wait(10)
        thread.join()
    written = {entry["id"] for entry in store.read("main/a")}
    assert written.issuperset(acknowledged)
