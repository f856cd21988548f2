"""A run of an agent is a turn of a session: what it reads, what it writes, and when."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    AgentRunResultEvent,
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
)
from pydantic_ai.capabilities import ProcessHistory
from pydantic_ai.exceptions import ModelRetry, UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturn,
)

import turnlock
from tests.helpers import PATIENCE, eventually, kinds
from turnlock.integrations.pydantic_ai import TurnlockSession

from .models import Scripted, call, echo, said, text

ALICE = "main/a"


def agent_of(
    store: turnlock.Store, model: Scripted, *, wait: float = PATIENCE, **options: Any
) -> Agent[None, str]:
    session = TurnlockSession[None](store, ALICE, wait=wait)
    return Agent(model.model, capabilities=[session], **options)


async def run_whole(agent: Agent[None, str], prompt: str) -> str:
    return (await agent.run(prompt)).output


async def run_streamed(agent: Agent[None, str], prompt: str) -> str:
    async with agent.run_stream(prompt) as result:
        return (await result.get_output()).strip()


async def run_by_iter(agent: Agent[None, str], prompt: str) -> str:
    async with agent.iter(prompt) as run:
        async for _ in run:
            pass
    assert run.result is not None
    return run.result.output


async def run_for_events(agent: Agent[None, str], prompt: str) -> str:
    async with agent.run_stream_events(prompt) as events:
        heard = [event async for event in events]
    result = heard[-1]
    assert isinstance(result, AgentRunResultEvent)
    return str(result.result.output).strip()


@pytest.mark.parametrize("run", [run_whole, run_streamed, run_by_iter, run_for_events])
def test_a_run_has_the_history_of_the_session_and_adds_to_it(
    store: turnlock.Store, run: Any
) -> None:
    model = Scripted()
    agent = agent_of(store, model)
    assert asyncio.run(run(agent, "one")) == "re: one"
    assert asyncio.run(run(agent, "two")) == "re: two"
    assert [[line.strip() for line in lines] for lines in model.heard] == [
        ["user:one"],
        ["user:one", "model:re: one", "user:two"],
    ]
    told = [kind.strip() for kind in kinds(store)]
    assert told == [
        *("turn", "user:one", "assistant:re: one", "end"),
        *("turn", "user:two", "assistant:re: two", "end"),
    ]


@pytest.mark.usefixtures("loop")
def test_run_sync_is_a_turn_too(store: turnlock.Store) -> None:
    agent = agent_of(store, Scripted())
    agent.run_sync("one")
    agent.run_sync("two")
    assert kinds(store).count("end") == 2


def test_what_the_user_said_is_durable_before_the_model_is_called(store: turnlock.Store) -> None:
    seen: list[str] = []

    def look(messages: Sequence[ModelMessage]) -> ModelResponse:
        seen.extend(kinds(store))
        return echo(messages)

    asyncio.run(agent_of(store, Scripted(look)).run("hello"))
    assert seen == ["turn", "user:hello"]


def test_a_reply_is_durable_before_its_tools_are_run(store: turnlock.Store) -> None:
    agent = agent_of(store, Scripted(lambda _: call("look", "c1")))
    seen: list[Any] = []

    @agent.tool_plain
    def look() -> str:
        seen.append(list(store.read(ALICE))[-1]["message"]["content"][0])
        return "looked"

    asyncio.run(agent.run("use it"))
    assert [part["type"] for part in seen] == ["toolCall"]
    assert said_in(store) == ["user:use it", "call:c1", "result:c1=looked", "model:re: c1=looked"]


def said_in(store: turnlock.Store) -> list[str]:
    """What a run on the session is told, other than what it adds."""
    model = Scripted()
    result = asyncio.run(agent_of(store, model).run("(looking)"))
    return said(result.all_messages())[:-2]


def test_what_a_tool_notes_for_the_program_need_not_be_json(store: turnlock.Store) -> None:
    """No model is told of it; the transcript keeps how it looks."""
    agent = agent_of(store, Scripted(lambda _: call("look", "c1")))

    @agent.tool_plain
    def look() -> ToolReturn:
        return ToolReturn(return_value="looked", metadata={"frame": Opaque()})

    assert asyncio.run(agent.run("use it")).output == "re: c1=looked"
    native = [entry.get("pydanticAi") for entry in store.read(ALICE)]
    noted = [part.get("metadata") for one in native if one for part in one["parts"]]
    assert {"frame": "Opaque()"} in noted


class Opaque:
    def __repr__(self) -> str:
        return "Opaque()"


def test_a_tool_is_in_the_turn_of_its_run(store: turnlock.Store) -> None:
    agent = agent_of(store, Scripted(lambda _: call("look", "c1"), lambda _: call("wait", "c2")))
    seen: list[Any] = []

    @agent.tool_plain
    async def look() -> str:
        turn = turnlock.current_turn()
        seen.append((turn.session, await turn.epoch))
        return ""

    @agent.tool_plain
    def wait() -> str:
        seen.append(turnlock.current_turn().session)
        return ""

    asyncio.run(agent.run("use it"))
    assert seen == [(ALICE, 1), ALICE]
    assert turnlock.current_turn() is None


def test_a_run_in_a_turn_of_its_callers_is_part_of_that_turn(store: turnlock.Store) -> None:
    async def main() -> None:
        agent = agent_of(store, Scripted())
        async with store.turn(ALICE) as turn:
            await agent.run("one")
            await agent.run("two")
            assert len(await turn.messages()) == 4

    asyncio.run(main())
    assert kinds(store) == [
        *("turn", "user:one", "assistant:re: one", "user:two", "assistant:re: two", "end")
    ]


def test_so_is_one_on_which_a_turn_on_another_session_was_opened(store: turnlock.Store) -> None:
    """Or it would wait for its own caller. Within the run the turn is the run's."""
    seen: list[str] = []

    def look(messages: Sequence[ModelMessage]) -> ModelResponse:
        seen.append(turnlock.current_turn().session)
        return echo(messages)

    async def main() -> None:
        async with store.turn(ALICE), store.turn("main/b") as inner:
            await agent_of(store, Scripted(look), wait=0).run("one")
            assert turnlock.current_turn() is inner

    asyncio.run(main())
    assert seen == [ALICE]
    assert kinds(store) == ["turn", "user:one", "assistant:re: one", "end"]
    assert kinds(store, "main/b") == []


