"""The writer of one lease: ids, parents and epochs, the opening, what predecessors owe.

Whatever a turn appends goes into one buffer with what has to come before it: the markers of
predecessors that could not be written yet, then the turn's own opening. So a turn that writes
nothing leaves nothing, and no entry of a turn is ever seen without its opening.

A marker closes what its turn left open: before it comes a result for each tool call that has none,
which says that the call was cut off. A turn that ends well may leave a call to the next one.

A predecessor that has turns after it gets opening and marker under an epoch of its own, since
epochs never decrease in a file; ``closes`` in the marker names the epoch that it closes.

The turn's epoch is the next one after all of these; it is known once they are.

Threads and tasks of one turn may append while another ends it. Who comes first is settled by the
writer's mutex: an append is either before the terminal entry, or refused.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..backends import Backend, BackendLease, Superseded, TailMoved
from ..clock import Clock, iso
from ..errors import TranscriptError
from ..transcript.entries import (
    EPOCH_MAX,
    OPENING,
    RESERVED,
    TERMINAL,
    Entry,
    Failure,
    ToolCall,
    answered_call,
    custom_type,
    cut_off_result,
    marker,
    new_id,
    opening,
    tool_calls,
)
from ..transcript.jsonl import encode
from ..transcript.tail import Tail, TurnSeen

_ID = re.compile(r"[A-Za-z0-9._:@+=-]{1,128}", re.ASCII)
# The end can only move when another program writes the file; then it is read once more.
_MOVES_MAX = 10

ERRORS = {
    "interrupted": "the process that ran this turn ended before the turn did",
    "hold-limit": "the turn held its session for longer than its hold limit",
    "stall-limit": "the turn made no progress for longer than its stall limit",
    "model-limit": "the model call gave no content within its limit",
    "operator": "an operator took the session from this turn",
    "cancelled": "the turn was cancelled",
}


class Ended(Exception):
    """The turn has come to its end: nothing more of it is written, and nothing was."""


class _Rendered(NamedTuple):
    """Lines to write, and what the transcript's end is once they are written."""

    lines: list[bytes]
    after: Tail
    marked: list[Failure]


