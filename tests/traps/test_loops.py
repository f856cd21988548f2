"""Event loops: of another kind, several, none, blocked, gone with turns open (E4, E7, E12).

Each runs on the loop of the standard library and on uvloop.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

import turnlock
from tests.helpers import PATIENCE, eventually, kinds
from turnlock.events import TurnStarted
from turnlock.store import Store

Main = Coroutine[Any, Any, Any]
MakeLoop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def make_loop(request: pytest.FixtureRequest) -> MakeLoop:
    made: MakeLoop = request.param
    return made


@pytest.fixture
def run(make_loop: MakeLoop) -> Callable[[Main], Any]:
    def run(main: Main) -> Any:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            return runner.run(main)

    return run


Run = Callable[[Main], Any]


def is_free(store: Store) -> bool:
    return not store.locks() and store.statistics().held == 0


class TestEveryLoop:
    def test_a_turn_is_taken_written_and_ended(self, store: Store, run: Run) -> None:
        async def main() -> None:
            async with store.turn("main/a") as turn:
                await turn.append(turnlock.user("1"))
                assert await turn.messages() == [{"role": "user", "content": "1"}]

        run(main())
        assert kinds(store) == ["turn", "user:1", "end"]

    def test_a_hung_task_is_cancelled_and_that_is_taken_back(self, store: Store, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(turnlock.LeaseRevoked):
                async with store.turn("main/a", max_hold=0.05):
                    await asyncio.Event().wait()
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            async with store.turn("main/a") as turn:
                await turn.append(turnlock.user("2"))

        run(main())
        assert kinds(store) == ["turn", "hold-limit", "turn", "user:2", "end"]

    def test_a_wait_limit_is_kept(self, store: Store, run: Run) -> None:
        async def wait() -> None:
            async with store.turn("main/a", wait=0.05):
                pass

        async def main() -> None:
            async with store.turn("main/a"):
                with pytest.raises(turnlock.SessionBusy):
                    await asyncio.create_task(wait())

        run(main())

    def test_a_cancellation_in_the_moment_of_the_grant_leaves_no_turn(
        self, store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """E4: the session has come, and the task is cancelled before it runs again."""
        from turnlock.turns.aio import _Taking

        deliver = _Taking._deliver

        def deliver_and_cancel(self: _Taking, *outcome: Any) -> None:
            deliver(self, *outcome)
            assert self._future.done()
            self._task.cancel()

        async def work() -> None:
            async with store.turn("main/a"):
                raise AssertionError("it was cancelled")

        async def main() -> None:
            with monkeypatch.context() as patch:
                patch.setattr(_Taking, "_deliver", deliver_and_cancel)
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.create_task(work())
            async with store.turn("main/a", wait=PATIENCE):
                pass

        run(main())
        assert is_free(store)
        assert kinds(store) == []

    def test_code_that_swallows_its_cancellation_is_told_and_cannot_write(
        self, store: Store, run: Run
    ) -> None:
        """E4: a broad except in the turn ends neither the revocation nor what follows from it."""

        async def main() -> None:
            with pytest.raises(turnlock.LeaseRevoked):
                async with store.turn("main/a", max_hold=0.05) as turn:
                    try:
                        await asyncio.Event().wait()
                    except BaseException:  # noqa: BLE001 - the trap
                        with pytest.raises(turnlock.LeaseRevoked):
                            await turn.append(turnlock.user("late"))

        run(main())
        assert kinds(store) == ["turn", "hold-limit"]

    def test_a_shielded_turn_is_ended_by_its_limit(self, store: Store, run: Run) -> None:
        """E12: what is shielded outlives who awaits it; the limit is there all the same."""

        async def work(inside: asyncio.Event) -> None:
            async with store.turn("main/a", max_hold=0.2):
                inside.set()
                await asyncio.Event().wait()

        async def main() -> None:
            inside = asyncio.Event()
            inner = asyncio.create_task(work(inside))
            outer = asyncio.create_task(shielding(inner))
            await inside.wait()
            outer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await outer
            assert store.statistics().held == 1, "the shield holds"
            with pytest.raises(turnlock.LeaseRevoked):
                await inner

        async def shielding(inner: asyncio.Task[None]) -> None:
            await asyncio.shield(inner)

        run(main())
        assert kinds(store) == ["turn", "hold-limit"]

    def test_a_parent_that_awaits_a_child_which_wants_its_session_is_cut_by_its_limit(
        self, store: Store, run: Run
    ) -> None:
        """A dead end of the caller's own making, and no dead end for the session."""

        async def child() -> None:
            async with store.turn("main/a", wait=None) as turn:
                await turn.append(turnlock.user("child"))

        async def main() -> None:
            waiting = asyncio.Event()
            with pytest.raises(turnlock.LeaseRevoked):
                async with store.turn("main/a", max_hold=0.1):
                    task = asyncio.create_task(child())
                    waiting.set()
                    await asyncio.shield(task)
            await task

        run(main())
        assert kinds(store) == ["turn", "hold-limit", "turn", "user:child", "end"]

    def test_a_blocked_loop_stops_no_watchdog(self, store: Store, run: Run) -> None:
        """E7: blocking code on the loop. Its session goes on in another thread."""
        inside, let_go = threading.Event(), threading.Event()

        async def block() -> None:
            with pytest.raises(turnlock.LeaseRevoked):
                async with store.turn("main/a", max_hold=0.1):
                    inside.set()
                    assert let_go.wait(PATIENCE)
                    # The loop was blocked; it is only now that the cancellation comes.
                    await asyncio.Event().wait()

        with ThreadPoolExecutor(1) as pool:
            blocked = pool.submit(run, block())
            assert inside.wait(PATIENCE)
            with store.turn("main/a", wait=PATIENCE) as turn:
                turn.append(turnlock.user("went on"))
                assert store.zombies()[0].reason == "hold-limit"
            let_go.set()
            blocked.result(PATIENCE)
        assert kinds(store) == ["turn", "hold-limit", "turn", "user:went on", "end"]


