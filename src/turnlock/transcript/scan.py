"""All of a transcript, looked at for what is not as a writer of ours leaves it.

`Scan` is fed every line, in order, and never looks back at one; what it keeps of a transcript is
its ids and who is whose parent. Most of what it finds costs a reader nothing, as readers step over
it or answer it; it is there so that a person knows.
"""

from __future__ import annotations

from typing import NamedTuple

from .entries import (
    OPENING,
    VERSION,
    Entry,
    ToolCall,
    answered_call,
    closes,
    custom_type,
    epoch_of,
    is_terminal,
    message_of,
    tool_calls,
    turn_id_of,
)
from .history import Tree
from .jsonl import Line
from .tail import TurnSeen

# Of damaged bytes so many are kept to be copied aside; more are only counted.
_DAMAGED_BYTES_MAX = 64 * 1024 * 1024


class Damage(NamedTuple):
    """Bytes of a line that are no entry."""

    offset: int
    raw: bytes


class OpenCall(NamedTuple):
    """A tool call without result, in the ``place``-th entry."""

    place: int
    call: ToolCall


class Scan:
    """What was found. ``headers`` are all of them, ``versions`` those that are not ours."""

    def __init__(self) -> None:
        self.damaged: list[Damage] = []
        self.damaged_count = 0
        self.glued = 0
        self.headers: list[Line] = []
        self.is_header_first = False
        self.duplicates = 0
        self.orphan_results = 0
        self.missing_parents = 0
        self.epochs_decrease = 0
        self._behind = -1
        self._damaged_bytes = 0
        self._tree = Tree()
        self._turns: dict[int, TurnSeen] = {}
        self._ended: set[int] = set()
        self._highest = 0
        self._calls: dict[str, OpenCall] = {}
        self._replaced: list[OpenCall] = []
        self._last_said = -1

    @property
    def versions(self) -> list[object]:
        found = (line.entry.get("version") for line in self.headers if line.entry)
        return [version for version in found if version != VERSION]

    @property
    def unfinished(self) -> list[TurnSeen]:
        """The turns without terminal entry, oldest first."""
        return [self._turns[epoch] for epoch in sorted(self._turns)]

    @property
    def open_calls(self) -> list[OpenCall]:
        """The tool calls without result after which something else was said.

        Without that a call may be waiting for its result.
        """
        passed = (one for one in self._calls.values() if one.place < self._last_said)
        return sorted([*self._replaced, *passed])

    def off_branch(self) -> int:
        """How many entries are not on the active branch."""
        return len(self._tree) - len(self._tree.branch())

    def feed(self, line: Line) -> None:
        entry = line.entry
        self.glued += line.offset == self._behind and entry is not None
        self._behind = line.offset + len(line.raw)
        if entry is None:
            self._feed_damaged(line)
        elif entry.get("type") == "session":
            self.is_header_first |= not self.headers and len(self._tree) == self.damaged_count == 0
            self.headers.append(line)
        else:
            is_new = self._feed_tree(entry)
            self._feed_turn(entry)
            self._feed_calls(entry, is_new)

    def _feed_damaged(self, line: Line) -> None:
        if not line.is_damaged:
            return
        self.damaged_count += 1
        self._damaged_bytes += len(line.raw)
        if self._damaged_bytes <= _DAMAGED_BYTES_MAX:
            self.damaged.append(Damage(line.offset, line.raw))

    def _feed_tree(self, entry: Entry) -> bool:
        """Whether no entry before has the same id."""
        parent = entry.get("parentId")
        self.missing_parents += isinstance(parent, str) and parent not in self._tree
        identity = entry.get("id")
        is_new = not isinstance(identity, str) or identity not in self._tree
        self.duplicates += not is_new
        self._tree.add(entry)
        return is_new

    def _feed_turn(self, entry: Entry) -> None:
        closed = closes(entry)
        if closed is not None:
            self._end(closed)
        epoch = epoch_of(entry)
        if epoch is None:
            return
        self.epochs_decrease += epoch < self._highest
        self._highest = max(self._highest, epoch)
        if is_terminal(entry):
            self._end(epoch)
        elif epoch not in self._ended:
            turn = self._turns.setdefault(epoch, TurnSeen(epoch, None, False, None))
            if custom_type(entry) == OPENING:
                self._turns[epoch] = turn._replace(turn_id=turn_id_of(entry))

    def _end(self, epoch: int) -> None:
        self._ended.add(epoch)
        self._turns.pop(epoch, None)

    def _feed_calls(self, entry: Entry, is_new: bool) -> None:
        place = len(self._tree) - 1
        role = message_of(entry).get("role")
        if role == "toolResult" and self._calls.pop(answered_call(entry) or "", None) is None:
            self.orphan_results += 1
        if role in ("user", "assistant"):
            self._last_said = place
        for call in tool_calls(entry) if is_new else ():
            before = self._calls.get(call.id)
            self._replaced += [before] if before is not None else []
            self._calls[call.id] = OpenCall(place, call)
