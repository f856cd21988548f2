"""A practice model in a thread of its own, so that threads and other processes can ask it too."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import agents
import openai
import pytest
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

import turnlock
from tests.helpers import LONG_PATIENCE, PATIENCE
from turnlock.practice import PracticeServer, Statistics

agents.set_tracing_disabled(True)

MODELS: dict[str, Any] = {
    "chat": agents.OpenAIChatCompletionsModel,
    "responses": agents.OpenAIResponsesModel,
}
KEY = "main/alice"


class Practice:
    """A practice server that runs; its statistics may be waited for from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: PracticeServer) -> None:
        self._loop = loop
        self._server = server
        self.url = server.url

    def wait_for(self, condition: Callable[[Statistics], bool]) -> Statistics:
        waiting = asyncio.run_coroutine_threadsafe(self._server.wait_for(condition), self._loop)
        # It may be a process that has yet to begin.
        return waiting.result(LONG_PATIENCE)

    def wait_for_requests(self, count: int) -> None:
        self.wait_for(lambda seen: seen.requests >= count)

    def wait_for_peer_close(self) -> None:
        """The client of a call that was not answered to its end has gone."""
        self.wait_for(lambda seen: len(seen.peer_closes) > 0)

    @property
    def requests(self) -> int:
        return self._server.statistics().requests


@pytest.fixture
def practice() -> Iterator[Practice]:
    made: list[Practice] = []
    started, over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with PracticeServer(pulse=0.02) as server:
            made.append(Practice(asyncio.get_running_loop(), server))
            started.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(PATIENCE)
    yield made[0]
    made[0]._loop.call_soon_threadsafe(over.set)
    thread.join(PATIENCE)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(state: Path) -> Iterator[turnlock.Store]:
    with turnlock.open_store(state) as store:
        yield store


@asynccontextmanager
async def agent_of(
    practice: Practice, *tools: Any, api: str = "chat", **more: Any
) -> AsyncIterator[agents.Agent[Any]]:
    """An agent of the practice model, whose client nobody has guarded."""
    async with openai.AsyncOpenAI(base_url=practice.url, api_key="any", timeout=None) as client:
        yield agents.Agent(
            name="Ada", model=MODELS[api]("practice", client), tools=list(tools), **more
        )


def said(store: turnlock.Store, key: str = KEY) -> list[str]:
    """What the transcript says, each entry in a word or two."""
    return [_in_words(entry) for entry in store.read(key)]


def _in_words(entry: dict[str, Any]) -> str:
    if entry["type"] != "message":
        reason = entry.get("data", {}).get("reason")
        name = str(entry.get("customType", entry["type"]))
        return f"marker {reason}" if name.endswith("prompt-error") else name
    message = entry["message"]
    parts = message["content"]
    if parts and parts[0]["type"] == "toolCall":
        return f"call {parts[0]['name']}"
    return f"{message['role']} {''.join(part.get('text', '') for part in parts)}"


def turns(words: list[str]) -> list[list[str]]:
    """The words of each turn, without its opening."""
    made: list[list[str]] = []
    for word in words:
        if word == "turnlock:turn":
            made.append([])
        else:
            made[-1].append(word)
    return made


class Scripted(agents.Model):
    """A model that gives these responses, one after the other. ``inputs``: what it was asked."""

    def __init__(self, *responses: Sequence[Any]) -> None:
        self._responses = list(responses)
        self.inputs: list[Any] = []

    async def get_response(
        self, system_instructions: Any, input: Any, *_: Any, **__: Any
    ) -> agents.ModelResponse:
        self.inputs.append(input)
        output = list(self._responses.pop(0))
        return agents.ModelResponse(output=output, usage=agents.Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def says(text: str) -> ResponseOutputMessage:
    part = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(
        id="m1", type="message", role="assistant", status="completed", content=[part]
    )


def calls(call_id: str, name: str, **arguments: str) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        type="function_call", call_id=call_id, name=name, arguments=json.dumps(arguments)
    )
