"""How a run gets its thread: LangGraph's four answers to a second message while a first one runs.

=============  =====================================================================================
``reject``     the second run raises `SessionBusy` at once; nothing of it is stored
``enqueue``    it waits in line for ``wait`` seconds, then `SessionBusy`; who came first runs first
``interrupt``  the first one's turn is revoked (reason ``cancelled``, error marker). What it stored
               stays, and the second run goes on from there
``rollback``   the same, and the second run goes on from before the first one's turn: its
               checkpoints and messages are not seen any more, though the transcript has them on a
               branch
=============  =====================================================================================

A run that ended before it could be revoked has ended: nothing of it is taken back.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, NamedTuple, get_args

from ...block import TurnBlock
from ...errors import LimitsError, SessionBusy
from ...store import Default, Store
from ...turns.aio import on_worker
from .saving import TurnSaver, apart

MultitaskStrategy = Literal["reject", "enqueue", "interrupt", "rollback"]
STRATEGIES: tuple[MultitaskStrategy, ...] = get_args(MultitaskStrategy)
# How long one try waits once a turn was revoked: its session is free in a moment.
_TRY = 0.1


class Wanted(NamedTuple):
    """How turns are taken. Seconds; see `Store.turn`."""

    store: Store
    saver: TurnSaver
    strategy: MultitaskStrategy
    wait: float | Default | None
    max_hold: float | Default
    max_stall: float | None

    def checked(self) -> Wanted:
        """Raises `LimitsError`."""
        if self.strategy not in STRATEGIES:
            raise LimitsError("multitask_strategy", self.strategy, f"it is one of {STRATEGIES}")
        self.block("main/any", self.wait)
        return self

    def block(self, session: str, wait: float | Default | None) -> TurnBlock:
        return self.store.turn(session, wait=wait, max_hold=self.max_hold, max_stall=self.max_stall)


@contextlib.contextmanager
def in_turn(wanted: Wanted, session: str) -> Iterator[Any]:
    """A thread's turn on a session. Raises what `Store.turn` does."""
    tries = _Tries(wanted, session)
    with contextlib.ExitStack() as stack:
        while True:
            try:
                turn = stack.enter_context(tries.block())
                break
            except SessionBusy as busy:
                tries.revoke(busy)
        if tries.to_roll_back:
            wanted.saver.roll_back(turn, tries.to_roll_back)
        yield turn


@contextlib.asynccontextmanager
async def in_async_turn(wanted: Wanted, session: str) -> AsyncIterator[Any]:
    """A task's turn on a session."""
    tries = _Tries(wanted, session)
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                turn = await stack.enter_async_context(tries.block())
                break
            except SessionBusy as busy:
                await on_worker(functools.partial(tries.revoke, busy))
        if tries.to_roll_back:
            await apart(turn, lambda: wanted.saver.roll_back(turn, tries.to_roll_back))
        yield turn


class _Tries:
    """The tries of one run to get its session."""

    def __init__(self, wanted: Wanted, session: str) -> None:
        self._wanted = wanted
        self._session = session
        self._revoked: list[str] = []
        self._first = True
        self._revokes = wanted.strategy in ("interrupt", "rollback")
        wait = wanted.store.limits.wait if wanted.wait is Default.LIMITS else wanted.wait
        assert not isinstance(wait, Default)
        self._now = wanted.store._runtime.clock.monotonic
        self._deadline = None if wait is None else self._now() + wait

    @property
    def to_roll_back(self) -> list[str]:
        """The turns that were revoked, oldest first, if they are to be undone."""
        return self._revoked if self._wanted.strategy == "rollback" else []

    def block(self) -> TurnBlock:
        """The turn to be entered next."""
        wait: float | Default | None = self._wanted.wait
        if self._wanted.strategy == "reject" or (self._revokes and self._first):
            wait = 0.0
        elif self._revokes:
            wait = _TRY
        self._first = False
        return self._wanted.block(self._session, wait)

    def revoke(self, busy: SessionBusy) -> None:
        """Revoke the turn that is in the way. Raises ``busy`` where that is not wanted."""
        if not self._revokes or (self._deadline is not None and self._now() > self._deadline):
            raise busy
        turn_id = busy.holder_turn
        # None: nobody holds it yet who could be named, only others who wait as well.
        if turn_id is not None and self._wanted.store.revoke(
            self._session, "cancelled", turn_id=turn_id
        ):
            self._revoked.append(turn_id)
