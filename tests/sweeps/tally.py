"""What a sweep did, counted, and what failed in it."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple


class Failure(NamedTuple):
    """``where`` names story and point, which ``--only`` and ``--at`` take to have it once more."""

    where: str
    what: str


class Tally:
    """``counts``: by words. ``fired``: how often the fault came at each kind of call."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.fired: Counter[str] = Counter()
        self.failures: list[Failure] = []

    def add(self, other: Tally) -> None:
        self.counts += other.counts
        self.fired += other.fired
        self.failures += other.failures

    def missed(self, where: str, what: str) -> None:
        self.failures.append(Failure(where, what))

    def expect_fired(self) -> None:
        """A sweep whose faults never come finds nothing, and says so."""
        if not self.fired:
            self.missed("everywhere", "no fault came to its point")

    def lines(self) -> list[str]:
        counted = ", ".join(f"{number:,} {what}" for what, number in self.counts.items())
        calls = ", ".join(f"{call} {number}" for call, number in sorted(self.fired.items()))
        return [counted, *([f"by call: {calls}"] if calls else [])]
