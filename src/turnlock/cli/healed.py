"""What ``turnlock sessions heal`` says of what it did."""

from __future__ import annotations

from typing import Any

from ..doctor.healing import Healed
from ..printable import printable
from ..transcript.healing import Changes
from .terminal import counted, paint


def healed_object(session: str, healed: Healed) -> dict[str, Any]:
    changes = healed.changes
    return {
        "session": session,
        "path": healed.path,
        "healed": changes is not None,
        "markers": healed.markers,
        "changes": None if changes is None else changes._asdict(),
        "original": healed.original,
        "torn": healed.torn,
    }


def healed_lines(session: str, healed: Healed) -> list[str]:
    lines = []
    if healed.markers:
        turns = counted(healed.markers, "turn")
        lines.append(f"  {turns} without terminal entry got what was owed")
    if healed.changes is None:
        done = "was left as it is: there is nothing to heal"
        return [paint(f"{printable(session)} {done}", "good"), *lines]
    lines += [f"  {text}" for text in _changes(healed.changes)]
    if healed.torn is not None:
        lines.append(f"  the damaged bytes are in {printable(healed.torn)}")
    lines.append(f"  the original is {printable(healed.original)}")
    return [paint(f"healed {printable(session)}", "good"), *lines]


def _changes(changes: Changes) -> list[str]:
    kept = "1 entry was kept" if changes.kept == 1 else f"{changes.kept} entries were kept"
    told = [kept]
    if changes.damaged:
        told.append(f"{counted(changes.damaged, 'piece')} of damaged lines left out")
    if changes.separated:
        lines = "a line of its own" if changes.separated == 1 else "lines of their own"
        told.append(f"{_entries(changes.separated)} put on {lines}")
    if changes.headers != "kept":
        told.append(f"the header was {changes.headers}")
    if changes.relinked:
        told.append(f"{_entries(changes.relinked)} linked to the entry before, as a parent is gone")
    if changes.results:
        told.append(f"{counted(changes.results, 'result')} added for tool calls that had none")
    return told


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"
