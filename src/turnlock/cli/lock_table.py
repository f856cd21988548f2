"""Locks as lines for people."""

from __future__ import annotations

from collections.abc import Sequence

from ..backends import LockRecord
from ..errors import seconds
from .terminal import columns, paint, printable

_TURN_LENGTH = 20
_STATE_KINDS = {
    "held": "good",
    "removed": "good",
    "over limit": "warning",
    "stale": "warning",
    "unknown": "warning",
}


def lock_lines(locks: Sequence[LockRecord]) -> list[str]:
    """One aligned line a lock, the state coloured."""
    rows = [
        (state_of(lock), _name(lock), _process(lock), _turn(lock), _age(lock), _reasons(lock))
        for lock in locks
    ]
    lines = columns(rows, indent="  ")
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


def holder_text(lock: LockRecord) -> str:
    """Who holds it, in a sentence: turn, process, age, limit."""
    turn = f"turn {printable(lock.turn_id)}" if lock.turn_id else "a holder that names no turn"
    process = f" of process {lock.pid} ({lock.pid_status})" if lock.pid is not None else ""
    age = f", held for {seconds(lock.age_seconds)}" if lock.age_seconds is not None else ""
    limit = lock.max_hold_seconds
    bound = f" with a limit of {seconds(limit)}" if limit is not None else ""
    return f"{turn}{process}{age}{bound}"


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
