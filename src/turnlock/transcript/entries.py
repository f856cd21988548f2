"""Entries: how each kind is made, and how ours are recognised.

The shape is OpenClaw's transcript version 3, as its releases 2026.2 to 2026.7 write it: a header
line, then entries with ``type``, ``id``, ``parentId`` and ``timestamp``. Ours beside it:

* every entry that we write has ``epoch``;
* a turn opens with ``turnlock:turn``, in one buffer with its first entry;
* it ends with exactly one terminal entry: ``turnlock:end``, or the error marker under OpenClaw's
  own name ``openclaw:prompt-error``, so that its tools show it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from ..clock import iso

Entry = dict[str, Any]

VERSION = 3
OPENING = "turnlock:turn"
END = "turnlock:end"
MARKER = "openclaw:prompt-error"
TERMINAL = frozenset({END, MARKER})
RESERVED = TERMINAL | {OPENING}
_KINDS = {OPENING: "opening", END: "end", MARKER: "error-marker"}

# Why a reply that is in the transcript is not complete, in OpenClaw's words. Not a set: what a file
# has in their place may be a list or an object, and cannot be hashed.
CUT_SHORT = ("error", "aborted")
CUT_OFF = "(There is no result: the turn ended before this call did. It may have had effects.)"
_CALL_NAME_MAX = 512

MARKER_BYTES_MAX = 2048
# Bytes of a value as JSON. Seven fields of the second size, the first and what JSON adds around
# them stay under the size of a marker.
_ERROR_BYTES_MAX = 640
_FIELD_BYTES_MAX = 112
# Above it a number is no epoch but an attempt to poison the sequence. What is exact in JSON ends at
# 2**53: this is the lower half of it, so that the largest numbers that come to mind are none.
EPOCH_MAX = 2**52

Reason = Literal[
    "error",
    "hold-limit",
    "stall-limit",
    "model-limit",
    "cancelled",
    "operator",
    "interrupted",
]
REASONS: tuple[Reason, ...] = get_args(Reason)


class Failure(NamedTuple):
    """What an error marker says about a turn. ``error`` is already redacted.

    ``closes`` is the epoch of a turn that was found without terminal entry behind later ones: its
    marker has an epoch of its own, as epochs never decrease.
    """

    turn_id: str
    reason: str
    error: str
    held: float | None = None
    phase: str = ""
    provider: str | None = None
    model: str | None = None
    api: str | None = None
    closes: int | None = None


class ToolCall(NamedTuple):
    """A model's request to call a tool."""

    id: str
    name: str


def new_id() -> str:
    """64 random bits: OpenClaw's 32 collide after some ten thousand entries."""
    return os.urandom(8).hex()


def user(text: str) -> Entry:
    """A user's message, to be appended to a turn."""
    return _message({"role": "user", "content": [{"type": "text", "text": text}]})


def assistant(
    text: str,
    *,
    provider: str = "turnlock",
    model: str = "unknown",
    api: str = "openai-completions",
    stop_reason: str = "stop",
    usage: Mapping[str, Any] | None = None,
) -> Entry:
    """A model's reply, to be appended to a turn."""
    message: Entry = {
        "role": "assistant",
        "content": [{"type": "text", "text": text}],
        "api": api,
        "provider": provider,
        "model": model,
        "stopReason": stop_reason,
    }
    if usage:
        message["usage"] = dict(usage)
    return _message(message)


def header(session_id: str, *, cwd: str, wall: float) -> Entry:
    return {
        "type": "session",
        "version": VERSION,
        "id": session_id,
        "timestamp": iso(wall),
        "cwd": cwd,
    }


def opening(turn_id: str) -> Entry:
    return _custom(OPENING, {"v": 1, "turnId": turn_id})


def end(turn_id: str, held: float) -> Entry:
    return _custom(END, {"v": 1, "turnId": turn_id, "heldMs": round(held * 1000)})


def marker(failure: Failure, *, session_id: str | None, wall: float) -> Entry:
    """The error marker of a failed turn, at most 2 kB as a line of the transcript."""
    data: Entry = {
        "timestamp": round(wall * 1000),
        "runId": _cut(failure.turn_id),
        "sessionId": _cut(session_id),
        "provider": _cut(failure.provider),
        "model": _cut(failure.model),
        "api": _cut(failure.api),
        "error": _cut(failure.error, _ERROR_BYTES_MAX),
        "turnId": _cut(failure.turn_id),
        "reason": failure.reason,
        "heldMs": None if failure.held is None else round(failure.held * 1000),
        "phase": _cut(failure.phase),
    }
    if failure.closes is not None:
        data["closes"] = failure.closes
    return _custom(MARKER, data)


