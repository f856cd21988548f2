"""The session of a turn, as the SDK uses it: what is written when, and what comes back."""

from __future__ import annotations

import asyncio
import inspect
import os
from pathlib import Path
from typing import Any, cast

import agents
import openai
import pytest
from agents import Runner, SQLiteSession, function_tool
from openai.types.responses import ResponseReasoningItem

import turnlock
from turnlock.integrations.openai_agents import TurnHooks, TurnSession, run, run_streamed, run_sync

from .conftest import KEY, MODELS, Practice, Scripted, agent_of, calls, said, says, turns

APIS = pytest.mark.parametrize("api", list(MODELS))
LOOK = '/tool look {"at": "it"}'


@function_tool
async def look(at: str) -> str:
    """Look at it."""
    return f"seen {at}"


@APIS
def test_a_run_is_a_turn(practice: Practice, store: turnlock.Store, api: str) -> None:
    async def test() -> None:
        async with agent_of(practice, look, api=api) as agent:
            result = await run(agent, LOOK, store=store, session=KEY)
            assert result.final_output == "practice reply 1 to: seen it"
            again = await run(agent, "and on", store=store, session=KEY)
            assert again.final_output == "practice reply 2 to: and on"

    asyncio.run(test())
    assert turns(said(store)) == [
        [
            f"user {LOOK}",
            "call look",
            "toolResult seen it",
            "assistant practice reply 1 to: seen it",
            "turnlock:end",
        ],
        ["user and on", "assistant practice reply 2 to: and on", "turnlock:end"],
    ]


@APIS
def test_the_parts_do_what_the_whole_does(
    practice: Practice, store: turnlock.Store, api: str
) -> None:
    async def test() -> None:
        async with agent_of(practice, look, api=api) as agent, store.turn(KEY) as turn:
            session = TurnSession(turn)
            hooks = TurnHooks(session)
            result = await Runner.run(agent, LOOK, session=session, hooks=hooks)
            assert result.final_output == "practice reply 1 to: seen it"

    asyncio.run(test())
    assert len(turns(said(store))[0]) == 5


@APIS
def test_items_come_back_as_the_sdks_own_session_gives_them(
    practice: Practice, store: turnlock.Store, api: str
) -> None:
    """What the SDK added is what it gets: to itself, an item is as good as from SQLite."""

    async def test() -> None:
        own = SQLiteSession("own")
        async with agent_of(practice, look, api=api) as agent:
            for text in (LOOK, "and on"):
                result = await run(agent, text, store=store, session=KEY)
                await own.add_items(result.to_input_list()[len(await own.get_items()) :])
            async with store.turn(KEY) as turn:
                items = await TurnSession(turn).get_items()
        assert items == await own.get_items()
        own.close()

    asyncio.run(test())


@APIS
def test_a_streamed_run_is_a_turn_too(practice: Practice, store: turnlock.Store, api: str) -> None:
    async def test() -> None:
        async with (
            agent_of(practice, look, api=api) as agent,
            run_streamed(agent, LOOK, store=store, session=KEY) as result,
        ):
            kinds = {event.type async for event in result.stream_events()}
        assert {"raw_response_event", "run_item_stream_event"} <= kinds
        assert result.final_output == "practice reply 1 to: seen it"

    asyncio.run(test())
    assert len(turns(said(store))[0]) == 5


def test_a_thread_runs_a_turn_with_run_sync(practice: Practice, store: turnlock.Store) -> None:
    client = openai.AsyncOpenAI(base_url=practice.url, api_key="any", timeout=None)
    agent = agents.Agent(name="Ada", model=MODELS["chat"]("practice", client), tools=[look])
    result = run_sync(agent, LOOK, store=store, session=KEY)
    assert result.final_output == "practice reply 1 to: seen it"
    assert len(turns(said(store))[0]) == 5
    loop = asyncio.get_event_loop_policy().get_event_loop()
    loop.run_until_complete(client.close())
    loop.close()


def test_the_users_message_is_durable_before_the_model_is_asked(
    practice: Practice, store: turnlock.Store
) -> None:
    """With a guardrail beside the call, too: then the SDK asks from another task."""
    seen: list[list[str]] = []

    class Look(agents.RunHooks[Any]):
        async def on_llm_end(self, *_: Any) -> None:
            seen.append(said(store))

    @agents.input_guardrail
    async def beside(*_: Any) -> agents.GuardrailFunctionOutput:
        return agents.GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

    async def test() -> None:
        async with agent_of(practice, input_guardrails=[beside]) as agent:
            await run(agent, "one", store=store, session=KEY, hooks=Look())
            async with run_streamed(agent, "two", store=store, session=KEY, hooks=Look()) as result:
                async for _ in result.stream_events():
                    pass

    asyncio.run(test())
    assert [words[-1] for words in seen] == ["user one", "user two"]


