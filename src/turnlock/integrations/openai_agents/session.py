"""A session of the SDK that reads and writes through a turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from agents import RunContextWrapper, SessionSettings, TResponseInputItem

from ...turns.adopting import adopt_current_task
from ...turns.aio import AsyncTurn, learn_outcome, on_worker
from ...turns.sync import Turn
from .items import Item
from .ledger import Ledger

T = TypeVar("T")


class TurnSession:
    """The session of an open turn, for ``Runner.run(…, session=TurnSession(turn))``.

    ``turn``: of ``async with`` or of ``with store.turn(key)``. It holds the session; this only goes
    through it, for one run or for several. ``session_settings``: the SDK's; its ``limit`` is how
    many of the latest items a run is given.

    An item that `add_items` has returned for is durable. Items come back as they were added; what
    other writers added, too, as messages. Each call of a function is followed by one result.

    A run that is not in the turn's own task (`Runner.run_streamed`, `Runner.run_sync`, a task or a
    thread of yours) is made part of the turn at its first call of this: the turn is its
    ``turnlock.current_turn()``, and its task is cancelled once the turn is over.

    Every method raises `LeaseRevoked` once the turn is over, and nothing is written then; besides
    that `StoreError` when the storage fails and `TranscriptError` for an item that is no JSON. The
    keyword ``wrapper``, with which the SDK hands over the run's context, is not used.
    """

    def __init__(
        self, turn: Turn | AsyncTurn, *, session_settings: SessionSettings | None = None
    ) -> None:
        self.session_id = turn.session
        self.session_settings = session_settings
        self._turn = turn
        self._core = turn._core
        self._ledger = Ledger(turn._core)

    async def get_items(
        self, limit: int | None = None, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> list[TResponseInputItem]:
        """The session's items, oldest first; the latest ``limit`` of them, if one is given.

        They are fewer where a call is cut off: its result is then left out too.
        """
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        adopt_current_task(self._turn)
        items = await self._on_worker(lambda: self._ledger.read(limit))
        return cast("list[TResponseInputItem]", items)

    async def add_items(
        self,
        items: Sequence[TResponseInputItem],
        *,
        wrapper: RunContextWrapper[Any] | None = None,
    ) -> None:
        """Append the items as one: all of them are there once this returns, or none."""
        adopt_current_task(self._turn)
        await self._on_worker(lambda: self._ledger.add(cast("Sequence[Item]", items)))

    async def pop_item(
        self, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> TResponseInputItem | None:
        """Take the latest item out of the history, and return it; None when there is none.

        It stays in the transcript, off the active branch: ``store.read`` still shows it. Raises
        `TranscriptError` for what was said before a compaction.
        """
        item = await self._on_worker(self._ledger.pop)
        return cast("TResponseInputItem | None", item)

    async def clear_session(self, *, wrapper: RunContextWrapper[Any] | None = None) -> None:
        """Begin the history anew. What was said stays in the transcript, before a compaction."""
        await self._on_worker(self._ledger.clear)

    async def before_model(self) -> None:
        """Raises `LeaseRevoked` unless the turn still holds its session, as the storage says."""
        await self._on_worker(self._core.check)

    async def before_tool(self, response: Sequence[Item]) -> None:
        """As `before_model`; and makes the response durable that a tool is called by."""

        def job() -> None:
            self._ledger.add_ahead(response)
            self._core.check()

        await self._on_worker(job)

    async def _on_worker(self, job: Callable[[], T]) -> T:
        return await learn_outcome(on_worker(job), lambda: self._core.lease.is_revoked)
