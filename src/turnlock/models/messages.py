"""What a message in OpenAI's form has in it, for providers that take another form.

A message that has anything but text in it is refused: a model must not answer as if it had seen it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .protocol import Message


class Unsendable(ValueError):
    """A message that cannot be put into a provider's form; the text says which, and why."""


class ToolCall(NamedTuple):
    """A tool call of a history; ``arguments`` is a JSON object."""

    id: str
    name: str
    arguments: dict[str, object]


def text_of(place: int, message: Message) -> str:
    """The text of a message. Raises `Unsendable` when there is anything else in it."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise Unsendable(f"the content of message {place} is no text")
    return "".join(_part(place, part) for part in content)


def _part(place: int, part: object) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind != "text" or not isinstance(text, str):
        raise Unsendable(
            f"message {place} has a part of type {kind!r:.50}; this provider is sent only text"
        )
    return text


def tool_calls(place: int, message: Message) -> Iterator[ToolCall]:
    """The tool calls of an assistant's message. Raises `Unsendable` for what is none."""
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
            raise Unsendable(f"message {place} has a tool call without a name")
        yield ToolCall(str(call.get("id")), name, _arguments(function.get("arguments")))


def _arguments(given: object) -> dict[str, object]:
    try:
        read = json.loads(given) if isinstance(given, str) and given else given
    except (ValueError, RecursionError):
        return {"arguments": given}
    return read if isinstance(read, dict) else {"arguments": read} if read is not None else {}