@pytest.mark.usefixtures("loop")
def test_a_run_in_the_turn_of_a_thread_is_part_of_that_turn(store: turnlock.Store) -> None:
    with store.turn(ALICE) as turn:
        agent_of(store, Scripted()).run_sync("one")
        assert len(turn.messages()) == 2
    assert kinds(store) == ["turn", "user:one", "assistant:re: one", "end"]


def test_a_second_run_in_one_turn_is_refused_at_once(store: turnlock.Store) -> None:
    """As by a tool that asks the same session: it would wait for itself."""
    agent = agent_of(store, Scripted(lambda _: call("ask", "c1")))
    refused: list[BaseException] = []

    @agent.tool_plain
    async def ask() -> str:
        try:
            return (await agent.run("inner")).output
        except turnlock.AlreadyHeld as error:
            refused.append(error)
            return "no"

    asyncio.run(agent.run("outer"))
    assert len(refused) == 1
    assert said_in(store) == ["user:outer", "call:c1", "result:c1=no", "model:re: c1=no"]


def test_two_runs_at_once_come_one_after_the_other(store: turnlock.Store) -> None:
    model = Scripted()
    agent = agent_of(store, model)

    async def main() -> None:
        await asyncio.gather(*(agent.run(f"m{number}") for number in range(5)))

    asyncio.run(main())
    assert sorted(len(lines) for lines in model.heard) == [1, 3, 5, 7, 9]
    told = kinds(store)
    for start in range(0, 20, 4):
        name = told[start + 1].removeprefix("user:")
        assert told[start : start + 4] == ["turn", f"user:{name}", f"assistant:re: {name}", "end"]


