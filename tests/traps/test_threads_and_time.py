"""Threads that cannot start (A24), and time that a test froze."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import freezegun
import pytest
import time_machine

import turnlock
from tests.helpers import PATIENCE, child, eventually, kinds
from turnlock.store import Store
from turnlock.turns.workers import workers


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """From the call on the system gives no thread, as at a limit of processes or of memory."""

    def refuse(*_: Any, **__: Any) -> int:
        raise RuntimeError("can't start new thread")

    def start() -> None:
        workers._idle.clear()
        for name in ("_start_new_thread", "_start_joinable_thread"):
            if hasattr(threading, name):
                monkeypatch.setattr(threading, name, refuse)

    yield start
    monkeypatch.undo()


class TestWithoutThreads:
    def test_a_turn_that_nobody_could_watch_is_refused_and_leaves_nothing(
        self, store: Store, no_threads: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A24. And the next turn has a watchdog, once there are threads again."""
        no_threads()
        with pytest.raises(turnlock.StoreError, match="no thread"), store.turn("main/a"):
            pass
        assert not store.locks()
        monkeypatch.undo()
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a", max_hold=0.05) as turn:
            while not turn.revoked:
                threading.Event().wait(0.001)
        assert kinds(store) == ["turn", "hold-limit"]

    def test_a_watchdog_without_workers_revokes_by_itself(
        self, store: Store, no_threads: Callable[[], None]
    ) -> None:
        """It has to touch the disk then, which is better than a session that stays held."""
        over = threading.Event()

        def hold() -> None:
            with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a", max_hold=0.2):
                no_threads()
                assert over.wait(PATIENCE)

        with store.turn("main/b"), ThreadPoolExecutor(1) as pool:
            holding = pool.submit(hold)
            try:
                with store.turn("main/c"):
                    pass
                store_of_waiter = store.turn("main/a", wait=PATIENCE)
                while not store.statistics().revoked:
                    assert not over.wait(0.001)
                with store_of_waiter:
                    pass
            finally:
                over.set()
            holding.result(PATIENCE)
        assert kinds(store) == ["turn", "hold-limit"]

    def test_a_task_that_gets_no_worker_is_told(
        self, store: Store, no_threads: Callable[[], None]
    ) -> None:
        async def main() -> None:
            no_threads()
            with pytest.raises(turnlock.StoreError, match="no thread"):
                async with store.turn("main/a"):
                    raise AssertionError

        with store.turn("main/b"):
            pass
        asyncio.run(main())
        with store.turn("main/a", wait=0):
            pass

    def test_a_task_whose_append_gets_no_worker_is_told_and_its_turn_ends(
        self, store: Store, no_threads: Callable[[], None]
    ) -> None:
        """The end has to block the loop then, which is better than a session that stays held."""

        async def main() -> None:
            with pytest.raises(turnlock.StoreError, match="no thread"):
                async with store.turn("main/a") as turn:
                    await turn.append(turnlock.user("1"))
                    no_threads()
                    await turn.append(turnlock.user("2"))

        asyncio.run(main())
        assert store.statistics().held == 0
        assert kinds(store) == ["turn", "user:1", "error"]

    def test_a_fence_that_fails_is_put_up_by_the_watchdog(
        self, store: Store, no_threads: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        supersede, tries = store._backend.supersede, iter((1,))

        def supersede_at_the_second_try(*args: Any, **wanted: Any) -> Any:
            if next(tries, None):
                no_threads()
                raise turnlock.StoreError("a.jsonl", "open", "too many open files")
            return supersede(*args, **wanted)

        monkeypatch.setattr(store._backend, "supersede", supersede_at_the_second_try)
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
            store.revoke("main/a")
        eventually(lambda: store.statistics().revoked)
        assert store.statistics().revocations_failed == 1
        with store.turn("main/a", wait=PATIENCE):
            pass
        assert kinds(store) == ["turn", "operator"]

    def test_a_store_that_is_closed_ends_its_turns(
        self, store: Store, no_threads: Callable[[], None]
    ) -> None:
        """As at the interpreter's end, where from Python 3.12 on no thread can be started."""
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
            no_threads()
            store.close()
            assert kinds(store) == ["turn", "cancelled"]

    def test_the_system_refuses_for_real(self, state: Path) -> None:
        """Stacks that fit in no memory: the kernel says no, and the turn with it."""
        with child(NO_ROOM_FOR_STACKS, state) as process:
            process.expect("refused True")
            process.expect("locks 0")
            process.expect("then taken")


NO_ROOM_FOR_STACKS = """
    import threading, turnlock
    store = turnlock.open_store(sys.argv[1])
    threading.stack_size(1 << 46)
    try:
        with store.turn("main/a"):
            print("taken?", flush=True)
    except turnlock.StoreError as error:
        print("refused", "no thread" in str(error), flush=True)
    print("locks", len(store.locks()), flush=True)
    threading.stack_size(0)
    with store.turn("main/a", wait=0):
        print("then taken", flush=True)
"""


FREEZERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "freezegun": lambda: freezegun.freeze_time("2030-01-01"),
    "time-machine": lambda: time_machine.travel("2030-01-01", tick=False),
}


class TestFrozenTime:
    @pytest.mark.parametrize("freezer", FREEZERS)
    def test_limits_pass_all_the_same(self, store: Store, freezer: str) -> None:
        with (
            FREEZERS[freezer](),
            pytest.raises(turnlock.LeaseRevoked),
            store.turn("main/a", max_hold=0.05) as turn,
        ):
            while not turn.revoked:
                threading.Event().wait(0.001)
        assert kinds(store) == ["turn", "hold-limit"]

    def test_entries_have_the_time_that_the_test_wants(self, store: Store) -> None:
        with time_machine.travel("2030-01-01", tick=False), store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
        assert {entry["timestamp"][:10] for entry in store.read("main/a")} == {"2030-01-01"}

    def test_a_library_that_is_first_used_in_frozen_time_has_its_limits(self, state: Path) -> None:
        """Imports are lazy: what froze the clock must not be there for good."""
        with child(FIRST_USE, state) as process:
            process.expect("hold-limit")
            process.expect("hold-limit")


FIRST_USE = """
    import threading, freezegun, turnlock
    def hold():
        try:
            with store.turn("main/a", max_hold=0.05) as turn:
                while not turn.revoked:
                    threading.Event().wait(0.001)
        except turnlock.LeaseRevoked as error:
            print(error.reason, flush=True)
    with freezegun.freeze_time("2030-01-01"):
        store = turnlock.open_store(sys.argv[1])
        hold()
    hold()
"""
