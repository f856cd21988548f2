"""A history in OpenAI's form as pydantic-ai's messages, so that every provider accepts it.

* All instructions come first, as one text: not every provider knows instructions in between.
* A run of messages of one side becomes one message, and the first is the user's: roles have to
  alternate with some providers. A history that begins with the assistant gets a user's message that
  says so.
* Messages that are empty, or white space alone, are left out; some providers refuse them.
* A tool call without its result gets one that says so, and a result without its call becomes text.
  The tools of the history are declared, since some providers ask for that, and the model may not
  call them. Calls get ids of nine letters and digits, and tools names without odd characters: what
  another provider has put into the history may be none here.

A message that has anything but text in it is refused: a model must not answer as if it had seen it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from .alternating import BEFORE
from .messages import ToolCall, Unsendable, text_of, tool_calls
from .protocol import Message

_INSTRUCTIONS = frozenset({"system", "developer"})
_NO_RESULT = "(This call has no result.)"
_ODD_IN_NAME = re.compile("[^A-Za-z0-9_-]")
_NAME_MAX = 64


class Prompt(NamedTuple):
    """What a model is asked: the messages, and the tools that they mention."""

    messages: list[ModelMessage]
    parameters: ModelRequestParameters
    has_tools: bool


def prompt(messages: Sequence[Message]) -> Prompt:
    """The messages in pydantic-ai's form. Raises `Unsendable`."""
    made = _Maker()
    for place, message in enumerate(messages):
        made.take(place, message)
    tools = [
        ToolDefinition(name=name, parameters_json_schema={"type": "object", "properties": {}})
        for name in sorted(made.tools)
    ]
    return Prompt(made.done(), ModelRequestParameters(function_tools=tools), bool(tools))


class _Maker:
    def __init__(self) -> None:
        self.tools: set[str] = set()
        self._instructions: list[str] = []
        self._made: list[ModelMessage] = []
        self._calls = 0
        self._open: dict[str, ToolCallPart] = {}  # tool calls without a result until now

    def take(self, place: int, message: Message) -> None:
        role, text = message.get("role"), text_of(place, message)
        text = text if text.strip() else ""
        if role in _INSTRUCTIONS:
            self._instructions += [text] if text else []
        elif role == "user":
            self._ask([UserPromptPart(text)] if text else [])
        elif role == "tool":
            self._ask([self._result(str(message.get("tool_call_id")), text)])
        elif role == "assistant":
            self._answer(text, list(tool_calls(place, message)))
        else:
            raise Unsendable(f"message {place} has the unknown role {role!r:.50}")

    def done(self) -> list[ModelMessage]:
        self._close_calls()
        if not self._made:
            raise Unsendable("there is no message with any text")
        if self._instructions:
            system = SystemPromptPart("\n\n".join(self._instructions))
            first = self._made[0]
            if isinstance(first, ModelRequest):
                self._made[0] = ModelRequest([system, *first.parts])
        return self._made

    def _ask(self, parts: Sequence[ModelRequestPart]) -> None:
        if not parts:
            return
        if self._open and any(isinstance(part, UserPromptPart) for part in parts):
            self._close_calls()
        last = self._made[-1] if self._made else None
        if isinstance(last, ModelRequest):
            self._made[-1] = ModelRequest([*last.parts, *parts])
        else:
            self._made.append(ModelRequest(list(parts)))

    def _answer(self, text: str, calls: Sequence[ToolCall]) -> None:
        self._close_calls()
        parts = [TextPart(text)] if text else []
        asked = {call.id: self._call(call) for call in calls}
        if not parts and not asked:
            return
        if not self._made:
            self._ask([UserPromptPart(BEFORE)])
        last = self._made[-1]
        if isinstance(last, ModelResponse):
            self._made[-1] = ModelResponse([*last.parts, *parts, *asked.values()])
        else:
            self._made.append(ModelResponse([*parts, *asked.values()]))
        self._open.update(asked)
        self.tools.update(part.tool_name for part in asked.values())

    def _call(self, call: ToolCall) -> ToolCallPart:
        self._calls += 1
        name = _ODD_IN_NAME.sub("_", call.name)[:_NAME_MAX]
        return ToolCallPart(name, call.arguments, tool_call_id=f"call{self._calls:05d}")

    def _result(self, identity: str, text: str) -> ModelRequestPart:
        call = self._open.pop(identity, None)
        if call is None:
            return UserPromptPart(f"(The result of a tool:) {text}")
        return _returned(call, text or "(no output)")

    def _close_calls(self) -> None:
        owed, self._open = self._open, {}
        self._ask([_returned(call, _NO_RESULT) for call in owed.values()])


def _returned(call: ToolCallPart, text: str) -> ToolReturnPart:
    return ToolReturnPart(call.tool_name, text, tool_call_id=call.tool_call_id)
