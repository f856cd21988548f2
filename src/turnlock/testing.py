"""Tools for tests of code that uses Turnlock: a clock that stands still until it is told."""

from __future__ import annotations

import threading


class ManualClock:
    """A `Clock` that only `advance` moves. What waits on it wakes when its time has come.

    ``sleep`` advances the clock by itself, so that code which pauses between tries does not hang.
    """

    def __init__(self, *, monotonic: float = 1000.0, wall: float = 1_800_000_000.0) -> None:
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._wall = wall
        self._alarms: list[tuple[float, threading.Event]] = []

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._wall

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        if timeout is None:
            return event.wait()
        if timeout <= 0 or event.is_set():
            return event.is_set()
        due = threading.Event()
        either = _Either(event, due)
        with self._lock:
            self._alarms.append((self._monotonic + timeout, due))
        either.wait()
        return event.is_set()

    def sleep(self, duration: float) -> None:
        self.advance(duration)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake what waited for it."""
        with self._lock:
            self._monotonic += seconds
            self._wall += seconds
            rung = [alarm for at, alarm in self._alarms if at <= self._monotonic]
            self._alarms = [one for one in self._alarms if one[0] > self._monotonic]
        for alarm in rung:
            alarm.set()

    @property
    def waiting(self) -> int:
        """How many wait for a time to come. Advance only when all who should be are."""
        with self._lock:
            return len(self._alarms)

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock alone, as a person or NTP does."""
        self._wall += seconds


class _Either:
    """Waits for the first of two events, without a thread each."""

    _LOOK = 0.001

    def __init__(self, first: threading.Event, second: threading.Event) -> None:
        self._events = (first, second)

    def wait(self) -> None:
        while not any(event.is_set() for event in self._events):
            self._events[0].wait(self._LOOK)
