"""Real processes on one session: who waits, who dies, and what the others find."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.helpers import LONG_PATIENCE, child

from .conftest import KEY, Practice, said, turns

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

# Runs the texts of the lines that it is sent, one after the other, each as a turn.
PROGRAM = """
import asyncio, agents, openai, turnlock
from turnlock.integrations.openai_agents import run, run_streamed, run_sync

agents.set_tracing_disabled(True)
url, state, way, api = sys.argv[1:]
models = {"chat": agents.OpenAIChatCompletionsModel, "responses": agents.OpenAIResponsesModel}
client = openai.AsyncOpenAI(base_url=url, api_key="any", timeout=None)

@agents.function_tool
async def wait() -> str:
    print("in the tool")
    await asyncio.Event().wait()

agent = agents.Agent(name="Ada", model=models[api]("practice", client), tools=[wait])

async def streamed(text, **options):
    async with run_streamed(agent, text, **options) as result:
        async for _ in result.stream_events():
            pass
    return result

async def main(text):
    running = streamed(text, **options) if way == "streamed" else run(agent, text, **options)
    return await running

with turnlock.open_store(state) as store:
    options = {"store": store, "session": "main/alice"}
    print("ready")
    for line in sys.stdin:
        text = line.strip()
        if way == "sync":
            result = run_sync(agent, text, **options)
        else:
            result = asyncio.run(main(text))
        print(result.final_output)
"""
WAYS = pytest.mark.parametrize("way", ["whole", "streamed", "sync"])


@contextmanager
def program(practice: Practice, state: Path, way: str = "whole", api: str = "chat") -> Any:
    with child(PROGRAM, practice.url, state, way, api) as process:
        # The SDK takes its time to be imported.
        process.expect("ready", LONG_PATIENCE)
        yield process


@WAYS
def test_two_processes_take_turns_and_each_turn_is_contiguous(
    practice: Practice, store: turnlock.Store, state: Path, way: str
) -> None:
    with program(practice, state, way) as first, program(practice, state, way) as second:
        first.tell("/slow 1 first")
        practice.wait_for_requests(1)
        second.tell("second")
        first.expect("practice reply 1 to: /slow 1 first", LONG_PATIENCE)
        second.expect("practice reply 2 to: second", LONG_PATIENCE)
    assert turns(said(store)) == [
        ["user /slow 1 first", "assistant practice reply 1 to: /slow 1 first", "turnlock:end"],
        ["user second", "assistant practice reply 2 to: second", "turnlock:end"],
    ]


@pytest.mark.parametrize(
    ("way", "api", "fault"),
    [
        ("whole", "chat", "/hang"),
        ("whole", "responses", "/hang"),
        ("streamed", "chat", "/stall"),
        ("streamed", "responses", "/stall"),
        ("sync", "chat", "/hang"),
    ],
)
def test_what_a_killed_process_was_asked_is_there_once_and_the_next_turn_runs(
    practice: Practice, store: turnlock.Store, state: Path, way: str, api: str, fault: str
) -> None:
    with program(practice, state, way, api) as first, program(practice, state) as second:
        first.tell(f"{fault} please")
        practice.wait_for_requests(1)
        first.kill()
        second.tell("and on")
        second.expect("practice reply 2 to: and on", LONG_PATIENCE)
    assert turns(said(store)) == [
        [f"user {fault} please", "marker interrupted"],
        ["user and on", "assistant practice reply 2 to: and on", "turnlock:end"],
    ]


def test_a_process_killed_in_a_tool_leaves_the_call_and_a_result_that_says_so(
    practice: Practice, store: turnlock.Store, state: Path
) -> None:
    """The practice model refuses a history in which a call has no result."""
    with program(practice, state) as first, program(practice, state) as second:
        first.tell("/tool wait")
        first.expect("in the tool", LONG_PATIENCE)
        first.kill()
        second.tell("and on")
        second.expect("practice reply 2 to: and on", LONG_PATIENCE)
    killed, after = turns(said(store))
    assert killed[:2] == ["user /tool wait", "call wait"]
    assert killed[2].startswith("toolResult (There is no result")
    assert killed[3:] == ["marker interrupted"]
    assert after[-1] == "turnlock:end"


def test_a_run_whose_session_another_process_took_writes_nothing(
    practice: Practice, store: turnlock.Store, state: Path
) -> None:
    with program(practice, state) as process:
        process.tell("/slow 2 first")
        practice.wait_for_requests(1)
        assert store.revoke(KEY)
        assert process.process.wait(LONG_PATIENCE) == 1
        assert "LeaseRevoked" in process.process.stderr.read().decode()
    assert turns(said(store)) == [["user /slow 2 first", "marker operator"]]
