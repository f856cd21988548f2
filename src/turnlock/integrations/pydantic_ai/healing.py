"""A history that every provider accepts, whatever cut its turns off.

A provider refuses a history for ever in which a tool call has no result, or a result no call. So

* each call of a reply gets its result in what follows, before anything else is asked: one that says
  so when it has none. The last reply's calls may stay open for who is about to answer them;
* a result that answers no open call is left out, and so are the calls of a reply that was cut off,
  which may hold half a call (of the provider's own tools: those without result), and a reply that
  its own continuation follows;
* a thought that leads to nothing is left out: no reply may end with one;
* no message is empty.

What needs no healing stays the object that it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    NativeToolCallPart,
    NativeToolReturnPart,
    ThinkingPart,
    ToolCallPart,
)

from ...transcript.entries import CUT_OFF
from .messages import returned, tool_result


def healed(messages: Iterable[ModelMessage], *, leave_open: bool = False) -> list[ModelMessage]:
    """``leave_open``: calls of the last reply that have no result are left without."""
    healer = _Healer()
    for message in messages:
        if isinstance(message, ModelResponse):
            healer.take_reply(message)
        else:
            healer.take_request(message)
    if not leave_open:
        healer.close_calls()
    return healer.made


class _Healer:
    def __init__(self) -> None:
        self.made: list[ModelMessage] = []
        self._open: dict[str, str] = {}

    def take_reply(self, reply: ModelResponse) -> None:
        self.close_calls()
        last = self.made[-1] if self.made else None
        if isinstance(last, ModelResponse) and _state(last) == "suspended":
            self.made.pop()
        parts = list(reply.parts)
        if _state(reply) == "interrupted":
            parts = _whole(parts)
        while _state(reply) != "suspended" and parts and isinstance(parts[-1], ThinkingPart):
            parts.pop()
        calls = [part for part in parts if isinstance(part, ToolCallPart)]
        self._open = {call.tool_call_id: call.tool_name for call in calls}
        self._add(reply, parts)

    def take_request(self, request: ModelRequest) -> None:
        results = [part for part in request.parts if self._answers(part)]
        others = [part for part in request.parts if tool_result(part) is None]
        closing = self._closing() if others else []
        self._add(request, [*results, *closing, *others])

    def close_calls(self) -> None:
        closing = self._closing()
        if closing:
            self.made.append(ModelRequest(parts=closing))

    def _answers(self, part: object) -> bool:
        call = tool_result(part)
        return call is not None and self._open.pop(call, None) is not None

    def _closing(self) -> list[Any]:
        owed, self._open = self._open, {}
        return [returned(call, name, CUT_OFF) for call, name in owed.items()]

    def _add(self, message: Any, parts: Sequence[Any]) -> None:
        if not parts and message.parts:
            return
        same = list(message.parts) == list(parts)
        self.made.append(message if same else replace(message, parts=list(parts)))


def _whole(parts: Sequence[ModelResponsePart]) -> list[ModelResponsePart]:
    """What of a reply that was cut off is sure to be whole."""
    back = {part.tool_call_id for part in parts if isinstance(part, NativeToolReturnPart)}
    return [
        part
        for part in parts
        if not isinstance(part, ToolCallPart)
        and not (isinstance(part, NativeToolCallPart) and part.tool_call_id not in back)
    ]


def _state(message: ModelMessage) -> str:
    return getattr(message, "state", "complete")
