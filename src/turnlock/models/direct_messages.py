"""A history in OpenAI's form as pydantic-ai's messages, so that every provider accepts it.

* All instructions come first, as one text: not every provider knows instructions in between.
* A run of messages of one side becomes one message, and the first is the user's: roles have to
  alternate with some providers. A history that begins with the assistant gets a user's message that
  says so.
* Empty messages are left out; some providers refuse them.
* A tool call without its result gets one that says so, and a result without its call becomes text.
  The tools of the history are declared, since some providers ask for that, and the model may not
  call them.

A message that has anything but text in it is refused: a model must not answer as if it had seen it.
"""

from __future__ import annotations

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

from .messages import ToolCall, Unsendable, text_of, tool_calls
from .protocol import Message

_INSTRUCTIONS = frozenset({"system", "developer"})
_BEFORE = "(The beginning of this conversation is not shown.)"
_NO_RESULT = "(This call has no result.)"


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
        self._open: dict[str, str] = {}  # tool calls without a result until now, with their names

    def take(self, place: int, message: Message) -> None:
        role, text = message.get("role"), text_of(place, message)
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
        asked = [ToolCallPart(c.name, c.arguments, tool_call_id=c.id) for c in calls]
        if not parts and not asked:
            return
        if not self._made:
            self._ask([UserPromptPart(_BEFORE)])
        last = self._made[-1]
        if isinstance(last, ModelResponse):
            self._made[-1] = ModelResponse([*last.parts, *parts, *asked])
        else:
            self._made.append(ModelResponse([*parts, *asked]))
        self._open.update({call.id: call.name for call in calls})
        self.tools.update(call.name for call in calls)

    def _result(self, identity: str, text: str) -> ModelRequestPart:
        name = self._open.pop(identity, None)
        if name is None:
            return UserPromptPart(f"(The result of a tool:) {text}")
        return ToolReturnPart(name, text or "(no output)", tool_call_id=identity)

    def _close_calls(self) -> None:
        owed, self._open = self._open, {}
        self._ask([ToolReturnPart(name, _NO_RESULT, tool_call_id=c) for c, name in owed.items()])
