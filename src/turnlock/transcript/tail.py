"""What a new holder has to know from the end of a transcript.

It reads backwards, so that the cost is that of the last turns and not of the file:

* ``fragment``: where bytes without a newline begin, left by a write that was cut short. They are
  never cut off, because whoever would do so may be a holder that was superseded a moment ago and
  would cut off its successor's entries; the next writer begins with a newline instead. That makes
  an entry of a fragment from which nothing but the newline is missing, so it counts as one here.
* ``last_id``: the parent of the next entry: the last that has an id. Behind so many lines, or
  bytes, that have none it is the last of our own, as parsing each of a million takes minutes.
* ``epoch``: the highest so far. Epochs never decrease in a file, so the last one is the highest.
* ``turns``: the last turns, newest first. The newest may be without its terminal entry; ``calls``
  are then the tool calls that it left without a result.
* ``earlier``: turns before these that have none, oldest first. No holder of ours leaves one, as
  each writes what its predecessor owed before it opens a turn of its own; damage does, and a
  foreign writer. They are looked for in what was read anyhow, up to 16 KiB further back; doctor
  finds the rest.

A file of another program has no epoch; it is then searched to its start for one, by substring and
without parsing, once: our first entry ends that.

NULs at the end, as a power loss leaves them, are passed over: a hole of the file system without
reading it, others by comparing. A gigabyte of them costs no more than a read of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from .entries import (
    OPENING,
    TERMINAL,
    Entry,
    ToolCall,
    answered_call,
    closes,
    custom_type,
    epoch_of,
    is_terminal,
    tool_calls,
    turn_id_of,
)
from .jsonl import LINE_BYTES_MAX, ReadAt, pieces, whole_pieces

_CHUNK_BYTES = 16 * 1024
_CHUNK_BYTES_MAX = 4 * 1024 * 1024
_NULS = bytes(_CHUNK_BYTES_MAX)
_NAME = rb'"customType":"(' + b"|".join(name.encode() for name in (OPENING, *TERMINAL)) + rb')"'
_BOUNDS = re.compile(_NAME)
_EPOCH = b'"epoch"'
# What is looked at for the parent of the next entry: lines that may be entries, and bytes.
_PARENT_LINES_MAX = 256
_PARENT_BYTES_MAX = 1024 * 1024
_OPENS = OPENING.encode()


class TurnSeen(NamedTuple):
    """A turn as the transcript's end shows it. ``turn_id`` is None when its opening is damaged.

    ``opening`` is that entry's id.
    """

    epoch: int
    turn_id: str | None
    terminal: bool
    reason: str | None
    opening: str | None = None

    def is_of(self, turn_id: str | None, opening: str | None) -> bool:
        """Whether it is the turn with this id, and this opening if that is not None."""
        return self.turn_id == turn_id and opening in (self.opening, None)


class Tail(NamedTuple):
    size: int = 0
    fragment: int | None = None
    last_id: str | None = None
    epoch: int = 0
    turns: tuple[TurnSeen, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    earlier: tuple[TurnSeen, ...] = ()

    @property
    def open_turn(self) -> TurnSeen | None:
        """The newest turn, if it still owes its terminal entry."""
        return self.turns[0] if self.turns and not self.turns[0].terminal else None

    @property
    def owes(self) -> bool:
        """Whether any turn does."""
        return self.open_turn is not None or bool(self.earlier)

    def shows(self, turn_id: str, opening: str | None) -> bool:
        """Whether it shows such a turn at all, ended or not."""
        return any(turn.is_of(turn_id, opening) for turn in (*self.turns, *self.earlier))

    def turn(self, turn_id: str, opening: str | None) -> TurnSeen | None:
        """The last turn with this id, and with this opening if that is not None."""
        return next((turn for turn in self.turns if turn.is_of(turn_id, opening)), None)


def read_tail(
    read_at: ReadAt, size: int, *, turns: int = 1, data_end: Callable[[], int] | None = None
) -> Tail:
    """Read the end of a transcript of ``size`` bytes, back to the opening of its last turns.

    ``data_end`` says where the last byte is that is not in a hole; it is asked only when the file
    ends in NULs.
    """
    lines = _Backwards(read_at, size, data_end, to_parent=True)
    last_id: str | None = None
    highest = 0
    seen: list[TurnSeen] = []
    current: TurnSeen | None = None
    calls = OpenCalls()
    is_past = False
    for entry in lines.entries():
        if last_id is None and entry.get("type") != "session":
            last_id = _id_of(entry)
            if last_id is not None:
                lines.having = _EPOCH
        epoch = epoch_of(entry)
        if epoch is None:
            continue
        highest = max(highest, epoch)
        if current is None or epoch != current.epoch:
            if current is not None:
                seen.append(current)
            if len(seen) >= turns:
                # The opening of the last turn is gone; this is already a turn before it.
                is_past, current = True, None
                break
            current = TurnSeen(epoch, turn_id_of(entry), is_terminal(entry), _reason(entry))
        if not seen and not current.terminal:
            calls.look_back(entry)
        if custom_type(entry) == OPENING:
            seen.append(current._replace(turn_id=turn_id_of(entry), opening=_id_of(entry)))
            current = None
            if len(seen) >= turns:
                break
    if current is not None:
        seen.append(current)
    # Of a turn that was torn apart the opening may stand before another's entries.
    nameless = any(turn.turn_id is None for turn in seen)
    before = _unfinished(lines.before(with_last=is_past), look_closely=nameless)
    seen = [_named(turn, before) for turn in seen]
    known = {turn.epoch for turn in seen} | {turn.turn_id for turn in seen}
    earlier = [turn for turn in before.values() if known.isdisjoint((turn.epoch, turn.turn_id))]
    earlier += [turn for turn in reversed(seen[1:]) if not turn.terminal and turn.turn_id]
    return Tail(size, lines.fragment, last_id, highest, tuple(seen), calls.found(), tuple(earlier))


def read_on(
    known: Tail,
    read_at: ReadAt,
    size: int,
    *,
    turns: int = 1,
    data_end: Callable[[], int] | None = None,
) -> Tail:
    """`read_tail`, where ``known`` is what it gave before the transcript grew.

    When only lines of other programs came, nothing before them is read again: so whoever reads a
    long transcript that another program keeps writing comes to an end.
    """
    start = known.size if known.fragment is None else known.fragment
    if 0 < known.size <= size and _is_there(known, read_at, start):
        come = read_tail(
            lambda offset, length: read_at(start + offset, length),
            size - start,
            data_end=None if data_end is None else lambda: max(0, data_end() - start),
        )
        if come.epoch == 0:
            fragment = None if come.fragment is None else start + come.fragment
            last_id = come.last_id or known.last_id
            return known._replace(size=size, fragment=fragment, last_id=last_id)
    return read_tail(read_at, size, turns=turns, data_end=data_end)


def _is_there(known: Tail, read_at: ReadAt, stop: int) -> bool:
    """Whether the lines before ``stop`` still end as they did: a file may be rewritten in place."""
    begin = max(0, stop - _CHUNK_BYTES)
    lines = read_at(begin, stop - begin)
    wanted = known.last_id.encode(errors="replace") if known.last_id is not None else b""
    return lines[-1:] in (b"\n", b"") and wanted in lines


class End(NamedTuple):
    """How a transcript without turns of ours ends.

    ``unanswered``: the last message waits for a model, as it is a user's or a tool's result, or for
    a tool. ``calls`` are the tool calls of the last reply that have no result.
    """

    unanswered: bool = False
    calls: tuple[ToolCall, ...] = ()


def read_end(read_at: ReadAt, size: int, *, data_end: Callable[[], int] | None = None) -> End:
    """Read back to the last reply or question.

    OpenClaw's own error markers count as an answer. So the end of a transcript that it left when
    it was killed in mid-turn is told from one that it left in peace.
    """
    calls = OpenCalls()
    is_last = True
    unanswered = False
    for entry in _Backwards(read_at, size, data_end, to_parent=False).entries():
        if custom_type(entry) in TERMINAL:
            return End(unanswered)
        message = entry.get("message") if entry.get("type") == "message" else None
        if not isinstance(message, dict):
            continue
        role = message.get("role")
        if is_last:
            unanswered = role in ("user", "toolResult")
            is_last = False
        calls.look_back(entry)
        if role in ("user", "assistant"):
            return End(unanswered or bool(calls.found()), calls.found())
    return End(unanswered)


class OpenCalls:
    """Collects the tool calls without a result from entries that come newest first."""

    def __init__(self) -> None:
        self._answered: set[str] = set()
        self._open: dict[str, ToolCall] = {}

    def look_back(self, entry: Entry) -> None:
        answered = answered_call(entry)
        if answered is not None:
            self._answered.add(answered)
        for call in reversed(tool_calls(entry)):
            if call.id not in self._answered:
                self._open.setdefault(call.id, call)

    def found(self) -> tuple[ToolCall, ...]:
        """Oldest first."""
        return tuple(reversed(self._open.values()))


def _id_of(entry: Entry) -> str | None:
    identity = entry.get("id")
    return identity if isinstance(identity, str) else None


def _reason(entry: Entry) -> str | None:
    data = entry.get("data")
    reason = data.get("reason") if isinstance(data, dict) else None
    return reason if isinstance(reason, str) else None


def _named(turn: TurnSeen, opened: Mapping[int, TurnSeen]) -> TurnSeen:
    if turn.turn_id is not None or turn.epoch not in opened:
        return turn
    opening = opened[turn.epoch]
    return turn._replace(turn_id=opening.turn_id, opening=opening.opening)


def _unfinished(lines: bytes, *, look_closely: bool) -> dict[int, TurnSeen]:
    """The turns that open in these lines and do not end in them, by epoch."""
    names = _BOUNDS.findall(lines)
    # Nearly always each opening is followed by a terminal entry, and nothing has to be parsed.
    if not look_closely and (_OPENS, _OPENS) not in pairwise([*names, _OPENS]):
        return {}
    unfinished: dict[int, TurnSeen] = {}
    for raw in lines.split(b"\n"):
        for _, _, entry in pieces(raw) if b'"customType"' in raw else ():
            epoch = epoch_of(entry) if entry is not None else None
            if entry is None or epoch is None:
                continue
            if custom_type(entry) == OPENING and turn_id_of(entry) is not None:
                turn = TurnSeen(epoch, turn_id_of(entry), False, None, _id_of(entry))
                unfinished[epoch] = turn
            elif is_terminal(entry):
                unfinished.pop(epoch, None)
                unfinished.pop(closes(entry) or 0, None)
    return unfinished


class _Backwards:
    """The lines of a file from its end. First of all what follows the last newline.

    ``having``: only lines with these bytes in them; it may be set on the way. ``to_parent``: it is
    an epoch, once enough was looked at for the parent of the next entry.
    """

    def __init__(
        self,
        read_at: ReadAt,
        size: int,
        data_end: Callable[[], int] | None,
        *,
        to_parent: bool,
    ) -> None:
        self.fragment: int | None = None
        self.having = b""
        self._to_parent = to_parent
        self._read_at = read_at
        self._size = size
        self._data_end = data_end
        self._block = b""
        self._begin = 0
        self._end = 0
        self._stop = 0
        self._behind = 0

    def entries(self) -> Iterator[Entry]:
        """The entries, newest first, of whole lines and of a line that has several."""
        lines = self._lines()
        yield from (whole for _, _, whole in reversed(whole_pieces(next(lines))))
        parsed = 0
        for raw in lines:
            # What has no quote is no entry: blank lines must not cost a take its time.
            if b'"' in raw:
                parsed += 1
                yield from (whole for _, _, whole in reversed(pieces(raw)) if whole is not None)
            if self._to_parent and not self.having:
                passed = self._end - self._begin - self._stop
                if parsed >= _PARENT_LINES_MAX or passed > _PARENT_BYTES_MAX:
                    self.having = _EPOCH

    def before(self, *, with_last: bool) -> bytes:
        """Whole lines before the last one given, as far as they were read; 16 KiB at most."""
        stop = self._behind if with_last else self._stop
        begin = max(0, stop - _CHUNK_BYTES)
        lines = self._block[begin:stop]
        is_whole = self._begin + begin == 0
        return lines if is_whole else lines.partition(b"\n")[2]

    def _lines(self) -> Iterator[bytes]:
        end = self._end = self._without_nuls()
        chunk_bytes = _CHUNK_BYTES
        complete = False
        too_long = False
        carried = b""
        while end > 0:
            start = max(0, end - chunk_bytes)
            # A frozen or truncated file gives fewer bytes than it promised; what is there counts.
            block = self._block = self._read_at(start, end - start) + carried
            self._begin = start
            chunk_bytes = min(chunk_bytes * 2, _CHUNK_BYTES_MAX)
            stop = len(block)
            while (found := self._last_line(block, stop))[0] >= 0:
                begin, stop = found
                if not complete:
                    self._see_fragment(start + begin)
                    complete = True
                self._stop, self._behind = begin, stop
                yield b"" if too_long else block[begin:stop]
                too_long = False
                stop = begin - 1
            stop = found[1]
            carried = block[:stop]
            too_long = too_long and stop == len(block)
            if too_long or len(carried) > LINE_BYTES_MAX:
                too_long, carried = True, b""
            end = start
        if not complete:
            self._see_fragment(0)
        self._stop, self._behind = 0, len(carried)
        yield b"" if too_long else carried

    def _last_line(self, block: bytes, stop: int) -> tuple[int, int]:
        """(begin, stop) of the last wanted line before ``stop``.

        Without one that begins in the block, begin is -1, and stop that of the line cut by it.
        """
        if not self.having:
            return block.rfind(b"\n", 0, stop) + 1 or -1, stop
        at = block.rfind(self.having, 0, stop)
        cut = block.rfind(b"\n", 0, at) if at >= 0 else -1
        if cut < 0:
            first = block.find(b"\n", 0, stop)
            return -1, stop if first < 0 else first
        behind = block.find(b"\n", at, stop)
        return cut + 1, stop if behind < 0 else behind

    def _see_fragment(self, offset: int) -> None:
        self.fragment = offset if offset < self._size else None

    def _without_nuls(self) -> int:
        """The size without NULs at the end."""
        end = self._size
        if self._read_at(max(0, end - 1), 1) != b"\0":
            return end
        if self._data_end is not None:
            end = min(end, self._data_end())
        chunk_bytes = _CHUNK_BYTES
        while end > 0:
            start = max(0, end - chunk_bytes)
            block = self._read_at(start, end - start)
            if block != _NULS[: len(block)]:
                return start + len(block.rstrip(b"\0"))
            chunk_bytes = min(chunk_bytes * 2, _CHUNK_BYTES_MAX)
            end = start
        return 0