def test_a_busy_session_is_refused_with_its_holder(store: turnlock.Store) -> None:
    model = Scripted()
    session = TurnlockSession[None](store, ALICE, wait=0)
    with store.turn(ALICE, turn_id="T1"), pytest.raises(turnlock.SessionBusy) as raised:
        asyncio.run(in_a_context_of_its_own(Agent(model.model, capabilities=[session]), "hello"))
    assert raised.value.holder_turn == "T1"
    assert model.heard == []


async def in_a_context_of_its_own(agent: Agent[None, str], prompt: str) -> str:
    task = asyncio.create_task(run_whole(agent, prompt), context=contextvars.Context())
    return await task


def test_a_run_that_is_cancelled_while_it_waits_leaves_no_ghost(store: turnlock.Store) -> None:
    model = Scripted()
    agent = agent_of(store, model)

    async def main() -> None:
        run = asyncio.create_task(in_a_context_of_its_own(agent, "hello"))
        await asyncio.to_thread(eventually, lambda: store.waiters([ALICE])[ALICE])
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert store.waiters([ALICE])[ALICE] == 0

    with store.turn(ALICE):
        asyncio.run(main())
    assert model.heard == []
    assert asyncio.run(agent.run("next")).output == "re: next"


def test_the_session_may_follow_from_the_runs_own(store: turnlock.Store) -> None:
    def key(ctx: RunContext[str]) -> str:
        return turnlock.session_key("main", ctx.deps)

    capability = TurnlockSession(store, key)
    agent = Agent(Scripted().model, deps_type=str, capabilities=[capability])
    asyncio.run(agent.run("hello", deps="a"))
    asyncio.run(agent.run("hello", deps="b"))
    assert [record.session for record in store.sessions()] == ["main/a", "main/b"]


def test_the_session_of_a_run_takes_the_place_of_the_agents(store: turnlock.Store) -> None:
    agent = agent_of(store, Scripted())
    other = TurnlockSession[None](store, "main/b")
    asyncio.run(agent.run("hello", capabilities=[other]))
    assert [record.session for record in store.sessions()] == ["main/b"]


def test_a_second_history_is_refused(store: turnlock.Store) -> None:
    agent = agent_of(store, Scripted())
    history = asyncio.run(agent.run("one")).all_messages()
    with pytest.raises(UserError, match="message_history"):
        asyncio.run(agent.run("two", message_history=history))


def test_a_key_that_is_none_and_limits_that_cannot_be_are_refused_where_they_are_given(
    store: turnlock.Store,
) -> None:
    with pytest.raises(turnlock.InvalidSessionKey):
        TurnlockSession(store, "alice")
    refused: list[dict[str, Any]] = [{"first": 0.0}, {"wait": -1.0}, {"max_hold": 0.0}]
    for limits in refused:
        with pytest.raises(turnlock.LimitsError):
            TurnlockSession(store, ALICE, **limits)


def test_without_pydantic_ai_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    monkeypatch.delitem(sys.modules, "turnlock.integrations.pydantic_ai")
    with pytest.raises(ImportError, match=r"turnlock\[pydantic-ai\]"):
        importlib.import_module("turnlock.integrations.pydantic_ai")


# Runs that fail


def test_a_run_that_fails_leaves_what_was_said_and_a_marker(store: turnlock.Store) -> None:
    def fail(messages: Sequence[ModelMessage]) -> ModelResponse:
        raise RuntimeError("the model is ill")

    agent = agent_of(store, Scripted(fail))
    with pytest.raises(RuntimeError, match="ill"):
        asyncio.run(agent.run("hello"))
    assert kinds(store) == ["turn", "user:hello", "error"]
    [*_, marker] = store.read(ALICE)
    assert marker["data"]["error"] == "RuntimeError: the model is ill"
    assert asyncio.run(agent.run("again")).output == "re: again"


