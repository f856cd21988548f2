"""What every recipe has to keep, whatever the framework: turns that are whole, and that end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType

import pytest

import turnlock
from tests.helpers import LONG_PATIENCE, kinds, load
from turnlock.practice import PracticeServer

Answer = Callable[[str, str], Awaitable[str]]
"""The reply to a text, of the model at a URL."""


def recipe(name: str) -> ModuleType:
    return load(Path(__file__).parents[2] / f"examples/recipes/with_{name}.py")


def open_store(state: Path, first_token: float) -> turnlock.Store:
    return turnlock.open_store(state, limits=turnlock.Limits(first_token=first_token))


async def two_at_once_are_two_turns(store: turnlock.Store, answer: Answer) -> None:
    async with PracticeServer() as server, asyncio.timeout(LONG_PATIENCE):
        replies = await asyncio.gather(answer("one", server.url), answer("two", server.url))
    assert sorted(reply.rpartition(": ")[2] for reply in replies) == ["one", "two"]
    # The second knew of the first: the practice model counts the messages that it is shown.
    assert sorted(reply.partition(" to")[0] for reply in replies) == [
        "practice reply 1",
        "practice reply 2",
    ]
    short = kinds(store)
    assert [short[0], short[3], short[4], short[7]] == ["turn", "end"] * 2
    for user, reply in (short[1:3], short[5:7]):
        assert reply.endswith(f"to: {user.removeprefix('user:')}")


async def a_hanging_call_ends_by_its_limit(store: turnlock.Store, answer: Answer) -> None:
    async with PracticeServer() as server, asyncio.timeout(LONG_PATIENCE):
        with pytest.raises(turnlock.LeaseRevoked) as caught:
            await answer("/hang", server.url)
        assert caught.value.reason == "model-limit"
        await server.wait_for(lambda now: len(now.peer_closes) == now.requests)
        assert (await answer("hello", server.url)).endswith("to: hello")
    assert kinds(store)[:3] == ["turn", "user:/hang", "model-limit"]
    assert kinds(store)[-1] == "end"
