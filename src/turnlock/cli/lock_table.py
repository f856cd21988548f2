"""Locks as lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..backends import LockRecord
from ..errors import seconds
from ..printable import printable
from .terminal import columns, paint, width

_TURN_LENGTH = 20
_STATE_KINDS = {
    "held": "good",
    "removed": "good",
    "over limit": "warning",
    "stale": "warning",
    "unknown": "warning",
}
_STATE_LENGTH = max(map(len, _STATE_KINDS))


def lock_lines(
    locks: Sequence[LockRecord], notes: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """One aligned line a lock, the state coloured; two on a terminal where one does not fit.

    ``notes``: what else is known of a lock, by its path; printable already.
    """
    rows = [(state_of(lock), *_cells(lock), *_note(lock, notes)) for lock in locks]
    lines = columns(rows, indent="  ")
    room = width()
    if room is not None and max(map(len, lines), default=0) > room:
        return [line for row in rows for line in _folded(row)]
    return [_colored(line, row[0]) for line, row in zip(lines, rows, strict=True)]


def state_of(lock: LockRecord) -> str:
    """``held``, ``over limit``, ``stale``, ``removed`` or ``unknown``."""
    if lock.removed:
        return "removed"
    if lock.stale:
        return "stale"
    if lock.pid_status != "alive":
        return "unknown"
    return "over limit" if "over-limit" in lock.reasons else "held"


def _folded(row: Sequence[str]) -> list[str]:
    state, name, *rest = row
    first = _colored(f"  {state:<{_STATE_LENGTH}}  {name}", state)
    return [first, " " * (_STATE_LENGTH + 4) + paint(" · ".join(filter(None, rest)), "faint")]


def _cells(lock: LockRecord) -> tuple[str, ...]:
    return _name(lock), _process(lock), _turn(lock), _age(lock), _reasons(lock)


def _note(lock: LockRecord, notes: Mapping[str, Sequence[str]] | None) -> tuple[str, ...]:
    if not notes:
        return ()
    return (", ".join(notes.get(lock.path, ())),)


def _colored(line: str, state: str) -> str:
    return line.replace(state, paint(state, _STATE_KINDS[state]), 1)


def _name(lock: LockRecord) -> str:
    return printable(lock.session or lock.path)


def _process(lock: LockRecord) -> str:
    return "" if lock.pid is None else f"pid {lock.pid} {lock.pid_status}"


def _turn(lock: LockRecord) -> str:
    turn = printable(lock.turn_id or "")
    if len(turn) > _TURN_LENGTH:
        turn = f"{turn[: _TURN_LENGTH - 1]}…"
    return turn and f"turn {turn}"


def _age(lock: LockRecord) -> str:
    if lock.age_seconds is None:
        return ""
    limit = lock.max_hold_seconds
    return seconds(lock.age_seconds) + (f" of {seconds(limit)}" if limit is not None else "")


def _reasons(lock: LockRecord) -> str:
    return printable(", ".join(lock.reasons))
