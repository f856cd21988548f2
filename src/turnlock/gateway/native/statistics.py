"""``GET /statistics``: counters of the store and of the gateway, and how old what hangs is."""

from __future__ import annotations

import os
from typing import NamedTuple

from starlette.responses import Response

from ... import __version__
from ...clock import iso
from .call import Call, answer


class ListenerCounts(NamedTuple):
    """Of ``GET /events``: clients at this moment, and the id of the last event."""

    listeners: int
    last_id: str


class Oldest(NamedTuple):
    """Seconds, of the gateway's own turns at this moment; null when there is none.

    ``held``: the longest that a turn holds its session. ``progress``: the longest since a turn
    made progress. ``zombie``: the longest that a revoked turn's code still runs.
    """

    held: float | None
    progress: float | None
    zombie: float | None


async def get_statistics(call: Call) -> Response:
    gateway = call.gateway
    store, exchanges = gateway.store, gateway.exchanges
    return answer(
        {
            "version": __version__,
            "pid": os.getpid(),
            "started": iso(gateway.started),
            "uptime_seconds": gateway.uptime,
            "draining": gateway.is_stopping,
            "store": store.statistics()._asdict(),
            "exchanges": exchanges.counts()._asdict(),
            "events": ListenerCounts(
                gateway.listeners, gateway.broadcast.identity(gateway.broadcast.last)
            )._asdict(),
            "oldest_seconds": _oldest(call)._asdict(),
        }
    )


def _oldest(call: Call) -> Oldest:
    leases, zombies = call.gateway.store.leases(), call.gateway.store.zombies()
    return Oldest(
        max((lease.held for lease in leases), default=None),
        max((lease.progress_age for lease in leases), default=None),
        max((zombie.since for zombie in zombies), default=None),
    )
