"""The same two messages, each run a turn: both are there, one after the other.

pip install 'turnlock[langgraph,models]'; python examples/langgraph/with_turnlock.py
"""

import asyncio
import tempfile

from langgraph.checkpoint.memory import InMemorySaver
from without import THREAD, agent

import turnlock
from turnlock.integrations.langgraph import with_turns
from turnlock.practice import PracticeServer


async def main(state: str) -> None:
    async with PracticeServer() as server:
        store = turnlock.open_store(state)
        graph = with_turns(agent(server.url).compile(checkpointer=InMemorySaver()), store)
        report = {"messages": [("user", "/slow 3 write the report")]}
        slow = asyncio.create_task(graph.ainvoke(report, THREAD))
        await server.wait_for(lambda seen: seen.requests == 1)
        await graph.ainvoke({"messages": [("user", "book a table for two")]}, THREAD)
        await slow
        for message in (await graph.aget_state(THREAD)).values["messages"]:
            print(f"{message.type:>5}: {message.content}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(directory))
