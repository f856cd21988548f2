"""A transcript for people, with its error markers in plain sight, and its entries for programs."""

from __future__ import annotations

import json

from ..errors import seconds
from ..printable import printable
from ..transcript.entries import CUT_SHORT, Entry, closes, epoch_of, kind_of, turn_id_of
from ..transcript.history import text_of
from ..transcript.jsonl import Line
from .terminal import paint

_LABEL_LENGTH = 11
_ARGUMENTS_LENGTH = 200
# Of a turn, in ms. What is beyond was not measured, but written by hand.
_HELD_MAX = 1e15


class Reader:
    """Makes lines of text from lines of a transcript, in their order; counts the damaged ones."""

    def __init__(self, session: str) -> None:
        self.damaged = 0
        self._session = session
        self._epoch: int | None = None

    def lines(self, line: Line) -> list[str]:
        if line.entry is None:
            if not line.is_damaged:
                return []
            self.damaged += 1
            size = len(line.raw)
            return [paint(f"  ~~ damaged line at byte {line.offset}, {size} bytes ~~", "warning")]
        if line.entry.get("type") == "session":
            return [paint(f"session {self._session}", "strong")]
        epoch = epoch_of(line.entry)
        turn = []
        if epoch is not None and epoch != self._epoch:
            turn = [_turn_line(epoch, line.entry)]
        self._epoch = epoch or self._epoch
        return turn + _entry_lines(line.entry)


def _turn_line(epoch: int, entry: Entry) -> str:
    turn_id = turn_id_of(entry) if kind_of(entry) == "opening" else None
    named = f"  turn {printable(turn_id)}" if turn_id else ""
    return paint(f"epoch {epoch}{named}", "strong")


def _entry_lines(entry: Entry) -> list[str]:
    match kind_of(entry):
        case "opening":
            return []
        case "end":
            return [_labelled("end", entry, _held(entry), "faint")]
        case "error-marker":
            return [_marker_line(entry)]
        case "message":
            return _message_lines(entry)
        case kind:
            return [_labelled("", entry, printable(kind), "faint")]


def _message_lines(entry: Entry) -> list[str]:
    message = entry.get("message")
    if not isinstance(message, dict):
        return [_labelled("message", entry, "(without content)", "faint")]
    texts = [printable(line) for line in _shown(message).split("\n")]
    label = printable(message.get("role"))
    gap = " " * (len(_prefix(label, entry)))
    return [_prefix(label, entry) + texts[0], *(gap + text for text in texts[1:])]


def _shown(message: Entry) -> str:
    """What a message says: text, tool calls, and why it stopped when it did not end well."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    texts = [text] if (text := text_of(content)) else []
    for part in parts:
        if isinstance(part, dict) and part.get("type") == "toolCall":
            arguments = json.dumps(part.get("arguments"))[:_ARGUMENTS_LENGTH]
            texts.append(f"[calls {part.get('name')} {arguments}]")
        elif isinstance(part, dict) and part.get("type") not in ("text", None):
            texts.append(f"[{part.get('type')}]")
    if message.get("stopReason") in CUT_SHORT:
        texts.append(f"[{message['stopReason']}: {message.get('errorMessage')}]")
    return "\n".join(texts) or "(empty)"


def _marker_line(entry: Entry) -> str:
    data = entry.get("data")
    facts: Entry = data if isinstance(data, dict) else {}
    reason = facts.get("reason")
    what = f"{reason}: {facts.get('error')}" if reason else str(facts.get("error"))
    phase = f"phase {facts['phase']}" if facts.get("phase") else ""
    closed = f"of epoch {closes(entry)}" if closes(entry) else ""
    where = ", ".join(text for text in (closed, _held(entry), phase) if text)
    return _labelled("!! failed", entry, what + (f" ({where})" if where else ""), "error")


def _held(entry: Entry) -> str:
    data = entry.get("data")
    held = data.get("heldMs") if isinstance(data, dict) else None
    if isinstance(held, bool) or not isinstance(held, (int, float)):
        return ""
    if not 0 <= held <= _HELD_MAX:
        return ""
    return f"after {seconds(held / 1000)}"


def _labelled(label: str, entry: Entry, text: str, color: str) -> str:
    return paint(_prefix(label, entry) + printable(text), color)


def _prefix(label: str, entry: Entry) -> str:
    stamp = entry.get("timestamp")
    moment = printable(stamp[:19].replace("T", " ")) if isinstance(stamp, str) else ""
    return f"  {moment:<19}  {label:<{_LABEL_LENGTH}}"
