"""A model that hangs costs its run the session, within the limits, and nothing of it is left."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, CancellationToken
from pydantic_ai.exceptions import RunCancelled
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, FunctionModel

import turnlock
from tests.helpers import PATIENCE, eventually, kinds
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.integrations.pydantic_ai import TurnlockSession
from turnlock.store import Store
from turnlock.testing import ManualClock

from .models import Practice, Scripted, call, echo, text

ALICE = "main/a"
SHORT = 0.3
LONG = 2 * PATIENCE


async def whole(agent: Agent[None, str], prompt: str) -> None:
    await agent.run(prompt)


async def streamed(agent: Agent[None, str], prompt: str) -> None:
    async with agent.run_stream(prompt) as result:
        async for _ in result.stream_text(debounce_by=None):
            pass


async def iterated(agent: Agent[None, str], prompt: str) -> None:
    async with agent.iter(prompt) as run:
        async for _ in run:
            pass


async def in_a_thread(agent: Agent[None, str], prompt: str) -> None:
    def run_sync() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            agent.run_sync(prompt)
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    await asyncio.to_thread(run_sync)


Run = Callable[[Agent[None, str], str], Awaitable[None]]
FIRST: dict[str, Any] = {"first": SHORT, "idle": LONG}
IDLE: dict[str, Any] = {"first": LONG, "idle": SHORT}
WHOLE: dict[str, Any] = {"first": LONG, "idle": LONG, "whole": SHORT}
HOLD: dict[str, Any] = {"first": LONG, "idle": LONG, "max_hold": 4.0}
STREAM = {"stream": True}
# Threads that were there before, and those that a store keeps for the next turn.
STANDING = ("MainThread", "practice", "turnlock")


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("run", "prompt", "limits", "reason"),
    [
        (whole, "/hang", FIRST, "model-limit"),
        (whole, "/hang", HOLD, "hold-limit"),
        (whole, "/dribble", FIRST, "model-limit"),
        (whole, "/stall", IDLE | STREAM, "model-limit"),
        (whole, "/comments", FIRST | STREAM, "model-limit"),
        (whole, "/dribble", WHOLE | STREAM, "model-limit"),
        (streamed, "/hang", FIRST, "model-limit"),
        (streamed, "/stall", IDLE, "model-limit"),
        (streamed, "/comments", FIRST, "model-limit"),
        (streamed, "/dribble", HOLD, "hold-limit"),
        (iterated, "/hang", FIRST, "model-limit"),
        (in_a_thread, "/hang", FIRST, "model-limit"),
        (in_a_thread, "/stall", IDLE | STREAM, "model-limit"),
    ],
)
def test_a_call_that_hangs_loses_the_session_by_its_limit(
    store: turnlock.Store,
    server: Practice,
    run: Run,
    prompt: str,
    limits: dict[str, Any],
    reason: str,
) -> None:
    """The next run has the session at once; the user spoke once; nobody stays connected."""
    session = TurnlockSession[None](store, ALICE, **limits)

    async def main() -> str:
        async with Agent(server.model(), capabilities=[session]) as agent:
            with pytest.raises(turnlock.LeaseRevoked) as raised:
                await run(agent, prompt)
            assert raised.value.reason == reason
        async with Agent(server.model(), deps_type=type(None)) as agent:
            ordinary = TurnlockSession[None](store, ALICE, wait=PATIENCE)
            return (await agent.run("next", capabilities=[ordinary])).output

    assert asyncio.run(main()) == "practice reply 2 to: next"
    assert kinds(store) == [
        *("turn", f"user:{prompt}", reason),
        *("turn", "user:next", "assistant:practice reply 2 to: next", "end"),
    ]
    server.wait_for(lambda seen: seen.open_connections == 0)
    assert store.zombies() == []
    eventually(lambda: all(one.name.startswith(STANDING) for one in threading.enumerate()))


def test_only_content_that_does_not_come_is_a_hang(state: Path) -> None:
    """What comes counts, however slowly; then the limit counts from there."""
    clock = ManualClock()
    drips: list[str] = []

    def pass_time() -> None:
        # In steps that the watchdog takes for no stop of the process.
        eventually(lambda: clock.waiting)
        clock.advance(0.2)

    async def dribble(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        for _ in range(10):
            drips.append("drip ")
            yield drips[-1]
            pass_time()
            pass_time()
        while True:
            pass_time()
            await asyncio.sleep(0)

    backend = FilesBackend(StateDirectory(str(state)), clock=clock)
    with Store(backend, location=str(state), clock=clock) as store:
        session = TurnlockSession[None](store, ALICE, first=0.5, idle=0.5, stream=True)
        agent = Agent(FunctionModel(stream_function=dribble), capabilities=[session])
        with pytest.raises(turnlock.LeaseRevoked, match="model-limit"):
            asyncio.run(agent.run("hello"))
    assert len(drips) == 10


def test_what_the_reader_does_at_the_end_of_a_stream_is_no_call_of_a_model(state: Path) -> None:
    """The framework has the model's request wait until the reader has left the stream."""
    clock = ManualClock()
    backend = FilesBackend(StateDirectory(str(state)), clock=clock)
    with Store(backend, location=str(state), clock=clock) as store:
        session = TurnlockSession[None](store, ALICE, first=0.5, idle=0.5)
        agent = Agent(Scripted(lambda _: text("hi")).model, capabilities=[session])

        async def main() -> None:
            async with agent.run_stream("hello") as result:
                assert (await result.get_output()).strip() == "hi"
                for _ in range(4):
                    eventually(lambda: clock.waiting)
                    clock.advance(0.2)
                assert store.check_leases() == []

        asyncio.run(main())
        assert [kind.strip() for kind in kinds(store)] == [
            *("turn", "user:hello", "assistant:hi", "end")
        ]


