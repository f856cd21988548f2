"""Turns in tasks: what comes between, at a moment that is chosen and not met by chance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.files.test_faults import SlowSync, a_store, assert_turns_are_whole
from tests.helpers import PATIENCE, eventually, kinds
from turnlock import LeaseRevoked
from turnlock.backends import Backend
from turnlock.session import parse_key
from turnlock.store import Store
from turnlock.turns.aio import AsyncTurn
from turnlock.turns.queue import queues
from turnlock.turns.workers import workers


async def in_time(work: Coroutine[Any, Any, Any]) -> Any:
    """A test that waits for what a fault keeps from coming has to end."""
    async with asyncio.timeout(PATIENCE):
        return await work


async def hang(store: Store) -> None:
    async with store.turn("main/a"):
        await asyncio.Event().wait()


async def taken_behind_its_back(store: Store) -> asyncio.Task[None]:
    """A task to which the session has come, and which does not know it yet."""
    task = asyncio.create_task(hang(store))
    await asyncio.sleep(0)
    eventually(store.leases)
    return task


def test_a_turn_that_is_revoked_before_its_task_runs_again_is_told(store: Store) -> None:
    async def main() -> None:
        task = await taken_behind_its_back(store)
        assert store.revoke("main/a")
        with pytest.raises(LeaseRevoked):
            await in_time(asyncio.wait_for(task, None))

    asyncio.run(main())


def test_a_task_that_was_cancelled_before_its_turn_was_revoked_stays_cancelled(
    store: Store,
) -> None:
    """Its own cancellation was on its way already, and nobody may take that for ours."""

    async def main() -> None:
        inside = asyncio.Event()

        async def work() -> None:
            async with store.turn("main/a"):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        # On the loop: before the task runs again, and before ours is told.
        assert store.revoke("main/a")
        with pytest.raises(asyncio.CancelledError):
            await in_time(asyncio.wait_for(task, None))

    asyncio.run(main())


def test_a_session_that_comes_to_a_task_that_was_just_cancelled_goes_on(store: Store) -> None:
    async def main() -> None:
        task = await taken_behind_its_back(store)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with store.turn("main/a", wait=PATIENCE):
            pass

    asyncio.run(main())


def test_a_grant_that_is_told_twice_is_one(
    backend: Backend[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever leaves the queue may have been interrupted before it noted that it told the next."""
    store = Store(backend, location="test")

    async def main() -> None:
        async with store.turn("main/a", wait=0) as turn:
            head = queues.head(backend.identity(parse_key("main/a")))
            assert head is not None
            with monkeypatch.context() as patch:
                patch.setattr(workers, "submit", lambda job: job())
                head.on_grant()
            assert queues.head(head.identity) is head
            await turn.append(turnlock.user("1"))

    asyncio.run(main())
    assert kinds(store) == ["turn", "user:1", "end"]


def test_a_task_whose_take_failed_is_in_nobodys_way(state: Path) -> None:
    store = a_store(state)
    (state / "agents/main/sessions/a.jsonl").mkdir(parents=True)

    async def take() -> None:
        async with store.turn("main/a", wait=0):
            pass

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(turnlock.TranscriptError):
                await asyncio.create_task(take())

    asyncio.run(main())


def test_an_awaited_epoch_is_durable(store: Store) -> None:
    async def main() -> None:
        async with store.turn("main/a") as turn:
            assert kinds(store) == []
            assert await turn.epoch == 1
            assert kinds(store) == ["turn"]

    asyncio.run(main())


