"""Who holds a session, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..backends import LockRecord
from ..errors import seconds
from ..printable import printable
from .held import Held, program_of
from .knowledge import facts_for_people
from .terminal import paint


def holder_text(lock: LockRecord) -> str:
    """Who holds it, in a sentence: turn, process, age, limit."""
    turn = f"turn {printable(lock.turn_id)}" if lock.turn_id else "a holder that names no turn"
    process = f" of process {lock.pid} ({lock.pid_status})" if lock.pid is not None else ""
    age = f", held for {seconds(lock.age_seconds)}" if lock.age_seconds is not None else ""
    limit = lock.max_hold_seconds
    bound = f" with a limit of {seconds(limit)}" if limit is not None else ""
    return f"{turn}{process}{age}{bound}"


def holder_lines(held: Held, known: Mapping[str, Any]) -> list[str]:
    """Who holds it, one fact a line; ``known``: what the gateway says of the lock."""
    gone = held.record.stale
    facts = {
        "holder": _process(held),
        "turn": printable(held.record.turn_id or ""),
        "held for": "" if gone else _age(held),
        "taken": _taken(held) if gone else "",
        **facts_for_people(known),
        "lock": printable(held.record.path),
    }
    lines = [f"  {name:<9}{text}" for name, text in facts.items() if text]
    state = "is locked, and its holder is gone" if gone else "is held"
    return [paint(f"session {printable(held.target.title)} {state}", "strong"), *lines]


def _process(held: Held) -> str:
    lock = held.record
    if lock.pid is None:
        return "it names none"
    program = program_of(held)
    known = [printable(program)] if program else []
    return f"process {lock.pid} ({', '.join([*known, lock.pid_status])})"


def _taken(held: Held) -> str:
    age = held.record.age_seconds
    reasons = printable(", ".join(held.record.reasons))
    return reasons if age is None else f"{seconds(age)} ago ({reasons})"


def _age(held: Held) -> str:
    age = held.record.age_seconds
    if age is None:
        return ""
    limit = held.limit
    if limit is None:
        return f"{seconds(age)}, without a limit"
    whose = "" if held.record.max_hold_seconds is not None else ", OpenClaw's default"
    if held.is_over_limit:
        return paint(f"{seconds(age)}, over its limit of {seconds(limit)}{whose}", "warning")
    return f"{seconds(age)}, within its limit of {seconds(limit)}{whose}"
