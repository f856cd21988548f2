"""A transcript as a model's history: OpenAI-style messages.

OpenClaw's transcripts are trees: the active branch is the chain of parents from the last entry.
Markers, openings and all other entries that are no messages stay out. So does what an endpoint
would refuse: an assistant message without content, a tool call without result, a result without
call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from .entries import Entry

Message = dict[str, Any]


def messages(entries: Iterable[Entry]) -> list[Message]:
    """The active branch of the transcript as messages for a chat completions endpoint."""
    made = [_message(entry["message"]) for entry in active_branch(list(entries)) if _is(entry)]
    return _paired([message for message in made if message is not None])


def active_branch(entries: Sequence[Entry]) -> list[Entry]:
    """The entries on the chain of parents from the last one, oldest first.

    Where a parent is missing (its line is damaged), the entry before in the file stands in for it.
    """
    position = {entry.get("id"): index for index, entry in enumerate(entries)}
    branch: list[Entry] = []
    index = len(entries) - 1
    while index >= 0:
        entry = entries[index]
        branch.append(entry)
        parent = entry.get("parentId")
        found = position.get(parent, index - 1) if isinstance(parent, str) else index - 1
        # A parent that comes later than its child is no parent: the walk has to end.
        index = found if found < index else index - 1
    branch.reverse()
    return branch


def text_of(content: object) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    return "".join(
        part["text"]
        for part in _parts(content)
        if part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _is(entry: Entry) -> bool:
    return entry.get("type") == "message" and isinstance(entry.get("message"), dict)


def _message(message: Entry) -> Message | None:
    content = message.get("content")
    text = text_of(content)
    match message.get("role"):
        case "user" | "system" as role:
            return {"role": role, "content": text}
        case "assistant":
            return _assistant(text, _parts(content))
        case "toolResult":
            return {"role": "tool", "tool_call_id": message.get("toolCallId"), "content": text}
    return None


def _assistant(text: str, parts: list[Entry]) -> Message | None:
    calls = [
        {
            "id": part.get("id"),
            "type": "function",
            "function": {
                "name": part.get("name"),
                "arguments": json.dumps(part.get("arguments") or {}),
            },
        }
        for part in parts
        if part.get("type") == "toolCall"
    ]
    if not text and not calls:
        return None
    made: Message = {"role": "assistant", "content": text or None}
    return made | {"tool_calls": calls} if calls else made


def _paired(history: list[Message]) -> list[Message]:
    calls = {
        call["id"] for message in history for call in message.get("tool_calls", ()) if call["id"]
    }
    results = {m["tool_call_id"] for m in history if m["role"] == "tool" and m["tool_call_id"]}
    kept: list[Message] = []
    for message in history:
        if message["role"] == "tool" and message["tool_call_id"] not in calls:
            continue
        if "tool_calls" in message:
            closed = [call for call in message["tool_calls"] if call["id"] in results]
            message = {k: v for k, v in message.items() if k != "tool_calls"}
            if closed:
                message["tool_calls"] = closed
            elif message["content"] is None:
                continue
        kept.append(message)
    return kept


def _parts(content: object) -> list[Entry]:
    return [p for p in content if isinstance(p, dict)] if isinstance(content, list) else []
