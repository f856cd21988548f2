"""A turn's view of its session as a list of items; what blocks on storage is all in here.

The SDK adds the items of a model's response when the tools that it calls have returned. A process
that dies in a tool would leave no trace of the call. So a response with calls is written ahead,
just before its first tool begins, and is left out when the SDK adds it. A call that waits for an
approval is added without its result, and once more with it: so a call is left out until it has one.

Nothing is ever removed from a transcript. It is a tree, whose active branch is the history: to take
an item back is to go on from the entry before it, and to clear the session is to go on from a
compaction that kept nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import TranscriptError
from ...transcript.entries import Entry, new_id
from ...transcript.history import active_branch, uncompacted_branch
from ...turns.turn import TurnCore
from .items import Item, Origin, entry_of, items_in, items_of, latest

_POP = "openai-agents:pop"
# Calls whose tools the SDK runs itself. Each has its result in an item of the type NAME_output.
_CALLS = frozenset(
    {"function_call", "custom_tool_call", "shell_call", "apply_patch_call", "computer_call"}
)


class Ledger:
    """Every method raises `LeaseRevoked` once the turn is over, and what `Turn.append` raises."""

    def __init__(self, core: TurnCore) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._loaded = False
        self._names: dict[str, str] = {}
        # What is in the transcript, and what the SDK may yet add.
        self._ahead: set[str] = set()

    def read(self, limit: int | None) -> list[Item]:
        with self._lock:
            self._core.check_revoked()
            items = items_of(self._load())
        return items if limit is None else latest(items, limit)

    def add(self, items: Sequence[Mapping[str, Any]]) -> None:
        with self._lock:
            self._load_once()
            ahead = set(self._ahead)
            self._append([item for item in items if not _taken(ahead, _key(item))])
            self._ahead = ahead
            self._note_open(items)

    def add_ahead(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Add what the SDK is going to add; it may be asked for more than once."""
        with self._lock:
            self._load_once()
            keys = {_key(item): item for item in items}
            if any(key in self._ahead for key, item in keys.items() if _is_call(item)):
                return
            fresh = {key: item for key, item in keys.items() if key not in self._ahead}
            self._append(list(fresh.values()))
            self._ahead |= fresh.keys()

    def pop(self) -> Item | None:
        with self._lock:
            branch = active_branch(list(self._core.entries()))
            place = next((n for n in reversed(range(len(branch))) if _is_last(branch[n])), None)
            if place is None:
                return None
            items = items_in(branch[place])
            if not items:
                return None
            if branch[place].get("type") == "compaction":
                raise self._not_one_by_one()
            *rest, last = items
            before = branch[place - 1].get("id") if place > 0 else None
            self._core.append([_going_on(before, branch[place]), *self._entries(rest)])
            self._ahead.discard(_key(last))
            return last

    def clear(self) -> None:
        with self._lock:
            self._core.append([_cleared()])
            self._ahead.clear()

    def _load(self) -> list[Entry]:
        entries = uncompacted_branch(self._core.entries())
        if not self._loaded:
            for entry in entries:
                self._note_names(items_in(entry))
                self._note_open(items_in(entry))
            self._loaded = True
        return entries

    def _load_once(self) -> None:
        if not self._loaded:
            self._load()

    def _append(self, items: Sequence[Mapping[str, Any]]) -> None:
        self._note_names(items)
        if items:
            self._core.append(self._entries(items))

    def _entries(self, items: Iterable[Mapping[str, Any]]) -> list[Entry]:
        lease = self._core.lease
        origin = Origin(lease.provider, lease.model, lease.api)
        return [entry_of(item, origin=origin, names=self._names) for item in items]

    def _note_names(self, items: Iterable[Mapping[str, Any]]) -> None:
        for item in items:
            if item.get("type") == "function_call":
                self._names[str(item.get("call_id"))] = str(item.get("name"))

    def _note_open(self, items: Iterable[Mapping[str, Any]]) -> None:
        for item in items:
            if _is_call(item):
                self._ahead.add(_key(item))
            elif "call_id" in item:
                self._ahead.discard(_call_key(item))

    def _not_one_by_one(self) -> TranscriptError:
        why = "what was said before a compaction cannot be taken back one by one"
        return TranscriptError(self._core.lease.label, why, "use clear_session")


def _taken(keys: set[str], key: str) -> bool:
    """Take the key out; whether it was there."""
    was_there = key in keys
    keys.discard(key)
    return was_there


def _is_last(entry: Entry) -> bool:
    """Whether the history ends with this entry, when nothing of it comes after."""
    return bool(items_in(entry)) or entry.get("type") == "compaction"


def _going_on(before: object, popped: Entry) -> Entry:
    """The entry that the history goes on from, in place of the one that is taken back."""
    if not isinstance(before, str):
        return _cleared()
    data = {"takesBack": popped.get("id")}
    return {"type": "custom", "customType": _POP, "parentId": before, "data": data}


def _cleared() -> Entry:
    identity = new_id()
    # A compaction has to name what it kept: nothing before itself.
    return {
        "type": "compaction",
        "id": identity,
        "summary": "",
        "firstKeptEntryId": identity,
        "tokensBefore": 0,
    }


def _is_call(item: Mapping[str, Any]) -> bool:
    return item.get("type") in _CALLS


def _key(item: Mapping[str, Any]) -> str:
    """What an item is recognised by, whatever the SDK does to its id and status in between."""
    if _is_call(item):
        return _call_key(item)
    rest = {name: value for name, value in item.items() if name not in ("id", "status")}
    return json.dumps(rest, sort_keys=True, default=str)


def _call_key(item: Mapping[str, Any]) -> str:
    """What a call is recognised by: of the call itself, or of its result."""
    return f"{str(item.get('type')).removesuffix('_output')} {item.get('call_id')}"