def test_a_cut_off_call_gets_its_result_and_the_results_that_there_are_stay(
    store: turnlock.Store,
) -> None:
    two = ModelResponse(
        parts=[
            ToolCallPart("quick", {}, tool_call_id="c1"),
            ToolCallPart("slow", {}, tool_call_id="c2"),
        ]
    )
    agent = agent_of(store, Scripted(lambda _: two))
    hangs = asyncio.Event()

    @agent.tool_plain(sequential=True)
    async def quick() -> str:
        return "done"

    @agent.tool_plain(sequential=True)
    async def slow() -> str:
        hangs.set()
        await asyncio.Event().wait()
        return "never"

    async def main() -> None:
        run = asyncio.create_task(agent.run("do both"))
        await hangs.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    assert list(store.read(ALICE))[-1]["data"]["reason"] == "cancelled"
    told = said_in(store)
    assert told[:3] == ["user:do both", "call:c1", "call:c2"]
    assert sorted(line.partition("=")[0] for line in told[3:5]) == ["result:c1", "result:c2"]


def test_a_stream_that_its_reader_leaves_ends_its_turn(store: turnlock.Store) -> None:
    class Gone(Exception):
        pass

    async def main() -> None:
        async with agent_of(store, Scripted()).run_stream("hello world") as result:
            async for _ in result.stream_text():
                raise Gone

    with pytest.raises(Gone):
        asyncio.run(main())
    assert kinds(store)[:2] == ["turn", "user:hello world"]
    assert kinds(store)[-1] == "error"
    assert said_in(store)[0] == "user:hello world"


def test_an_iteration_that_is_broken_off_ends_its_turn(store: turnlock.Store) -> None:
    async def main() -> None:
        async with agent_of(store, Scripted()).iter("hello") as run:
            async for node in run:
                if Agent.is_call_tools_node(node):
                    break

    asyncio.run(main())
    assert kinds(store) == ["turn", "user:hello", "assistant:re: hello", "cancelled"]


# Runs that go on


def test_a_run_without_prompt_goes_on_where_the_last_one_was_cut_off(
    store: turnlock.Store,
) -> None:
    """The user's message is there once, whoever answers it."""

    def fail(messages: Sequence[ModelMessage]) -> ModelResponse:
        raise RuntimeError("ill")

    agent = agent_of(store, Scripted(fail))
    with pytest.raises(RuntimeError):
        asyncio.run(agent.run("hello"))
    assert asyncio.run(agent.run()).output == "re: hello"
    assert kinds(store) == ["turn", "user:hello", "error", "turn", "assistant:re: hello", "end"]


def deleting_agent(store: turnlock.Store) -> Agent[None, str | DeferredToolRequests]:
    """One whose tool somebody has to approve."""
    model = Scripted(lambda _: call("delete", "c1"))
    session = TurnlockSession[None](store, ALICE)
    agent = Agent(model.model, output_type=[str, DeferredToolRequests], capabilities=[session])

    @agent.tool_plain(requires_approval=True)
    def delete() -> str:
        return "deleted"

    return agent


@pytest.mark.parametrize("prompt", [None, "and then?"])
def test_calls_that_somebody_approves_later_stay_open_until_then(
    store: turnlock.Store, prompt: str | None
) -> None:
    agent = deleting_agent(store)
    first = asyncio.run(agent.run("delete it")).output
    assert isinstance(first, DeferredToolRequests)
    results = DeferredToolResults(approvals={"c1": True})
    asyncio.run(agent.run(prompt, deferred_tool_results=results))
    asked = [f"user:{prompt}"] if prompt else []
    answered = f"model:re: {prompt or 'c1=deleted'}"
    assert said_in(store) == [
        *("user:delete it", "call:c1", "result:c1=deleted"),
        *(*asked, answered),
    ]


