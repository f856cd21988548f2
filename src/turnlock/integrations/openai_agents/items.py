"""openai-agents' items as entries of a transcript, and entries as items.

An item of a session is one entry. What every reader of transcripts knows is put into a message:
texts, calls of functions, their results. Where that is less than the item (ids, annotations,
images …), the item is kept beside it, under ``native``; an item that no other reader knows is a
custom entry with nothing but that. So items come back as they were, and other readers see what was
said.

Entries that others wrote become items too. An endpoint refuses a history for ever once one item in
it is wrong; so each call of a function is followed by its one result before anything else is said.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...transcript.entries import CUT_SHORT, Entry, message_of
from ...transcript.history import arguments_of, messages, sendable_name, spoken

Item = dict[str, Any]

FORMAT = "openai-agents"
CUSTOM = "openai-agents:item"
NO_RESULT = "(This call has no result.)"
_NO_OUTPUT = "(no output)"
_TEXTS = ("text", "input_text", "output_text", "summary_text", "reasoning_text")
# What is said to a model or by it; before it, calls need their results.
_SAID = ("message", None)
# What OpenAI takes as the id of a call.
_ID = re.compile(r"[A-Za-z0-9._:@+=-]{1,64}", re.ASCII)


class Origin(NamedTuple):
    """Which model an assistant's message is of, as far as it is known."""

    provider: str | None
    model: str | None
    api: str | None


# Items to entries


def entry_of(item: Mapping[str, Any], *, origin: Origin, names: Mapping[str, str]) -> Entry:
    """The entry of an item. ``names``: of functions, by the ids of their calls."""
    message = _message(item, origin, names)
    if message is None:
        return {"type": "custom", "customType": CUSTOM, **_native(item)}
    entry: Entry = {"type": "message", "message": message}
    return entry if _common_items(entry) == [item] else entry | _native(item)


def _native(item: Mapping[str, Any]) -> Entry:
    return {"native": {"format": FORMAT, "item": dict(item)}}


def _message(item: Mapping[str, Any], origin: Origin, names: Mapping[str, str]) -> Entry | None:
    """What the item says in the form that is common to all, if there is one."""
    match item.get("type"), item.get("role"):
        case "message" | None, "user":
            return {"role": "user", "content": _text_parts(item.get("content"))}
        case "message" | None, "system" | "developer":
            return {"role": "system", "content": _text_parts(item.get("content"))}
        case "message" | None, "assistant":
            return _assistant(_text_parts(item.get("content")), "stop", origin)
        case "reasoning", _:
            thought = _text(item.get("summary")) or _text(item.get("content"))
            return _assistant([{"type": "thinking", "thinking": thought}], "stop", origin)
        case "function_call", _:
            call = {
                "type": "toolCall",
                "id": item.get("call_id"),
                "name": item.get("name"),
                "arguments": _arguments(item.get("arguments")),
            }
            return _assistant([call], "toolUse", origin)
        case "function_call_output", _:
            named = names.get(str(item.get("call_id")))
            return {
                "role": "toolResult",
                "toolCallId": item.get("call_id"),
                **({} if named is None else {"toolName": named}),
                "content": _text_parts(item.get("output")),
                "isError": False,
            }
    return None


def _assistant(content: list[Entry], stop_reason: str, origin: Origin) -> Entry:
    return {
        "role": "assistant",
        "content": content,
        "api": origin.api or "unknown",
        "provider": origin.provider or FORMAT,
        "model": origin.model or "unknown",
        "stopReason": stop_reason,
    }


def _text_parts(content: object) -> list[Entry]:
    return [{"type": "text", "text": _text(content)}]


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(_part(part) for part in parts if isinstance(part, Mapping))


