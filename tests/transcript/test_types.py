"""Whatever type a field of an entry has, no reader of a transcript fails on it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import turnlock
from turnlock.transcript.entries import Entry, Failure, cut_off_result, end, marker, opening
from turnlock.transcript.entries import ToolCall as Call
from turnlock.transcript.healing import Copy
from turnlock.transcript.history import messages
from turnlock.transcript.jsonl import read_lines
from turnlock.transcript.scan import Scan
from turnlock.transcript.tail import read_end, read_tail

# As JSON text: also what a writer of ours refuses, and Python reads as infinity or very long.
VALUES = (
    *("null", "true", "0", "-1", "1.5", "1e999", "1" + 30 * "0", '""', '"error"', '"\\ud800"'),
    *("[]", "{}", '["error"]', '{"error": 1}', '[{"type": "toolCall", "id": [], "name": {}}]'),
)
CALL = {"type": "toolCall", "id": "c", "name": "look", "arguments": {"at": "it"}}
REPLY = {"role": "assistant", "content": [{"type": "text", "text": "x"}, CALL], "stopReason": "x"}
USER = {"role": "user", "content": [{"type": "text", "text": "x"}]}
COMMON = {"id": "x", "parentId": "w", "timestamp": "2026-01-01T00:00:00.000Z", "epoch": 1}
KINDS: dict[str, Entry] = {
    "header": {"type": "session", "version": 3, "id": "s", "cwd": "/"},
    "opening": opening("T1"),
    "end": end("T1", 1.0),
    "marker": marker(Failure("T1", "error", "x", closes=1), session_id="s", wall=0.0),
    "reply": {"type": "message", "message": REPLY},
    "question": {"type": "message", "message": USER},
    "result": cut_off_result(Call("c", "look")),
    "compaction": {"type": "compaction", "summary": "x", "firstKeptEntryId": "w"},
    "branch": {"type": "branch_summary", "summary": "x"},
    "told": {"type": "custom_message", "content": [{"type": "text", "text": "x"}]},
}

# What stands before the entry, and behind it.
AROUND: tuple[tuple[list[str], list[str]], ...] = (
    ([], []),
    ([], ["question"]),
    (["opening", "reply"], []),
)


def paths(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """Every place inside of a JSON value."""
    inside = value.items() if isinstance(value, Mapping) else enumerate(value)
    for name, found in inside:
        yield (*above, name)
        if isinstance(found, (dict, list)):
            yield from paths(found, *above, name)


def text_with(entry: Entry, path: tuple[Any, ...], value: str) -> bytes:
    """The line of the entry with the JSON text ``value`` at that place."""
    changed = copy.deepcopy(entry)
    place: Any = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = "\0here"
    return json.dumps(changed).replace(json.dumps("\0here"), value).encode() + b"\n"


def read_in_every_way(content: bytes) -> None:
    def read_at(offset: int, length: int) -> bytes:
        return content[offset : offset + length]

    read_tail(read_at, len(content), turns=3)
    read_end(read_at, len(content))
    lines = list(read_lines(read_at))
    messages(line.entry for line in lines if line.entry is not None)
    scan = Scan()
    for line in lines:
        scan.feed(line)
    scan.off_branch()
    list(Copy(scan, lambda: b"{}\n", 0.0).lines(lines))


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_of_any_type_makes_a_reader_fail(kind: str) -> None:
    """I9: one entry of another program must not make a session that nobody can take."""
    entry = KINDS[kind] | (COMMON if kind != "header" else {})
    sound = {name: text_with(COMMON | KINDS[name], ("epoch",), "1") for name in KINDS}
    for path in paths(entry):
        for value in VALUES:
            line = text_with(entry, path, value)
            for before, after in AROUND:
                parts = [*(sound[one] for one in before), line, *(sound[one] for one in after)]
                try:
                    read_in_every_way(b"".join(parts))
                except Exception as error:
                    raise AssertionError((before, path, value, after)) from error


@pytest.mark.parametrize("reason", [["error"], {"error": 1}])
def test_a_turn_that_died_on_a_strange_stop_reason_is_taken_over(
    tmp_path: Path, reason: object
) -> None:
    """The reader of a take met a list there, and no turn could begin any more."""
    reply = {"type": "message", "message": {"role": "assistant", "stopReason": reason}}
    with turnlock.open_store(tmp_path, durability="none") as store:
        with store.turn("main/a") as turn:
            turn.append(reply)
            assert turn.messages() == []
        with store.turn("main/a") as turn:
            assert len(list(store.read("main/a"))) == 3
