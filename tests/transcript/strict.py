"""A judge of histories that is as strict as the strictest endpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_ID = re.compile(r"[\x21-\x7e]{1,40}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FIELDS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}


class Refused(AssertionError):
    """What the endpoint would answer with 400."""


def judge(history: Sequence[dict[str, Any]]) -> None:
    """Raises `Refused` for what an OpenAI-style endpoint refuses, or might."""
    json.dumps(history, allow_nan=False, ensure_ascii=False).encode()
    waiting: list[str] = []
    seen: set[str] = set()
    for place, message in enumerate(history):
        role = message.get("role")
        if role not in _FIELDS or not set(message) <= _FIELDS[role]:
            raise Refused(place, "a role or field that is not known", message)
        if role == "tool":
            if message["tool_call_id"] not in waiting:
                raise Refused(place, "a result without its call before it", message)
            waiting.remove(message["tool_call_id"])
        elif waiting:
            raise Refused(place, f"calls without result: {waiting}", message)
        calls = message.get("tool_calls", [])
        if "tool_calls" in message and not calls:
            raise Refused(place, "an empty list of calls", message)
        _judge_text(place, message["content"], may_be_none=bool(calls))
        for call in calls:
            _judge_call(place, call)
            if call["id"] in seen:
                raise Refused(place, "an id that was used before", call)
            seen.add(call["id"])
            waiting.append(call["id"])
    if waiting:
        raise Refused(len(history), f"calls without result: {waiting}")


def _judge_text(place: int, text: object, *, may_be_none: bool) -> None:
    if text is None and may_be_none:
        return
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise Refused(place, "no text, or a NUL in it", text)


def _judge_call(place: int, call: dict[str, Any]) -> None:
    function = call["function"]
    if call["type"] != "function" or not isinstance(call["id"], str):
        raise Refused(place, "no call", call)
    if not _ID.fullmatch(call["id"]) or not _NAME.fullmatch(function["name"]):
        raise Refused(place, "an id or a name that is none", call)
    if not isinstance(json.loads(function["arguments"], parse_constant=_refuse), dict):
        raise Refused(place, "arguments that are no object", call)


def _refuse(constant: str) -> None:
    raise Refused(constant)
