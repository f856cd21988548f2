"""Two turns on one session at the same time, with Turnlock: one after the other.

    python examples/openai_agents/with_turnlock.py

The second turn waits for the first. A third one hangs, and is ended at its limit; the session goes
on with a fourth.
"""

import asyncio
import tempfile

import openai
from agents import Agent, OpenAIChatCompletionsModel, function_tool, set_tracing_disabled

import turnlock
from turnlock.events import TurnQueued
from turnlock.integrations.openai_agents import run
from turnlock.practice import PracticeServer

KEY = "main/alice"
in_the_tool, second_waits = asyncio.Event(), asyncio.Event()


def note_who_waits(event: object) -> None:
    if isinstance(event, TurnQueued):
        second_waits.set()


@function_tool
async def look_up(order: int) -> str:
    in_the_tool.set()
    await second_waits.wait()
    return f"order {order} is on its way"


async def main() -> None:
    set_tracing_disabled(True)
    async with PracticeServer() as server:
        client = openai.AsyncOpenAI(base_url=server.url, api_key="any")
        model = OpenAIChatCompletionsModel("practice", client)
        agent = Agent(name="Ada", model=model, tools=[look_up])

        first = asyncio.create_task(
            run(agent, '/tool look_up {"order": 7}', store=store, session=KEY)
        )
        await in_the_tool.wait()
        await run(agent, "and what is the weather?", store=store, session=KEY)
        await first

        try:
            await run(agent, "/hang", store=store, session=KEY)
        except turnlock.LeaseRevoked as error:
            print(f"{error.reason}\n")
        await run(agent, "are you there?", store=store, session=KEY)

        for entry in store.read(KEY):
            print(in_a_line(entry))
        await client.close()


def in_a_line(entry: dict[str, object]) -> str:
    message = entry.get("message")
    if not isinstance(message, dict):
        data = entry["data"]
        reason = data.get("reason", "") if isinstance(data, dict) else ""
        return f"-- {entry['customType']} {reason}".rstrip()
    (part,) = message["content"]
    if part["type"] == "toolCall":
        return f"call       {part['name']}({part['arguments']})"
    role = "result" if message["role"] == "toolResult" else message["role"]
    return f"{role:10} {part['text']}"


with tempfile.TemporaryDirectory() as state:
    limits = turnlock.Limits(first_token=3.0)
    with turnlock.open_store(state, limits=limits) as store:
        store.subscribe(note_who_waits)
        asyncio.run(main())
