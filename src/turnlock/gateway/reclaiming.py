"""Taking over, while the gateway serves, what gateways on other hosts have left behind.

On one host the kernel tells at once that a holder died, and who needs its session takes it; nobody
has to look. Where leases run out by themselves somebody has to: every gateway looks now and then,
and of two that find the same lease one supersedes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..errors import TurnlockError
from ..store import Store
from ..turns.aio import on_worker

logger = logging.getLogger("turnlock")


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


async def _look(store: Store, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        try:
            await on_worker(store.reclaim_expired)
        except TurnlockError as error:
            logger.warning("leases that ran out could not be looked for: %s", error)
        except Exception:
            # The task's outermost frame: a bug of ours must not end the looking for good.
            logger.exception("leases that ran out could not be looked for")
