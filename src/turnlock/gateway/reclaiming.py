"""Taking over, while the gateway serves, what gateways on other hosts have left behind.

On one host the kernel tells at once that a holder died, and who needs its session takes it; nobody
has to look. Where leases run out by themselves somebody has to: every gateway looks now and then,
and of two that find the same lease one supersedes it.

A marker that cannot be written, on a disk that is full for one, stays owed by a claim that has run
out. Each try to write it changes the row twice, so it is made less and less often.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial

from ..backends import LockRecord
from ..errors import TurnlockError
from ..store import Store
from ..turns.aio import on_worker

logger = logging.getLogger("turnlock")

# The most rounds for which a session is left alone.
_PAUSE_MAX = 16


@asynccontextmanager
async def reclaiming(store: Store, every: float) -> AsyncIterator[None]:
    """Look every so many seconds for as long as the block runs, if the store's leases run out."""
    if not store.leases_expire:
        yield
        return
    looking = asyncio.create_task(_look(store, every), name="turnlock-reclaim")
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait((looking,))


class Pauses:
    """For how many rounds each session is left alone that could not be reclaimed: 1, 2, 4 …"""

    def __init__(self) -> None:
        self._pause: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._resting: set[str] = set()

    def next_round(self) -> set[str]:
        """The sessions that are left alone in it. Once for each round."""
        self._resting = set(self._left)
        self._left = {session: left - 1 for session, left in self._left.items() if left > 1}
        return self._resting

    def note(self, found: Iterable[LockRecord]) -> None:
        """What became of those that were not left alone."""
        failed = {record.session for record in found if record.session and not record.removed}
        pause = {session: self._pause[session] for session in self._resting}
        for session in failed:
            pause[session] = min(_PAUSE_MAX, 2 * self._pause.get(session, 0) or 1)
            self._left[session] = pause[session]
        self._pause = pause


async def _look(store: Store, every: float) -> None:
    pauses = Pauses()
    while True:
        await asyncio.sleep(every)
        try:
            resting = pauses.next_round()
            pauses.note(await on_worker(partial(store.reclaim_expired, but=resting)))
        except TurnlockError as error:
            logger.warning("leases that ran out could not be looked for: %s", error)
        except Exception:
            # The task's outermost frame: a bug of ours must not end the looking for good.
            logger.exception("leases that ran out could not be looked for")
