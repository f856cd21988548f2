"""A take that comes to nothing: what it had is given back, and whoever waits is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import turnlock
from tests.helpers import PATIENCE, kinds
from turnlock.store import Store
from turnlock.turns.turn import TurnCore
from turnlock.turns.watchdog import Watchdog


class TestATakeThatFailsOnceItHasTheLock:
    """Nobody holds the session then, so nobody would ever give it back."""

    @pytest.mark.parametrize(
        ("where", "error"),
        [
            ((Watchdog, "watch"), turnlock.StoreError("watchdog", "start", "no thread")),
            ((TurnCore, "settle"), MemoryError()),
        ],
        ids=["unwatched", "unsettled"],
    )
    @pytest.mark.parametrize("in_task", [False, True], ids=["thread", "task"])
    def test_leaves_the_session_free(
        self,
        store: Store,
        monkeypatch: pytest.MonkeyPatch,
        where: tuple[type, str],
        error: Exception,
        in_task: bool,
    ) -> None:
        def fail(*_: Any) -> None:
            monkeypatch.undo()
            raise error

        async def in_a_task() -> None:
            async with store.turn("main/a"):
                pass

        monkeypatch.setattr(*where, fail)
        with pytest.raises(type(error)):
            if in_task:
                asyncio.run(in_a_task())
            else:
                with store.turn("main/a"):
                    pass
        assert store.statistics().held == 0
        with store.turn("main/a", wait=PATIENCE) as turn:
            turn.append(turnlock.user("1"))
        assert kinds(store)[-3:] == ["turn", "user:1", "end"]
