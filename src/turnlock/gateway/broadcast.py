"""The store's events for whoever listens: kept for a while, numbered, and pulled.

Every event gets a number and goes into one ring of bounded size. A listener has no queue of its
own: it has a place in the ring and takes what comes behind it, as fast as its client reads. So a
listener costs nothing while it is slow, the thread in which something happened never waits for
one, and what a listener has missed is known: its place is in the ring no more.

An event's id is ``<run>-<number>``. ``run`` is another one for each gateway, so that an id of a
former run is not taken for one of this.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import deque
from enum import Enum
from typing import NamedTuple

from ..clock import Clock
from ..events import Event
from ..turns.aio import call_on_loop

RING = 4096


class Happening(NamedTuple):
    """``at``: the wall clock, in seconds."""

    number: int
    at: float
    event: Event


class Gap(Enum):
    """Why a listener cannot go on where it was."""

    OVERRUN = "overrun"
    RESTARTED = "restarted"
    UNKNOWN = "unknown"


class Resumed(NamedTuple):
    """Where a listener goes on: behind ``place``. ``lost``: how many are gone, if it is known."""

    place: int
    gap: Gap | None
    lost: int | None


class Broadcast:
    """Belongs to one event loop; `on_event` may be called from any thread."""

    def __init__(self, clock: Clock, *, size: int = RING) -> None:
        self.run = secrets.token_hex(6)
        self.is_closed = False
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._ring: deque[Happening] = deque(maxlen=size)
        self._last = 0
        self._news = asyncio.Event()
        self._is_told = False

    @property
    def last(self) -> int:
        """The number of the last event; 0 before the first."""
        return self._last

    def on_event(self, event: Event) -> None:
        """A subscriber of the store's events."""
        with self._lock:
            self._last += 1
            self._ring.append(Happening(self._last, self._clock.wall(), event))
            told, self._is_told = self._is_told, True
        # However many come before the loop gets to it, it is woken once.
        if not told:
            call_on_loop(self._loop, self._wake)

    def close(self) -> None:
        """Have every listener end."""
        self.is_closed = True
        self._news.set()

    def behind(self, place: int) -> list[Happening] | None:
        """All that came behind a place; None when some of it is gone."""
        with self._lock:
            missed = self._last - place
            if missed > len(self._ring):
                return None
            return [self._ring[index] for index in range(len(self._ring) - missed, len(self._ring))]

    def resume(self, identity: str) -> Resumed:
        """Where who saw the event with this id goes on, and what it has missed for good."""
        run, _, number = identity.rpartition("-")
        with self._lock:
            oldest = self._last - len(self._ring)
            is_number = number.isascii() and number.isdigit() and len(number) < 20
            if not run or not is_number or (run == self.run and int(number) > self._last):
                return Resumed(oldest, Gap.UNKNOWN, None)
            if run != self.run:
                return Resumed(oldest, Gap.RESTARTED, None)
            place = int(number)
            if place < oldest:
                return Resumed(oldest, Gap.OVERRUN, oldest - place)
            return Resumed(place, None, 0)

    def identity(self, number: int) -> str:
        return f"{self.run}-{number}"

    async def wait(self, place: int, patience: float) -> None:
        """Until there is something behind the place, at most so many seconds."""
        try:
            async with asyncio.timeout(patience):
                while self._last <= place and not self.is_closed:
                    await self._news.wait()
        except TimeoutError:
            pass

    def _wake(self) -> None:
        with self._lock:
            self._is_told = False
        # Whoever waits has this very event, and the next ones wait for another.
        news, self._news = self._news, asyncio.Event()
        news.set()