def test_a_call_is_durable_before_its_tool_begins(
    practice: Practice, store: turnlock.Store
) -> None:
    seen: list[str] = []

    @function_tool
    async def look_back() -> str:
        seen.extend(said(store))
        return "seen"

    async def test() -> None:
        async with agent_of(practice, look_back) as agent:
            await run(agent, "/tool look_back", store=store, session=KEY)

    asyncio.run(test())
    assert seen == ["turnlock:turn", "user /tool look_back", "call look_back"]
    assert said(store).count("call look_back") == 1


def test_a_tool_knows_its_turn_and_its_phase(practice: Practice, store: turnlock.Store) -> None:
    seen: list[Any] = []

    @function_tool
    def blocking() -> str:
        turn = turnlock.current_turn()
        seen.append((turn.session, turn.epoch, store.leases()[0].phase))
        return "done"

    async def test() -> None:
        async with agent_of(practice, blocking) as agent:
            await run(agent, "/tool blocking", store=store, session=KEY)

    asyncio.run(test())
    assert seen == [(KEY, 1, "tool blocking")]


def test_hooks_of_ones_own_are_called_beside(practice: Practice, store: turnlock.Store) -> None:
    called: list[str] = []

    class Own(agents.RunHooks[Any]):
        pass

    def noting(name: str) -> Any:
        async def note(self: Any, *_: Any) -> None:
            called.append(name)

        return note

    names = [name for name, _ in inspect.getmembers(agents.RunHooks, inspect.isfunction)]
    hooks = [name for name in names if name.startswith("on_")]
    for name in hooks:
        setattr(Own, name, noting(name))

    async def test() -> None:
        async with agent_of(practice) as other:
            other.handoff_description = "the other one"
            other.name = "Bob"
            async with agent_of(practice, look, handoffs=[other]) as agent:
                await run(agent, LOOK, store=store, session=KEY, hooks=Own())
                await run(agent, "/tool transfer_to_bob", store=store, session=KEY, hooks=Own())

    asyncio.run(test())
    assert set(called) == set(hooks)


def test_a_handoff_is_within_the_turn_and_its_model_is_guarded(
    practice: Practice, store: turnlock.Store
) -> None:
    async def test() -> None:
        async with agent_of(practice) as other:
            other.name = "Bob"
            async with agent_of(practice, handoffs=[other]) as agent:
                result = await run(agent, "/tool transfer_to_bob", store=store, session=KEY)
                assert result.last_agent is other
            model = cast("agents.OpenAIChatCompletionsModel", other.model)
            assert "Guarded" in type(model._client._client._transport).__name__

    asyncio.run(test())
    words = turns(said(store))[0]
    assert words[1] == "call transfer_to_bob"
    assert words[-1] == "turnlock:end"


@pytest.mark.parametrize("below", ["tool", "tool of it", "agent it hands over to", "handoff"])
def test_the_models_of_agents_that_are_tools_are_guarded(
    practice: Practice, store: turnlock.Store, below: str
) -> None:
    def tool(agent: agents.Agent[Any], name: str) -> Any:
        return agent.as_tool(tool_name=name, tool_description="asks another agent")

    async def test() -> None:
        async with agent_of(practice) as last:
            expert = {
                "tool": last,
                "tool of it": agents.Agent("Bob", model=last.model, tools=[tool(last, "more")]),
                "agent it hands over to": agents.Agent("Bob", model=last.model, handoffs=[last]),
                "handoff": agents.Agent("Bob", model=last.model, handoffs=[agents.handoff(last)]),
            }[below]
            async with openai.AsyncOpenAI(
                base_url=practice.url, api_key="any", timeout=None
            ) as client:
                if expert is not last:
                    expert.model = agents.OpenAIChatCompletionsModel("practice", client)
                async with agent_of(practice, tool(expert, "ask")) as agent:
                    text = '/tool ask {"input": "hello"}'
                    result = await run(agent, text, store=store, session=KEY)
            assert result.final_output == "practice reply 1 to: practice reply 1 to: hello"
            for one in {expert.name: expert, last.name: last}.values():
                model = cast("agents.OpenAIChatCompletionsModel", one.model)
                assert "Guarded" in type(model._client._client._transport).__name__, one.name

    asyncio.run(test())


