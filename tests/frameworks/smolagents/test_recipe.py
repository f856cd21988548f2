from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from smolagents import AgentGenerationError, OpenAIModel, utils

import turnlock
from tests.helpers import LONG_PATIENCE, kinds
from turnlock.practice import PracticeServer

from ..recipes import open_store, recipe

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]

# The practice model says the task back, and the code in it is the agent's.
TASK = 'Say it: <code>final_answer("{}")</code>'


def ask(store: turnlock.Store, server: PracticeServer, text: str, mode: str = "reply") -> str:
    kept = {"default_headers": {"X-Practice-Mode": mode}}
    model = OpenAIModel("practice", api_base=server.url, api_key="any", client_kwargs=kept)
    reply: str = recipe("smolagents").answer(store, "main/a", text, model)
    return reply


def turn(word: str) -> list[str]:
    return ["turn", f"user:{TASK.format(word)}", f"assistant:{word}", "end"]


def test_two_tasks_of_two_threads_at_once_are_two_turns(tmp_path: Path) -> None:
    async def main() -> None:
        async with PracticeServer() as server, asyncio.timeout(LONG_PATIENCE):
            work = [
                asyncio.to_thread(ask, store, server, TASK.format(word)) for word in ("one", "two")
            ]
            assert await asyncio.gather(*work) == ["one", "two"]

    with open_store(tmp_path, 60.0) as store:
        asyncio.run(main())
        assert kinds(store) in (turn("one") + turn("two"), turn("two") + turn("one"))


def test_no_thread_sleeps_on_what_looks_like_a_rate_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    monkeypatch.setattr(utils.time, "sleep", naps.append)

    async def main() -> None:
        async with PracticeServer() as server, asyncio.timeout(LONG_PATIENCE):
            with pytest.raises(AgentGenerationError, match="429"):
                await asyncio.to_thread(ask, store, server, "work", "429")
            assert server.statistics().requests == 1

    with open_store(tmp_path, 60.0) as store:
        asyncio.run(main())
        assert kinds(store) == ["turn", "user:work", "error"]
    assert naps == []


def test_a_thread_in_a_call_that_hangs_comes_back_by_its_limit(tmp_path: Path) -> None:
    async def main() -> None:
        async with PracticeServer() as server, asyncio.timeout(LONG_PATIENCE):
            with pytest.raises(turnlock.LeaseRevoked) as caught:
                await asyncio.to_thread(ask, store, server, "work", "hang")
            assert caught.value.reason == "model-limit"
            await server.wait_for(lambda now: len(now.peer_closes) == now.requests)
            assert await asyncio.to_thread(ask, store, server, TASK.format("two")) == "two"

    with open_store(tmp_path, 2.0) as store:
        asyncio.run(main())
        assert kinds(store) == ["turn", "user:work", "model-limit", *turn("two")]
