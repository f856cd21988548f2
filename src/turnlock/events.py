"""What happens, as one stream of typed events.

A subscriber is called in the thread where the event happened and has to return at once; what it
raises is logged and goes no further.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

logger = logging.getLogger("turnlock")


class TurnQueued(NamedTuple):
    session: str
    turn_id: str


class TurnStarted(NamedTuple):
    """``waited`` in seconds, from asking to holding."""

    session: str
    turn_id: str
    waited: float


class TurnProgress(NamedTuple):
    """A turn went on to another phase; not each progress within one.

    ``what``: ``append``, ``model``, or what was said to `progress` or `watch`.
    """

    session: str
    turn_id: str
    what: str


class TurnRevoked(NamedTuple):
    """``late``: seconds between the deadline and the fence. ``stack``: where the holder hangs."""

    session: str
    turn_id: str
    reason: str
    held: float
    phase: str
    late: float
    stack: tuple[str, ...]


class RevocationFailed(NamedTuple):
    """The holder could not be fenced; it is tried again."""

    session: str
    turn_id: str
    reason: str
    error: str


class TurnMarked(NamedTuple):
    """An error marker was written for a turn."""

    session: str
    turn_id: str
    reason: str


class MarkerOwed(NamedTuple):
    """An error marker could not be written; the session was handed over all the same."""

    session: str
    turn_id: str
    error: str


class TurnReleased(NamedTuple):
    session: str
    turn_id: str
    held: float
    failed: bool


class LockReclaimed(NamedTuple):
    """The claim of a dead holder was taken over."""

    session: str
    pid: int | None
    turn_id: str | None
    reason: str


class ClockGap(NamedTuple):
    """The watchdog's own clock stood still: the host slept or the process was stopped."""

    seconds: float


class ZombieEnded(NamedTuple):
    """A revoked holder came to its end at last."""

    session: str
    turn_id: str
    lasted: float


Event = (
    TurnQueued
    | TurnStarted
    | TurnProgress
    | TurnRevoked
    | RevocationFailed
    | TurnMarked
    | MarkerOwed
    | TurnReleased
    | LockReclaimed
    | ClockGap
    | ZombieEnded
)
Subscriber = Callable[[Event], None]


class Events:
    """The stream: counts every event by its type, and passes it on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: tuple[Subscriber, ...] = ()
        self._counts: dict[type[Event], int] = {}
        self._reasons: Counter[str] = Counter()

    def reset(self) -> None:
        """A new lock; for a child process, where the old one may be held by nobody."""
        self._lock = threading.Lock()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call ``subscriber`` with every event from now on; returns what ends that."""
        with self._lock:
            self._subscribers = (*self._subscribers, subscriber)
        return lambda: self._unsubscribe(subscriber)

    def emit(self, event: Event) -> None:
        with self._lock:
            kind = type(event)
            self._counts[kind] = self._counts.get(kind, 0) + 1
            if isinstance(event, TurnRevoked):
                self._reasons[event.reason] += 1
            subscribers = self._subscribers
        for subscriber in subscribers:
            try:
                subscriber(event)
            except Exception:
                logger.exception("a subscriber failed on %r", event)

    def tally(self, kind: type[Event]) -> bool:
        """Count an event; whether anybody listens, so that it has to be made and emitted.

        For events on the path of every take. `emit` counts by itself.
        """
        if self._subscribers:
            return True
        with self._lock:
            self._counts[kind] = self._counts.get(kind, 0) + 1
        return False

    def count(self, kind: type[Event]) -> int:
        with self._lock:
            return self._counts.get(kind, 0)

    def revocations_by_reason(self) -> dict[str, int]:
        with self._lock:
            return dict(self._reasons)

    def _unsubscribe(self, subscriber: Subscriber) -> None:
        with self._lock:
            self._subscribers = tuple(s for s in self._subscribers if s is not subscriber)
