"""What may be open at once: files and connections share one limit of the process.

The usual soft limit (1024) is for programs that ask `select`; it may be raised to the hard one. Of
what that gives each connection may have one share, which is enough for the turn that it may ask
for: itself, the call of its model, its session's files. So many again may be open to be told that
they are too many. A turn that has begun thus finds the descriptors that it needs.
"""

from __future__ import annotations

import contextlib
import math
import resource

# The connection of a turn, one that is refused beside it, two of a model in the process itself (one
# to any other), the lock and the transcript.
_SHARE = 6
# The log, the listener, the loop, the workers' files of a moment, a database's connections.
_RESERVE = 64
CONNECTIONS_MAX = 10_000
# Where there is no hard limit, a system may refuse it as a soft one; some take no more than these.
_TRIED = (65_536, 10_240)


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard one, or as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, *_TRIED):
        if wanted != hard and 0 <= wanted <= soft:
            return
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return


def connections_max() -> int:
    """How many connections may be open and served, by the soft limit as it is."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(1, min(CONNECTIONS_MAX, (soft - _RESERVE) // _SHARE))


class Seldom:
    """Says whether it is time to tell again what would fill the log."""

    def __init__(self, pause: float = 10.0) -> None:
        self._pause = pause
        self._told = -math.inf

    def is_time(self, now: float) -> bool:
        if now - self._told < self._pause:
            return False
        self._told = now
        return True
