"""A transcript as the public reader prints it, reduced to what the invariants speak of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_KINDS = {
    "turnlock:turn": "opening",
    "turnlock:end": "end",
    "openclaw:prompt-error": "error-marker",
}


class Record(NamedTuple):
    """``kind``: ``opening``, ``end``, ``error-marker``, or the entry's type.

    ``turn_id`` and ``reason`` are of openings and terminal entries.
    """

    epoch: int | None
    kind: str
    id: str | None
    turn_id: str | None = None
    reason: str | None = None

    @property
    def is_terminal(self) -> bool:
        return self.kind in ("end", "error-marker")


def record(entry: Mapping[str, Any]) -> Record:
    """One entry, as ``store.read`` gives it or ``turnlock sessions read KEY --json`` prints it."""
    kind = _KINDS.get(entry.get("customType", ""), entry.get("type", "unknown"))
    data = entry.get("data") or {}
    if kind not in _KINDS.values():
        data = {}
    return Record(entry.get("epoch"), kind, entry.get("id"), data.get("turnId"), data.get("reason"))


def records(entries: Iterable[Mapping[str, Any]]) -> tuple[Record, ...]:
    return tuple(map(record, entries))