def test_an_operator_ends_a_run(store: turnlock.Store, server: Practice) -> None:
    session = TurnlockSession[None](store, ALICE)

    async def main() -> None:
        async with Agent(server.model(), capabilities=[session]) as agent:
            run = asyncio.create_task(agent.run("/hang"))
            await asyncio.to_thread(server.wait_for, lambda seen: seen.requests == 1)
            assert await asyncio.to_thread(store.revoke, ALICE)
            with pytest.raises(turnlock.LeaseRevoked) as raised:
                await run
            assert raised.value.reason == "operator"

    asyncio.run(main())
    assert kinds(store) == ["turn", "user:/hang", "operator"]


def test_a_cancellation_from_outside_stays_one(store: turnlock.Store, server: Practice) -> None:
    session = TurnlockSession[None](store, ALICE)

    async def main() -> None:
        async with Agent(server.model(), capabilities=[session]) as agent:
            run = asyncio.create_task(agent.run("/hang"))
            await asyncio.to_thread(server.wait_for, lambda seen: seen.requests == 1)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            token = CancellationToken()
            run = asyncio.create_task(agent.run("/hang", cancellation_token=token))
            await asyncio.to_thread(server.wait_for, lambda seen: seen.requests == 2)
            token.cancel()
            with pytest.raises(RunCancelled):
                await run

    asyncio.run(main())
    assert kinds(store) == ["turn", "user:/hang", "cancelled"] * 2


def test_a_run_within_a_turn_of_its_caller_ends_with_that_turn(
    store: turnlock.Store, server: Practice
) -> None:
    async def main() -> None:
        agent = Agent(server.model(), capabilities=[TurnlockSession(store, ALICE)])
        async with agent, store.turn(ALICE):
            await agent.run("/hang")

    with revoked_once_asked(store, server), pytest.raises(turnlock.LeaseRevoked, match="operator"):
        asyncio.run(main())
    assert kinds(store) == ["turn", "user:/hang", "operator"]


def test_a_sync_run_within_a_turn_of_its_thread_ends_with_that_turn(
    store: turnlock.Store, server: Practice, loop: None
) -> None:
    agent = Agent(server.model(), capabilities=[TurnlockSession(store, ALICE)])
    with (
        revoked_once_asked(store, server),
        pytest.raises(turnlock.LeaseRevoked, match="operator"),
        store.turn(ALICE),
    ):
        agent.run_sync("/hang")
    assert kinds(store) == ["turn", "user:/hang", "operator"]


@contextmanager
def revoked_once_asked(store: turnlock.Store, server: Practice) -> Iterator[None]:
    def revoke() -> None:
        server.wait_for(lambda seen: seen.requests == 1)
        assert store.revoke(ALICE)

    thread = threading.Thread(target=revoke)
    thread.start()
    yield
    thread.join()


# Tools


def test_a_tool_that_blocks_its_thread_keeps_the_session_from_nobody(
    store: turnlock.Store,
) -> None:
    """It runs on as a zombie; what it writes then is refused, and no other tool is started."""
    model = Scripted(lambda _: call("block", "c1"))
    agent = Agent(model.model, capabilities=[TurnlockSession(store, ALICE)])
    begun, go_on = threading.Event(), threading.Event()
    late: list[str] = []

    @agent.tool_plain
    def block() -> str:
        turn = turnlock.current_turn()
        begun.set()
        assert go_on.wait(LONG)
        try:
            turn._core.append([turnlock.user("late")])
        except turnlock.LeaseRevoked as error:
            late.append(error.reason)
        return "blocked"

    async def main() -> None:
        run = asyncio.create_task(agent.run("block"))
        other = Agent(Scripted().model, deps_type=type(None))
        ordinary = TurnlockSession[None](store, ALICE, wait=PATIENCE)
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        assert await asyncio.to_thread(store.revoke, ALICE)
        context = contextvars.Context()
        await asyncio.create_task(other.run("next", capabilities=[ordinary]), context=context)
        go_on.set()
        with pytest.raises(turnlock.LeaseRevoked):
            await run

    asyncio.run(main())
    assert eventually(lambda: late) == ["operator"]
    told = [entry for entry in store.read(ALICE) if entry.get("message")]
    assert [entry["message"]["role"] for entry in told] == [
        *("user", "assistant", "toolResult", "user", "assistant")
    ]


def test_a_run_that_lost_its_session_starts_no_tool(store: turnlock.Store) -> None:
    """Also where nobody could tell it yet: the lock file was removed by hand."""

    def lose(messages: Sequence[ModelMessage]) -> ModelResponse:
        [record] = store.locks()
        assert record.path is not None
        os.unlink(record.path)
        return call("effect", "c1")

    agent = Agent(Scripted(lose).model, capabilities=[TurnlockSession(store, ALICE)])
    done: list[str] = []

    @agent.tool_plain
    def effect() -> str:
        done.append("effect")
        return ""

    with pytest.raises(turnlock.LeaseRevoked):
        asyncio.run(agent.run("do it"))
    assert done == []


def test_a_final_answer_that_comes_too_late_is_refused(store: turnlock.Store) -> None:
    def lose(messages: Sequence[ModelMessage]) -> ModelResponse:
        assert store.revoke(ALICE)
        return text("late")

    agent = Agent(Scripted(lose, echo).model, capabilities=[TurnlockSession(store, ALICE)])
    with pytest.raises(turnlock.LeaseRevoked):
        asyncio.run(agent.run("hello"))
    assert kinds(store) == ["turn", "user:hello", "operator"]
