"""What is known of locks beside what their files say: fields for programs, words for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..backends import LockRecord
from ..backends.files.fileops import FileOps
from ..doctor.findings import lock_as_json
from ..doctor.openclaw import named_sessions
from .terminal import printable

# By the path of the lock; a lock of which nothing more is known is not there.
Knowledge = Mapping[str, Mapping[str, Any]]


def knowledge_of(root: str, locks: Iterable[LockRecord]) -> Knowledge:
    """``openclaw_key``: what OpenClaw calls the session."""
    paths = {lock.path for lock in locks}
    if not paths:
        return {}
    named = ((f"{one.transcript}.lock", one.key) for one in named_sessions(FileOps(), root))
    return {path: {"openclaw_key": key} for path, key in named if path in paths}


def locks_as_json(locks: Iterable[LockRecord], known: Knowledge) -> list[dict[str, Any]]:
    """The fields of ``turnlock doctor --json``, and after them what else is known."""
    return [lock_as_json(lock) | dict(known.get(lock.path, {})) for lock in locks]


def notes(known: Knowledge) -> dict[str, list[str]]:
    """The same for people."""
    return {path: [printable(fact["openclaw_key"])] for path, fact in known.items()}
