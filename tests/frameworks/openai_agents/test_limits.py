"""Calls that hang, dribble or are left alone: the turn ends at its limit, and nothing is left."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import agents
import openai
import pytest
from agents import Runner, function_tool

import turnlock
from tests.helpers import PATIENCE, eventually
from turnlock.integrations.openai_agents import TurnHooks, TurnSession, run, run_streamed, run_sync

from .conftest import KEY, MODELS, Practice, agent_of, said, turns

APIS = pytest.mark.parametrize("api", list(MODELS))
FAULTS = pytest.mark.parametrize("fault", ["/hang", "/stall", "/comments"])
# What a loaded machine may be late by; the limits below are enforced within milliseconds.
LATE = 5.0


async def streamed(agent: Any, text: str, **options: Any) -> None:
    async with run_streamed(agent, text, **options) as result:
        async for _ in result.stream_events():
            pass


async def whole(agent: Any, text: str, **options: Any) -> None:
    await run(agent, text, **options)


RUNS = pytest.mark.parametrize("running", [whole, streamed])


@RUNS
@APIS
@FAULTS
def test_a_call_without_content_ends_at_its_limit_and_the_session_goes_on(
    practice: Practice, state: Path, api: str, fault: str, running: Callable[..., Any]
) -> None:
    limits = turnlock.Limits(first_token=0.4, idle=0.4)

    async def test() -> float:
        async with agent_of(practice, api=api) as agent:
            with pytest.raises(turnlock.LeaseRevoked) as raised:
                await running(agent, f"{fault} please", store=store, session=KEY)
            assert raised.value.reason == "model-limit"
            begun = time.monotonic()
            result = await run(agent, "and on", store=store, session=KEY)
            assert result.final_output == "practice reply 2 to: and on"
            return time.monotonic() - begun

    with turnlock.open_store(state, limits=limits) as store:
        took = asyncio.run(test())
        practice.wait_for_peer_close()
        assert turns(said(store)) == [
            [f"user {fault} please", "marker model-limit"],
            ["user and on", "assistant practice reply 2 to: and on", "turnlock:end"],
        ]
        assert store.zombies() == []
    assert took < LATE
    # The SDK has not tried again.
    assert practice.requests == 2


@RUNS
def test_a_guardrail_that_asks_the_runs_own_client_before_the_run_has_the_limits(
    practice: Practice, state: Path, running: Callable[..., Any]
) -> None:
    """It has no hooks, and nobody has asked that client yet."""

    @agents.input_guardrail(run_in_parallel=False)
    async def ask(*_: Any) -> agents.GuardrailFunctionOutput:
        await Runner.run(agents.Agent("Bob", model=models[0]), "/hang")
        return agents.GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

    models: list[Any] = []

    async def test() -> None:
        async with agent_of(practice, input_guardrails=[ask]) as agent:
            models.append(agent.model)
            with pytest.raises(turnlock.LeaseRevoked) as raised:
                await running(agent, "hello", store=store, session=KEY, max_hold=4.0)
        assert raised.value.reason == "model-limit"

    with turnlock.open_store(state, limits=turnlock.Limits(first_token=0.4, idle=0.4)) as store:
        asyncio.run(test())
        practice.wait_for_peer_close()


@RUNS
@APIS
def test_content_without_end_ends_at_the_hold_limit(
    practice: Practice, store: turnlock.Store, api: str, running: Callable[..., Any]
) -> None:
    async def test() -> None:
        async with agent_of(practice, api=api) as agent:
            with pytest.raises(turnlock.LeaseRevoked) as raised:
                await running(agent, "/dribble", store=store, session=KEY, max_hold=0.5)
            assert raised.value.reason == "hold-limit"

    asyncio.run(test())
    practice.wait_for_peer_close()
    assert turns(said(store)) == [["user /dribble", "marker hold-limit"]]


def test_a_streams_reader_that_is_another_task_than_the_turns_is_told_as_well(
    practice: Practice, store: turnlock.Store
) -> None:
    async def read(result: agents.RunResultStreaming) -> None:
        async for _ in result.stream_events():
            pass

    async def test() -> None:
        async with agent_of(practice) as agent:
            with pytest.raises(turnlock.LeaseRevoked):
                async with run_streamed(
                    agent, "/stall", store=store, session=KEY, max_hold=0.5
                ) as result:
                    reader = asyncio.create_task(read(result))
                    await asyncio.wait({reader})
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait({reader})

    asyncio.run(test())
    practice.wait_for_peer_close()


def test_a_run_that_ends_before_its_turn_hears_of_the_revocation_is_no_success(
    practice: Practice, store: turnlock.Store
) -> None:
    async def test() -> None:
        async with agent_of(practice) as agent:
            with pytest.raises(turnlock.LeaseRevoked) as raised:
                async with run_streamed(agent, "/hang", store=store, session=KEY) as result:
                    await asyncio.to_thread(practice.wait_for_requests, 1)
                    task = result.run_loop_task
                    assert task is not None
                    task.cancel()
                    await asyncio.wait({task})
                    # In the loop's own thread, which can tell the turn's task only later.
                    assert store.revoke(KEY)
            assert raised.value.reason == "operator"

    asyncio.run(test())
    assert turns(said(store)) == [["user /hang", "marker operator"]]


@APIS
@pytest.mark.parametrize("way", ["break", "raise", "unread"])
def test_a_stream_that_is_left_is_closed(
    practice: Practice, store: turnlock.Store, api: str, way: str
) -> None:
    """Without the block the call goes on upstream, and its answer is written later."""

    async def leave() -> None:
        async with (
            agent_of(practice, api=api) as agent,
            run_streamed(agent, "/stall please", store=store, session=KEY) as result,
        ):
            if way == "unread":
                await asyncio.to_thread(practice.wait_for_requests, 1)
                return
            async for event in result.stream_events():
                if event.type == "raw_response_event":
                    if way == "raise":
                        raise LookupError("seen enough")
                    break

    if way == "raise":
        with pytest.raises(LookupError):
            asyncio.run(leave())
    else:
        asyncio.run(leave())
    practice.wait_for_peer_close()
    reason = "error" if way == "raise" else "cancelled"
    assert turns(said(store)) == [["user /stall please", f"marker {reason}"]]


def test_a_stream_that_is_left_with_its_final_output_is_finished(
    practice: Practice, store: turnlock.Store
) -> None:
    async def test() -> None:
        async with (
            agent_of(practice) as agent,
            run_streamed(agent, "hello", store=store, session=KEY) as result,
        ):
            async for _ in result.stream_events():
                if result.final_output is not None:
                    break

    asyncio.run(test())
    assert turns(said(store))[0][1:] == [
        "assistant practice reply 1 to: hello",
        "turnlock:end",
    ]


def test_a_stream_that_fails_leaves_its_error(practice: Practice, store: turnlock.Store) -> None:
    async def test() -> None:
        async with agent_of(practice) as agent:
            with pytest.raises(openai.InternalServerError):
                await streamed(agent, "/500", store=store, session=KEY)

    asyncio.run(test())
    assert turns(said(store)) == [["user /500", "marker error"]]


def test_a_run_that_is_cancelled_from_outside_stays_cancelled(
    practice: Practice, store: turnlock.Store
) -> None:
    async def test() -> None:
        async with agent_of(practice) as agent:
            task = asyncio.create_task(run(agent, "/hang", store=store, session=KEY))
            await asyncio.to_thread(practice.wait_for_requests, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(test())
    practice.wait_for_peer_close()
    assert turns(said(store)) == [["user /hang", "marker cancelled"]]


def test_a_tool_that_hangs_is_cancelled_and_its_call_has_a_result(
    practice: Practice, store: turnlock.Store
) -> None:
    @function_tool
    async def wait() -> str:
        await asyncio.Event().wait()
        return "never"

    async def test() -> None:
        async with agent_of(practice, wait) as agent:
            with pytest.raises(turnlock.LeaseRevoked):
                await run(agent, "/tool wait", store=store, session=KEY, max_hold=0.5)
            result = await run(agent, "and on", store=store, session=KEY)
            # The practice model refuses a history with a call that has no result.
            assert result.final_output == "practice reply 2 to: and on"

    asyncio.run(test())
    call, result, marker = turns(said(store))[0][1:]
    assert call == "call wait"
    assert result.startswith("toolResult (There is no result: the turn ended before")
    assert marker == "marker hold-limit"


# Threads


def sync_agent(practice: Practice, *tools: Any) -> agents.Agent[Any]:
    # The thread's loop is closed before anybody could close the client: it must keep no connection.
    client = openai.AsyncOpenAI(
        base_url=practice.url, api_key="any", default_headers={"Connection": "close"}
    )
    # Imported by the first that asks, which takes longer than the turns here may.
    assert client.chat.completions is not None
    return agents.Agent(name="Ada", model=MODELS["chat"]("practice", client), tools=list(tools))


def in_a_thread(job: Callable[[], Any]) -> tuple[list[Any], threading.Thread]:
    """Run it in a thread that closes its own loop, which the SDK leaves open."""
    outcome: list[Any] = []

    def work() -> None:
        asyncio.set_event_loop(loop := asyncio.new_event_loop())
        try:
            outcome.append(job())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            outcome.append(error)
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    return outcome, thread


@FAULTS
def test_a_thread_comes_back_when_its_turn_is_revoked(
    practice: Practice, store: turnlock.Store, fault: str
) -> None:
    agent = sync_agent(practice)
    outcome, thread = in_a_thread(
        lambda: run_sync(agent, fault, store=store, session=KEY, max_hold=0.5)
    )
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert isinstance(outcome[0], turnlock.LeaseRevoked)
    practice.wait_for_peer_close()
    assert turns(said(store)) == [[f"user {fault}", "marker hold-limit"]]


@pytest.mark.parametrize("by", ["hand", "run_sync"])
def test_a_thread_whose_tool_waits_comes_back_too(
    practice: Practice, store: turnlock.Store, by: str
) -> None:
    @function_tool
    async def wait() -> str:
        await asyncio.Event().wait()
        return "never"

    agent = sync_agent(practice, wait)

    def by_hand() -> None:
        with store.turn(KEY, max_hold=0.5) as turn:
            session = TurnSession(turn)
            Runner.run_sync(agent, "/tool wait", session=session, hooks=TurnHooks(session))

    def at_once() -> None:
        run_sync(agent, "/tool wait", store=store, session=KEY, max_hold=0.5)

    outcome, thread = in_a_thread(by_hand if by == "hand" else at_once)
    thread.join(PATIENCE)
    assert isinstance(outcome[0], turnlock.LeaseRevoked)
    assert turns(said(store))[0][1] == "call wait"


@pytest.mark.parametrize("context", ["with", "without"])
def test_an_abandoned_thread_comes_back_and_writes_nothing(
    practice: Practice, store: turnlock.Store, context: str
) -> None:
    """A caller that gives up on `Runner.run_sync` in a thread; ``run_in_executor`` hands on no
    context, so that the thread does not know the turn but from its session.
    """
    agent = sync_agent(practice)
    ended = threading.Event()

    def job(session: TurnSession) -> None:
        asyncio.set_event_loop(loop := asyncio.new_event_loop())
        try:
            Runner.run_sync(agent, "/slow 600", session=session, hooks=TurnHooks(session))
        finally:
            loop.close()
            ended.set()

    async def test(pool: ThreadPoolExecutor) -> None:
        async with store.turn(KEY) as turn:
            session = TurnSession(turn)
            future: asyncio.Future[None]
            if context == "with":
                future = asyncio.ensure_future(asyncio.to_thread(job, session))
            else:
                future = asyncio.get_running_loop().run_in_executor(pool, job, session)
            await asyncio.to_thread(practice.wait_for_requests, 1)
        async with agent_of(practice) as other:
            await run(other, "and on", store=store, session=KEY)
        await asyncio.to_thread(ended.wait, PATIENCE)
        with pytest.raises(BaseException):  # noqa: B017 - whichever way it was told
            await future
        with pytest.raises(turnlock.LeaseRevoked):
            await session.add_items([{"role": "assistant", "content": "late"}])

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(test(pool))
    assert ended.is_set()
    practice.wait_for_peer_close()
    first, second = turns(said(store))
    assert first == ["user /slow 600", "turnlock:end"]
    assert second[-2:] == ["assistant practice reply 2 to: and on", "turnlock:end"]


def test_no_thread_connection_or_descriptor_is_left_after_many_kills(
    practice: Practice, store: turnlock.Store
) -> None:
    async def kill(agent: Any, number: int) -> None:
        with pytest.raises(turnlock.LeaseRevoked):
            await run(agent, "/stall", store=store, session=f"main/{number}", max_hold=0.3)

    async def test() -> None:
        async with agent_of(practice) as agent:
            await asyncio.gather(*[kill(agent, number) for number in range(30)])

    asyncio.run(test())
    practice.wait_for(lambda seen: seen.open_connections == 0)
    eventually(lambda: store.statistics().zombies == 0)
    assert store.statistics().held == 0
    eventually(
        lambda: not [one for one in threading.enumerate() if one.name.startswith("asyncio_")]
    )