def waiters_of_a_closed_loop(
    store: Store, make_loop: MakeLoop, count: int
) -> list[asyncio.Task[None]]:
    """Tasks that wait for the session, and that nobody will ever run again."""

    async def wait() -> None:
        async with store.turn("main/a", wait=None):
            raise AssertionError("nobody runs this")

    loop = make_loop()
    tasks = [loop.create_task(wait()) for _ in range(count)]
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    return tasks


class TestLoopsThatAreGone:
    def test_a_turn_that_is_open_when_its_loop_is_closed_is_ended(
        self, store: Store, make_loop: MakeLoop
    ) -> None:
        """Its coroutine is thrown away, and nothing can be awaited any more."""

        async def hang(loop: asyncio.AbstractEventLoop) -> None:
            async with store.turn("main/a") as turn:
                await turn.append(turnlock.user("1"))
                loop.stop()
                await asyncio.Event().wait()

        loop = make_loop()
        task = loop.create_task(hang(loop))
        loop.run_forever()
        loop.close()
        assert store.statistics().held == 1
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        del task
        gc.collect()
        eventually(lambda: is_free(store))
        assert kinds(store) == ["turn", "user:1", "cancelled"]

    def test_a_revoked_task_that_its_loop_was_closed_over_is_no_zombie_for_ever(
        self, store: Store, make_loop: MakeLoop
    ) -> None:
        async def run_on(loop: asyncio.AbstractEventLoop) -> None:
            async with store.turn("main/a"):
                loop.call_soon(store.revoke, "main/a")
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    loop.stop()
                await asyncio.Event().wait()

        loop = make_loop()
        task = loop.create_task(run_on(loop))
        loop.run_forever()
        assert [zombie.session for zombie in store.zombies()] == ["main/a"]
        loop.close()
        assert store.statistics().zombies == 0
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        gone = weakref.ref(task)
        del task

        def is_collected() -> bool:
            gc.collect()
            return gone() is None

        eventually(is_collected)

    def test_a_turn_that_somebody_still_names_is_ended_by_its_limit(
        self, store: Store, make_loop: MakeLoop
    ) -> None:
        async def enter() -> None:
            kept.append(store.turn("main/a", max_hold=0.1))
            await kept[0].__aenter__()

        kept: list[Any] = []
        loop = make_loop()
        loop.run_until_complete(enter())
        loop.close()
        with store.turn("main/a", wait=PATIENCE):
            pass
        assert kinds(store) == ["turn", "hold-limit"]

    def test_a_session_that_comes_when_the_loop_is_closed_goes_on_to_the_next(
        self, store: Store, make_loop: MakeLoop
    ) -> None:
        with store.turn("main/a"):
            tasks = waiters_of_a_closed_loop(store, make_loop, 1)
        with store.turn("main/a", wait=PATIENCE):
            pass
        del tasks
        gc.collect()
        eventually(lambda: is_free(store))
        assert kinds(store) == []

    def test_it_goes_past_more_of_them_than_the_stack_has_room_for(
        self, store: Store, make_loop: MakeLoop
    ) -> None:
        with store.turn("main/a"):
            # Kept: one that is thrown away leaves the queue by itself.
            tasks = waiters_of_a_closed_loop(store, make_loop, sys.getrecursionlimit())
        with store.turn("main/a", wait=0):
            pass
        del tasks

    def test_a_waiter_that_is_thrown_away_leaves_no_ghost(
        self, store: Store, make_loop: MakeLoop
    ) -> None:
        with store.turn("main/a"):
            tasks = waiters_of_a_closed_loop(store, make_loop, 1)
            del tasks
            gc.collect()
        with store.turn("main/a", wait=0):
            pass

    def test_without_a_loop_an_async_block_says_what_to_do(self, store: Store) -> None:
        """As another library's loop drives it (trio), which is none of asyncio's."""
        block = store.turn("main/a")
        with pytest.raises(turnlock.TurnlockError, match="'with'"):
            block.__aenter__().send(None)
        assert is_free(store)


