"""A run that is cancelled while it writes: what it said is there, and there once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse

import turnlock
from tests.helpers import PATIENCE, kinds
from turnlock.integrations.pydantic_ai import TurnlockSession
from turnlock.turns import aio
from turnlock.turns.turn import TurnCore

from .models import Scripted, text

ALICE = "main/a"
Entries = Iterable[Mapping[str, Any]]


async def never(messages: Sequence[ModelMessage]) -> ModelResponse:
    await asyncio.Event().wait()
    return text("never")


class Writing:
    """The first append is durable and does not return until ``may_return``; the others do."""

    def __init__(self) -> None:
        self.is_durable, self.is_made_again, self.may_return = (threading.Event() for _ in range(3))

    def slow(self, append: Callable[[TurnCore, Entries], list[str]]) -> Any:
        def appended(core: TurnCore, entries: Entries) -> list[str]:
            ids = append(core, entries)
            if self.is_durable.is_set():
                self.is_made_again.set()
            else:
                self.is_durable.set()
                assert self.may_return.wait(PATIENCE)
            return ids

        return appended


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> Writing:
    writing = Writing()
    monkeypatch.setattr(TurnCore, "append", writing.slow(TurnCore.append))
    return writing


async def cancelled_in(writing: Writing, store: turnlock.Store) -> None:
    session = TurnlockSession[None](store, ALICE)
    run = asyncio.create_task(Agent(Scripted(never).model, capabilities=[session]).run("hello"))
    assert await asyncio.to_thread(writing.is_durable.wait, PATIENCE)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


def test_a_message_that_is_being_written_when_its_run_is_cancelled_is_there_once(
    store: turnlock.Store, writing: Writing
) -> None:
    """Other than the hook that writes it, the run does not wait before it saves what there is."""
    writing.is_made_again = writing.may_return
    asyncio.run(cancelled_in(writing, store))
    assert kinds(store) == ["turn", "user:hello", "cancelled"]


def test_so_is_one_of_which_the_run_does_not_learn_how_its_write_went(
    store: turnlock.Store, writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        await cancelled_in(writing, store)
        writing.may_return.set()

    monkeypatch.setattr(aio, "_OUTCOME_TIMEOUT", 0.05)
    asyncio.run(main())
    assert kinds(store) == ["turn", "user:hello", "cancelled"]
