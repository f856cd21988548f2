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
_TEXT = {"role", "content"}
_REFUSED = re.compile(r"\broles?\b.*\balternat", re.IGNORECASE)


def alternating(messages: Sequence[Message]) -> list[Message]:
    """The messages, with the sides in turn, and the user's first.

    Texts of one side in a row become one, a blank line between them. The user's message behind the
    result of a tool gets a reply before it that says that there was none.
    """
    made: list[Message] = []
    for message in messages:
        before = made[-1] if made else {}
        if _is_text(before) and _is_text(message) and before["role"] == message["role"]:
            made[-1] = {**before, "content": f"{before['content']}\n\n{message['content']}"}
            continue
        if message.get("role") == "assistant" and before.get("role") in (None, "system"):
            made.append({"role": "user", "content": BEFORE})
        elif message.get("role") == "user" and before.get("role") == "tool":
            made.append({"role": "assistant", "content": _NO_REPLY})
        made.append(message)
    return made


def wants_alternation(error: ModelError) -> bool:
    """Whether the endpoint refused a history because it has two messages of one side in a row."""
    return error.kind == "status" and _REFUSED.search(error.detail) is not None


def _is_text(message: Message) -> bool:
    content = message.get("content")
    return message.get("role") in _SIDES and isinstance(content, str) and set(message) <= _TEXT
