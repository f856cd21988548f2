"""The line of all gateways' waiters, and how one of them waits.

A place in the line is a row with a ticket; who has a smaller one goes first. Whoever stands in line
says so now and then, and a place of which nothing was heard counts no more. A waiter whose process
is stopped says nothing, but until that shows the session must not lie idle for it: once a free
session has lain for `PATIENCE`, those behind try as well, and who was passed is overlooked until it
is heard of again. So a stopped waiter costs everybody else a fraction of a second, once.

The line decides who tries first, never who has the session: the fence does that.

A waiter is woken by a notification, and looks by itself every `POLL` seconds, and when the holder's
lease or limit runs out. It cannot miss a release: it is in line before it looks, its look locks the
session's row, and a release looks for waiters only when it has that lock.
"""

from __future__ import annotations

import contextlib
import random
from typing import NamedTuple

from ...clock import Clock
from ...errors import StoreError
from ...session import SessionKey
from .. import OVER_LIMIT_GRACE, Wake
from .database import Database
from .notify import Listener

# How long a free session lies before those behind the first waiter try. Longer than it takes to
# wake a process on a busy host and to hear from it.
PATIENCE = 0.25
POLL = 2.0
# Three looks: one may be late and one be lost.
ALIVE = 3 * POLL
# Behind everybody who stands in line.
LAST = (1 << 63) - 1
# The database's clock is asked, and this side's waits: a wait must not end a moment too early.
_LATER = 0.005


class Token(NamedTuple):
    """What a waiter knows of the session that it waits for."""

    session_id: int

    def close(self) -> None:
        """It is nothing but a number."""


class Place:
    """A waiter's place in line. ``took``: it has left it with the session in its hand."""

    def __init__(self, line: Line, ticket: int) -> None:
        self._line = line
        self.ticket = ticket
        self.took = False

    def close(self) -> None:
        if not self.took:
            self.took = True
            self._line.leave(self)


class Line:
    def __init__(self, database: Database, clock: Clock, gateway: str) -> None:
        self._database = database
        self._clock = clock
        self._gateway = gateway
        self.listener = Listener(database, clock)

    def join(self, session: SessionKey) -> Place:
        """A place at the end of the line. Of a session that is gone, its ticket alone."""
        (row,) = self._database.run(
            "line up",
            "line_up",
            agent=session.agent,
            name=session.name,
            gateway=self._gateway,
            alive=ALIVE,
            lasting=False,
        )
        return Place(self, row.ticket)

    def leave(self, place: Place) -> None:
        # Whatever the caller has to say counts more; a place that stays is dead in `ALIVE` seconds.
        with contextlib.suppress(StoreError):
            self._database.run(
                "leave the line", "leave_line", again=True, lasting=False, ticket=place.ticket
            )

    def wait(self, place: Place, session_id: int, timeout: float, wake: Wake) -> None:
        """Block until it is worth trying: told of a release, or by the clock.

        ``session_id`` is the session's of now: one of its name may have gone since the place was
        taken.
        """
        unwatch = self.listener.watch(session_id, wake.set)
        try:
            delay = self._delay(place, session_id)
            if delay > 0 and not wake.is_set():
                self._clock.wait(wake, min(timeout, delay))
        finally:
            unwatch()

    def _delay(self, place: Place, session_id: int) -> float:
        """Seconds until this waiter should try by itself; 0: now."""
        found = self._database.run(
            "wait",
            "look",
            "stay_in_line",
            again=True,
            ticket=place.ticket,
            session_id=session_id,
            gateway=self._gateway,
            grace=OVER_LIMIT_GRACE,
            alive=ALIVE,
            lasting=False,
        )
        if not found:
            return 0.0
        ready_in: float = found[0].ready_in + (PATIENCE if found[0].somebody_in_front else 0.0)
        if ready_in <= 0:
            return 0.0
        # Not all at the same time, for those who began to wait together.
        return min(ready_in + _LATER, POLL * random.uniform(0.8, 1.0))

    def counted(self, sessions: list[SessionKey]) -> dict[SessionKey, int]:
        rows = self._database.run(
            "look",
            "in_line",
            again=True,
            agents=[one.agent for one in sessions],
            names=[one.name for one in sessions],
        )
        found = {SessionKey(row.agent, row.name): int(row.waiters) for row in rows}
        return {session: found.get(session, 0) for session in sessions}
