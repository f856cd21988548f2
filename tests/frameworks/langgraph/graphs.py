"""Graphs for tests, their models, and a provider's view of what these are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ToolMessage,
    convert_to_openai_messages,
)
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import Field

T = TypeVar("T")
Reply = Callable[[list[BaseMessage]], AIMessage]
Graph = CompiledStateGraph[Any, Any, Any, Any]
# Of the fixture for all tests of the folder.
runner: list[asyncio.Runner] = []
ALICE: RunnableConfig = {"configurable": {"thread_id": "alice"}}


class Scripted(BaseChatModel):
    """A model that answers as a test says, and knows what it was sent."""

    reply: Reply
    sent: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.sent.append(list(messages))
        return ChatResult(generations=[ChatGeneration(message=self.reply(messages))])


def echo(messages: list[BaseMessage]) -> AIMessage:
    return AIMessage(f"reply to {messages[-1].content}")


def calling(*tools: str) -> Reply:
    """Calls these tools, all at once, for each message of the user; then says so."""

    def reply(messages: list[BaseMessage]) -> AIMessage:
        if isinstance(messages[-1], ToolMessage):
            return AIMessage("done")
        calls = [
            {"name": tool, "args": {}, "id": f"call-{len(messages)}-{place}"}
            for place, tool in enumerate(tools)
        ]
        return AIMessage("", tool_calls=calls)

    return reply


def chat(model: Any, tools: list[Any] | None = None, **options: Any) -> Graph:
    """The usual agent: a model, and tools when it has some. Runs in threads and in tasks."""

    def speak(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    async def aspeak(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", RunnableLambda(speak, aspeak))
    builder.add_edge(START, "model")
    if tools:
        builder.add_node("tools", ToolNode(tools))
        builder.add_conditional_edges("model", tools_condition)
        builder.add_edge("tools", "model")
    return builder.compile(**options)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it in the loop that all tests share."""
    return runner[0].run(coroutine)


def say(text: str) -> dict[str, Any]:
    return {"messages": [("user", text)]}


def texts(state: Any) -> list[str]:
    """The texts of the messages in a state, or in the snapshot of one."""
    values = state if isinstance(state, dict) else state.values
    return [str(message.content) for message in values.get("messages", [])]


def accepted(messages: list[BaseMessage]) -> bool:
    """Whether a strict provider takes these: each call is followed at once by its one result."""
    waiting: set[str] = set()
    for message in convert_to_openai_messages(messages):
        assert isinstance(message, dict)
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return False
            waiting.remove(message["tool_call_id"])
            continue
        if waiting or not (message.get("content") or message.get("tool_calls")):
            return False
        waiting = {call["id"] for call in message.get("tool_calls", [])}
    return not waiting
