"""Processes that run agents on one session, die in the middle of it, or stand still."""

from __future__ import annotations

import asyncio
from pathlib import Path
from textwrap import dedent

import pytest
from pydantic_ai import Agent

import turnlock
from tests.helpers import child, kinds
from turnlock.integrations.pydantic_ai import TurnlockSession
from turnlock.transcript.entries import CUT_OFF

from .models import Practice, Scripted

# A process that imports agent frameworks takes seconds to start, and minutes on a busy machine.
pytestmark = pytest.mark.timeout(400)
START = 150.0
ALICE = "main/a"

AGENT = """
    import asyncio, threading
    import turnlock
    from pydantic_ai import Agent
    from tests.frameworks.pydantic_ai.models import Scripted, call, echo, text
    from turnlock.integrations.pydantic_ai import TurnlockSession

    store = turnlock.open_store(sys.argv[1])

    def agent_of(*answers, **limits):
        model = Scripted(*answers).model
        return Agent(model, capabilities=[TurnlockSession(store, "main/a", **limits)])
"""


def program(code: str) -> str:
    return dedent(AGENT) + dedent(code)


def ask(store: turnlock.Store, prompt: str) -> list[str]:
    """A run in this process; what its model was told."""
    model = Scripted()
    session = TurnlockSession[None](store, ALICE, wait=START)
    asyncio.run(Agent(model.model, capabilities=[session]).run(prompt))
    return model.heard[0]


def test_a_process_that_is_killed_in_a_call_leaves_what_the_user_said(
    state: Path, store: turnlock.Store, server: Practice
) -> None:
    code = """
        import turnlock
        from pydantic_ai import Agent
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider
        from turnlock.integrations.pydantic_ai import TurnlockSession

        model = OpenAIChatModel("m", provider=OpenAIProvider(base_url=sys.argv[2], api_key="k"))
        session = TurnlockSession(turnlock.open_store(sys.argv[1]), "main/a")
        Agent(model, capabilities=[session]).run_sync("/hang")
    """
    with child(code, state, server.url) as process:
        server.wait_for(lambda seen: seen.requests == 1, START)
        process.kill()
    assert ask(store, "next") == ["user:/hang", "user:next"]
    assert kinds(store) == [
        *("turn", "user:/hang", "interrupted"),
        *("turn", "user:next", "assistant:re: next", "end"),
    ]


def test_a_process_that_is_killed_in_a_tool_leaves_its_call_with_a_result(
    state: Path, store: turnlock.Store
) -> None:
    code = """
        agent = agent_of(lambda _: call("hang", "c1"))

        @agent.tool_plain
        async def hang() -> str:
            print("in the tool", flush=True)
            await asyncio.Event().wait()

        asyncio.run(agent.run("use it"))
    """
    with child(program(code), state) as process:
        process.expect("in the tool", START)
        process.kill()
    assert ask(store, "next") == ["user:use it", "call:c1", f"result:c1={CUT_OFF}", "user:next"]


def test_two_processes_have_one_history(state: Path, store: turnlock.Store) -> None:
    """Each run is told of all that were before it, whoever's they are; no turn is torn."""
    code = """
        agent = agent_of(wait=None)
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(4):
            asyncio.run(agent.run(f"{sys.argv[2]}{number}"))
    """
    with child(program(code), state, "a") as one, child(program(code), state, "b") as two:
        for process in (one, two):
            process.expect("ready", START)
        for process in (one, two):
            process.tell()
        assert one.process.wait(START) == two.process.wait(START) == 0
    told = kinds(store)
    prompts = [kind.removeprefix("user:") for kind in told if kind.startswith("user:")]
    assert told == [
        kind
        for prompt in prompts
        for kind in ("turn", f"user:{prompt}", f"assistant:re: {prompt}", "end")
    ]
    for name in "ab":
        mine = [prompt for prompt in prompts if prompt[0] == name]
        assert mine == [f"{name}{number}" for number in range(4)]
    heard = ask(store, "next")
    assert [line for line in heard if line.startswith("user:")] == [
        *(f"user:{prompt}" for prompt in prompts),
        "user:next",
    ]


def test_what_a_stopped_process_says_when_it_wakes_is_refused(
    state: Path, store: turnlock.Store
) -> None:
    code = """
        def slowly(messages):
            print("asked", flush=True)
            sys.stdin.readline()
            return text("too late")

        try:
            asyncio.run(agent_of(slowly).run("hello"))
        except turnlock.LeaseRevoked as error:
            print("revoked", flush=True)
    """
    with child(program(code), state) as process:
        process.expect("asked", START)
        process.stop()
        assert store.revoke(ALICE)
        assert ask(store, "next") == ["user:hello", "user:next"]
        process.tell()
        process.go_on()
        process.expect("revoked", START)
    assert kinds(store) == [
        *("turn", "user:hello", "operator"),
        *("turn", "user:next", "assistant:re: next", "end"),
    ]
