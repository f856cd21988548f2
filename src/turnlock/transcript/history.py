"""A transcript as a model's history: OpenAI-style messages that a strict endpoint accepts.

OpenClaw's transcripts are trees: the active branch is the chain of parents from the last entry. Of
what was compacted its summary stands for the messages before the first that was kept. Markers,
openings and all other entries that are no messages stay out.

A strict endpoint refuses a history for ever once one message in it is wrong. So, whatever the
transcript has:

* each tool call is followed at once by its one result, wherever that stands in the transcript. A
  call without result gets one that says so; a result without call, or a second one, is left out;
* a call that nothing can answer is left out: without a name, or in a reply that was cut short,
  which may hold half a call;
* ids of calls are unique, not empty, and of a length and form that endpoints take; names of tools
  too; arguments are a JSON object;
* no message is empty but for a reply with calls; white space alone is empty to Anthropic;
* text holds neither NUL nor half of a character.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .entries import CUT_SHORT, Entry, epoch_of, message_of

Message = dict[str, Any]

_NO_RESULT = "(This call has no result.)"
_NO_OUTPUT = "(no output)"
_NO_TEXT = "(a message without text)"
_COMPACTED = "(What was said before, in short:)\n\n"
_BRANCH = "(What was tried on another branch of this conversation, in short:)\n\n"
# What OpenAI's endpoint takes; an id of another kind is given a new one.
_ID = re.compile(r"[A-Za-z0-9._:@+=-]{1,40}", re.ASCII)
_ODD_IN_NAME = re.compile("[^A-Za-z0-9_-]")
_NAME_MAX = 64


def messages(entries: Iterable[Entry]) -> list[Message]:
    """The active branch of the transcript as messages for a chat completions endpoint."""
    history = _History()
    for entry in uncompacted_branch(entries):
        history.take(entry)
    return history.made()


def uncompacted_branch(entries: Iterable[Entry]) -> list[Entry]:
    """What a model is to be told of: the active branch, from its last compaction on."""
    return _uncompacted(active_branch(list(entries)))


def told(entry: Entry) -> str:
    """What an entry that is no message tells a model, as if the user had said it."""
    match entry.get("type"):
        case "compaction":
            return _after(_COMPACTED, entry.get("summary"))
        case "branch_summary":
            return _after(_BRANCH, entry.get("summary"))
        case "custom_message":
            return spoken(entry.get("content"))
    return ""


def _after(words: str, summary: object) -> str:
    text = spoken(summary)
    return words + text if text else ""


def active_branch(entries: Sequence[Entry]) -> list[Entry]:
    """The entries on the chain of parents from the last one, oldest first."""
    tree = Tree()
    for entry in entries:
        tree.add(entry)
    return [entries[index] for index in tree.branch()]


class Tree:
    """Who is whose parent, entry by entry.

    Where a parent is missing (its line is damaged), or comes later than its child, the entry before
    in the file stands in for it. Of two entries with one id the later is the parent.

    An entry that has none begins a tree of its own, if OpenClaw wrote it: somebody went back to
    before the first message. Not one of ours, as then the entry before had no id; and not one in a
    file that names no parents at all.
    """

    def __init__(self) -> None:
        self._parents = array("q")
        self._position: dict[str, int] = {}
        self._before_has_parent = False

    def __contains__(self, identity: object) -> bool:
        return identity in self._position

    def __len__(self) -> int:
        return len(self._parents)

    def add(self, entry: Entry) -> None:
        parent = entry.get("parentId")
        index = len(self._parents)
        found = self._position.get(parent, index - 1) if isinstance(parent, str) else index - 1
        is_root = "parentId" in entry and parent is None and epoch_of(entry) is None
        self._parents.append(-1 if is_root and self._before_has_parent else found)
        self._before_has_parent = isinstance(parent, str)
        identity = entry.get("id")
        if isinstance(identity, str):
            self._position[identity] = index

    def branch(self) -> list[int]:
        """The entries on the chain of parents from the last one, oldest first."""
        found = []
        index = len(self._parents) - 1
        while index >= 0:
            found.append(index)
            index = self._parents[index]
        return found[::-1]


def text_of(content: object) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    return "".join(
        part["text"]
        for part in _parts(content)
        if part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _uncompacted(branch: list[Entry]) -> list[Entry]:
    """The branch from the last compaction on: its summary, what it kept, what came after."""
    place = max((n for n, entry in enumerate(branch) if _is_compaction(entry)), default=None)
    if place is None:
        return branch
    first = branch[place].get("firstKeptEntryId")
    kept = (n for n, entry in enumerate(branch[:place]) if first and entry.get("id") == first)
    start = next(kept, place)
    return [branch[place], *branch[start:place], *branch[place + 1 :]]


def _is_compaction(entry: Entry) -> bool:
    return entry.get("type") == "compaction" and isinstance(entry.get("summary"), str)


class _Call:
    """A tool call, and the text of its result once there is one."""

    def __init__(self, identity: str, name: str, arguments: str) -> None:
        self.id = identity
        self.result: str | None = None
        self.sent = {
            "id": identity,
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }


class _Said(NamedTuple):
    """A message, and the calls in it. ``cut_short``: only calls that have a result are real."""

    message: Message
    calls: list[_Call]
    cut_short: bool = False


class _History:
    def __init__(self) -> None:
        self._said: list[_Said] = []
        self._unanswered: dict[object, _Call] = {}
        self._ids: set[str] = set()

    def take(self, entry: Entry) -> None:
        if entry.get("type") == "message":
            self._take_message(message_of(entry))
        else:
            self._say("user", told(entry))

    def made(self) -> list[Message]:
        return [message for said in self._said for message in _finished(said)]

    def _take_message(self, message: Entry) -> None:
        content = message.get("content")
        match message.get("role"):
            case "user" | "system" as role:
                others = any(part.get("type") != "text" for part in _parts(content))
                was_said = bool(text_of(content)) or others
                self._say(role, spoken(content) or (_NO_TEXT if was_said else ""))
            case "assistant":
                cut_short = message.get("stopReason") in CUT_SHORT
                calls = [call for part in _parts(content) if (call := self._call(part))]
                made: Message = {"role": "assistant", "content": spoken(content) or None}
                self._said.append(_Said(made, calls, cut_short))
            case "toolResult":
                call = self._unanswered.pop(_key(message.get("toolCallId")), None)
                if call is not None:
                    call.result = spoken(content) or _NO_OUTPUT

    def _say(self, role: str, text: str) -> None:
        if text:
            self._said.append(_Said({"role": role, "content": text}, []))

    def _call(self, part: Entry) -> _Call | None:
        name = part.get("name")
        if part.get("type") != "toolCall" or not isinstance(name, str) or not name:
            return None
        key = _key(part.get("id"))
        arguments = arguments_of(part.get("arguments"))
        call = _Call(self._new_id(key), sendable_name(name), arguments)
        # A later call with the same id is what later results belong to.
        self._unanswered[key] = call
        return call

    def _new_id(self, key: object) -> str:
        identity = "" if key is None else str(key)
        number = len(self._ids)
        while not _ID.fullmatch(identity) or identity in self._ids:
            number += 1
            identity = f"call-{number}"
        self._ids.add(identity)
        return identity


def spoken(content: object) -> str:
    """Its text as it may be sent; empty where nothing but white space is."""
    text = text_of(content)
    return clean(text) if text.strip() else ""


def _finished(said: _Said) -> list[Message]:
    calls = [call for call in said.calls if call.result is not None or not said.cut_short]
    if not calls:
        return [said.message] if said.message["content"] else []
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": call.result or _NO_RESULT}
        for call in calls
    ]
    return [said.message | {"tool_calls": [call.sent for call in calls]}, *results]


def _key(identity: object) -> object:
    """What calls and results are matched by; None for an id that is none."""
    is_plain = isinstance(identity, (str, int)) and not isinstance(identity, bool)
    return identity if is_plain and identity != "" else None


def sendable_name(name: str) -> str:
    """The name of a tool, of a form that endpoints take."""
    return _ODD_IN_NAME.sub("_", name)[:_NAME_MAX]


def arguments_of(given: object) -> str:
    """The arguments of a call as the text of a JSON object."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            given = {"arguments": given}
    try:
        # 1e999 is JSON, and read as infinity, which is none.
        return json.dumps(_clean_in(given) if isinstance(given, dict) else {}, allow_nan=False)
    except (ValueError, RecursionError):
        return "{}"


def clean(text: str) -> str:
    """The text with U+FFFD for NULs and halves of characters, which some endpoints refuse."""
    text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _clean_in(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(name)): _clean_in(inside) for name, inside in value.items()}
    return [_clean_in(inside) for inside in value] if isinstance(value, list) else value


def _parts(content: object) -> list[Entry]:
    return [p for p in content if isinstance(p, dict)] if isinstance(content, list) else []
