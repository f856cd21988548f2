"""A model of ADK that says what a test tells it, and verbs for runs with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.events.event import Event
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.genai import types

import turnlock
from turnlock.integrations.google_adk import TurnlockSessionService

APP, USER, SESSION = "weather", "alice", "s1"
KEY = "weather/alice:s1"
NAME: dict[str, Any] = {"app_name": APP, "user_id": USER, "session_id": SESSION}

Script = Callable[[LlmRequest], AsyncIterator[LlmResponse]]


class Scripted(BaseLlm):
    model: str = "scripted"
    script: Any

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        async for response in self.script(llm_request):
            yield response


def says(text: str, **given: Any) -> LlmResponse:
    return LlmResponse(content=types.Content(role="model", parts=[types.Part(text=text)]), **given)


def calls(*names: str) -> LlmResponse:
    parts = [types.Part(function_call=types.FunctionCall(name=name, args={})) for name in names]
    return LlmResponse(content=types.Content(role="model", parts=parts))


def asked(request: LlmRequest) -> str:
    """The text of the last message that a user wrote."""
    return said(request)[-1].partition(":")[2]


def said(request: LlmRequest) -> list[str]:
    """What a request shows the model: ``role:text``, ``call:name``, ``result:name``."""
    shown = []
    for content in request.contents:
        for part in content.parts or []:
            if part.function_call:
                shown.append(f"call:{part.function_call.name}")
            elif part.function_response:
                shown.append(f"result:{part.function_response.name}")
            else:
                shown.append(f"{content.role}:{part.text}")
    return shown


async def answering(request: LlmRequest) -> AsyncIterator[LlmResponse]:
    yield says(f"re {asked(request)}")


def user_says(text: str) -> types.Content:
    return types.Content(role="user", parts=[types.Part(text=text)])


def runner_of(
    store: turnlock.Store,
    script: Script = answering,
    tools: Sequence[Any] = (),
    **limits: Any,
) -> Runner:
    agent = LlmAgent(name="root", model=Scripted(script=script), tools=list(tools))
    service = TurnlockSessionService(store, **limits)
    return Runner(app_name=APP, agent=agent, session_service=service, auto_create_session=True)


def run(runner: Runner, text: str, **given: Any) -> AsyncGenerator[Event, None]:
    return runner.run_async(user_id=USER, session_id=SESSION, new_message=user_says(text), **given)


async def ask(runner: Runner, text: str, **given: Any) -> list[str]:
    """The texts that a run gives."""
    return [event_text(event) async for event in run(runner, text, **given)]


def event_text(event: Event) -> str:
    parts = (event.content.parts if event.content else None) or []
    return "".join(part.text or "" for part in parts)


def told(store: turnlock.Store, key: str = KEY) -> list[str]:
    """A transcript in short: ``turn``, ``role:text``, ``end``, or the reason of a marker."""
    return [short for entry in store.read(key) if (short := _short(entry))]


def _short(entry: dict[str, Any]) -> str:
    match entry.get("customType"):
        case "turnlock:turn":
            return "turn"
        case "turnlock:end":
            return "end"
        case "openclaw:prompt-error":
            return str(entry["data"]["reason"])
        case str():
            return ""
    message = entry["message"]
    content = message["content"]
    return f"{message['role']}:" + "".join(part.get("text") or part.get("name") for part in content)
