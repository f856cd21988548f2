"""A gateway that the tests of a module share, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from .serving import Scripted, Served, echo, served


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """It echoes; ``agents.example`` is a host of it and ``https://good.example`` may ask it."""
    settings = 'allowed_hosts = ["Agents.example", "with-a-port.example:8642"]\nallowed_origins = ["https://good.example"]'
    started: Future[tuple[Served, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async with served(
            tmp_path_factory.mktemp("shared"), Scripted(echo), gateway=settings
        ) as it:
            over = asyncio.Event()
            started.set_result((it, asyncio.get_running_loop(), over))
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    made, loop, over = started.result(10)
    yield made
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    assert not thread.is_alive()
