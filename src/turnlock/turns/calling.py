"""A call that is not watched from outside, but reports on itself."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..limits import check_limit
from .turn import TurnCore
from .watching import Budget


class OpenCall:
    """The limits of one call, until it is closed. From any thread; `close` may be called twice."""

    def __init__(
        self, core: TurnCore, budget: Budget, whole: float | None, end: Callable[[], object]
    ) -> None:
        if whole is not None:
            check_limit("whole", whole)
        core.check_revoked()
        self._core = core
        self._budget = budget
        self._parts = [core.begin_call(budget.what, budget.first, end)]
        if whole is not None:
            self._parts.append(core.begin_call(budget.what, whole))
        try:
            # Who took the turn since the first look may not have seen the call.
            core.check_revoked()
        except BaseException:
            self.close()
            raise

    @property
    def first(self) -> float:
        """Seconds to the first content; infinite when that has no limit."""
        return math.inf if self._budget.first is None else self._budget.first

    def progressed(self) -> None:
        """Content came: the next has to come within ``idle``."""
        self._core.call_progressed(self._parts[0], self._budget.idle)

    def check(self) -> None:
        """Raises `LeaseRevoked` when the turn is over. Asks no storage."""
        self._core.check_revoked()

    def close(self) -> None:
        for part in self._parts:
            self._core.end_call(part)
