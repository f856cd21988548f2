"""One run of a runner is one turn: from before its session is read to after its last event."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner, Runner
from google.adk.sessions import InMemorySessionService
from google.adk.tools.agent_tool import AgentTool
from google.genai import types

import turnlock
from tests.helpers import PATIENCE, eventually
from turnlock.backends.memory import MemoryBackend
from turnlock.integrations.google_adk import StaleSessionError
from turnlock.testing import ManualClock

from .scripted import (
    APP,
    KEY,
    NAME,
    SESSION,
    USER,
    Scripted,
    answering,
    ask,
    asked,
    calls,
    event_text,
    run,
    runner_of,
    said,
    says,
    told,
    user_says,
)


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


class Held:
    """A model that is asked, and answers once it is let to. ``ended``: its call is over."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ended = asyncio.Event()
        self.requests: list[list[str]] = []

    async def __call__(self, request: LlmRequest) -> AsyncIterator[LlmResponse]:
        self.requests.append(said(request))
        self.asked.set()
        try:
            await until(self.go_on)
            yield says(f"re {asked(request)}")
        finally:
            self.ended.set()


def test_a_run_is_one_turn(store: turnlock.Store) -> None:
    assert asyncio.run(ask(runner_of(store), "hello")) == ["re hello"]
    assert told(store) == ["turn", "user:hello", "assistant:re hello", "end"]


def test_the_users_message_is_durable_before_the_model_is_asked(store: turnlock.Store) -> None:
    seen = []

    async def script(request: LlmRequest) -> AsyncIterator[LlmResponse]:
        seen.append(told(store))
        yield says("well")

    asyncio.run(ask(runner_of(store, script), "hello"))
    assert seen == [["turn", "user:hello"]]


def test_a_second_run_waits_before_it_reads_and_asks_and_then_knows_of_the_first(
    store: turnlock.Store,
) -> None:
    async def main() -> None:
        first, second = Held(), Held()
        a = asyncio.create_task(ask(runner_of(store, first), "A"))
        await until(first.asked)
        b = asyncio.create_task(ask(runner_of(store, second), "B"))
        await asyncio.to_thread(eventually, lambda: store.waiters([KEY])[KEY] == 1)
        second.go_on.set()
        first.go_on.set()
        assert await a + await b == ["re A", "re B"]
        assert second.requests == [["user:A", "model:re A", "user:B"]]

    asyncio.run(main())
    turns = [["turn", f"user:{one}", f"assistant:re {one}", "end"] for one in "AB"]
    assert told(store) == turns[0] + turns[1]


