"""Models that a test scripts, strict as providers are, and one behind a real endpoint."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    RetryPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.helpers import PATIENCE
from turnlock.practice import PracticeServer, Statistics

Heard = list[list[str]]
Answer = Callable[[Sequence[ModelMessage]], "ModelResponse | Awaitable[ModelResponse]"]


def text(said: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(said)])


def call(name: str, identity: str, **arguments: Any) -> ModelResponse:
    return ModelResponse(parts=[ToolCallPart(name, arguments, tool_call_id=identity)])


def echo(messages: Sequence[ModelMessage]) -> ModelResponse:
    """Repeats the last thing that was said to it."""
    return text(f"re: {said(messages)[-1].partition(':')[2]}")


class Scripted:
    """A model that notes what it was sent, and refuses what a provider would refuse."""

    def __init__(self, *answers: Answer) -> None:
        self.heard: Heard = []
        self._answers = list(answers)
        self.model = FunctionModel(self._answer, stream_function=self._stream)

    async def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        check_acceptable(messages)
        self.heard.append(said(messages))
        answer = self._answers.pop(0) if self._answers else echo
        made = answer(messages)
        return await made if isinstance(made, Awaitable) else made

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        reply = await self._answer(messages, info)
        for part in reply.parts:
            assert isinstance(part, TextPart)
            for word in part.content.split(" "):
                yield f"{word} "


def said(messages: Sequence[ModelMessage]) -> list[str]:
    """``user:…``, ``model:…``, ``call:id``, ``result:id=…``, in order."""
    return [line for message in messages for part in message.parts if (line := _line(part))]


def _line(part: object) -> str:
    match part:
        case UserPromptPart(content=content):
            return f"user:{content}"
        case TextPart(content=content):
            return f"model:{content}"
        case ToolCallPart(tool_call_id=identity):
            return f"call:{identity}"
        case ToolReturnPart(tool_call_id=identity, content=content):
            return f"result:{identity}={content}"
    return ""


def check_acceptable(messages: Sequence[ModelMessage]) -> None:
    """As a strict provider has it: each call is answered at once and once, and nothing else is.

    The calls of the provider's own tools are answered in their reply; none ends with a thought.
    """
    unanswered: set[str] = set()
    for message in messages:
        assert message.parts, "an empty message"
        if isinstance(message, ModelResponse):
            assert not unanswered, f"calls without result: {unanswered}"
            assert not isinstance(message.parts[-1], ThinkingPart), "a thought is the end"
            assert _native(message, NativeToolCallPart) == _native(message, NativeToolReturnPart)
            calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
            unanswered = {part.tool_call_id for part in calls}
            continue
        for part in message.parts:
            answered = _answered(part)
            if answered is None:
                assert not unanswered, f"calls without result: {unanswered}"
            else:
                assert answered in unanswered, f"a result without call: {part}"
                unanswered.remove(answered)
    assert not unanswered, f"calls without result: {unanswered}"


def _native(reply: ModelResponse, kind: Any) -> set[str]:
    return {part.tool_call_id for part in reply.parts if isinstance(part, kind)}


def _answered(part: object) -> str | None:
    is_result = isinstance(part, ToolReturnPart)
    if isinstance(part, RetryPromptPart):
        is_result = part.tool_name is not None
    return getattr(part, "tool_call_id", None) if is_result else None


class Practice:
    """The practice model server, in a thread with a loop of its own."""

    def __init__(self, server: PracticeServer, loop: asyncio.AbstractEventLoop) -> None:
        self.url = server.url
        self._server = server
        self._loop = loop

    def model(self) -> OpenAIChatModel:
        provider = OpenAIProvider(base_url=self.url, api_key="none")
        return OpenAIChatModel("practice", provider=provider)

    def wait_for(
        self, condition: Callable[[Statistics], bool], patience: float = PATIENCE
    ) -> Statistics:
        waiting = asyncio.run_coroutine_threadsafe(self._server.wait_for(condition), self._loop)
        return waiting.result(patience)


@contextmanager
def practice() -> Iterator[Practice]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="practice")
    thread.start()
    server = PracticeServer(pulse=0.02)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(PATIENCE)
        yield Practice(server, loop)
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
