"""What is known of locks beside what their files say: fields for programs, words for people.

From OpenClaw's index: ``openclaw_key``, what it calls the session. From the gateway that serves the
directory, for the locks that it holds itself: ``phase``, ``max_stall_seconds``,
``progress_age_seconds`` and ``waiters``. From a database, what its claims say more: ``epoch``,
``gateway``, ``host`` and ``lease_seconds_left``. A lock of which nothing more is known has no more
fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..backends import LockRecord
from ..backends.files.fileops import FileOps
from ..doctor.findings import lock_as_json
from ..doctor.live import Gateway
from ..doctor.openclaw import named_sessions
from ..errors import seconds
from ..printable import printable

# By the path of the lock; a lock of which nothing more is known is not there.
Knowledge = Mapping[str, Mapping[str, Any]]
_LIVE_FIELDS = ("phase", "max_stall_seconds", "progress_age_seconds", "waiters")


def knowledge_of(root: str, locks: Iterable[LockRecord], gateway: Gateway | None) -> Knowledge:
    """All that is known more of these locks. Asks the gateway only if it holds one of them."""
    by_path = {lock.path: lock for lock in locks}
    if not by_path:
        return {}
    known: dict[str, dict[str, Any]] = {}
    for path, live in _live(by_path, gateway).items():
        told = _at_the_look(live, by_path[path])
        known[path] = {name: told[name] for name in _LIVE_FIELDS if name in told}
    for one in named_sessions(FileOps(), root):
        path = f"{one.transcript}.lock"
        if path in by_path:
            known.setdefault(path, {})["openclaw_key"] = one.key
    return known


def _live(
    locks: Mapping[str, LockRecord], gateway: Gateway | None
) -> Mapping[str, Mapping[str, Any]]:
    held = {path: lock for path, lock in locks.items() if gateway and gateway.holds(lock)}
    if gateway is None or not held or not gateway.takes_requests:
        return {}
    # What it says of another turn than the file's is about a moment that has passed.
    return {
        path: live
        for path, live in gateway.locks().items()
        if path in held and live.get("turn_id") == held[path].turn_id
    }


def _at_the_look(live: Mapping[str, Any], lock: LockRecord) -> Mapping[str, Any]:
    """What the gateway was asked a moment later; two ages beside each other are of one moment."""
    age, progress = _number(live.get("age_seconds")), _number(live.get("progress_age_seconds"))
    if age is None or progress is None or lock.age_seconds is None:
        return live
    later = max(0.0, age - lock.age_seconds)
    return {**live, "progress_age_seconds": max(0.0, progress - later)}


def locks_as_json(locks: Iterable[LockRecord], known: Knowledge) -> list[dict[str, Any]]:
    """The fields of ``turnlock doctor --json``, and after them what else is known."""
    return [lock_as_json(lock) | dict(known.get(lock.path, {})) for lock in locks]


def notes(known: Knowledge) -> dict[str, list[str]]:
    """The same for people."""
    return {path: _words(facts) for path, facts in known.items()}


def facts_for_people(facts: Mapping[str, Any]) -> dict[str, str]:
    """What the gateway says of a lock, by what it is about; nothing for what it does not say."""
    progress, stall, waiters = (
        _number(facts.get("progress_age_seconds")),
        _number(facts.get("max_stall_seconds")),
        _waiting(facts.get("waiters")),
    )
    bound = f" (stall limit {seconds(stall)})" if stall is not None else ""
    return {
        "phase": printable(facts.get("phase") or ""),
        "progress": "" if progress is None else f"{seconds(progress)} ago{bound}",
        "waiting": "" if waiters is None else str(waiters or "nobody"),
    }


def _words(facts: Mapping[str, Any]) -> list[str]:
    said = facts_for_people(facts)
    words = [f"{name} {said[name]}" for name in ("phase", "progress") if said[name]]
    if said["waiting"] not in ("", "nobody"):
        words.append(f"{said['waiting']} waiting")
    if "epoch" in facts:
        words.append(f"epoch {facts['epoch']}")
        words.append(f"on {printable(facts['host'])}")
        words.append(f"lease for {seconds(facts['lease_seconds_left'])}")
    key = facts.get("openclaw_key")
    return [*words, printable(key)] if key else words


def _waiting(value: object) -> int | None:
    if isinstance(value, list):
        return len(value)
    number = _number(value)
    return None if number is None else int(number)


def _number(value: object) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else None  # type: ignore[arg-type]
