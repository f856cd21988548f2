"""What ends a call is not ours, and may fail: its turn comes to an end all the same."""

from __future__ import annotations

import asyncio
import errno
import os
import threading

import pytest

import turnlock
from tests.helpers import PATIENCE, kinds
from turnlock.store import Store


@pytest.fixture
def store() -> Store:
    return turnlock.open_store("memory:")


def closed_already() -> None:
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))


@pytest.mark.parametrize("is_async", [False, True])
def test_a_turn_ends_although_a_call_of_it_cannot_be_ended(is_async: bool, store: Store) -> None:
    async def work() -> None:
        async with store.turn("main/a") as turn:
            turn.begin_call(closed_already)

    if is_async:
        asyncio.run(work())
    else:
        with store.turn("main/a") as turn:
            turn.begin_call(closed_already)
    with store.turn("main/a", wait=PATIENCE):
        assert store.statistics().held == 1


def test_a_revocation_goes_on_although_a_call_cannot_be_ended(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with store.turn("main/a") as turn:
            turn.begin_call(closed_already)
            threading.Thread(target=store.revoke, args=["main/a"]).start()
            await asyncio.Event().wait()

    with pytest.raises(turnlock.LeaseRevoked):
        asyncio.run(asyncio.wait_for(work(), PATIENCE))
    assert kinds(store) == ["turn", "operator"]
    assert "EBADF" in caplog.text or "Bad file descriptor" in caplog.text
    with store.turn("main/a", wait=PATIENCE):
        assert store.statistics().revoked == 1
