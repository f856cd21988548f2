"""Tools, and the format of OpenAI's responses, through OpenAI's own client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from turnlock.practice import PracticeServer

from .raw import run

CALL = '/tool look {"at": "it"}'
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@asynccontextmanager
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        PracticeServer() as server,
        openai.AsyncOpenAI(base_url=server.url, api_key="any", max_retries=0) as made,
    ):
        yield made


async def completed(chat: openai.AsyncOpenAI, stream: bool, messages: Any) -> Any:
    """The message of a chat completion, put together by the SDK where it is streamed."""
    if not stream:
        whole = await chat.chat.completions.create(model="practice", messages=messages)
        return whole.choices[0].message
    async with chat.chat.completions.stream(model="practice", messages=messages) as events:
        return (await events.get_final_completion()).choices[0].message


async def responded(api: openai.AsyncOpenAI, stream: bool, items: Any) -> Any:
    if not stream:
        return await api.responses.create(model="practice", input=items)
    async with api.responses.stream(model="practice", input=items) as events:
        return await events.get_final_response()


@STREAM
def test_a_tool_is_called_and_its_result_is_what_is_answered(stream: bool) -> None:
    async def test() -> None:
        async with client() as api:
            asked: list[Any] = [{"role": "user", "content": CALL}]
            message = await completed(api, stream, asked)
            (call,) = message.tool_calls
            assert (call.function.name, call.function.arguments) == ("look", '{"at": "it"}')
            result = {"role": "tool", "tool_call_id": call.id, "content": "seen"}
            call_sent = {"role": "assistant", "tool_calls": [call.model_dump()]}
            answer = await completed(api, stream, [*asked, call_sent, result])
            assert answer.content == "practice reply 1 to: seen"

    run(test())


@STREAM
def test_responses_are_those_of_chat_completions_in_another_form(stream: bool) -> None:
    async def test() -> None:
        async with client() as api:
            assert (await responded(api, stream, "hello")).output_text == (
                "practice reply 1 to: hello"
            )
            asked: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": CALL}]}]
            response = await responded(api, stream, asked)
            (call,) = response.output
            assert (call.type, call.name, call.arguments) == (
                "function_call",
                "look",
                '{"at": "it"}',
            )
            result = {"type": "function_call_output", "call_id": call.call_id, "output": "seen"}
            answer = await responded(api, stream, [*asked, call.model_dump(), result])
            assert answer.output_text == "practice reply 1 to: seen"
            assert answer.usage.input_tokens > 0

    run(test())


def test_a_call_without_result_is_refused_in_both_formats() -> None:
    function = {"name": "look", "arguments": "{}"}
    call = {"id": "c", "type": "function", "function": function}
    items = {"type": "function_call", "call_id": "c", **function}
    user = {"role": "user", "content": "hello"}
    result = {"role": "tool", "tool_call_id": "c", "content": "seen"}
    output = {"type": "function_call_output", "call_id": "c", "output": "seen"}

    async def test() -> None:
        async with client() as api:
            called = {"role": "assistant", "tool_calls": [call]}
            for messages in ([user, called], [user, called, user, result], [user, result]):
                with pytest.raises(openai.BadRequestError):
                    await completed(api, False, messages)
            for sent in ([user, items], [user, output]):
                with pytest.raises(openai.BadRequestError):
                    await responded(api, False, sent)

    run(test())


def test_a_fault_is_a_fault_in_both_formats() -> None:
    async def test() -> None:
        async with client() as api:
            with pytest.raises(openai.RateLimitError):
                await responded(api, True, "/429")
            with pytest.raises(openai.BadRequestError, match="input"):
                await responded(api, False, [])

    run(test())