class Writer:
    """``on_marked`` is told of every marker that became durable.

    ``details`` are what this process knows of turns that it superseded itself; a claim says less.
    """

    def __init__(
        self,
        backend: Backend[Any],
        held: BackendLease,
        clock: Clock,
        *,
        label: str,
        turn_id: str | None,
        on_marked: Callable[[Failure], None],
        details: Mapping[str, Failure] | None = None,
    ) -> None:
        self._backend = backend
        self._held = held
        self._clock = clock
        self._label = label
        self._turn_id = turn_id
        self._on_marked = on_marked
        self._details = details or {}
        self._mutex = threading.Lock()
        self._owes = bool(held.owed) or held.tail.owes
        self._calls: dict[str, ToolCall] = {}
        self._session_id: str | None = None
        # An epoch above this one is the turn's own, even when a turn before it had the same name.
        self._epoch_before = held.tail.epoch
        self.opened = False
        self._closed = False

    @property
    def epoch(self) -> int:
        """The turn's epoch. Only once the turn is opened is it durable."""
        if self.opened:
            return self._held.tail.epoch
        return self._render_owed(self._held.tail)[1] + 1

    @property
    def owes_alone(self) -> bool:
        """Whether a predecessor is owed a marker that the transcript does not show to be missing.

        That is one that wrote nothing. Only the claims that name it know of it.
        """
        tail, owed = self._held.tail, self._held.owed
        return self._owes and any(
            turn.turn_id and not tail.turn(turn.turn_id, turn.opening) for turn in owed
        )

    def settle(self) -> None:
        """Write what predecessors owe, if they owe anything. Raises as `append` does."""
        if self._owes:
            with self._mutex:
                self._write((), with_opening=False)

    def open(self) -> None:
        """Make the turn's opening durable. Raises `Ended`, and as `append` does."""
        with self._mutex:
            self._check_open()
            if not self.opened:
                self._write((), with_opening=True)

    def append(self, entries: Iterable[Mapping[str, Any]]) -> list[str]:
        """Append entries as one; ids of all of them. An id that the transcript has is skipped.

        Raises `Ended`.
        """
        prepared = [checked_entry(entry, self._label) for entry in entries]
        with self._mutex:
            self._check_open()
            own = {entry["id"] for entry in prepared if "id" in entry}
            seen = self._backend.known_ids(self._held, own) if own else set()
            fresh = []
            for entry in prepared:
                identity = entry.setdefault("id", new_id())
                if identity not in seen:
                    seen.add(identity)
                    fresh.append(entry)
            if fresh:
                self._write(fresh, with_opening=True)
                self._follow(fresh)
            return [entry["id"] for entry in prepared]

    def terminate(self, entry: Entry) -> bool:
        """Append the terminal entry if the turn is opened; whether it is. Nothing follows."""
        with self._mutex:
            self._closed = True
            if self.opened:
                self._write([{"id": new_id()} | entry], with_opening=True)
            elif self._owes:
                self._write((), with_opening=False)
            return self.opened

    def fail(self, failure: Failure) -> None:
        """Append the turn's error marker, and a result for each tool call that has none.

        With the opening, if the turn has none yet. Nothing follows.
        """
        with self._mutex:
            self._closed = True
            self._write(
                [*_results(self._calls.values()), {"id": new_id()} | self._marker(failure)],
                with_opening=True,
            )

    def _check_open(self) -> None:
        if self._closed:
            raise Ended

    def _follow(self, entries: Iterable[Entry]) -> None:
        """Keep in mind which tool calls of the turn have no result."""
        for entry in entries:
            self._calls.pop(answered_call(entry) or "", None)
            self._calls.update((call.id, call) for call in tool_calls(entry))

    def _write(self, entries: Sequence[Entry], *, with_opening: bool) -> None:
        for _ in range(_MOVES_MAX):
            if self._has_ended():
                if self._closed:
                    return
                raise Ended
            rendered = self._render(entries, with_opening=with_opening)
            if not rendered.lines:
                self._owes = False
                return
            try:
                self._backend.append(self._held, rendered.lines, rendered.after)
            except TailMoved:
                entries = self._unwritten(entries) if entries else entries
                continue
            self._owes = False
            self.opened = self.opened or with_opening
            for failure in rendered.marked:
                self._on_marked(failure)
            return
        raise TranscriptError(
            self._label, f"another program wrote it {_MOVES_MAX} times in between"
        )

    def _unwritten(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those that the transcript has not got meanwhile.

        A write of ours that failed may arrive while it is asked for again, and moves the end.
        """
        known = self._backend.known_ids(self._held, {entry["id"] for entry in entries})
        return [entry for entry in entries if entry["id"] not in known]

    def _has_ended(self) -> bool:
        """Whether the transcript has the turn's terminal entry already.

        A write of ours that failed may be there all the same, and so may one after which a signal's
        handler raised. It was not acknowledged, but a second opening, a second terminal entry, or
        what predecessors owed once more, must not follow it.
        """
        if self._turn_id is None:
            return False
        mine = self._held.tail.turn(self._turn_id, self._held.opening)
        if mine is None or mine.epoch <= self._epoch_before:
            return False
        self.opened, self._owes = True, False
        return mine.terminal

    def _render(self, entries: Sequence[Entry], *, with_opening: bool) -> _Rendered:
        owed, epoch, marked = self._render_owed(self._held.tail)
        numbered = list(owed)
        if with_opening and not self.opened:
            assert self._turn_id is not None
            epoch += 1
            numbered.append((epoch, _opening(self._turn_id, self._held.opening)))
        if epoch > EPOCH_MAX:
            # No reader would know it for an epoch, and the next turn would get the same one again.
            raise TranscriptError(
                self._label,
                f"it has the highest epoch that there is ({EPOCH_MAX}), and no turn comes after it",
                "another program wrote that number: take it out of the transcript by hand",
            )
        numbered += [(epoch, entry) for entry in entries]
        lines = []
        last_id = self._held.tail.last_id
        wall = self._clock.wall()
        for number, entry in numbered:
            try:
                lines.append(_line(entry, last_id, number, wall))
            except (TypeError, ValueError) as error:
                raise TranscriptError(self._label, f"the entry is not JSON: {error}") from None
            last_id = entry["id"]
        ends = [number for number, entry in owed if custom_type(entry) in TERMINAL]
        openings = {number: entry["id"] for number, entry in owed if custom_type(entry) == OPENING}
        seen = [
            TurnSeen(number, failure.turn_id, True, failure.reason, openings.get(number))
            for number, failure in zip(ends, marked, strict=True)
        ]
        if self.opened or with_opening:
            ended = bool(numbered) and custom_type(numbered[-1][1]) in TERMINAL
            seen.append(TurnSeen(epoch, self._turn_id, ended, None, self._held.opening))
        after = Tail(last_id=last_id, epoch=epoch, turns=tuple(reversed(seen)))
        return _Rendered(lines, after, marked)

    def _render_owed(self, tail: Tail) -> tuple[list[tuple[int, Entry]], int, list[Failure]]:
        """What predecessors owe, with epochs; the last epoch used; their failures."""
        if not self._owes:
            return [], tail.epoch, []
        owed: list[tuple[int, Entry]] = []
        marked: list[Failure] = []
        results = _results(tail.calls)
        unfinished = tail.open_turn
        epoch = tail.epoch
        if unfinished is not None:
            turn_id = unfinished.turn_id or "unknown"
            marked.append(self._failure(turn_id, self._superseded(unfinished)))
            closing = [*results, {"id": new_id()} | self._marker(marked[-1])]
            owed += [(unfinished.epoch, entry) for entry in closing]
            results = []
        late: list[tuple[str | None, Failure]] = []
        for seen in tail.earlier:
            if seen.turn_id is not None:
                failure = self._failure(seen.turn_id, self._superseded(seen))
                late.append((None, failure._replace(closes=seen.epoch)))
        superseded = {(turn.turn_id, turn.opening): turn for turn in self._held.owed}
        late.extend(
            (turn.opening, self._failure(turn.turn_id, turn))
            for turn in superseded.values()
            if turn.turn_id and not tail.shows(turn.turn_id, turn.opening)
        )
        for opening_id, failure in late:
            epoch += 1
            marked.append(failure)
            beginning = _opening(failure.turn_id, opening_id)
            closing = [beginning, *results, {"id": new_id()} | self._marker(failure)]
            owed += [(epoch, entry) for entry in closing]
            results = []
        return owed, epoch, marked

    def _superseded(self, seen: TurnSeen) -> Superseded | None:
        """What is known of a turn in the transcript from whoever took its claim."""
        owed = reversed(self._held.owed)
        return next((one for one in owed if seen.is_of(one.turn_id, one.opening)), None)

    def _failure(self, turn_id: str, turn: Superseded | None) -> Failure:
        known = self._details.get(turn_id)
        if known is not None:
            return known
        reason = turn.reason if turn is not None and turn.reason in ERRORS else "interrupted"
        held = turn.held if turn is not None else None
        # The holder of a dead claim died some time before it was found.
        return Failure(turn_id, reason, ERRORS[reason], None if reason == "interrupted" else held)

    def _marker(self, failure: Failure) -> Entry:
        if self._session_id is None:
            self._session_id = self._backend.header_id(self._held)
        return marker(failure, session_id=self._session_id, wall=self._clock.wall())


def _results(calls: Iterable[ToolCall]) -> list[Entry]:
    return [{"id": new_id()} | cut_off_result(call) for call in calls]


def _opening(turn_id: str, identity: str | None) -> Entry:
    return {"id": identity or new_id()} | opening(turn_id)


def _line(entry: Entry, parent: str | None, epoch: int, wall: float) -> bytes:
    """An entry as a line, in OpenClaw's order of fields."""
    kind = entry["type"]
    rest = {k: v for k, v in entry.items() if k not in ("type", "id", "parentId", "timestamp")}
    message = rest.get("message")
    if isinstance(message, dict) and "timestamp" not in message:
        rest["message"] = message | {"timestamp": round(wall * 1000)}
    return encode(
        {
            "type": kind,
            "id": entry["id"],
            "parentId": entry.get("parentId", parent),
            "timestamp": entry.get("timestamp", iso(wall)),
            **rest,
            "epoch": epoch,
        }
    )


def checked_entry(entry: Mapping[str, Any], label: str) -> Entry:
    """A copy of a caller's entry, checked: what only we may write is refused.

    Raises `TranscriptError`, whose ``path`` is the ``label`` then.
    """
    if not isinstance(entry, Mapping):
        raise TranscriptError(label, f"an entry is a mapping, not a {type(entry).__name__}")
    made = dict(entry)
    kind = made.get("type")
    if not isinstance(kind, str) or not kind:
        raise TranscriptError(label, f"an entry needs a 'type' that is text, not {kind!r:.100}")
    if kind == "session" or custom_type(made) in RESERVED:
        raise TranscriptError(label, f"entries of type {custom_type(made) or kind!r} are not yours")
    identity = made.get("id")
    if identity is None:
        made.pop("id", None)
    elif not isinstance(identity, str) or not _ID.fullmatch(identity):
        raise TranscriptError(label, f"the entry's id {identity!r:.200} is not {_ID.pattern}")
    for name in ("parentId", "timestamp"):
        if not isinstance(made.get(name), str):
            made.pop(name, None)
    return made
