"""A thousand model calls that hang at once, and what other sessions feel."""

from __future__ import annotations

import asyncio
import time

from turnlock import open_store

from ..contenders import a_path
from ..gateway import Client, HungCalls, Served, serving
from ..measure import Bench, result_of
from ..results import Column, Kind, Result, Row, Spread
from ..subjects.ours import TURN

_TITLE = "a turn of another session"
_WITHOUT = "turnlock, no call hangs"
_ALL_HANG_SECONDS = 120


class HungCallsAtOnce:
    name = "hung-calls"
    title = "Hung calls, and the others"
    what = "Whether sessions whose model hangs slow down those whose model answers."
    how = (
        "A client has turns on a session of its own, one after the other, before, while and after"
        " that many other sessions wait for a model that never answers. When every one of these"
        " holds its lease, the turns beside them begin."
    )
    floor = "The same turns while nothing hangs."
    reading = (
        "A hung call is a task that sleeps, a lease with a deadline, and three open connections."
        " The watchdog looks through all leases, and has each verified, once a second."
    )

    def run(self, bench: Bench) -> Result:
        number = bench.scale.hung
        with serving(a_path(bench.directory, TURN, name="hung")) as served:
            took = asyncio.run(_measure(served, served.state, number, bench.scale.turns))
        label = f"turnlock, {number:,} calls hang"
        rows = [
            Row(_WITHOUT, Kind.FLOOR, {_TITLE: Spread.of(took[False])}),
            Row(label, Kind.OURS, {_TITLE: Spread.of(took[True])}),
        ]
        return result_of(self, [Column(_TITLE, "ms")], rows)


async def _measure(served: Served, state: str, number: int, turns: int) -> dict[bool, list[float]]:
    hung = HungCalls()
    client = Client(served.gateway, served.token)

    def have(session: str) -> list[float]:
        return [client.complete("main", f"main/{session}") for _ in range(turns)]

    have("first")
    took = {False: await asyncio.to_thread(have, "before")}
    await hung.begin(served, number)
    await asyncio.to_thread(_until_held, state, number)
    took[True] = await asyncio.to_thread(have, "beside")
    await hung.end()
    await asyncio.to_thread(_until_held, state, 0)
    took[False] += await asyncio.to_thread(have, "after")
    client.close()
    return took


def _until_held(state: str, number: int) -> None:
    """Until so many sessions are held: all calls hang, or all have come to their end."""
    until = time.monotonic() + _ALL_HANG_SECONDS
    with open_store(state) as store:
        while len(store.locks()) != number:
            if time.monotonic() > until:
                raise RuntimeError(f"{len(store.locks())} sessions are held, not {number}")
            time.sleep(0.1)
