"""What a new holder has to know from the end of a transcript.

It reads backwards, so that the cost is that of the last turns and not of the file:

* ``fragment``: where bytes without a newline begin, left by a write that was cut short. They are
  never cut off, because whoever would do so may be a holder that was superseded a moment ago and
  would cut off its successor's entries; the next writer begins with a newline instead.
* ``last_id``: the parent of the next entry.
* ``epoch``: the highest so far. Epochs never decrease in a file, so the last one is the highest.
* ``turns``: the last turns, newest first. Only the newest can be without its terminal entry: every
  holder writes what its predecessor owed before it opens a turn of its own.

A file of another program has no epoch; it is then searched to its start for one, by substring and
without parsing, once: our first entry ends that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .entries import OPENING, TERMINAL, custom_type, epoch_of, is_terminal, turn_id_of
from .jsonl import LINE_BYTES_MAX, ReadAt, decode

_CHUNK_BYTES = 16 * 1024
_CHUNK_BYTES_MAX = 4 * 1024 * 1024


class TurnSeen(NamedTuple):
    """A turn as the transcript's end shows it. ``turn_id`` is None when its opening is damaged."""

    epoch: int
    turn_id: str | None
    terminal: bool
    reason: str | None


class Tail(NamedTuple):
    size: int = 0
    fragment: int | None = None
    last_id: str | None = None
    epoch: int = 0
    turns: tuple[TurnSeen, ...] = ()

    @property
    def open_turn(self) -> TurnSeen | None:
        """The turn that still owes its terminal entry."""
        return self.turns[0] if self.turns and not self.turns[0].terminal else None

    def turn(self, turn_id: str) -> TurnSeen | None:
        return next((turn for turn in self.turns if turn.turn_id == turn_id), None)


def read_tail(read_at: ReadAt, size: int, *, turns: int = 1) -> Tail:
    """Read the end of a transcript of ``size`` bytes, back to the opening of its last turns."""
    fragment: int | None = None
    last_id: str | None = None
    seen: list[TurnSeen] = []
    current: TurnSeen | None = None
    for offset, raw, complete in _lines_backwards(read_at, size):
        if not complete:
            fragment = offset if raw else None
            continue
        if last_id is not None and b'"epoch"' not in raw:
            continue
        # What has no quote is no entry: a file full of blank lines must not cost a take its time.
        entry = decode(raw) if b'"' in raw else None
        if entry is None:
            continue
        if last_id is None and entry.get("type") != "session":
            identity = entry.get("id")
            last_id = identity if isinstance(identity, str) else None
        epoch = epoch_of(entry)
        if epoch is None:
            continue
        if current is None or epoch != current.epoch:
            if current is not None:
                seen.append(current)
            if len(seen) >= turns:
                current = None
                break
            terminal = is_terminal(entry)
            current = TurnSeen(epoch, turn_id_of(entry), terminal, _reason(entry))
        if custom_type(entry) == OPENING:
            seen.append(current._replace(turn_id=turn_id_of(entry)))
            current = None
            if len(seen) >= turns:
                break
    if current is not None:
        seen.append(current)
    highest = max((turn.epoch for turn in seen), default=0)
    return Tail(size, fragment, last_id, highest, tuple(seen))


def ends_unanswered(read_at: ReadAt, size: int) -> bool:
    """Whether the last message waits for a model: a user's message, or a tool's result.

    OpenClaw's own error markers count as an answer. So the end of a transcript that it left when
    it was killed in mid-turn is told from one that it left in peace.
    """
    for _, raw, complete in _lines_backwards(read_at, size):
        entry = decode(raw) if complete and b'"' in raw else None
        if entry is None:
            continue
        if custom_type(entry) in TERMINAL:
            return False
        message = entry.get("message") if entry.get("type") == "message" else None
        if isinstance(message, dict):
            return message.get("role") in ("user", "toolResult")
    return False


def _reason(entry: dict[str, object]) -> str | None:
    data = entry.get("data")
    reason = data.get("reason") if isinstance(data, dict) else None
    return reason if isinstance(reason, str) else None


def _lines_backwards(read_at: ReadAt, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """(offset, line, complete) from the end; first what follows the last newline, if only b''."""
    end = size
    carried = b""
    complete = False
    chunk_bytes = _CHUNK_BYTES
    while end > 0:
        start = max(0, end - chunk_bytes)
        # A frozen or truncated file gives fewer bytes than it promised; what is there counts.
        block = read_at(start, end - start) + carried
        chunk_bytes = min(chunk_bytes * 2, _CHUNK_BYTES_MAX)
        cut = block.rfind(b"\n")
        stop = len(block)
        while cut >= 0:
            yield start + cut + 1, block[cut + 1 : stop], complete
            complete = True
            stop = cut
            cut = block.rfind(b"\n", 0, stop)
        carried = block[:stop]
        if len(carried) > LINE_BYTES_MAX:
            carried = b""
        end = start
    yield 0, carried, complete
