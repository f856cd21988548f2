"""A take that comes to nothing: what it had is given back, and whoever waits is told."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.helpers import PATIENCE, eventually, kinds
from turnlock import LeaseRevoked, StoreError
from turnlock.backends import Backend, Holder, TakeRequest
from turnlock.session import parse_key
from turnlock.store import Store
from turnlock.turns.lease import Lease
from turnlock.turns.runtime import Runtime
from turnlock.turns.turn import TurnCore
from turnlock.turns.watchdog import Watchdog


class TestATakeThatFailsOnceItHasTheLock:
    """Nobody holds the session then, so nobody would ever give it back."""

    @pytest.mark.parametrize(
        ("where", "error"),
        [
            ((Watchdog, "watch"), StoreError("watchdog", "start", "no thread")),
            ((TurnCore, "settle"), MemoryError()),
        ],
        ids=["unwatched", "unsettled"],
    )
    @pytest.mark.parametrize("in_task", [False, True], ids=["thread", "task"])
    def test_leaves_the_session_free(
        self,
        store: Store,
        monkeypatch: pytest.MonkeyPatch,
        where: tuple[type, str],
        error: Exception,
        in_task: bool,
    ) -> None:
        def fail(*_: Any) -> None:
            monkeypatch.undo()
            raise error

        async def in_a_task() -> None:
            async with store.turn("main/a"):
                pass

        monkeypatch.setattr(*where, fail)
        with pytest.raises(type(error)):
            if in_task:
                asyncio.run(in_a_task())
            else:
                with store.turn("main/a"):
                    pass
        assert store.statistics().held == 0
        with store.turn("main/a", wait=PATIENCE) as turn:
            turn.append(turnlock.user("1"))
        assert kinds(store)[-3:] == ["turn", "user:1", "end"]


Wait = Callable[[Store], None]


def wait_in_thread(store: Store) -> None:
    with store.turn("main/a", wait=None):
        raise AssertionError("a turn began")


def wait_in_task(store: Store) -> None:
    async def wait() -> None:
        async with store.turn("main/a", wait=None):
            raise AssertionError("a turn began")

    asyncio.run(wait())


class Waiter:
    """Waits for ``main/a`` in a thread of its own, from when it is made on."""

    def __init__(self, store: Store, wait: Wait) -> None:
        before = store.waiters(["main/a"])["main/a"]
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(store, wait), daemon=True)
        self._thread.start()
        eventually(lambda: store.waiters(["main/a"])["main/a"] > before)

    def _run(self, store: Store, wait: Wait) -> None:
        try:
            wait(store)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self._error = error

    def error(self) -> BaseException | None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it waits on"
        return self._error


def assert_told(waiter: Waiter) -> None:
    error = waiter.error()
    assert isinstance(error, StoreError), error
    assert "the store was closed" in str(error)


@pytest.mark.parametrize("wait", [wait_in_thread, wait_in_task])
class TestAStoreThatIsClosed:
    def test_hands_the_session_to_none_of_its_waiters(self, store: Store, wait: Wait) -> None:
        with pytest.raises(LeaseRevoked), store.turn("main/a"):
            waiters = [Waiter(store, wait) for _ in range(2)]
            store.close()
        for waiter in waiters:
            assert_told(waiter)
        assert store.statistics().started == 1
        assert store.locks() == []

    def test_tells_who_waits_for_another_process(
        self, backend: Backend[Any], store: Store, wait: Wait
    ) -> None:
        held = backend.take(parse_key("main/a"), TakeRequest("T1", 60.0))
        assert not isinstance(held, Holder)
        waiter = Waiter(store, wait)
        store.close()
        assert_told(waiter)
        backend.release(held)


def test_no_turn_begins_that_was_asked_for_before_its_store_was_closed(
    backend: Backend[Any], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is there, and whoever closes the store sees no lease yet."""
    take = backend.take

    def take_and_close(*args: Any, **wanted: Any) -> Any:
        taken = take(*args, **wanted)
        store.close()
        return taken

    monkeypatch.setattr(backend, "take", take_and_close)
    with pytest.raises(StoreError, match="closed"), store.turn("main/a"):
        raise AssertionError("it began")
    assert store.locks() == []


def test_a_store_whose_close_was_interrupted_is_closed_by_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("turnlock.store.revoke_all", interrupt)
    with pytest.raises(LeaseRevoked), store.turn("main/a"):
        with pytest.raises(KeyboardInterrupt):
            store.close()
        store.close()
        assert kinds(store) == ["turn", "cancelled"]


def test_stores_may_be_opened_while_all_are_listed() -> None:
    """At any point of it, by another thread."""
    opened: list[Runtime] = []
    before = Runtime()
    sys.setprofile(lambda *_: opened.append(Runtime()))
    try:
        seen = Runtime.all()
    finally:
        sys.setprofile(None)
    assert opened
    assert before in seen


def test_a_task_whose_time_is_up_is_told_even_if_nobody_can_say_who_holds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    async def wait() -> None:
        async with store.turn("main/a", wait=0.05):
            pass

    async def main() -> None:
        async with store.turn("main/a"), asyncio.timeout(PATIENCE):
            with pytest.raises(MemoryError):
                await asyncio.create_task(wait())

    monkeypatch.setattr("turnlock.turns.aio.busy_here", fail)
    asyncio.run(main())


def test_who_waits_for_many_sessions_is_found_in_one_look_at_what_is_held(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Runtime] = []
    leases = Runtime.leases

    def counted(self: Runtime) -> list[Lease]:
        looks.append(self)
        return leases(self)

    keys = [f"main/{number}" for number in range(10)]
    with ExitStack() as held:
        for key in keys:
            held.enter_context(store.turn(key))
        monkeypatch.setattr(store._runtime.watchdog, "_leases", list)
        monkeypatch.setattr(Runtime, "leases", counted)
        assert store.waiters(keys) == dict.fromkeys(keys, 0)
        assert looks.count(store._runtime) == 1


class Numbered:
    """Runs what it is given in a thread; again in another one that has the same number."""

    def __init__(self) -> None:
        self.number: int | None = None

    def run(self, job: Callable[[], None]) -> None:
        errors: list[BaseException] = []

        def work() -> None:
            if self.number not in (None, threading.get_ident()):
                return
            self.number = threading.get_ident()
            done.append(True)
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - raised by who waits
                errors.append(error)

        done: list[bool] = []
        # The system gives the number of a thread that ended to the next one, or to one soon after.
        for _ in range(1000):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            if done:
                break
        else:
            pytest.skip("this system gives every thread a number of its own")
        if errors:
            raise errors[0]


def test_a_thread_is_not_taken_for_one_that_has_ended(store: Store) -> None:
    """Its block is left by somebody else."""
    numbered, block = Numbered(), store.turn("main/a")

    def enter() -> None:
        block.__enter__()

    def wait() -> None:
        with store.turn("main/a", wait=0):
            pass

    numbered.run(enter)
    try:
        with pytest.raises(turnlock.SessionBusy):
            numbered.run(wait)
    finally:
        block.__exit__(None, None, None)


def test_the_lock_of_a_thread_that_has_ended_is_not_that_of_the_next(tmp_path: Path) -> None:
    numbered, lock = Numbered(), turnlock.SessionLock(tmp_path / "a.jsonl")

    def enter() -> None:
        lock.__enter__()

    numbered.run(enter)
    try:
        with pytest.raises(StoreError, match="does not hold"):
            numbered.run(lock.check)
    finally:
        lock.__exit__(None, None, None)
