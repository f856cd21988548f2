"""Tools for tests of code that uses Turnlock: a clock that stands still until it is told."""

from __future__ import annotations

import threading


class ManualClock:
    """A `Clock` that only `advance` moves. What waits on it wakes when its time has come.

    A thread that wakes so finds the time that it waited for, and the next time it looks the time
    that it is: however far the clock was advanced, nobody was late. (The watchdog gives turns back
    what it is late by; `stand_still` is for tests of that.) ``sleep`` advances the clock by itself,
    so that code which pauses between tries does not hang.
    """

    def __init__(self, *, monotonic: float = 1000.0, wall: float = 1_800_000_000.0) -> None:
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._wall = wall
        self._alarms: list[_Alarm] = []
        self._woken = threading.local()

    def monotonic(self) -> float:
        # Once after each wait.
        woken_at: float | None = self._woken.__dict__.pop("at", None)
        return self._monotonic if woken_at is None else woken_at

    def wall(self) -> float:
        return self._wall

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        if timeout is None:
            return event.wait()
        if timeout <= 0 or event.is_set():
            return event.is_set()
        with self._lock:
            alarm = _Alarm(self._monotonic + timeout)
            self._alarms.append(alarm)
        try:
            _Either(event, alarm.due).wait()
        finally:
            with self._lock:
                if alarm in self._alarms:
                    self._alarms.remove(alarm)
        if not event.is_set() and not alarm.is_late:
            self._woken.at = alarm.at
        return event.is_set()

    def sleep(self, duration: float) -> None:
        self.advance(duration)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake what waited for it."""
        self._pass(seconds, is_late=False)

    def stand_still(self, seconds: float) -> None:
        """Let time pass as if the process had been stopped meanwhile: who waited wakes too late."""
        self._pass(seconds, is_late=True)

    def _pass(self, seconds: float, *, is_late: bool) -> None:
        with self._lock:
            self._monotonic += seconds
            self._wall += seconds
            rung = [alarm for alarm in self._alarms if alarm.at <= self._monotonic]
            self._alarms = [alarm for alarm in self._alarms if alarm.at > self._monotonic]
        for alarm in rung:
            alarm.is_late = is_late
            alarm.due.set()

    @property
    def waiting(self) -> int:
        """How many wait for a time to come. Advance only when all who should be are."""
        with self._lock:
            return len(self._alarms)

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock alone, as a person or NTP does."""
        self._wall += seconds


class _Alarm:
    """When a wait is over that nothing else ended."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.due = threading.Event()
        self.is_late = False


class _Either:
    """Waits for the first of two events, without a thread each."""

    _LOOK = 0.001

    def __init__(self, first: threading.Event, second: threading.Event) -> None:
        self._events = (first, second)

    def wait(self) -> None:
        while not any(event.is_set() for event in self._events):
            self._events[0].wait(self._LOOK)
