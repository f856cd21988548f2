"""Two messages in one thread at the same time, with LangGraph alone: one finished turn vanishes.

pip install 'turnlock[langgraph,models]'; python examples/langgraph/without.py
"""

import asyncio
from typing import Any

import openai
from langchain_core.messages import convert_to_openai_messages
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from turnlock.practice import PracticeServer

THREAD: RunnableConfig = {"configurable": {"thread_id": "alice"}}


def agent(url: str) -> Any:
    client = openai.AsyncOpenAI(base_url=url, api_key="any")

    async def model(state: MessagesState) -> Any:
        said: Any = convert_to_openai_messages(state["messages"])
        answer = await client.chat.completions.create(model="practice", messages=said)
        return {"messages": [("assistant", answer.choices[0].message.content)]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_edge(START, "model")
    return builder


async def main() -> None:
    async with PracticeServer() as server:
        graph = agent(server.url).compile(checkpointer=InMemorySaver())
        report = {"messages": [("user", "/slow 3 write the report")]}
        slow = asyncio.create_task(graph.ainvoke(report, THREAD))
        # While the model writes, the user says something else in the same conversation.
        await server.wait_for(lambda seen: seen.requests == 1)
        await graph.ainvoke({"messages": [("user", "book a table for two")]}, THREAD)
        await slow
        for message in (await graph.aget_state(THREAD)).values["messages"]:
            print(f"{message.type:>5}: {message.content}")


if __name__ == "__main__":
    asyncio.run(main())
