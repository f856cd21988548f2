"""What hundreds of killed calls leave behind: no connection, thread, descriptor, slot of a pool."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

import turnlock
from tests.helpers import PATIENCE, eventually
from turnlock.turns.scope import current_turn

from .calls import all_left, in_the_middle, read_all, read_all_async
from .test_connections import Tls
from .upstream import Upstream, upstream

WARM = 20
KILLS = 500
FEW = 100
# More than a call on this machine takes to its first content.
STEPS = 50
# Threads of the worker pool and sockets in their last moments come and go; one a kill would be FEW.
SOME = 10


def of_openai(client: Any, url: str) -> Any:
    return client.chat.completions.create(model="m", messages=[], stream=True)


def of_anthropic(client: Any, url: str) -> Any:
    return client.messages.create(model="m", max_tokens=1, messages=[], stream=True)


# A client as its users make it, sync and async, and what they ask with it.
SDKS: dict[str, tuple[Any, Any, Any]] = {
    "openai": (
        lambda url: openai.OpenAI(api_key="x", base_url=url),
        lambda url: openai.AsyncOpenAI(api_key="x", base_url=url),
        of_openai,
    ),
    "anthropic": (
        lambda url: anthropic.Anthropic(api_key="x", base_url=url),
        lambda url: anthropic.AsyncAnthropic(api_key="x", base_url=url),
        of_anthropic,
    ),
}


@pytest.fixture
def store() -> Iterator[turnlock.Store]:
    with turnlock.open_store("memory:") as store:
        yield store


@contextmanager
def killing(store: turnlock.Store, server: Upstream, kills: int) -> Iterator[None]:
    """Each call's turn is revoked once the server was asked."""

    def kill() -> None:
        for _ in range(kills):
            assert server.asked.acquire(timeout=PATIENCE)
            assert store.revoke("main/a")

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Count:
    """Of descriptors and threads."""

    def __init__(self) -> None:
        self._before = (open_descriptors(), threading.active_count())

    def check(self) -> None:
        # What a traceback kept goes with it.
        gc.collect()
        eventually(lambda: open_descriptors() < self._before[0] + SOME)
        eventually(lambda: threading.active_count() < self._before[1] + SOME)


def pool_of(client: Any) -> Any:
    return getattr(client, "_client", client)._transport._inner._pool


def kill_calls(store: turnlock.Store, server: Upstream, ask: Any, kills: int) -> None:
    with killing(store, server, kills):
        for _ in range(kills):
            with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a", wait=PATIENCE):
                ask()


async def kill_calls_async(store: turnlock.Store, server: Upstream, ask: Any, kills: int) -> None:
    with killing(store, server, kills):
        for _ in range(kills):
            with pytest.raises(turnlock.LeaseRevoked):
                async with store.turn("main/a", wait=PATIENCE):
                    await ask()


@pytest.mark.parametrize(("sdk", "kills"), [("openai", KILLS), ("anthropic", FEW)])
def test_after_hundreds_of_kills_of_a_thread_nothing_is_left(
    store: turnlock.Store, sdk: str, kills: int
) -> None:
    make, _, ask = SDKS[sdk]
    with upstream(in_the_middle) as server:
        client: Any = turnlock.guard(make(server.url))

        def read() -> None:
            for _ in ask(client, server.url):
                pass

        kill_calls(store, server, read, WARM)
        count = Count()
        kill_calls(store, server, read, kills)
        all_left(server)
        count.check()
        assert (pool_of(client).connections, pool_of(client)._requests) == ([], [])
        assert not current_turn()
        client.close()


@pytest.mark.parametrize(("sdk", "kills"), [("openai", KILLS), ("anthropic", FEW)])
def test_after_hundreds_of_kills_of_a_task_nothing_is_left(
    store: turnlock.Store, sdk: str, kills: int
) -> None:
    _, make, ask = SDKS[sdk]

    async def test(server: Upstream) -> None:
        client: Any = turnlock.guard(make(server.url))

        async def read() -> None:
            async for _ in await ask(client, server.url):
                pass

        await kill_calls_async(store, server, read, WARM)
        count = Count()
        await kill_calls_async(store, server, read, kills)
        await asyncio.to_thread(all_left, server)
        count.check()
        assert (pool_of(client).connections, pool_of(client)._requests) == ([], [])
        assert len(asyncio.all_tasks()) == 1
        await client.close()

    # Clients of the SDKs that were forgotten make a task to close themselves.
    gc.collect()
    with upstream(in_the_middle) as server:
        asyncio.run(test(server))


def test_over_tls_as_well(store: turnlock.Store) -> None:
    tls = Tls()

    async def test(server: Upstream) -> None:
        async with turnlock.guard(httpx2.AsyncClient(verify=tls.client)) as client:
            await kill_calls_async(store, server, lambda: read_all_async(client, server.url), FEW)
            assert pool_of(client).connections == []

    with (
        upstream(in_the_middle, tls.server) as server,
        turnlock.guard(httpx2.Client(verify=tls.client)) as client,
    ):
        kill_calls(store, server, lambda: read_all(client, server.url), WARM)
        count = Count()
        kill_calls(store, server, lambda: read_all(client, server.url), FEW)
        asyncio.run(test(server))
        all_left(server)
        count.check()
        assert pool_of(client).connections == []


@pytest.mark.parametrize(
    ("http", "secure"), [(httpx, False), (httpx2, True)], ids=["httpx", "httpx2-tls"]
)
def test_a_call_that_is_cancelled_at_any_step_leaves_nothing(
    store: turnlock.Store, http: Any, secure: bool
) -> None:
    """At each turn of the event loop from there being a connection to the middle of the answer."""
    tls = Tls()

    async def cancelled_after(steps: int, client: Any, server: Upstream) -> None:
        connected = asyncio.Event()

        async def note(event: str, info: object) -> None:
            if event == "connection.connect_tcp.complete":
                connected.set()

        async def ask() -> None:
            async with (
                store.turn("main/a", wait=PATIENCE),
                client.stream("GET", server.url, extensions={"trace": note}) as response,
            ):
                await response.aread()

        task = asyncio.create_task(ask())
        await connected.wait()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert (pool_of(client).connections, pool_of(client)._requests) == ([], []), steps

    async def test(server: Upstream) -> None:
        async with turnlock.guard(http.AsyncClient(verify=tls.client)) as client:
            for steps in range(3):
                await cancelled_after(steps, client, server)
            count = Count()
            for steps in range(STEPS):
                await cancelled_after(steps, client, server)
            await asyncio.to_thread(all_left, server)
            count.check()

    with upstream(in_the_middle, tls.server if secure else None) as server:
        asyncio.run(test(server))