class TestSeveralLoops:
    def test_loops_in_threads_share_a_store_and_a_session_in_order(
        self, store: Store, make_loop: MakeLoop
    ) -> None:
        """Tasks of four loops and two plain threads, at one barrier: one inside at a time."""
        barrier = threading.Barrier(6)
        inside: list[int] = []

        def overlap(number: int) -> None:
            inside.append(number)
            assert inside == [number]
            inside.remove(number)

        async def task(number: int) -> None:
            async with store.turn("main/a") as turn:
                overlap(number)
                await turn.append(turnlock.user("x"))

        async def tasks(number: int) -> None:
            await asyncio.gather(*(task(10 * number + n) for n in range(5)))

        def in_loop(number: int) -> None:
            barrier.wait(PATIENCE)
            with asyncio.Runner(loop_factory=make_loop) as runner:
                runner.run(tasks(number))

        def in_thread(number: int) -> None:
            barrier.wait(PATIENCE)
            for _ in range(5):
                with store.turn("main/a") as turn:
                    overlap(100 + number)
                    turn.append(turnlock.user("x"))

        with ThreadPoolExecutor(6) as pool:
            jobs = [pool.submit(in_loop, number) for number in range(4)]
            jobs += [pool.submit(in_thread, number) for number in range(2)]
            for job in jobs:
                job.result(PATIENCE)
        assert kinds(store) == ["turn", "user:x", "end"] * 30

    def test_a_task_of_one_loop_is_cancelled_from_the_thread_of_another(
        self, store: Store, make_loop: MakeLoop
    ) -> None:
        inside = threading.Event()
        store.subscribe(lambda event: inside.set() if isinstance(event, TurnStarted) else None)

        async def hang() -> str:
            try:
                async with store.turn("main/a"):
                    await asyncio.Event().wait()
            except turnlock.LeaseRevoked as error:
                return error.reason
            raise AssertionError

        async def revoke() -> bool:
            return await asyncio.to_thread(store.revoke, "main/a")

        def in_loop(main: Main) -> Any:
            with asyncio.Runner(loop_factory=make_loop) as runner:
                return runner.run(main)

        with ThreadPoolExecutor(1) as pool:
            hung = pool.submit(in_loop, hang())
            assert inside.wait(PATIENCE)
            assert in_loop(revoke())
            assert hung.result(PATIENCE) == "operator"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_a_task_that_starts_before_it_is_scheduled_takes_a_turn(store: Store) -> None:
    async def work() -> None:
        async with store.turn("main/a") as turn:
            await turn.append(turnlock.user("1"))

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(
            asyncio.eager_task_factory  # type: ignore[attr-defined,unused-ignore]
        )
        await asyncio.gather(work(), work())

    asyncio.run(main())
    assert kinds(store) == ["turn", "user:1", "end"] * 2
