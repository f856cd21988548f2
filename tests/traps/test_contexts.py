"""Contexts that outlive a turn, and blocks that are left in another one (E5).

A context variable is copied into every task and thread that starts; a token of it can be used only
in the context that made it. Generators, fixtures and frameworks often leave blocks elsewhere.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import turnlock
from tests.helpers import kinds
from turnlock.store import Store
from turnlock.turns import scope
from turnlock.turns.aio import AsyncTurn


def is_free(store: Store) -> bool:
    return not store.locks() and store.statistics().held == 0


def test_a_turn_that_is_left_in_another_task_is_ended_there(store: Store) -> None:
    async def main() -> None:
        block = store.turn("main/a")
        turn = await asyncio.create_task(block.__aenter__())
        await turn.append(turnlock.user("1"))
        await asyncio.create_task(block.__aexit__(None, None, None))
        assert is_free(store)

    asyncio.run(main())
    assert kinds(store) == ["turn", "user:1", "end"]


async def talk(store: Store) -> AsyncIterator[AsyncTurn]:
    async with store.turn("main/a") as turn:
        await turn.append(turnlock.user("1"))
        yield turn
        yield turn


def test_an_async_generator_that_nobody_closed_keeps_no_session(store: Store) -> None:
    """Its loop closes it, in a task of its own: a client that went away in the middle of a stream.

    Whoever comes next waits for that, and gets the session. The task that left it open is not in
    the turn any more either, though its own context is the one that the turn was entered in.
    """

    async def next_turn() -> None:
        async with store.turn("main/a") as turn:
            await turn.append(turnlock.user("2"))

    async def main() -> None:
        async for _ in talk(store):
            break
        gc.collect()
        await asyncio.create_task(next_turn())
        assert turnlock.current_turn() is None

    asyncio.run(main())
    assert kinds(store) == ["turn", "user:1", "cancelled", "turn", "user:2", "end"]


def test_an_async_generator_that_is_open_when_the_loop_ends_is_ended_with_it(store: Store) -> None:
    kept = []

    async def main() -> None:
        stream = talk(store)
        kept.append(stream)
        await anext(stream)

    asyncio.run(main())
    assert is_free(store)
    assert kinds(store) == ["turn", "user:1", "cancelled"]


def test_a_generator_whose_steps_run_in_other_contexts_ends_its_turn(store: Store) -> None:
    """As the thread pool of a web framework does it with a response that is a plain generator."""

    def reply() -> Generator[int, None, None]:
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            yield 1

    steps = reply()
    with ThreadPoolExecutor(2) as pool:
        assert pool.submit(contextvars.copy_context().run, next, steps).result() == 1
        pool.submit(contextvars.copy_context().run, steps.close).result()
    assert is_free(store)
    assert kinds(store) == ["turn", "user:1", "cancelled"]


def test_a_session_lock_that_is_left_in_another_task_is_released_there(tmp_path: Path) -> None:
    lock = turnlock.SessionLock(tmp_path / "chat.jsonl", wait=0)

    async def main() -> None:
        await asyncio.create_task(lock.__aenter__())
        assert (tmp_path / "chat.jsonl.lock").exists()
        await asyncio.create_task(lock.__aexit__(None, None, None))
        assert not (tmp_path / "chat.jsonl.lock").exists()

    asyncio.run(main())
    with lock:
        lock.check()


def test_the_token_bites(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is real: a token that is used as it comes raises where the block is left."""

    def reset(self: scope.Scope) -> None:
        assert self._token is not None
        scope._current.reset(self._token)

    monkeypatch.setattr(scope.Scope, "leave", reset)
    block = store.turn("main/a")
    contextvars.copy_context().run(block.__enter__)
    with pytest.raises(ValueError, match="different Context"):
        block.__exit__(None, None, None)


def test_a_task_that_outlives_its_turn_is_in_none(store: Store) -> None:
    """A child inherits the turn for as long as the turn's block is open, and no longer."""

    async def main() -> None:
        left = asyncio.Event()

        async def child() -> tuple[object, object]:
            during = turnlock.current_turn()
            await left.wait()
            return during, turnlock.current_turn()

        async with store.turn("main/b") as outer:
            async with store.turn("main/a") as inner:
                task = asyncio.create_task(child())
                await asyncio.sleep(0)
                started_late = contextvars.copy_context()
            assert started_late.run(turnlock.current_turn) is outer
        left.set()
        assert await task == (inner, None)

    asyncio.run(main())


def test_a_child_that_kept_the_turn_cannot_write_with_it(store: Store) -> None:
    async def main() -> None:
        left = asyncio.Event()

        async def child(turn: AsyncTurn) -> None:
            await left.wait()
            await turn.append(turnlock.user("late"))

        async with store.turn("main/a") as turn:
            task = asyncio.create_task(child(turn))
        left.set()
        with pytest.raises(turnlock.LeaseRevoked) as caught:
            await task
        assert caught.value.reason == "released"

    asyncio.run(main())
    assert kinds(store) == []


def test_contexts_keep_no_descriptor_of_a_turn_that_was_left(store: Store) -> None:
    def descriptors() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    contexts = []
    for number in range(20):
        with store.turn(f"main/{number}"):
            if number == 10:
                before = descriptors()
            contexts.append(contextvars.copy_context())
    assert descriptors() <= before + 1
