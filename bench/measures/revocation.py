"""How late a hung turn is fenced."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import turnlock
from turnlock.events import TurnRevoked

from ..contenders import a_path
from ..measure import Bench, in_rounds, result_of
from ..results import Column, Kind, Result, Row, Spread
from ..subjects.ours import TURN

_TITLE = "fence after the deadline"
_LIMIT = 0.1
# The holder hangs for longer than the limit, and no longer than the measure has to wait for.
_HANG = 0.2


class Revocation:
    name = "revocation"
    title = "Lateness of a revocation"
    what = "How long after its limit a hung turn is fenced, so that nothing of it is written."
    how = (
        "A turn hangs past its hold limit: a task that awaits for ever, a task that blocks its"
        " event loop, a thread that blocks. The event of the revocation says how late the fence"
        " was up. The watchdog is a thread of its own and needs no event loop."
    )
    floor = "A thread that sleeps for the same time: how late the machine wakes it."
    reading = (
        "No peer here takes a lock from a holder that hangs in a living process, so there is none"
        " beside these."
    )

    def run(self, bench: Bench) -> Result:
        store = turnlock.open_store(a_path(bench.directory, TURN, name="revoked"))
        late: list[float] = []
        store.subscribe(
            lambda event: late.append(event.late) if isinstance(event, TurnRevoked) else None
        )

        def revoked(hang: Callable[[turnlock.Store], None]) -> list[float]:
            late.clear()
            hang(store)
            return [1e3 * seconds for seconds in late]

        jobs = {
            "a thread's timer": _timer,
            "turnlock, a task hangs": lambda: revoked(_hang_in_task),
            "turnlock, the event loop is blocked": lambda: revoked(_block_the_loop),
            "turnlock, a thread hangs": lambda: revoked(_hang_in_thread),
        }
        found = in_rounds(bench.scale.revocations, jobs)
        store.close()
        rows = [
            Row(label, Kind.OURS if label.startswith("turnlock") else Kind.FLOOR, {_TITLE: spread})
            for label, values in found.items()
            for spread in [Spread.of(values)]
        ]
        return result_of(self, [Column(_TITLE, "ms")], rows)


def _timer() -> list[float]:
    due = time.monotonic() + _LIMIT
    threading.Event().wait(_LIMIT)
    return [1e3 * (time.monotonic() - due)]


def _hang_in_task(store: turnlock.Store) -> None:
    async def hang() -> None:
        async with store.turn("main/task", max_hold=_LIMIT):
            await asyncio.sleep(3600)

    _expect_revocation(lambda: asyncio.run(hang()))


def _block_the_loop(store: turnlock.Store) -> None:
    async def block() -> None:
        async with store.turn("main/loop", max_hold=_LIMIT):
            time.sleep(_HANG)  # noqa: ASYNC251 - a blocked loop is what is measured

    _expect_revocation(lambda: asyncio.run(block()))


def _hang_in_thread(store: turnlock.Store) -> None:
    def hang() -> None:
        with store.turn("main/thread", max_hold=_LIMIT):
            time.sleep(_HANG)

    _expect_revocation(hang)


def _expect_revocation(hang: Callable[[], None]) -> None:
    try:
        hang()
    except turnlock.LeaseRevoked:
        return
    raise AssertionError("the turn was not revoked")
