"""Verification: whether the leases of a store still have their sessions, once a second.

One worker asks for one lease after the other, as there may be thousands; where leases run out, all
of a backend in one question. A question may hang, on a disk that froze or behind an append that
does. A round that got no further for a whole tick is left behind with what it hangs in, and the
next one asks for all others: those of the same backend last, and of a few that hang at a time, as
each of them keeps a thread.
"""

from __future__ import annotations

from collections.abc import Callable

from .lease import Lease
from .workers import submit_or_run

# So many rounds may hang before the leases of their backends are asked for no more.
_HANGING_MAX = 8


class Verifying:
    """``ask`` asks for leases of one backend; it may hang."""

    def __init__(self, ask: Callable[[list[Lease]], None]) -> None:
        self._ask = ask
        self.reset()

    def reset(self) -> None:
        """As new; for a child process, which has no thread of its parent."""
        self._round: _Round | None = None
        self._hanging: list[_Round] = []

    def soon(self, leases: list[Lease]) -> None:
        """Have a worker ask for the leases, unless one is at it. For the watchdog, at each tick."""
        if self._round is not None and not self._round.is_over:
            if self._round.moved():
                return
            self._round.is_left = True
            self._hanging.append(self._round)
        self._hanging = [one for one in self._hanging if not one.is_over]
        self._round = _Round(self._ask, self._questions(leases))
        submit_or_run(self._round.run)

    def _questions(self, leases: list[Lease]) -> list[list[Lease]]:
        if not self._hanging:
            return _asked_together(leases)
        asked = {id(lease) for one in self._hanging for lease in one.asking}
        hanging = {lease.backend for one in self._hanging for lease in one.asking}
        free = [lease for lease in leases if lease.backend not in hanging]
        if len(self._hanging) < _HANGING_MAX:
            free += [one for one in leases if one.backend in hanging and id(one) not in asked]
        return _asked_together(free)


class _Round:
    def __init__(self, ask: Callable[[list[Lease]], None], questions: list[list[Lease]]) -> None:
        self._ask = ask
        self._questions = questions
        self._count = 0
        self._seen = 0
        self.asking: list[Lease] = []
        self.is_left = False
        self.is_over = False

    def moved(self) -> bool:
        """Whether it asked anything since the last call."""
        before, self._seen = self._seen, self._count
        return self._seen > before

    def run(self) -> None:
        try:
            for leases in self._questions:
                if self.is_left:
                    return
                self.asking = leases
                self._count += 1
                self._ask(leases)
        finally:
            # It names no lease for longer than it has to: what is named keeps its descriptors.
            self._questions, self.asking = [], []
            self.is_over = True


def _asked_together(leases: list[Lease]) -> list[list[Lease]]:
    """One question for all leases that run out; for others one each, as one may hang on a disk."""
    together: dict[object, list[Lease]] = {}
    for lease in leases:
        key = lease.backend if lease.backend.leases_expire else lease
        together.setdefault(key, []).append(lease)
    return list(together.values())
