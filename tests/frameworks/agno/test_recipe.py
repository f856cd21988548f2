from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import turnlock
from turnlock.practice import PracticeServer

from ..recipes import (
    Answer,
    a_hanging_call_ends_by_its_limit,
    open_store,
    recipe,
    two_at_once_are_two_turns,
)

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]


def answers(store: turnlock.Store) -> Answer:
    made = recipe("agno").answer
    return lambda text, url: made(store, "main/a", text, url)


def test_two_questions_at_once_are_two_turns(tmp_path: Path) -> None:
    with open_store(tmp_path, 60.0) as store:
        asyncio.run(two_at_once_are_two_turns(store, answers(store)))


def test_a_call_that_hangs_ends_by_its_limit(tmp_path: Path) -> None:
    with open_store(tmp_path, 2.0) as store:
        asyncio.run(a_hanging_call_ends_by_its_limit(store, answers(store)))


def test_a_reply_with_a_call_is_told_without_it(tmp_path: Path) -> None:
    """Results of tools are left out of what agno is told, and so are the calls that want them."""

    async def ask(store: turnlock.Store) -> str:
        call = {"type": "toolCall", "id": "c1", "name": "look", "arguments": {}}
        reply = turnlock.assistant("I look")
        reply["message"]["content"].append(call)
        async with store.turn("main/a") as turn:
            await turn.append(turnlock.user("look"), reply)
        async with PracticeServer() as server:
            return await answers(store)("hello", server.url)

    with open_store(tmp_path, 60.0) as store:
        assert asyncio.run(ask(store)).endswith("to: hello")
