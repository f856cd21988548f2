"""A task that works for a turn is in it, and ends with it, in whatever loop or thread it runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.helpers import PATIENCE
from turnlock.turns.adopting import adopt_current_task

KEY = "main/a"


@pytest.fixture
def store(state: Path) -> Iterator[turnlock.Store]:
    with turnlock.open_store(state) as store:
        yield store


class Work:
    """A task that adopts itself and then waits for ever. ``told`` is what it was ended by."""

    def __init__(self) -> None:
        self.adopted = threading.Event()
        self.told: list[BaseException] = []
        self.turn: Any = None

    async def run(self, turn: Any) -> None:
        try:
            adopt_current_task(turn)
            adopt_current_task(turn)
            self.turn = turnlock.current_turn()
            self.adopted.set()
            await asyncio.Event().wait()
        except BaseException as error:
            self.told.append(error)
            raise


@pytest.mark.parametrize("end", ["well", "revoked"])
def test_a_task_ends_with_its_turn(store: turnlock.Store, end: str) -> None:
    work = Work()

    async def test() -> None:
        with suppress(turnlock.LeaseRevoked):
            async with store.turn(KEY) as turn:
                task = asyncio.create_task(work.run(turn))
                await asyncio.to_thread(work.adopted.wait, PATIENCE)
                assert work.turn is turn
                if end == "revoked":
                    await asyncio.to_thread(store.revoke, KEY)
        await asyncio.wait({task}, timeout=PATIENCE)
        assert task.cancelled()

    asyncio.run(test())
    assert [type(error) for error in work.told] == [asyncio.CancelledError]


def test_without_being_adopted_it_goes_on(store: turnlock.Store) -> None:
    async def test() -> None:
        async with store.turn(KEY):
            task = asyncio.create_task(asyncio.Event().wait())
        assert not task.done()
        task.cancel()

    asyncio.run(test())


def test_the_turns_own_task_is_told_once_and_by_its_own_error(store: turnlock.Store) -> None:
    async def test() -> None:
        with pytest.raises(turnlock.LeaseRevoked):
            async with store.turn(KEY, max_hold=0.3) as turn:
                adopt_current_task(turn)
                await asyncio.Event().wait()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(test())


def test_a_task_that_is_through_is_left_alone(store: turnlock.Store) -> None:
    async def adopted(turn: Any) -> None:
        adopt_current_task(turn)

    async def test() -> None:
        async with store.turn(KEY) as turn:
            task = asyncio.create_task(adopted(turn))
            await task
            await asyncio.sleep(0)
            assert turn._core.lease.calls == {}
        assert not task.cancelled()

    asyncio.run(test())


def test_a_thread_without_the_context_of_its_turn_has_it_once_adopted(
    store: turnlock.Store,
) -> None:
    work = Work()

    def thread(turn: Any) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(work.run(turn))

    with store.turn(KEY) as turn:
        worker = threading.Thread(target=thread, args=(turn,))
        worker.start()
        assert work.adopted.wait(PATIENCE)
        assert work.turn is turn
    worker.join(PATIENCE)
    assert not worker.is_alive()


def test_a_loop_within_a_threads_turn_that_is_revoked_ends_it_with_the_turns_error(
    store: turnlock.Store,
) -> None:
    """The task of the loop is cancelled; to the thread that is no cancellation of its own."""
    work = Work()
    with pytest.raises(turnlock.LeaseRevoked) as raised, store.turn(KEY, max_hold=0.3) as turn:
        asyncio.run(work.run(turn))
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)


def test_nothing_is_adopted_by_a_turn_that_is_over(store: turnlock.Store) -> None:
    async def test() -> None:
        async with store.turn(KEY) as turn:
            pass
        with pytest.raises(turnlock.LeaseRevoked):
            adopt_current_task(turn)

    asyncio.run(test())
