"""Real model clients against a server that hangs: calls end by their limits and leave nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode  # type: ignore[attr-defined]
from google.adk.models.base_llm import BaseLlm
from google.adk.models.lite_llm import LiteLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner

import turnlock
from tests.helpers import PATIENCE, eventually
from turnlock.integrations.google_adk import TurnlockSessionService
from turnlock.practice import PracticeServer, Statistics

from .scripted import APP, ask, asked, says, told

# What LiteLlm's libraries say of each other, at some of their versions.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]

LIMIT = 0.8
STREAMED = RunConfig(streaming_mode=StreamingMode.SSE)
WHOLE = RunConfig(streaming_mode=StreamingMode.NONE)


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """What is imported, and looked up, at the first calls only, takes longer than the limits."""

    async def main() -> None:
        async with PracticeServer() as server:
            with turnlock.open_store("memory:") as store:
                for config in (WHOLE, STREAMED):
                    await ask(runner_with(store, lite(server)), "hello", run_config=config)

    asyncio.run(main())


@pytest.fixture
def impatient(state: Path) -> Iterator[turnlock.Store]:
    with turnlock.open_store(state, limits=turnlock.Limits(first_token=LIMIT, idle=LIMIT)) as store:
        yield store


def runner_with(store: turnlock.Store, model: BaseLlm, **limits: Any) -> Runner:
    agent = LlmAgent(name="root", model=model)
    service = TurnlockSessionService(store, **limits)
    return Runner(app_name=APP, agent=agent, session_service=service, auto_create_session=True)


def lite(server: PracticeServer) -> LiteLlm:
    return LiteLlm(model="openai/practice", api_base=server.url, api_key="any")


@pytest.mark.parametrize(
    ("word", "config", "reason"),
    [
        ("/hang", WHOLE, "model-limit"),
        ("/hang", STREAMED, "model-limit"),
        ("/stall", WHOLE, "model-limit"),
        ("/stall long enough for pieces", STREAMED, "model-limit"),
        ("/comments", WHOLE, "model-limit"),
        ("/comments", STREAMED, "model-limit"),
        ("/dribble", WHOLE, "model-limit"),
        ("/dribble", STREAMED, "hold-limit"),
    ],
)
def test_a_call_that_hangs_ends_by_its_limit_and_the_next_run_goes_on(
    impatient: turnlock.Store, word: str, config: RunConfig, reason: str
) -> None:
    """Before the headers, in the middle, with signs of life that are no content, with content for
    ever: that is what the hold limit is for.
    """

    async def main() -> None:
        async with PracticeServer(pulse=0.02) as server, asyncio.timeout(PATIENCE):
            runner = runner_with(impatient, lite(server), max_hold=4 * LIMIT)
            with pytest.raises(turnlock.LeaseRevoked) as caught:
                await ask(runner, word, run_config=config)
            assert caught.value.reason == reason
            # The connection of the call is closed: the model's host is told.
            seen = await server.wait_for(lambda now: len(now.peer_closes) == now.requests)
            assert seen.requests <= 1
            assert impatient.locks() == []
            assert (await ask(runner, "hello", run_config=config))[-1] == (
                "practice reply 2 to: hello"
            )

    before = set(threading.enumerate())
    asyncio.run(main())
    short = told(impatient)
    assert short == [
        "turn",
        f"user:{word}",
        reason,
        "turn",
        "user:hello",
        "assistant:practice reply 2 to: hello",
        "end",
    ]
    # AnyIO tells its threads to end as the loop is closed, and waits for none.
    eventually(lambda: not _foreign(before))


def _foreign(before: set[threading.Thread]) -> list[str]:
    """New threads that are none of the store's own, which wait for more work."""
    new = set(threading.enumerate()) - before
    return [one.name for one in new if not one.name.startswith(("turnlock", "asyncio_"))]


class InThread(BaseLlm):
    """A model whose client blocks a thread, as one of a synchronous SDK does."""

    model: str = "practice"
    client: Any

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        yield says(await asyncio.to_thread(self._create, asked(llm_request)))

    def _create(self, text: str) -> str:
        message: Any = {"role": "user", "content": text}
        made = self.client.chat.completions.create(model="practice", messages=[message])
        return str(made.choices[0].message.content)


def test_a_guarded_client_that_blocks_a_thread_comes_back_with_its_turn(
    impatient: turnlock.Store,
) -> None:
    returned = threading.Event()

    class Noticed(InThread):
        def _create(self, text: str) -> str:
            try:
                return super()._create(text)
            finally:
                returned.set()

    async def main() -> None:
        async with PracticeServer() as server, asyncio.timeout(PATIENCE):
            client = turnlock.guard(openai.OpenAI(base_url=server.url, api_key="any"))
            runner = runner_with(impatient, Noticed(client=client))
            with pytest.raises(turnlock.LeaseRevoked):
                await ask(runner, "/hang")
            assert await asyncio.to_thread(returned.wait, PATIENCE)
            await server.wait_for(lambda now: now.open_connections == 0)
            assert await ask(runner, "hello") == ["practice reply 1 to: hello"]

    asyncio.run(main())
    assert told(impatient)[2] == "model-limit"


def test_a_run_that_ends_leaves_its_connection_to_the_client(store: turnlock.Store) -> None:
    """No more of them than the client keeps, after many calls that were ended in the middle."""

    async def main() -> None:
        async with PracticeServer() as server, asyncio.timeout(3 * PATIENCE):
            runner = runner_with(store, lite(server))
            for number in range(10):
                task = asyncio.create_task(ask(runner, f"/hang {number}"))
                await server.wait_for(asked_times(number + 1))
                task.cancel()
                await asyncio.wait({task})
            await server.wait_for(lambda now: now.open_connections == 0)

    asyncio.run(main())
    assert told(store).count("cancelled") == 10


def asked_times(number: int) -> Callable[[Statistics], bool]:
    return lambda seen: seen.requests == number