class Picky(agents.ModelProvider):
    def get_model(self, model_name: str | None) -> agents.Model:
        raise LookupError(model_name)


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (None, agents.RunConfig()),
        ("nobody/knows", agents.RunConfig()),
        ("any", agents.RunConfig(model_provider=Picky())),
    ],
    ids=["without key", "of no provider", "that its provider refuses"],
)
def test_a_model_that_is_never_asked_need_not_be_there(
    store: turnlock.Store,
    model: str | None,
    config: agents.RunConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever asks it is told by the SDK."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    last = agents.Agent("Cy", model=model)
    expert = agents.Agent("Bob", model=Scripted([says("hi")]), handoffs=[last])
    ask = expert.as_tool("ask", "asks another agent")
    call = calls("c1", "ask", input="hello")
    agent = agents.Agent("Ada", model=Scripted([call], [says("well")]), tools=[ask])
    result = asyncio.run(run(agent, "go", store=store, session=KEY, run_config=config))
    assert result.final_output == "well"
    assert "toolResult hi" in said(store)


def test_a_call_of_an_agent_that_is_a_tool_has_the_limits(practice: Practice, state: Path) -> None:
    async def test() -> None:
        async with agent_of(practice) as other:
            ask = other.as_tool(tool_name="ask", tool_description="asks another agent")
            async with agent_of(practice, ask) as agent:
                with pytest.raises(turnlock.LeaseRevoked) as raised:
                    text = '/tool ask {"input": "/hang please"}'
                    await run(agent, text, store=store, session=KEY)
        assert raised.value.reason == "model-limit"

    with turnlock.open_store(state, limits=turnlock.Limits(first_token=0.4, idle=0.4)) as store:
        asyncio.run(test())
        practice.wait_for_peer_close()


def test_a_model_that_is_only_named_is_guarded_too(
    practice: Practice, store: turnlock.Store
) -> None:
    async def test() -> None:
        async with openai.AsyncOpenAI(base_url=practice.url, api_key="any", timeout=None) as client:
            provider = agents.OpenAIProvider(openai_client=client, use_responses=False)
            config = agents.RunConfig(model="practice", model_provider=provider)
            agent = agents.Agent(name="Ada")
            result = await run(agent, "hello", store=store, session=KEY, run_config=config)
            assert result.final_output == "practice reply 1 to: hello"
            assert "Guarded" in type(client._client._transport).__name__

    asyncio.run(test())


@pytest.mark.parametrize("way", ["run", "run_streamed", "run_sync"])
def test_a_configuration_may_be_a_dictionary_as_the_sdk_has_it(
    practice: Practice, store: turnlock.Store, way: str
) -> None:
    client = openai.AsyncOpenAI(
        base_url=practice.url, api_key="any", default_headers={"Connection": "close"}
    )
    provider = agents.OpenAIProvider(openai_client=client, use_responses=False)
    config: dict[str, Any] = {"model": "practice", "model_provider": provider}
    agent = agents.Agent("Ada")

    async def whole(config: dict[str, Any]) -> Any:
        return await run(agent, "hello", store=store, session=KEY, run_config=config)

    async def streamed(config: dict[str, Any]) -> Any:
        async with run_streamed(
            agent, "hello", store=store, session=KEY, run_config=config
        ) as result:
            async for _ in result.stream_events():
                pass
        return result

    def in_thread(config: dict[str, Any]) -> Any:
        asyncio.set_event_loop(loop := asyncio.new_event_loop())
        try:
            return run_sync(agent, "hello", store=store, session=KEY, run_config=config)
        finally:
            loop.close()

    runs = {
        "run": lambda config: asyncio.run(whole(config)),
        "run_streamed": lambda config: asyncio.run(streamed(config)),
        "run_sync": in_thread,
    }
    assert runs[way](config).final_output == "practice reply 1 to: hello"
    assert "Guarded" in type(client._client._transport).__name__
    before = said(store)
    with pytest.raises(TypeError, match="modle"):
        runs[way]({"modle": "practice"})
    assert said(store) == before


def test_an_interrupted_run_goes_on_in_another_turn(
    practice: Practice, store: turnlock.Store
) -> None:
    @function_tool(needs_approval=True)
    async def delete(what: str) -> str:
        return f"deleted {what}"

    async def test() -> None:
        async with agent_of(practice, delete) as agent:
            asked = await run(agent, '/tool delete {"what": "it"}', store=store, session=KEY)
            (approval,) = asked.interruptions
            words = turns(said(store))
            assert words[0][-1] == "turnlock:end"
            state = asked.to_state()
            state.approve(approval)
            result = await run(agent, state, store=store, session=KEY)
            assert result.final_output == "practice reply 1 to: deleted it"
            await run(agent, "and on", store=store, session=KEY)

    asyncio.run(test())
    words = said(store)
    assert words.count("call delete") == 1
    assert words.count("toolResult deleted it") == 1
    assert len(turns(words)) == 3


@function_tool
async def read() -> str:
    return "read it"


@function_tool(needs_approval=True)
async def erase() -> str:
    return "erased it"


@agents.output_guardrail
async def well(*_: Any) -> agents.GuardrailFunctionOutput:
    return agents.GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


@pytest.mark.parametrize(
    "response",
    [
        [calls("c1", "erase")],
        [calls("c1", "read"), calls("c2", "erase")],
        [calls("c1", "erase"), calls("c2", "read"), calls("c3", "erase")],
    ],
    ids=["alone", "beside", "between"],
)
def test_an_interrupted_run_goes_on_in_its_own_turn(
    store: turnlock.Store, response: list[Any]
) -> None:
    """Each call is there once and has its own result, whichever of them were run before."""
    agent = agents.Agent("Ada", model=Scripted(response, [says("done")]), tools=[read, erase])

    async def test() -> list[Any]:
        async with store.turn(KEY) as turn:
            session = TurnSession(turn)
            hooks = TurnHooks(session)
            asked = await Runner.run(agent, "go", session=session, hooks=hooks)
            state = asked.to_state()
            for approval in asked.interruptions:
                state.approve(approval)
            result = await Runner.run(agent, state, session=session, hooks=hooks)
            assert result.final_output == "done"
            return cast("list[Any]", await session.get_items())

    items = asyncio.run(test())
    called = [item["call_id"] for item in items if item.get("type") == "function_call"]
    assert called == [call.call_id for call in response]
    results = {item["call_id"]: item["output"] for item in items if "output" in item}
    said_by = {"read": "read it", "erase": "erased it"}
    assert results == {call.call_id: said_by[call.name] for call in response}
    words = said(store)
    assert [word.partition(" ")[0] for word in words].count("call") == len(response)


@pytest.mark.parametrize("guarded", [False, True], ids=["", "guarded"])
@pytest.mark.parametrize("where", ["in a turn", "elsewhere"])
def test_a_run_that_goes_on_leaves_its_response_in_order(
    store: turnlock.Store, where: str, guarded: bool
) -> None:
    """The Responses API takes no call before the reasoning that led to it. Versions of the SDK hold
    a response back that waits for an approval, if what comes of it is for a guardrail to judge.
    """
    thought = ResponseReasoningItem(id="rs_1", type="reasoning", summary=[])
    model = Scripted([thought, calls("c1", "erase")], [says("done")])
    agent = agents.Agent("Ada", model=model, tools=[erase])
    if guarded:
        agent.output_guardrails, agent.tool_use_behavior = [well], "stop_on_first_tool"

    async def test() -> list[Any]:
        if where == "elsewhere":
            asked = await Runner.run(agent, [])
        else:
            asked = await run(agent, [], store=store, session=KEY)
        state = asked.to_state()
        state.approve(asked.interruptions[0])
        await run(agent, state, store=store, session=KEY)
        async with store.turn(KEY) as turn:
            return cast("list[Any]", await TurnSession(turn).get_items())

    kinds = [item["type"] for item in asyncio.run(test()) if "role" not in item]
    assert kinds == ["reasoning", "function_call", "function_call_output"]


def test_the_limit_of_the_settings_is_that_of_the_history(
    practice: Practice, store: turnlock.Store
) -> None:
    async def test() -> None:
        async with agent_of(practice) as agent:
            settings = agents.SessionSettings(limit=2)
            for count in (1, 2, 2):
                result = await run(
                    agent, "hello", store=store, session=KEY, session_settings=settings
                )
                assert result.final_output == f"practice reply {count} to: hello"
        async with store.turn(KEY) as turn:
            session = TurnSession(turn)
            assert len(await session.get_items()) == 6
            assert len(await session.get_items(limit=3)) == 3
            assert await session.get_items(limit=0) == []

    asyncio.run(test())


def test_it_is_a_session_of_the_sdk_which_hands_over_the_runs_context(
    store: turnlock.Store,
) -> None:
    with store.turn(KEY) as turn:
        session = TurnSession(turn)
    assert isinstance(session, agents.Session)
    assert session.session_id == KEY
    for method in (
        session.get_items,
        session.add_items,
        session.pop_item,
        session.clear_session,
    ):
        assert "wrapper" in inspect.signature(method).parameters


def test_without_a_turn_nothing_is_written_and_the_tool_is_not_called(
    practice: Practice, store: turnlock.Store
) -> None:
    """A fence before side effects: the turn was taken away while the model spoke."""
    called: list[str] = []

    @function_tool
    async def effect() -> str:
        called.append("effect")
        return "done"

    class Revoking(agents.RunHooks[Any]):
        async def on_llm_end(self, *_: Any) -> None:
            # As another process would: this one's turn does not hear of it.
            (lock,) = store.locks()
            os.unlink(lock.path)

    async def test() -> None:
        async with agent_of(practice, effect) as agent:
            with pytest.raises(turnlock.LeaseRevoked):
                await run(agent, "/tool effect", store=store, session=KEY, hooks=Revoking())

    asyncio.run(test())
    assert called == []
    assert "call effect" not in said(store)
