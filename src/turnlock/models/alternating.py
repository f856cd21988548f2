"""A history for endpoints that refuse two messages of one side in a row.

OpenAI's own takes them. The templates of many open models do not (Gemma's, Mistral's, behind vLLM
or llama.cpp): "Conversation roles must alternate user/assistant/user/assistant/...". A turn that
failed leaves two messages of the user's in a row for good, so without this the session's every
later turn would fail as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import ModelError
from .protocol import Message

BEFORE = "(The beginning of this conversation is not shown.)"
_NO_REPLY = "(There was no reply.)"
_SIDES = ("user", "assistant")
_INSTRUCTIONS = ("system", "developer")
_TEXT = {"role", "content"}
_REFUSED = re.compile(r"\broles?\b.*\balternat", re.IGNORECASE)


def alternating(messages: Sequence[Message]) -> list[Message]:
    """The messages, with the sides in turn, and the user's first.

    Texts of one side in a row become one, a blank line between them; calls that come behind a text
    come with it. The user's message behind the result of a tool gets a reply before it that says
    that there was none. Content in parts is left as it is.
    """
    made: list[Message] = []
    for message in messages:
        before = made[-1] if made else {}
        side, side_before = message.get("role"), before.get("role")
        if side == side_before and _is_text(before) and _can_follow(message):
            made[-1] = {**message, "content": _joined(before["content"], message.get("content"))}
            continue
        if side == "assistant" and side_before in (None, *_INSTRUCTIONS):
            made.append({"role": "user", "content": BEFORE})
        elif side == "user" and side_before == "tool":
            made.append({"role": "assistant", "content": _NO_REPLY})
        made.append(message)
    return made


def wants_alternation(error: ModelError) -> bool:
    """Whether the endpoint refused a history because it has two messages of one side in a row."""
    return error.kind == "status" and _REFUSED.search(error.detail) is not None


def _is_text(message: Message) -> bool:
    return message.get("role") in _SIDES and _can_follow(message) and set(message) <= _TEXT


def _can_follow(message: Message) -> bool:
    return isinstance(message.get("content"), str | None)


def _joined(*texts: str | None) -> str | None:
    return "\n\n".join(filter(None, texts)) or None