def test_without_its_turn_a_run_asks_at_the_same_time_and_loses_its_answer(
    store: turnlock.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test before this one bites. Even then nothing is mixed or lost unnoticed."""

    async def main() -> None:
        first, second = Held(), Held()
        runners = runner_of(store, first), runner_of(store, second)
        monkeypatch.setattr(Runner, "run_async", Runner.run_async.__wrapped__)  # type: ignore[attr-defined]
        a = asyncio.create_task(ask(runners[0], "A"))
        await until(first.asked)
        b = asyncio.create_task(ask(runners[1], "B"))
        await until(second.asked)
        second.go_on.set()
        assert await b == ["re B"]
        first.go_on.set()
        with pytest.raises(StaleSessionError):
            await a

    asyncio.run(main())
    assert "assistant:re A" not in told(store)


def test_a_busy_session_costs_no_call_and_stores_nothing(store: turnlock.Store) -> None:
    async def main() -> None:
        first, second = Held(), Held()
        a = asyncio.create_task(ask(runner_of(store, first), "A"))
        await until(first.asked)
        with pytest.raises(turnlock.SessionBusy):
            await ask(runner_of(store, second, wait=0.0), "B")
        first.go_on.set()
        await a
        assert not second.asked.is_set()

    asyncio.run(main())
    assert "user:B" not in told(store)


def test_a_model_that_fails_leaves_the_users_message_and_a_marker(store: turnlock.Store) -> None:
    async def script(request: LlmRequest) -> AsyncIterator[LlmResponse]:
        if asked(request):
            raise OSError("no such model")
        yield says("well")

    with pytest.raises(OSError, match="no such model"):
        asyncio.run(ask(runner_of(store, script), "hello"))
    assert told(store) == ["turn", "user:hello", "error"]
    asyncio.run(ask(runner_of(store), "again"))
    assert told(store)[3:] == ["turn", "user:again", "assistant:re again", "end"]


async def calling(request: LlmRequest) -> AsyncIterator[LlmResponse]:
    """Calls two tools once, then answers."""
    if said(request)[-1].startswith("user:"):
        yield calls("one", "two")
    else:
        yield says("done")


def one() -> str:
    return "1"


def two() -> dict[str, Any]:
    return {"error": "no"}


def test_a_run_with_tools_is_one_turn_and_each_call_has_its_result(store: turnlock.Store) -> None:
    asyncio.run(ask(runner_of(store, calling, [one, two]), "hello"))
    assert told(store) == [
        "turn",
        "user:hello",
        "assistant:onetwo",
        "toolResult:1",
        'toolResult:{"error": "no"}',
        "assistant:done",
        "end",
    ]


def test_who_leaves_after_the_answer_has_a_finished_turn(store: turnlock.Store) -> None:
    async def main() -> None:
        async for event in run(runner_of(store), "hello"):
            if event.is_final_response():
                break
        # The loop ends at once: what nobody closed is closed with it.

    asyncio.run(main())
    assert told(store) == ["turn", "user:hello", "assistant:re hello", "end"]
    assert store.locks() == []


def test_who_leaves_in_the_middle_of_an_answer_leaves_a_marker(store: turnlock.Store) -> None:
    """Nothing of that answer is stored: a turn that ended well would have one."""

    async def streaming(request: LlmRequest) -> AsyncIterator[LlmResponse]:
        yield says("re ", partial=True)
        yield says("hello", partial=True)
        yield says("re hello")

    async def main() -> None:
        async for event in run(runner_of(store, streaming), "hello"):
            assert event.partial
            break
        async for event in run(runner_of(store, streaming), "again"):
            if not event.partial:
                break

    asyncio.run(main())
    assert told(store) == [
        *("turn", "user:hello", "cancelled"),
        *("turn", "user:again", "assistant:re hello", "end"),
    ]


def test_who_leaves_between_a_call_and_its_result_leaves_no_open_call(
    store: turnlock.Store,
) -> None:
    """A strict provider refuses a history with a call that has no result, for ever."""
    requests = []

    async def main() -> None:
        async for _ in run(runner_of(store, calling, [one, two]), "hello"):
            break

    async def script(request: LlmRequest) -> AsyncIterator[LlmResponse]:
        requests.append(said(request))
        yield says("well")

    asyncio.run(main())
    assert told(store)[-1] == "cancelled"
    asyncio.run(ask(runner_of(store, script, [one, two]), "again"))
    assert requests == [
        ["user:hello", "call:one", "call:two", "result:one", "result:two", "user:again"]
    ]


def test_a_cancelled_run_ends_its_call_and_leaves_a_marker_before_its_caller_goes_on(
    store: turnlock.Store,
) -> None:
    async def main() -> None:
        model = Held()
        task = asyncio.create_task(ask(runner_of(store, model), "hello"))
        await until(model.asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert model.ended.is_set()
        assert told(store) == ["turn", "user:hello", "cancelled"]
        assert store.locks() == []

    asyncio.run(main())


def test_a_run_that_nobody_asks_any_more_is_over_at_its_limit(store: turnlock.Store) -> None:
    async def main() -> None:
        left = run(runner_of(store, calling, [one, two], max_hold=0.5), "A")
        await anext(left)
        # No next event is asked for; the second run does not wait for longer than the limit.
        assert await ask(runner_of(store), "B") == ["re B"]
        with pytest.raises(turnlock.LeaseRevoked) as caught:
            await anext(left)
        assert caught.value.reason == "hold-limit"

    asyncio.run(main())
    assert told(store)[:2] + told(store)[5:] == [
        "turn",
        "user:A",
        "hold-limit",
        "turn",
        "user:B",
        "assistant:re B",
        "end",
    ]


def test_an_operator_ends_a_run_and_whatever_its_model_waits_for(store: turnlock.Store) -> None:
    async def main() -> None:
        model = Held()
        task = asyncio.create_task(ask(runner_of(store, model), "hello"))
        await until(model.asked)
        await asyncio.to_thread(store.revoke, KEY)
        with pytest.raises(turnlock.LeaseRevoked):
            await task
        assert model.ended.is_set()
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    asyncio.run(main())
    assert told(store) == ["turn", "user:hello", "operator"]


def test_the_late_event_of_a_revoked_run_is_refused(store: turnlock.Store) -> None:
    """What a run left behind has its context; and from another context its session is stale."""

    async def main() -> None:
        contexts = []

        async def script(request: LlmRequest) -> AsyncIterator[LlmResponse]:
            contexts.append(contextvars.copy_context())
            await asyncio.to_thread(store.revoke, KEY)
            yield says("late")

        runner = runner_of(store, script)
        service = runner.session_service
        await service.create_session(**NAME)
        old = await service.get_session(**NAME)
        assert old is not None
        with pytest.raises(turnlock.LeaseRevoked):
            await ask(runner, "hello")
        before = list(store.read(KEY))
        late = service.append_event(old, Event(author="root", content=user_says("late")))
        task = asyncio.get_running_loop().create_task(late, context=contexts[0])
        with pytest.raises(turnlock.LeaseRevoked):
            await task
        with pytest.raises(StaleSessionError):
            await service.append_event(old, Event(author="root", content=user_says("late")))
        assert list(store.read(KEY)) == before

    asyncio.run(main())


def test_a_tool_is_not_called_in_a_run_that_lost_its_session(
    store: turnlock.Store, state: Path
) -> None:
    """The storage is asked before each call: here a person has removed the lock by hand."""
    called = []

    def effect() -> str:
        called.append(1)
        return "done"

    async def script(request: LlmRequest) -> AsyncIterator[LlmResponse]:
        yield calls("effect")

    async def main() -> None:
        events = run(runner_of(store, script, [effect]), "hello")
        assert (await anext(events)).get_function_calls()
        os.unlink(state / "agents/weather/sessions/alice:s1.jsonl.lock")
        with pytest.raises(turnlock.LeaseRevoked):
            await anext(events)

    asyncio.run(main())
    assert called == []


def test_a_run_on_a_session_that_is_not_there_makes_none(store: turnlock.Store) -> None:
    runner = runner_of(store)
    runner.auto_create_session = False
    with pytest.raises(SessionNotFoundError):
        asyncio.run(ask(runner, "hello"))
    assert list(store.sessions()) == []


def test_a_run_of_a_thread_is_a_turn_too(store: turnlock.Store) -> None:
    runner = runner_of(store)
    threads = threading.active_count()
    events = list(runner.run(user_id=USER, session_id=SESSION, new_message=user_says("hello")))
    assert [event_text(event) for event in events] == ["re hello"]
    assert told(store) == ["turn", "user:hello", "assistant:re hello", "end"]
    ours = [one for one in threading.enumerate() if one.name.startswith("turnlock")]
    eventually(lambda: threading.active_count() - len(ours) <= threads)


def test_a_run_within_a_turn_of_the_caller_is_part_of_that_turn(store: turnlock.Store) -> None:
    async def main() -> None:
        async with store.turn(KEY) as turn:
            await ask(runner_of(store), "A")
            await ask(runner_of(store), "B")
            await turn.append(turnlock.user("by hand"))

    asyncio.run(main())
    short = told(store)
    assert short.count("turn") == short.count("end") == 1
    assert short[1:] == [
        "user:A",
        "assistant:re A",
        "user:B",
        "assistant:re B",
        "user:by hand",
        "end",
    ]


def test_a_turn_of_the_caller_is_found_around_one_on_another_session(store: turnlock.Store) -> None:
    async def main() -> None:
        async with store.turn(KEY), store.turn("main/other"):
            await ask(runner_of(store), "A")

    asyncio.run(main())
    assert told(store) == ["turn", "user:A", "assistant:re A", "end"]


def test_a_run_within_a_turn_of_a_thread_is_refused_at_once(store: turnlock.Store) -> None:
    """It would wait for its own caller."""

    async def main(context: contextvars.Context) -> None:
        task = asyncio.get_running_loop().create_task(ask(runner_of(store), "A"), context=context)
        with pytest.raises(turnlock.AlreadyHeld):
            await task

    with store.turn(KEY) as turn:
        turn.append(turnlock.user("by hand"))
        asyncio.run(main(contextvars.copy_context()))
    assert told(store) == ["turn", "user:by hand", "end"]


def noting(value: int) -> Event:
    return Event(author="system", actions=EventActions(state_delta={"note": value}))


def test_who_reads_a_run_may_append_to_its_session_between_two_events(
    store: turnlock.Store,
) -> None:
    """It would wait for its own run, which waits for it."""

    async def main() -> None:
        runner = runner_of(store, calling, [one, two])
        service = runner.session_service
        old = await service.create_session(**NAME)
        async with asyncio.timeout(PATIENCE):
            async for event in run(runner, "hello"):
                now = await service.get_session(**NAME)
                assert now is not None
                assert event_text(now.events[-1]) == event_text(event)
                await service.append_event(now, noting(len(now.events)))
                with pytest.raises(StaleSessionError):
                    await service.append_event(old, noting(0))
        found = await service.get_session(**NAME)
        assert found is not None
        assert found.state == {"note": 6}
        # Once the run is over, appends have a turn of their own again.
        await service.append_event(found, noting(7))

    asyncio.run(main())
    assert told(store)[:1] + told(store)[-4:] == ["turn", "assistant:done", "end", "turn", "end"]
    assert told(store).count("turn") == 3


@pytest.mark.parametrize("way", ["directly", "through a generator"])
def test_who_leaves_a_run_may_append_and_ask_again_at_once(store: turnlock.Store, way: str) -> None:
    """The loop ends what was left, when it comes to that."""

    async def events_of(runner: Runner) -> AsyncIterator[Event]:
        async for event in run(runner, "hello"):
            yield event

    async def main() -> None:
        runner = runner_of(store)
        service = runner.session_service
        async with asyncio.timeout(PATIENCE):
            for _ in range(5):
                events = run(runner, "hello") if way == "directly" else events_of(runner)
                async for _event in events:
                    break
                del events
                now = await service.get_session(**NAME)
                assert now is not None
                await service.append_event(now, noting(1))
                assert await ask(runner, "again") == ["re again"]

    asyncio.run(main())
    assert told(store).count("user:hello") == told(store).count("user:again") == 5
    assert "cancelled" not in told(store)


def test_an_append_during_whose_way_a_run_that_was_left_ends_has_a_turn_of_its_own(
    store: turnlock.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = store.read

    def read_when_it_is_over(key: str) -> Any:
        monkeypatch.undo()
        eventually(lambda: store.locks() == [])
        return read(key)

    async def main() -> None:
        runner = runner_of(store)
        service = runner.session_service
        async with asyncio.timeout(PATIENCE):
            async for _ in run(runner, "hello"):
                now = await service.get_session(**NAME)
                break
            assert now is not None
            monkeypatch.setattr(store, "read", read_when_it_is_over)
            await service.append_event(now, noting(1))
        found = await service.get_session(**NAME)
        assert found is not None
        assert found.state == {"note": 1}

    asyncio.run(main())
    assert told(store) == ["turn", "user:hello", "assistant:re hello", "end", "turn", "end"]


def test_runs_of_another_session_service_are_left_alone(store: turnlock.Store) -> None:
    async def main() -> None:
        agent = LlmAgent(name="root", model=Scripted(script=answering))
        runner_of(store)
        other = Runner(app_name=APP, agent=agent, session_service=InMemorySessionService())
        await other.session_service.create_session(**NAME)
        assert await ask(other, "hello") == ["re hello"]
        assert other.plugin_manager.plugins == []
        assert InMemoryRunner(agent=agent).plugin_manager.plugins == []

    asyncio.run(main())
    assert list(store.sessions()) == []


def test_an_answer_in_place_of_the_models_is_under_no_limit(state: Path) -> None:
    """A callback of the agent that answers for its model leaves no call open behind it."""
    limits = turnlock.Limits(first_token=0.2, idle=0.2)

    def instead(callback_context: Any, llm_request: Any) -> LlmResponse:
        return says("cached") if said(llm_request)[-1].startswith("user:") else None  # type: ignore[return-value]

    async def main() -> None:
        with turnlock.open_store(state, limits=limits) as store:
            runner = runner_of(store)
            runner.agent.before_model_callback = instead  # type: ignore[attr-defined]
            events = run(runner, "hello")
            assert event_text(await anext(events)) == "cached"
            assert store.leases()[0].phase != ""
            # Past the limits of a call: the watchdog's own rule finds nothing to end.
            await asyncio.sleep(0.3)
            assert store.check_leases() == []
            await events.aclose()
            assert told(store)[-1] == "end"

    asyncio.run(main())


def standing_still(clock: ManualClock) -> turnlock.Store:
    return turnlock.Store(MemoryBackend(clock=clock, pid=1), location="test", clock=clock)


def asks(*requests: str) -> LlmResponse:
    """Calls of the agent ``child``, which is a tool."""
    parts = [
        types.Part(function_call=types.FunctionCall(name="child", args={"request": text}))
        for text in requests
    ]
    return LlmResponse(content=types.Content(role="model", parts=parts))


def test_an_agent_that_is_a_tool_and_answers_without_its_model_leaves_no_call_open() -> None:
    """ADK says of no such call that it is over. What comes after may take its time."""

    def instead(callback_context: Any, llm_request: Any) -> LlmResponse:
        return says("cached")

    async def parent(request: LlmRequest) -> AsyncIterator[LlmResponse]:
        results = said(request)[1:]
        yield [asks("any"), calls("slow"), says("well")][len(results) // 2]

    clock = ManualClock()
    with standing_still(clock) as store:

        def slow() -> str:
            clock.advance(200.0)
            assert store.check_leases() == []
            return "done"

        child = LlmAgent(
            name="child", model=Scripted(script=answering), before_model_callback=instead
        )
        runner = runner_of(store, parent, [AgentTool(child), slow])
        assert asyncio.run(ask(runner, "go"))[-1] == "well"


def test_of_two_runs_of_an_agent_that_is_a_tool_each_has_its_own_limit() -> None:
    """The first of them to end leaves the call of the other under its limit."""
    clock = ManualClock()

    async def main(store: turnlock.Store) -> None:
        hangs, answered = asyncio.Event(), asyncio.Event()

        async def model(request: LlmRequest) -> AsyncIterator[LlmResponse]:
            if asked(request) == "hang":
                hangs.set()
                await until(asyncio.Event())
            await until(hangs)
            yield says("well")

        async def parent(request: LlmRequest) -> AsyncIterator[LlmResponse]:
            yield asks("hang", "answer")

        def after(tool: Any, args: Any, **_: Any) -> None:
            answered.set()

        child = LlmAgent(name="child", model=Scripted(script=model))
        runner = runner_of(store, parent, [AgentTool(child)])
        runner.agent.after_tool_callback = after  # type: ignore[attr-defined]
        task = asyncio.create_task(ask(runner, "go"))
        await until(answered)
        clock.advance(200.0)
        assert len(store.check_leases()) == 1
        with pytest.raises(turnlock.LeaseRevoked) as caught:
            await task
        assert caught.value.reason == "model-limit"

    with standing_still(clock) as store:
        asyncio.run(main(store))


def test_runs_leave_nothing_behind(store: turnlock.Store) -> None:
    """No lock, no lease, no descriptor, whichever way runs end."""

    async def many() -> None:
        for number in range(10):
            model = Held()
            task = asyncio.create_task(ask(runner_of(store, model), f"{number}"))
            await until(model.asked)
            if number % 2:
                task.cancel()
            model.go_on.set()
            await asyncio.wait({task})

    asyncio.run(many())
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(many())
    gc.collect()
    assert store.locks() == []
    assert store.leases() == []
    # A worker may be about to close a file; and the store may have one ready for the next turn.
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)
