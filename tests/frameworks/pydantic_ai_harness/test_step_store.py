"""Steps in a session: as the harness's own store keeps them, fenced and durable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.tools import RunContext
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    InMemoryStepStore,
    RunRecord,
    StepEvent,
    StepPersistence,
    StepStore,
    ToolEffectRecord,
    annotate_tool_effect,
    continue_run,
)

import turnlock
from tests.helpers import child
from turnlock.integrations.pydantic_ai import TurnlockSession
from turnlock.integrations.pydantic_ai_harness import MESSAGE, STEP, NotInTurn, TurnlockStepStore

ALICE = "main/a"
START = 150.0


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(state: Path) -> Iterator[turnlock.Store]:
    with turnlock.open_store(state) as store:
        yield store


IMAGE = BinaryContent(b"\x89PNG\0\xff", media_type="image/png")
# Read back once: their own form makes an image of bytes that are one.
[ASKED] = ModelMessagesTypeAdapter.validate_json(
    ModelMessagesTypeAdapter.dump_json([ModelRequest(parts=[UserPromptPart(["look", IMAGE])])])
)
SAID = ModelResponse(parts=[TextPart("hm")])
CALLED = ModelResponse(parts=[ToolCallPart("look", {"at": None}, tool_call_id="c1")])


def snapshot(run_id: str, messages: list[ModelMessage], **fields: Any) -> ContinuableSnapshot:
    return ContinuableSnapshot(run_id=run_id, step_index=1, messages=messages, **fields)


def effect(call: str, **fields: Any) -> ToolEffectRecord:
    return ToolEffectRecord(tool_call_id=call, tool_name="look", run_id="r1", **fields)


RUNS = [
    RunRecord(run_id="r2", conversation_id="x", metadata={"a": "b"}),
    RunRecord(run_id="r1", conversation_id="x", parent_run_id="r2"),
    RunRecord(run_id="r1", conversation_id="y", parent_run_id="r2", agent_name="again"),
]
EVENTS = [
    StepEvent(run_id="r1", kind="run_started", step_index=0, idempotency_key="1"),
    StepEvent(run_id="r1", kind="run_started", step_index=0, idempotency_key="1"),
    StepEvent(run_id="r2", kind="run_started", step_index=0, idempotency_key="1"),
    StepEvent(run_id="r1", kind="tool_call_failed", step_index=1, error="no", tool_call_id="c"),
    StepEvent(run_id="r1", kind="tool_call_failed", step_index=1, error="no", tool_call_id="c"),
]
SNAPSHOTS = [
    snapshot("r1", [ASKED], idempotency_key="1:1:complete"),
    snapshot("r1", [ASKED, SAID], idempotency_key="2:1:complete"),
    snapshot("r1", [ASKED], idempotency_key="1:1:complete"),
    snapshot("r1", [ASKED], idempotency_key="1:2:complete"),
    snapshot("r2", [ASKED, CALLED], state="interrupted"),
    snapshot("r1", [ASKED, SAID, ASKED, CALLED], state="interrupted"),
]
EFFECTS = [
    effect("c1", status="started", idempotency_key="k1"),
    effect("c2", status="started"),
    effect("c3", status="started"),
    effect("c1", status="completed", idempotency_key="k1", effect_summary="sent"),
    effect("c3", status="failed"),
]


async def fill(steps: StepStore) -> None:
    for run in RUNS:
        await steps.register_run(run)
    for event in EVENTS:
        await steps.append_event(event)
    for one in SNAPSHOTS:
        await steps.save_snapshot(one)
    for record in EFFECTS:
        await steps.record_tool_effect(record)


READ: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "run": lambda steps: steps.get_run(run_id="r1"),
    "no run": lambda steps: steps.get_run(run_id="r9"),
    "runs": lambda steps: steps.list_runs(),
    "runs of a parent": lambda steps: steps.list_runs(parent_run_id="r2"),
    "runs of a conversation": lambda steps: steps.list_runs(conversation_id="x"),
    "events": lambda steps: steps.list_events(run_id="r1"),
    "no events": lambda steps: steps.list_events(run_id="r9"),
    "snapshot": lambda steps: steps.latest_snapshot(run_id="r1"),
    "interrupted": lambda steps: steps.latest_snapshot(run_id="r1", include_interrupted=True),
    "none that is complete": lambda steps: steps.latest_snapshot(run_id="r2"),
    "snapshots": lambda steps: steps.list_snapshots(run_id="r1"),
    "effect": lambda steps: steps.get_tool_effect(run_id="r1", tool_call_id="c1"),
    "effect that began": lambda steps: steps.get_tool_effect(run_id="r1", tool_call_id="c2"),
    "no effect": lambda steps: steps.get_tool_effect(run_id="r2", tool_call_id="c1"),
    "unresolved": lambda steps: steps.list_unresolved_tool_effects(run_id="r1"),
}


@pytest.mark.parametrize("what", READ)
def test_what_is_recorded_is_what_the_harness_own_store_would_give(
    state: Path, store: turnlock.Store, what: str
) -> None:
    """Also to another store on the same session."""

    async def main() -> None:
        memory, mine = InMemoryStepStore(), TurnlockStepStore(store, ALICE)
        assert isinstance(mine, StepStore)
        await fill(memory)
        async with store.turn(ALICE):
            await fill(mine)
        expected = await READ[what](memory)
        assert await READ[what](mine) == expected
        with turnlock.open_store(state) as other:
            assert await READ[what](TurnlockStepStore(other, ALICE)) == expected

    asyncio.run(main())


def test_a_message_is_there_once_however_many_snapshots_have_it(store: turnlock.Store) -> None:
    async def main() -> None:
        steps = TurnlockStepStore(store, ALICE)
        async with store.turn(ALICE):
            for number in range(5):
                await steps.save_snapshot(snapshot("r1", [ASKED] * number))

    asyncio.run(main())
    kinds = [entry.get("customType") for entry in store.read(ALICE)]
    assert kinds.count(STEP) == 5
    assert kinds.count(MESSAGE) == 1


def test_steps_are_nothing_to_a_model(store: turnlock.Store) -> None:
    async def main() -> None:
        async with store.turn(ALICE) as turn:
            await fill(TurnlockStepStore(store, ALICE))
            assert await turn.messages() == []

    asyncio.run(main())


def test_a_step_outside_of_a_turn_is_refused(store: turnlock.Store) -> None:
    async def main() -> None:
        steps = TurnlockStepStore(store, ALICE)
        with pytest.raises(NotInTurn, match="TurnlockSession"):
            await steps.append_event(EVENTS[0])
        async with store.turn("main/b"):
            with pytest.raises(NotInTurn):
                await steps.append_event(EVENTS[0])

    asyncio.run(main())
    for key in (ALICE, "main/b"):
        assert all(entry.get("customType") != STEP for entry in store.read(key))


def test_a_step_of_a_turn_that_lost_its_session_is_refused(store: turnlock.Store) -> None:
    async def main() -> None:
        steps = TurnlockStepStore(store, ALICE)
        async with store.turn(ALICE):
            await steps.append_event(EVENTS[0])
            await asyncio.to_thread(store.revoke, ALICE)
            await steps.append_event(EVENTS[2])

    with pytest.raises(turnlock.LeaseRevoked):
        asyncio.run(main())
    kinds = [entry.get("customType") for entry in store.read(ALICE)]
    assert kinds.count(STEP) == 1


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    if isinstance(messages[-1].parts[-1], UserPromptPart):
        return ModelResponse(parts=[ToolCallPart("send", {}, tool_call_id="c1")])
    return ModelResponse(parts=[TextPart("sent")])


def test_a_run_is_recorded_by_the_real_step_persistence(store: turnlock.Store) -> None:
    """With the idempotency key that a tool gave to its effect, and a history to go on from."""
    steps = TurnlockStepStore(store, ALICE)

    def agent() -> Agent[None, str]:
        capabilities: Any = [TurnlockSession(store, ALICE), StepPersistence(store=steps)]
        return Agent(FunctionModel(answer), capabilities=capabilities)

    recorded = agent()

    @recorded.tool
    async def send(ctx: RunContext[None]) -> str:
        await annotate_tool_effect(steps, ctx, idempotency_key="mail-1", effect_summary="a mail")
        return "done"

    async def main() -> None:
        result = await recorded.run("send it")
        [run] = await steps.list_runs()
        kinds = [event.kind for event in await steps.list_events(run_id=run.run_id)]
        assert kinds[0] == "run_started"
        assert kinds[-1] == "run_completed"
        assert kinds.count("tool_call_completed") == 1
        done = await steps.get_tool_effect(run_id=run.run_id, tool_call_id="c1")
        assert done is not None
        assert (done.status, done.idempotency_key) == ("completed", "mail-1")
        history = await continue_run(steps, run_id=run.run_id)
        assert len(history) == len(result.all_messages())

    asyncio.run(main())


def test_a_run_that_fails_is_recorded_as_such_and_fails_by_its_own_error(
    store: turnlock.Store,
) -> None:
    def fail(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise RuntimeError("ill")

    async def main() -> None:
        steps = TurnlockStepStore(store, ALICE)
        capabilities: Any = [TurnlockSession(store, ALICE), StepPersistence(store=steps)]
        agent = Agent(FunctionModel(fail), capabilities=capabilities)
        with pytest.raises(RuntimeError, match="ill"):
            await agent.run("hello")
        [run] = await steps.list_runs()
        kinds = [event.kind for event in await steps.list_events(run_id=run.run_id)]
        assert kinds[-1] == "run_failed"

    asyncio.run(main())


KILLED = """
    import asyncio
    import turnlock
    from pydantic_ai import Agent
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai_harness.step_persistence import StepPersistence
    from tests.frameworks.pydantic_ai_harness.test_step_store import answer
    from turnlock.integrations.pydantic_ai import TurnlockSession
    from turnlock.integrations.pydantic_ai_harness import TurnlockStepStore

    store = turnlock.open_store(sys.argv[1])
    steps = TurnlockStepStore(store, "main/a")
    capabilities = [TurnlockSession(store, "main/a"), StepPersistence(store=steps)]
    agent = Agent(FunctionModel(answer), capabilities=capabilities)

    @agent.tool_plain
    async def send() -> str:
        print("sending", flush=True)
        await asyncio.Event().wait()

    asyncio.run(agent.run("send it"))
"""


@pytest.mark.timeout(400)
def test_what_a_killed_process_was_at_is_there_to_be_found(
    state: Path, store: turnlock.Store
) -> None:
    """The user's message is not lost, and the call that may have had effects is named."""
    with child(KILLED, state) as process:
        process.expect("sending", START)
        process.kill()

    async def main() -> None:
        steps = TurnlockStepStore(store, ALICE)
        [run] = await steps.list_runs()
        [open_call] = await steps.list_unresolved_tool_effects(run_id=run.run_id)
        assert (open_call.tool_call_id, open_call.tool_name) == ("c1", "send")
        async with store.turn(ALICE) as turn:
            assert [message["role"] for message in await turn.messages()] == [
                *("user", "assistant", "tool")
            ]

    asyncio.run(main())