def _part(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    text = part.get("refusal" if kind == "refusal" else "text")
    if isinstance(text, str) and (kind in _TEXTS or kind == "refusal"):
        return text
    # That there was an image is more than nothing.
    return f"({kind})"


def _arguments(text: object) -> object:
    """A call's arguments as an object, where they are the JSON of one."""
    try:
        read = json.loads(text or "{}") if isinstance(text, str) else text
        # 1e999 is JSON, and read as infinity, which is none.
        json.dumps(read, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return read if isinstance(read, dict) else text


# Entries to items


def items_of(entries: Iterable[Entry]) -> list[Item]:
    """The items of the entries, oldest first, such that an endpoint takes them.

    A result without call is left out, and a second one. A call that has no result gets one that
    says so. Where something was said between a call and its result, the result moves before it.
    """
    return _healed([item for entry in entries for item in items_in(entry)])


def latest(items: Sequence[Item], limit: int) -> list[Item]:
    """The last ``limit`` items, or fewer: without results whose calls are none of them."""
    kept = items[-limit:] if limit > 0 else []
    called = {item.get("call_id") for item in kept if not _is_result(item)}
    return [item for item in kept if not _is_result(item) or item.get("call_id") in called]


def _is_result(item: Item) -> bool:
    return "call_id" in item and str(item.get("type")).endswith("_call_output")


def items_in(entry: Entry) -> list[Item]:
    """The items of one entry: one, or as many as another writer put into it."""
    native = native_item(entry)
    return _common_items(entry) if native is None else [native]


def native_item(entry: Entry) -> Item | None:
    """The item that is kept in an entry beside the common form."""
    native = entry.get("native")
    if not isinstance(native, dict) or native.get("format") != FORMAT:
        return None
    item = native.get("item")
    return item if isinstance(item, dict) else None


def _common_items(entry: Entry) -> list[Item]:
    """The items that an entry of any writer says."""
    message = message_of(entry)
    if message.get("role") == "toolResult":
        return [
            {
                "call_id": call_id_of(message.get("toolCallId")),
                "output": spoken(message.get("content")) or _NO_OUTPUT,
                "type": "function_call_output",
            }
        ]
    said: list[Item] = [
        {"role": one["role"], "content": one["content"]}
        for one in messages([entry])
        if one["role"] != "tool" and one.get("content")
    ]
    return said + _calls(message)


def _calls(message: Entry) -> list[Item]:
    if message.get("role") != "assistant" or message.get("stopReason") in CUT_SHORT:
        return []
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return [
        {
            "type": "function_call",
            "call_id": call_id_of(part.get("id")),
            "name": sendable_name(part["name"]),
            "arguments": arguments_of(part.get("arguments")),
        }
        for part in parts
        if isinstance(part, dict) and part.get("type") == "toolCall" and _is_name(part.get("name"))
    ]


def call_id_of(given: object) -> str:
    """The id of a call; where it is none that OpenAI takes, another that follows from it."""
    text = str(given)
    if isinstance(given, str) and _ID.fullmatch(text):
        return text
    return f"call_{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:24]}"


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name != ""


def _healed(items: Sequence[Item]) -> list[Item]:
    made: list[Item] = []
    waiting: dict[str, Item] = {}
    used: set[int] = set()
    places = _places(items)
    for place, item in enumerate(items):
        kind, call_id = item.get("type"), str(item.get("call_id"))
        if kind == "function_call_output":
            if place not in used and waiting.pop(call_id, None) is not None:
                made.append(item)
            continue
        if kind in _SAID or call_id in waiting:
            made += _answers(waiting, items, places, place, used)
        if kind == "function_call":
            waiting[call_id] = item
        made.append(item)
    return made + _answers(waiting, items, places, len(items), used)


def _places(items: Sequence[Item]) -> dict[str, list[int]]:
    """Where the items with the id of a call are."""
    places: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(str(item.get("call_id")), []).append(place)
    return places


def _answers(
    waiting: dict[str, Item],
    items: Sequence[Item],
    places: Mapping[str, Sequence[int]],
    start: int,
    used: set[int],
) -> list[Item]:
    """A result for each waiting call: the one that comes later, or one that says there is none."""
    found = []
    for call_id in waiting:
        place = next((place for place in places[call_id] if place >= start), None)
        # What comes next with that id may be another call.
        if place is None or items[place].get("type") != "function_call_output":
            found.append({"call_id": call_id, "output": NO_RESULT, "type": "function_call_output"})
        else:
            used.add(place)
            found.append(items[place])
    waiting.clear()
    return found