class TestOnASlowDisk:
    @pytest.fixture
    def files(self) -> SlowSync:
        return SlowSync()

    @pytest.fixture
    def store(self, files: SlowSync, state: Path) -> Store:
        return a_store(state, files)

    def test_a_turn_whose_end_hangs_ends_without_it(self, store: Store, files: SlowSync) -> None:
        async def work() -> None:
            with pytest.raises(LeaseRevoked):
                async with store.turn("main/a", max_hold=0.2) as turn:
                    await turn.append(turnlock.user("1"))
                    files.let_go.clear()
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0

        async def main() -> None:
            try:
                await in_time(work())
            finally:
                files.let_go.set()

        asyncio.run(main())
        with store.turn("main/a", wait=PATIENCE):
            pass
        assert_turns_are_whole(store)

    def test_a_revoked_task_does_not_wait_for_an_append_that_hangs(
        self, store: Store, files: SlowSync, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("turnlock.turns.aio._OUTCOME_TIMEOUT", 1000.0)

        async def work() -> None:
            with pytest.raises(LeaseRevoked):
                async with store.turn("main/a", max_hold=0.2) as turn:
                    await turn.append(turnlock.user("1"))
                    files.let_go.clear()
                    await turn.append(turnlock.user("2"))

        async def main() -> None:
            try:
                await in_time(work())
            finally:
                files.let_go.set()

        asyncio.run(main())

    @pytest.mark.parametrize("times", [1, 2, 3])
    def test_an_append_is_known_before_any_of_many_cancellations_passes_on(
        self, store: Store, files: SlowSync, times: int
    ) -> None:
        known: list[bool] = []

        async def work() -> None:
            async with store.turn("main/a") as turn:
                files.entered.clear()
                files.let_go.clear()
                try:
                    await turn.append(turnlock.user("1"))
                finally:
                    known.append(files.let_go.is_set())

        async def main() -> None:
            task = asyncio.create_task(work())
            await asyncio.to_thread(files.entered.wait)
            for _ in range(times):
                task.cancel()
                for _ in range(10):
                    await asyncio.sleep(0)
            assert not known
            files.let_go.set()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert known == [True]
        assert kinds(store) == ["turn", "user:1", "cancelled"]


async def _fails() -> None:
    raise ConnectionError


async def _items(number: int) -> AsyncIterator[int]:
    for item in range(number):
        yield item
    raise ConnectionError


async def _awaits(turn: AsyncTurn) -> None:
    await turn.watch(asyncio.sleep(0), first=60)


async def _awaits_what_fails(turn: AsyncTurn) -> None:
    watched = turn.watch(_fails(), first=60)
    with pytest.raises(ConnectionError):
        await watched
    assert turn._core.lease.calls == {}, "it is over while somebody has it, too"


async def _reads_what_fails(turn: AsyncTurn) -> None:
    with pytest.raises(ConnectionError):
        async for _ in turn.watch(_items(1), first=60, idle=60):
            pass


async def _leaves_in_the_middle(turn: AsyncTurn) -> None:
    stream = turn.watch(_items(3), first=60, idle=60)
    items = aiter(stream)
    await anext(items)
    await items.aclose()  # type: ignore[attr-defined]


async def _closes_what_never_began(turn: AsyncTurn) -> None:
    await turn.watch(_items(1), first=60).aclose()


CALLS: list[Callable[[AsyncTurn], Coroutine[Any, Any, None]]] = [
    *(_awaits, _awaits_what_fails, _reads_what_fails),
    *(_leaves_in_the_middle, _closes_what_never_began),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__.strip("_"))
def test_a_call_that_has_ended_however_has_no_limit_any_more(
    store: Store, call: Callable[[AsyncTurn], Coroutine[Any, Any, None]]
) -> None:
    async def main() -> None:
        async with store.turn("main/a") as turn:
            await call(turn)
            assert turn._core.lease.calls == {}

    asyncio.run(main())


def test_a_stream_that_is_left_is_closed_at_once(store: Store) -> None:
    closed: list[bool] = []

    async def stream() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    async def main() -> None:
        source = stream()
        async with store.turn("main/a") as turn:
            items = aiter(turn.watch(source))
            await anext(items)
            await items.aclose()  # type: ignore[attr-defined]
            assert closed == [True]

    asyncio.run(main())