def cut_off_result(call: ToolCall) -> Entry:
    """The result of a tool call that has none because its turn ended first."""
    return _message(
        {
            "role": "toolResult",
            "toolCallId": call.id,
            "toolName": call.name,
            "content": [{"type": "text", "text": CUT_OFF}],
            "isError": True,
        }
    )


def tool_calls(entry: Mapping[str, Any]) -> list[ToolCall]:
    """The calls of an assistant's message that a tool could have been given.

    A reply that was cut off may have half a call in it: nothing answers that one.
    """
    message = message_of(entry)
    if message.get("role") != "assistant" or message.get("stopReason") in CUT_SHORT:
        return []
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    calls = (part for part in parts if isinstance(part, dict) and part.get("type") == "toolCall")
    made = (ToolCall(call.get("id", ""), call.get("name", "")) for call in calls)
    return [call for call in made if _is_named(call.id) and _is_named(call.name)]


def answered_call(entry: Mapping[str, Any]) -> str | None:
    """The id of the tool call that the entry is the result of."""
    message = message_of(entry)
    identity = message.get("toolCallId") if message.get("role") == "toolResult" else None
    return identity if isinstance(identity, str) else None


def message_of(entry: Mapping[str, Any]) -> Entry:
    """The message in an entry; empty for what is no message."""
    message = entry.get("message") if entry.get("type") == "message" else None
    return message if isinstance(message, dict) else {}


def custom_type(entry: Mapping[str, Any]) -> str | None:
    kind = entry.get("customType") if entry.get("type") == "custom" else None
    return kind if isinstance(kind, str) else None


def epoch_of(entry: Mapping[str, Any]) -> int | None:
    """The epoch of an entry of ours; None for a foreign entry and for a number out of range."""
    epoch = entry.get("epoch")
    if isinstance(epoch, int) and not isinstance(epoch, bool) and 0 < epoch <= EPOCH_MAX:
        return epoch
    return None


def turn_id_of(entry: Mapping[str, Any]) -> str | None:
    data = entry.get("data")
    turn_id = data.get("turnId") if isinstance(data, dict) else None
    return turn_id if isinstance(turn_id, str) else None


def closes(entry: Mapping[str, Any]) -> int | None:
    """The epoch that an error marker closes besides its own, see `Failure`."""
    data = entry.get("data") if custom_type(entry) == MARKER else None
    return epoch_of({"epoch": data.get("closes")}) if isinstance(data, dict) else None


def is_terminal(entry: Mapping[str, Any]) -> bool:
    """Whether the entry ends its turn. OpenClaw's own prompt errors have no epoch and end none."""
    return custom_type(entry) in TERMINAL and epoch_of(entry) is not None


def kind_of(entry: Entry) -> str:
    """``message``, ``opening``, ``end``, ``error-marker``, or the entry's own type."""
    custom = custom_type(entry)
    if custom is not None:
        return _KINDS.get(custom, custom)
    kind = entry.get("type")
    return kind if isinstance(kind, str) else "unknown"


def entry_object(entry: Entry) -> Entry:
    """The entry as it is stored, with ``kind``, and ``id`` and ``epoch`` even when it has none."""
    identity = entry.get("id")
    return entry | {
        "kind": kind_of(entry),
        "id": identity if isinstance(identity, str) else None,
        "epoch": epoch_of(entry),
    }


def _message(message: Entry) -> Entry:
    return {"type": "message", "message": message}


def _is_named(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _CALL_NAME_MAX


def _custom(kind: str, data: Entry) -> Entry:
    return {"type": "custom", "customType": kind, "data": data}


def _cut(text: str | None, most: int = _FIELD_BYTES_MAX) -> str | None:
    if text is None or _json_bytes(text) <= most:
        return text
    kept = text[:most]
    while _json_bytes(kept) > most - 3:
        kept = kept[: len(kept) * 7 // 8]
    return f"{kept}…"


def _json_bytes(text: str) -> int:
    # The line breaks that only some readers know are written as escapes, see `jsonl`.
    escaped = sum(text.count(character) for character in "\u0085\u2028\u2029")
    return len(json.dumps(text, ensure_ascii=False).encode(errors="replace")) + 4 * escaped
