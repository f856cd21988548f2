"""Two turns on one session at the same time, with the SDK's own session: they are mixed.

    python examples/openai_agents/without.py

The first turn's tool takes its time; meanwhile the second runs from its question to its answer.
"""

import asyncio

import openai
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)

from turnlock.practice import PracticeServer

in_the_tool, second_is_through = asyncio.Event(), asyncio.Event()


@function_tool
async def look_up(order: int) -> str:
    in_the_tool.set()
    await second_is_through.wait()
    return f"order {order} is on its way"


async def main() -> None:
    set_tracing_disabled(True)
    async with PracticeServer() as server:
        client = openai.AsyncOpenAI(base_url=server.url, api_key="any")
        model = OpenAIChatCompletionsModel("practice", client)
        agent = Agent(name="Ada", model=model, tools=[look_up])
        session = SQLiteSession("alice")

        first = asyncio.create_task(
            Runner.run(agent, '/tool look_up {"order": 7}', session=session)
        )
        await in_the_tool.wait()
        await Runner.run(agent, "and what is the weather?", session=session)
        second_is_through.set()
        await first

        for item in await session.get_items():
            print(in_a_line(dict(item)))
        await client.close()


def in_a_line(item: dict[str, object]) -> str:
    if item.get("type") == "function_call":
        return f"call       {item['name']}({item['arguments']})"
    if item.get("type") == "function_call_output":
        return f"result     {item['output']}"
    content = item["content"]
    text = content if isinstance(content, str) else content[0]["text"]  # type: ignore[index]
    return f"{item['role']:10} {text}"


asyncio.run(main())
