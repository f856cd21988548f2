"""Time, as something that is passed in. No other module asks the system what time it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache, partial
from math import floor
from typing import Protocol


class Clock(Protocol):
    """Where time comes from. Durations are seconds."""

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC: for every deadline, and for ages on one boot of one host."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch: for people, and for files that know no other time."""
        ...

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """Block until the event is set (True) or that many seconds passed (False)."""
        ...

    def sleep(self, duration: float) -> None: ...


def _monotonic() -> Callable[[], float]:
    # Tools that freeze time in tests put another function in the place of time.monotonic. Limits
    # that stood still with it would end no turn, and ages would make no sense to other processes.
    if hasattr(time, "clock_gettime"):
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return time.monotonic


class SystemClock:
    # As they are, without a frame of Python around them: a take asks for the time several times.
    monotonic = staticmethod(_monotonic())
    wall = staticmethod(time.time)
    sleep = staticmethod(time.sleep)

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        return event.wait(timeout)


# Of the years 1 and 9999: a file may have any time, and a calendar has no others.
_FIRST, _LAST = -62135596800, 253402300799


def iso(wall: float) -> str:
    """ISO 8601 in UTC with milliseconds and Z, the form of OpenClaw's files.

    A moment before the year 1 or after 9999 is within the first or the last second of these.
    """
    second = floor(wall)
    return f"{_to_the_second(second)}.{int((wall - second) * 1000):03d}Z"


@lru_cache(maxsize=4)
def _to_the_second(wall: int) -> str:
    return datetime.fromtimestamp(min(max(wall, _FIRST), _LAST), UTC).isoformat()[:-6]


def parse_iso(text: object) -> float | None:
    """The moment that an ISO 8601 text names, or None when it names none."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None
