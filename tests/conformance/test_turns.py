"""Turns on every backend: what a user of the library is promised."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import turnlock
from tests.files.test_owed import calls, result
from tests.helpers import PATIENCE, eventually, kinds
from turnlock import LeaseRevoked, SessionBusy
from turnlock.events import TurnRevoked
from turnlock.store import Store
from turnlock.transcript.entries import Entry, message_of


def entries(store: Store, key: str = "main/a") -> list[Entry]:
    return list(store.read(key))


def epochs(store: Store) -> list[int]:
    return [entry["epoch"] for entry in store.read("main/a")]


class TestInAThread:
    def test_a_turn_is_opened_and_ended_once(self, store: Store) -> None:
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            turn.append(turnlock.assistant("2"))
        assert kinds(store) == ["turn", "user:1", "assistant:2", "end"]
        assert epochs(store) == [1, 1, 1, 1]

    def test_entries_are_chained_by_their_parents(self, store: Store) -> None:
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("1"), turnlock.user("2"))
        found = entries(store)
        assert [entry["parentId"] for entry in found[1:]] == [entry["id"] for entry in found[:-1]]

    def test_a_turn_that_wrote_nothing_leaves_nothing(self, store: Store) -> None:
        with store.turn("main/a"):
            pass
        assert entries(store) == []

    def test_epochs_count_the_turns_that_wrote(self, store: Store) -> None:
        for _ in range(2):
            with store.turn("main/a") as turn:
                turn.append(turnlock.user("x"))
            with store.turn("main/a"):
                pass
        assert epochs(store) == [1, 1, 1, 2, 2, 2]

    def test_the_epoch_is_durable_before_it_is_known(self, store: Store) -> None:
        with store.turn("main/a") as turn:
            assert turn.epoch == 1
            assert kinds(store) == ["turn"]

    def test_a_turn_that_raises_leaves_a_marker(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            raise ZeroDivisionError("no way")
        assert kinds(store) == ["turn", "user:1", "error"]
        data = entries(store)[-1]["data"]
        assert data["error"] == "ZeroDivisionError: no way"
        assert data["turnId"] == data["runId"] == entries(store)[0]["data"]["turnId"]

    def test_a_turn_that_wrote_nothing_and_failed_is_marked_too(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.turn("main/a"):
            raise ZeroDivisionError
        assert kinds(store) == ["turn", "error"]

    @pytest.mark.parametrize("is_async", [False, True])
    def test_an_error_that_cannot_say_what_it_is_ends_its_turn_like_any_other(
        self, store: Store, is_async: bool
    ) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise AttributeError("no such field")

        async def fail() -> None:
            async with store.turn("main/a"):
                raise Mute

        with pytest.raises(Mute):
            if is_async:
                asyncio.run(fail())
            with store.turn("main/a"):
                raise Mute
        assert store.locks() == []
        assert kinds(store) == ["turn", "error"]
        assert entries(store)[-1]["data"]["error"] == "Mute"

    def test_a_turn_that_fails_closes_its_calls(self, store: Store) -> None:
        """E10, F10: the history has a result for each call of a turn that was cut off."""
        with pytest.raises(ValueError), store.turn("main/a") as turn:
            turn.append(calls("a", "b"), result("b"))
            raise ValueError("no")
        found = [message_of(entry).get("toolCallId") for entry in entries(store)]
        assert found == [None, None, "b", "a", None]

    def test_a_turn_that_ends_well_may_leave_a_call_to_the_next(self, store: Store) -> None:
        with store.turn("main/a") as turn:
            turn.append(calls("a"))
        with store.turn("main/a") as turn:
            turn.append(result("a"))
        found = [message_of(entry).get("toolCallId") for entry in entries(store)]
        assert [one for one in found if one] == ["a"]

    def test_keyboard_interrupt_is_a_cancellation(self, store: Store) -> None:
        with pytest.raises(KeyboardInterrupt), store.turn("main/a"):
            raise KeyboardInterrupt
        assert kinds(store) == ["turn", "cancelled"]

    def test_markers_never_reach_a_model(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            raise ZeroDivisionError
        with store.turn("main/a") as turn:
            assert turn.messages() == [{"role": "user", "content": "1"}]

    def test_a_second_take_by_the_same_thread_is_refused_at_once(self, store: Store) -> None:
        with store.turn("main/a", turn_id="T1"):
            with pytest.raises(turnlock.AlreadyHeld) as caught, store.turn("main/a", wait=None):
                pass
            assert caught.value.turn_id == "T1"

    def test_another_thread_waits_and_is_told_why(self, store: Store) -> None:
        caught: list[SessionBusy] = []

        def wait() -> None:
            try:
                with store.turn("main/a", wait=0):
                    pass
            except SessionBusy as error:
                caught.append(error)

        with store.turn("main/a", turn_id="T1", max_hold=77):
            thread = threading.Thread(target=wait)
            thread.start()
            thread.join()
        assert (caught[0].holder_turn, caught[0].limit) == ("T1", 77)
        assert "T1" in str(caught[0])

    def test_threads_get_their_turn_in_the_order_in_which_they_came(self, store: Store) -> None:
        order: list[int] = []
        queued: list[threading.Event] = [threading.Event() for _ in range(6)]
        arrivals = iter(queued)
        store.subscribe(
            lambda event: next(arrivals).set() if type(event).__name__ == "TurnQueued" else None
        )

        def work(number: int) -> None:
            with store.turn("main/a"):
                order.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        with store.turn("main/a"):
            for thread, arrived in zip(threads, queued, strict=True):
                thread.start()
                assert arrived.wait(10)
        for thread in threads:
            thread.join()
        assert order == list(range(6))

    def test_the_same_id_twice_is_one_entry(self, store: Store) -> None:
        message = turnlock.user("1") | {"id": "mine"}
        with store.turn("main/a") as turn:
            assert turn.append(message, message) == ["mine", "mine"]
            assert turn.append(message) == ["mine"]
        with store.turn("main/a") as turn:
            assert turn.append(message) == ["mine"]
        assert kinds(store) == ["turn", "user:1", "end"]

    @pytest.mark.parametrize(
        "entry",
        [
            {"type": "session", "version": 3},
            {"type": "custom", "customType": "turnlock:end", "data": {}},
            {"type": "custom", "customType": "openclaw:prompt-error", "data": {}},
            {"type": "custom", "customType": "turnlock:turn"},
            {"no": "type"},
            {"type": 7},
            {"type": "x", "id": "a b"},
            {"type": "x", "id": "../x"},
            {"type": "x", "value": float("nan")},
            {"type": "x", "value": object()},
            "text",
        ],
    )
    def test_what_is_no_entry_is_refused_whole(self, store: Store, entry: Any) -> None:
        with store.turn("main/a") as turn, pytest.raises(turnlock.TranscriptError):
            turn.append(turnlock.user("good"), entry)
        assert entries(store) == []

    def test_a_forged_epoch_is_replaced(self, store: Store) -> None:
        with store.turn("main/a") as turn:
            turn.append({"type": "x", "epoch": 2**70})
        assert epochs(store) == [1, 1, 1]

    def test_unknown_types_are_kept_as_they_are(self, store: Store) -> None:
        with store.turn("main/a") as turn:
            turn.append({"type": "model_change", "provider": "p", "deep": {"é\u2028": [1, None]}})
        assert entries(store)[1]["deep"] == {"é\u2028": [1, None]}

    def test_current_turn_is_the_innermost_open_one(self, store: Store) -> None:
        assert turnlock.current_turn() is None
        with store.turn("main/a") as outer:
            with store.turn("main/b") as inner:
                assert turnlock.current_turn() is inner
            assert turnlock.current_turn() is outer
        assert turnlock.current_turn() is None

    def test_a_decorated_function_runs_in_a_turn(self, store: Store) -> None:
        @store.turn("main/{user}")
        def say(user: str, text: str = "hello") -> str:
            turnlock.current_turn().append(turnlock.user(text))
            return user

        assert say("alice") == "alice"
        assert kinds(store, "main/alice") == ["turn", "user:hello", "end"]
        with pytest.raises(turnlock.InvalidSessionKey):
            say("../../etc/passwd")

    def test_revoking_fences_marks_and_frees(self, store: Store) -> None:
        with pytest.raises(LeaseRevoked) as caught, store.turn("main/a", turn_id="T1") as turn:
            turn.append(turnlock.user("1"))
            assert store.revoke("main/a")
            assert kinds(store)[-1] == "operator"
            with pytest.raises(LeaseRevoked):
                turn.append(turnlock.user("late"))
        assert (caught.value.turn_id, caught.value.reason) == ("T1", "operator")
        assert kinds(store) == ["turn", "user:1", "operator"]
        assert not store.revoke("main/a")

    def test_an_exception_after_revocation_shows_the_cause(self, store: Store) -> None:
        with pytest.raises(LeaseRevoked) as caught, store.turn("main/a"):
            store.revoke("main/a")
            raise ValueError("because of that")
        assert isinstance(caught.value.__cause__, ValueError)

    def test_a_limit_is_checked_before_anything_is_taken(self, store: Store) -> None:
        for bad in ({"max_hold": 0}, {"max_hold": float("nan")}, {"wait": -1}, {"max_stall": "5"}):
            with pytest.raises(turnlock.LimitsError):
                store.turn("main/a", **bad)

    @pytest.mark.parametrize("key", ["a", "/a", "main/", "main/..", "main/a/b", "main/é", "-/x", 7])
    def test_a_hostile_key_is_refused(self, store: Store, key: Any) -> None:
        with pytest.raises(turnlock.InvalidSessionKey):
            store.turn(key)

    def test_a_block_that_is_entered_again_is_another_turn(self, store: Store) -> None:
        block = store.turn("main/a", turn_id="T1")
        for _ in range(2):
            with block as turn:
                turn.append(turnlock.user("x"))
        openings = [e for e in entries(store) if e.get("customType") == "turnlock:turn"]
        assert len({entry["data"]["turnId"] for entry in openings}) == 2

    @pytest.mark.parametrize("is_async", [False, True])
    def test_a_block_is_not_entered_while_it_is_waited_for(
        self, is_async: bool, store: Store
    ) -> None:
        block = store.turn("main/a", wait=PATIENCE)

        async def enter() -> None:
            async with block:
                pass

        async def enter_twice() -> None:
            waiter = asyncio.create_task(enter())
            await asyncio.sleep(0)
            with pytest.raises(turnlock.TurnlockError, match="waited for"):
                await enter()
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
            # Who has given up leaves it to the next.
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(enter(), 0.01)

        def wait() -> None:
            with block:
                pass

        with store.turn("main/a"):
            if is_async:
                thread = threading.Thread(target=asyncio.run, args=[enter_twice()])
            else:
                thread = threading.Thread(target=wait)
            thread.start()
            if is_async:
                thread.join()
            eventually(lambda: is_async or store.waiters(["main/a"])["main/a"])
            if not is_async:
                with pytest.raises(turnlock.TurnlockError, match="waited for"), block:
                    pass
        thread.join()
        with block:
            pass

    def test_a_template_is_filled_in_by_a_decorator_only(self, store: Store) -> None:
        with pytest.raises(turnlock.InvalidSessionKey), store.turn("main/{user}"):
            pass

    @pytest.mark.parametrize("template", ["{usr}", "{}", "{0}", "{user", "{usr.name}"])
    def test_a_template_that_no_call_fills_in_is_refused_at_once(
        self, template: str, store: Store
    ) -> None:
        def work(user: str) -> None:
            pass

        with pytest.raises(turnlock.InvalidSessionKey) as caught:
            store.turn(f"main/{template}")(work)
        assert caught.value.key == f"main/{template}"

    def test_so_is_one_that_a_call_does_not_fill_in(self, store: Store) -> None:
        @store.turn("main/{user.name}")
        def work(user: object) -> None:
            raise AssertionError(user)

        with pytest.raises(turnlock.InvalidSessionKey, match="no attribute 'name'"):
            work(7)
        assert store.locks() == []

    def test_what_yields_is_not_decorated(self, store: Store) -> None:
        """It would run when its turn is over."""

        def numbers() -> Iterator[int]:
            yield 1

        async def later() -> AsyncIterator[int]:
            yield 1

        for function in (numbers, later):
            with pytest.raises(turnlock.TurnlockError, match="is a generator"):
                store.turn("main/a")(function)

    def test_a_turn_id_is_for_one_turn_and_not_for_each_call(self, store: Store) -> None:
        with pytest.raises(turnlock.TurnlockError, match="turn_id='T1'"):
            store.turn("main/a", turn_id="T1")(lambda: None)

    def test_closing_the_store_ends_open_turns_with_a_marker(self, store: Store) -> None:
        with pytest.raises(LeaseRevoked), store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            store.close()
        assert kinds(store) == ["turn", "user:1", "cancelled"]
        with pytest.raises(turnlock.StoreError), store.turn("main/a"):
            pass


class TestInATask:
    def test_the_same_names_are_awaited(self, store: Store) -> None:
        async def main() -> None:
            async with store.turn("main/a", turn_id="T1") as turn:
                await turn.append(turnlock.user("1"))
                assert await turn.messages() == [{"role": "user", "content": "1"}]
                assert await turn.epoch == turn.epoch == 1
                await turn.progress("thinking")
                await turn.check()
                assert (turn.turn_id, turn.session, turn.revoked) == ("T1", "main/a", False)

        asyncio.run(main())
        assert kinds(store) == ["turn", "user:1", "end"]

    def test_with_on_a_running_loop_says_async_with(self, store: Store) -> None:
        async def main() -> None:
            with pytest.raises(turnlock.TurnlockError, match="async with"), store.turn("main/a"):
                pass

        asyncio.run(main())

    def test_tasks_get_their_turn_in_the_order_in_which_they_came(self, store: Store) -> None:
        order: list[int] = []

        async def work(number: int) -> None:
            async with store.turn("main/a"):
                order.append(number)

        async def main() -> None:
            await asyncio.gather(*(work(number) for number in range(20)))

        asyncio.run(main())
        assert order == list(range(20))

    def test_cancellation_leaves_a_marker_and_stays_a_cancellation(self, store: Store) -> None:
        async def main() -> None:
            inside = asyncio.Event()

            async def work() -> None:
                async with store.turn("main/a") as turn:
                    await turn.append(turnlock.user("1"))
                    inside.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(work())
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

        asyncio.run(main())
        assert kinds(store) == ["turn", "user:1", "cancelled"]

    def test_a_waiter_that_is_cancelled_leaves_no_ghost(self, store: Store) -> None:
        async def wait() -> None:
            async with store.turn("main/a"):
                raise AssertionError("it had given up")

        async def main() -> None:
            async with store.turn("main/a"):
                waiters = [asyncio.create_task(wait()) for _ in range(3)]
                await asyncio.sleep(0)
                for waiter in waiters:
                    waiter.cancel()
                await asyncio.gather(*waiters, return_exceptions=True)
            async with store.turn("main/a", wait=0):
                pass

        asyncio.run(main())

    def test_a_wait_limit_is_kept(self, store: Store) -> None:
        async def main() -> None:
            async def wait() -> None:
                async with store.turn("main/a", wait=0.05):
                    pass

            async with store.turn("main/a", turn_id="T1"):
                with pytest.raises(SessionBusy) as caught:
                    await asyncio.create_task(wait())
                assert caught.value.holder_turn == "T1"
                assert isinstance(caught.value, TimeoutError)

        asyncio.run(main())

    def test_the_watchdog_cancels_a_hung_task(self, store: Store) -> None:
        async def main() -> None:
            with pytest.raises(LeaseRevoked) as caught:
                async with store.turn("main/a", max_hold=0.05):
                    await asyncio.Event().wait()
            assert caught.value.reason == "hold-limit"
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            # The same task takes the session again at once.
            async with store.turn("main/a") as turn:
                await turn.append(turnlock.user("2"))

        asyncio.run(main())
        assert kinds(store) == ["turn", "hold-limit", "turn", "user:2", "end"]

    def test_an_outer_cancellation_wins_over_a_revocation(self, store: Store) -> None:
        async def main() -> None:
            inside = asyncio.Event()

            async def work() -> None:
                async with store.turn("main/a"):
                    inside.set()
                    try:
                        await asyncio.Event().wait()
                    finally:
                        asyncio.get_running_loop().call_soon(task.cancel)
                        await asyncio.sleep(0)

            task = asyncio.create_task(work())
            await inside.wait()
            await asyncio.to_thread(store.revoke, "main/a")
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())

    def test_a_task_that_ignores_cancellation_is_a_zombie_and_nobody_waits(
        self, store: Store
    ) -> None:
        async def main() -> None:
            let_go = asyncio.Event()

            async def stubborn() -> None:
                async with store.turn("main/a", max_hold=0.05, turn_id="T1"):
                    while not let_go.is_set():
                        try:
                            await let_go.wait()
                        except asyncio.CancelledError:
                            continue

            task = asyncio.create_task(stubborn())
            await asyncio.sleep(0)
            async with store.turn("main/a") as turn:
                await turn.append(turnlock.user("went on"))
                assert [zombie.turn_id for zombie in store.zombies()] == ["T1"]
                assert "stubborn" in "\n".join(store.zombies()[0].stack)
            let_go.set()
            with pytest.raises(LeaseRevoked):
                await task
            assert store.zombies() == []

        asyncio.run(main())
        assert kinds(store) == ["turn", "hold-limit", "turn", "user:went on", "end"]
        assert store.statistics().zombies_ended == 1

    def test_a_stall_is_no_hang_while_there_is_progress(self, store: Store) -> None:
        async def main() -> None:
            # Longer in all than it may be silent, and with room for a busy machine in each step.
            async with store.turn("main/a", max_stall=1.0) as turn:
                for _ in range(5):
                    await asyncio.sleep(0.25)
                    turn.progress("still at it")
            with pytest.raises(LeaseRevoked) as caught:
                async with store.turn("main/a", max_stall=0.05):
                    await asyncio.Event().wait()
            assert caught.value.reason == "stall-limit"

        asyncio.run(main())

    def test_a_decorated_coroutine_runs_in_a_turn(self, store: Store) -> None:
        @store.turn("main/{user}")
        async def say(user: str) -> None:
            await turnlock.current_turn().append(turnlock.user("hello"))

        asyncio.run(say("alice"))
        assert kinds(store, "main/alice") == ["turn", "user:hello", "end"]


class TestWatch:
    @pytest.mark.parametrize("is_stream", [False, True])
    def test_a_revoked_thread_asks_no_model(self, is_stream: bool, store: Store) -> None:
        asked: list[str] = []
        refused: list[LeaseRevoked] = []
        with pytest.raises(LeaseRevoked), store.turn("main/a") as turn:
            store.revoke("main/a")
            try:
                turn.watch(["x"] if is_stream else lambda: asked.append("called"))
            except LeaseRevoked as error:
                refused.append(error)
        assert (asked, len(refused)) == ([], 1)

    def test_nor_does_a_task_that_swallowed_its_cancellation(self, store: Store) -> None:
        asked: list[str] = []
        refused: list[LeaseRevoked] = []

        async def ask() -> None:
            asked.append("called")

        async def main() -> None:
            async with store.turn("main/a") as turn:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.to_thread(store.revoke, "main/a")
                    await asyncio.sleep(PATIENCE)
                try:
                    await turn.watch(ask())
                except LeaseRevoked as error:
                    refused.append(error)

        with pytest.raises(LeaseRevoked):
            asyncio.run(main())
        assert (asked, len(refused)) == ([], 1)

    @pytest.mark.parametrize("is_stream", [False, True])
    def test_nor_does_it_get_an_answer_that_came_late(self, is_stream: bool, store: Store) -> None:
        got: list[object] = []
        refused: list[LeaseRevoked] = []

        async def late() -> str:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(PATIENCE)
            return "late"

        async def late_stream() -> AsyncIterator[str]:
            yield await late()

        async def main() -> None:
            async with store.turn("main/a") as turn:
                asyncio.get_running_loop().run_in_executor(None, store.revoke, "main/a")
                try:
                    if is_stream:
                        got.extend([one async for one in turn.watch(late_stream())])
                    else:
                        got.append(await turn.watch(late()))
                except LeaseRevoked as error:
                    refused.append(error)

        with pytest.raises(LeaseRevoked):
            asyncio.run(main())
        assert (got, len(refused)) == ([], 1)

    def test_a_stream_passes_through(self, store: Store) -> None:
        async def numbers() -> AsyncIterator[int]:
            for number in range(3):
                yield number

        async def main() -> list[int]:
            async with store.turn("main/a") as turn:
                return [number async for number in turn.watch(numbers(), first=5, idle=5)]

        assert asyncio.run(main()) == [0, 1, 2]

    def test_the_report_shows_where_in_a_stream_it_hangs(self, store: Store) -> None:
        stacks: list[tuple[str, ...]] = []
        store.subscribe(lambda e: stacks.append(e.stack) if isinstance(e, TurnRevoked) else None)

        async def innermost() -> AsyncIterator[int]:
            await asyncio.Event().wait()
            yield 1

        async def main() -> None:
            with pytest.raises(LeaseRevoked):
                async with store.turn("main/a") as turn:
                    async for _ in turn.watch(innermost(), first=0.05):
                        pass

        asyncio.run(main())
        assert any("innermost" in frame for frame in stacks[0]), stacks

    @pytest.mark.parametrize("items", [0, 2])
    def test_a_stream_that_goes_silent_is_a_model_limit(self, store: Store, items: int) -> None:
        closed: list[bool] = []

        async def stream() -> AsyncIterator[int]:
            try:
                for number in range(items):
                    yield number
                await asyncio.Event().wait()
            finally:
                closed.append(True)

        async def main() -> None:
            with pytest.raises(LeaseRevoked) as caught:
                async with store.turn("main/a") as turn:
                    async for _ in turn.watch(stream(), first=0.05, idle=0.05):
                        pass
            assert caught.value.reason == "model-limit"

        asyncio.run(main())
        assert kinds(store) == ["turn", "model-limit"]
        assert closed == [True]

    def test_the_wait_before_the_headers_counts(self, store: Store) -> None:
        async def never() -> AsyncIterator[int]:
            await asyncio.Event().wait()
            raise AssertionError

        async def main() -> None:
            with pytest.raises(LeaseRevoked):
                async with store.turn("main/a") as turn:
                    await turn.watch(never(), first=0.05)

        asyncio.run(main())

    def test_an_awaited_stream_is_watched_further(self, store: Store) -> None:
        async def stream() -> AsyncIterator[int]:
            yield 1
            await asyncio.Event().wait()

        async def connect() -> AsyncIterator[int]:
            return stream()

        async def main() -> list[int]:
            got: list[int] = []
            with pytest.raises(LeaseRevoked):
                async with store.turn("main/a") as turn:
                    async for number in await turn.watch(connect(), first=5, idle=0.05):
                        got.append(number)  # noqa: PERF401 - what came before the end counts
            return got

        assert asyncio.run(main()) == [1]

    def test_what_is_no_content_is_no_progress(self, store: Store) -> None:
        async def comments() -> AsyncIterator[str]:
            while True:
                await asyncio.sleep(0.01)
                yield ""

        async def main() -> None:
            with pytest.raises(LeaseRevoked):
                async with store.turn("main/a") as turn:
                    async for _ in turn.watch(comments(), first=0.1, content=bool):
                        pass

        asyncio.run(main())

    def test_a_blocked_thread_becomes_a_zombie(self, store: Store) -> None:
        let_go = threading.Event()

        def block() -> str:
            let_go.wait(20)
            return "late"

        def work() -> None:
            with pytest.raises(LeaseRevoked), store.turn("main/a", turn_id="T1") as turn:
                turn.watch(block, first=0.05)

        thread = threading.Thread(target=work)
        thread.start()
        with store.turn("main/b"):
            pass
        while not store.zombies():
            assert not let_go.wait(0.001)
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("went on"))
        let_go.set()
        thread.join()
        assert kinds(store) == ["turn", "model-limit", "turn", "user:went on", "end"]
        assert store.zombies() == []
