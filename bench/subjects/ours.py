"""Turnlock's own: the lock alone, and whole turns."""

from __future__ import annotations

import os
from functools import partial

import turnlock

from ..results import Kind
from . import Subject

# With it a message is a line of about 300 bytes.
TEXT = "x" * 120


class OurLock:
    def __init__(self, path: str) -> None:
        self._lock = turnlock.SessionLock(f"{path}.jsonl", wait=None)

    def take(self) -> None:
        self._lock.__enter__()

    def release(self) -> None:
        self._lock.__exit__(None, None, None)


def _place(path: str) -> tuple[str, str]:
    """The store and the session of a path; of a database's URL, which is a store, one session."""
    if path.startswith("postgresql://"):
        return path, "main/lock"
    return f"{path}.state", f"main/{os.path.basename(path)}"


class OurTurn:
    """``appends``: how many messages the turn appends, each durably."""

    def __init__(self, path: str, *, appends: int = 0) -> None:
        place, self._key = _place(path)
        self._store = turnlock.open_store(place)
        self._appends = appends

    def take(self) -> None:
        block = self._store.turn(self._key, wait=None)
        turn = block.__enter__()
        # Only now: until here the block is that of who holds the session.
        self._block = block
        for _ in range(self._appends):
            turn.append(turnlock.user(TEXT))

    def release(self) -> None:
        self._block.__exit__(None, None, None)


class OurAsyncTurn:
    """As `OurTurn`."""

    def __init__(self, path: str, *, appends: int = 0) -> None:
        place, self._key = _place(path)
        self._store = turnlock.open_store(place)
        self._appends = appends

    async def take(self) -> None:
        block = self._store.turn(self._key, wait=None)
        turn = await block.__aenter__()
        self._block = block
        for _ in range(self._appends):
            await turn.append(turnlock.user(TEXT))

    async def release(self) -> None:
        await self._block.__aexit__(None, None, None)


_OURS = Subject("", "", Kind.OURS, names_holder=True, freed_at_death=True)
LOCK = _OURS._replace(name="lock", label="turnlock SessionLock", make=OurLock)
TURN = _OURS._replace(name="turn", label="turnlock turn", make=OurTurn)
WRITING_TURN = _OURS._replace(
    name="writing-turn", label="turnlock turn, one append", make=partial(OurTurn, appends=1)
)
ASYNC_TURN = _OURS._replace(name="async-turn", label="turnlock async turn", make_async=OurAsyncTurn)
ASYNC_WRITING_TURN = _OURS._replace(
    name="async-writing-turn",
    label="turnlock async turn, one append",
    make_async=partial(OurAsyncTurn, appends=1),
)
OURS = (LOCK, TURN, WRITING_TURN, ASYNC_TURN, ASYNC_WRITING_TURN)