def test_a_new_prompt_closes_what_waited_for_approval(store: turnlock.Store) -> None:
    agent = deleting_agent(store)
    asyncio.run(agent.run("delete it"))
    assert asyncio.run(agent.run("never mind")).output == "re: never mind"


def test_an_answer_that_is_a_tool_call_is_kept_with_its_result(store: turnlock.Store) -> None:
    """And the next run has both; the turn that they are of has ended well."""
    model = Scripted(lambda _: call("final_result", "c1", a=1, b=2))
    session = TurnlockSession[None](store, ALICE)
    agent = Agent(model.model, output_type=Pair, capabilities=[session])
    result = asyncio.run(agent.run("add"))
    assert result.output == Pair(a=1, b=2)
    assert list(store.read(ALICE))[-1]["customType"] == "turnlock:end"
    assert said_in(store) == said(result.all_messages())
    assert said_in(store)[:3] == ["user:add", "call:c1", "result:c1=Final result processed."]


class Pair(BaseModel):
    a: int
    b: int


def test_a_retry_leaves_all_that_was_said_once(store: turnlock.Store) -> None:
    agent = agent_of(store, Scripted(lambda _: text("bad")), retries=2)

    @agent.output_validator
    def check(output: str) -> str:
        if output == "bad":
            raise ModelRetry("say it better")
        return output

    asyncio.run(agent.run("hello"))
    roles = [kind.partition(":")[0] for kind in kinds(store)]
    assert roles == ["turn", "user", "assistant", "user", "assistant", "end"]


def test_what_a_processor_makes_of_the_history_is_not_what_is_kept(store: turnlock.Store) -> None:
    """A history that a capability cuts down for the model stays whole in the transcript."""

    def last_only(messages: list[ModelMessage]) -> list[ModelMessage]:
        return messages[-1:]

    model = Scripted()
    capabilities: Any = [TurnlockSession(store, ALICE), ProcessHistory(last_only)]
    agent: Agent[None, str] = Agent(model.model, capabilities=capabilities)
    for number in range(3):
        asyncio.run(agent.run(f"m{number}"))
    assert model.heard == [["user:m0"], ["user:m1"], ["user:m2"]]
    assert [kind for kind in kinds(store) if kind.startswith("user:")] == [
        "user:m0",
        "user:m1",
        "user:m2",
    ]


async def _later(reply: ModelResponse) -> ModelResponse:
    return reply


def test_what_is_put_in_between_stands_where_it_was_said(store: turnlock.Store) -> None:
    agent = agent_of(store, Scripted(lambda _: call("look", "c1")))

    @agent.tool
    def look(ctx: RunContext[None]) -> str:
        ctx.enqueue("by the way")
        return "looked"

    result = asyncio.run(agent.run("use it"))
    told = said(result.all_messages())
    assert "user:by the way" in told
    assert said_in(store) == told


def test_a_turn_of_another_store_is_another_sessions(store: turnlock.Store, tmp_path: Path) -> None:
    with turnlock.open_store(tmp_path / "other") as other, other.turn(ALICE):
        # Not in the thread's turn, which is on a session of the same name.
        asyncio.run(agent_of(store, Scripted()).run("hello"))
    assert kinds(store) == ["turn", "user:hello", "assistant:re: hello", "end"]


def test_a_system_prompt_is_said_once(store: turnlock.Store) -> None:
    later: Awaitable[ModelResponse] = _later(text("ok"))
    model = Scripted(lambda _: later)
    agent = agent_of(store, model, system_prompt="be brief")
    asyncio.run(agent.run("one"))
    result = asyncio.run(agent.run("two"))
    parts = [part.part_kind for message in result.all_messages() for part in message.parts]
    assert parts.count("system-prompt") == 1
    assert isinstance(result.all_messages()[1].parts[0], TextPart)
