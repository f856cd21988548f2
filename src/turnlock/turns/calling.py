"""A call that is not watched from outside, but reports on itself."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..limits import check_limit
from .turn import TurnCore
from .watching import Budget

# For so long after a content the next one need not be looked for, as it would change little; the
# limit is longer by that, so that nothing ends too early. Seconds, and a share of the limit.
_PAUSE = 0.05
_PAUSE_SHARE = 0.1


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
        self._pause = _PAUSE
        if budget.idle is not None:
            self._pause = min(_PAUSE, budget.idle * _PAUSE_SHARE)
        self._fresh_until = -math.inf
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

    @property
    def has_content(self) -> bool:
        """Whether any content came yet."""
        return self._fresh_until > -math.inf

    @property
    def is_fresh(self) -> bool:
        """Whether content came a moment ago, so that `progressed` would change nothing.

        The moment is 0.05 s, or a tenth of ``idle`` if that is less.
        """
        return self._core.runtime.clock.monotonic() < self._fresh_until

    def progressed(self) -> None:
        """Content came: the next has to come within ``idle`` and the moment of `is_fresh`."""
        idle = self._budget.idle
        self._fresh_until = self._core.runtime.clock.monotonic() + self._pause
        self._core.call_progressed(self._parts[0], None if idle is None else idle + self._pause)

    def check(self) -> None:
        """Raises `LeaseRevoked` when the turn is over. Asks no storage."""
        self._core.check_revoked()

    def close(self) -> None:
        for part in self._parts:
            self._core.end_call(part)
