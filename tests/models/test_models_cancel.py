"""A call that is given up ends at once, at both ends of its connection, and harms no later call."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from turnlock.errors import ModelError
from turnlock.models import Delta, complete
from turnlock.models.direct import _Tail
from turnlock.models.openai import OpenAIModel
from turnlock.practice import PracticeServer

from .endpoint import BOUND, run, user

PULSE = 0.005
PROMPT = 1.0  # the endpoint has to see the caller gone within this


async def first_delta(model: OpenAIModel, text: str, begun: asyncio.Event) -> None:
    async with contextlib.aclosing(model.stream(user(text))) as stream:
        async for _ in stream:
            begun.set()


@pytest.mark.parametrize("text", ["/hang", "/comments", "/slow 3600"])
def test_cancel_before_any_content_reaches_the_endpoint(text: str) -> None:
    async def test() -> None:
        async with PracticeServer(pulse=PULSE) as server:
            call = asyncio.create_task(complete(OpenAIModel(server.url, "m"), user(text)))
            await server.wait_for(lambda seen: seen.requests == 1)
            await asyncio.wait({call}, timeout=PULSE * 4)
            assert not call.done()
            call.cancel()
            async with asyncio.timeout(PROMPT):
                seen = await server.wait_for(lambda seen: seen.open_connections == 0)
            with pytest.raises(asyncio.CancelledError):
                await call
        assert len(seen.peer_closes) == 1

    run(test())


@pytest.mark.parametrize("text", ["/stall", "/dribble"])
def test_cancel_in_mid_stream_reaches_the_endpoint(text: str) -> None:
    async def test() -> None:
        async with PracticeServer(pulse=PULSE) as server:
            begun = asyncio.Event()
            call = asyncio.create_task(first_delta(OpenAIModel(server.url, "m"), text, begun))
            await begun.wait()
            call.cancel()
            async with asyncio.timeout(PROMPT):
                seen = await server.wait_for(lambda seen: seen.open_connections == 0)
            with pytest.raises(asyncio.CancelledError):
                await call
        assert len(seen.peer_closes) == 1

    run(test())


@pytest.mark.parametrize("text", ["/stall", "/dribble", "/tokens 100000"])
def test_closing_the_generator_closes_the_connection(text: str) -> None:
    async def test() -> None:
        async with PracticeServer(pulse=PULSE) as server:
            stream = OpenAIModel(server.url, "m").stream(user(text))
            assert isinstance(await anext(stream), Delta)
            async with asyncio.timeout(PROMPT):
                await stream.aclose()
                await server.wait_for(lambda seen: seen.open_connections == 0)

    run(test())


def test_timeout_around_one_item_leaves_no_connection() -> None:
    async def test() -> None:
        async with PracticeServer(pulse=PULSE) as server:
            stream = OpenAIModel(server.url, "m").stream(user("/hang"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(stream)
            async with asyncio.timeout(PROMPT):
                await server.wait_for(lambda seen: seen.open_connections == 0)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    run(test())


def test_cancel_in_the_tls_handshake_lets_go_of_the_connection() -> None:
    async def test() -> None:
        arrived, gone = asyncio.Event(), asyncio.Event()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)  # the client has begun the handshake
            arrived.set()
            with contextlib.suppress(ConnectionError):
                await reader.read(-1)
            gone.set()
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        call = asyncio.create_task(complete(OpenAIModel(url, "m"), user("x")))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(PROMPT):
            await gone.wait()
        server.close()

    run(test())


def test_cancel_of_an_upload_that_nobody_reads_lets_go_of_the_connection() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        text = "x" * 40_000_000
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
            call = asyncio.create_task(complete(OpenAIModel(url, "m"), user(text)))
            peer, _ = await loop.sock_accept(server)
            with peer:
                await loop.sock_recv(peer, 1)  # the upload has begun
                await give_up(call)
                async with asyncio.timeout(PROMPT):
                    assert await received(peer) < len(text)
        assert call.cancelled()

    run(test())


async def received(peer: socket.socket) -> int:
    """How much comes until the connection ends."""
    count = 0
    with contextlib.suppress(ConnectionError):
        while data := await asyncio.get_running_loop().sock_recv(peer, 1 << 20):
            count += len(data)
    return count


def test_after_thirty_cancelled_calls_the_next_one_works() -> None:
    chance = random.Random(9)

    async def test() -> None:
        async with PracticeServer(pulse=PULSE) as server:
            model = OpenAIModel(server.url, "m")

            async def given_up_after_steps(count: int) -> None:
                """Anywhere: before the connection, in the request, in the answer, after it."""
                call = asyncio.create_task(complete(model, user("/tokens 20")))
                for _ in range(count):
                    await asyncio.sleep(0)
                await give_up(call)

            async def given_up_unanswered(text: str) -> None:
                call = asyncio.create_task(complete(model, user(text)))
                await server.wait_for(lambda seen: seen.requests >= 20)
                await give_up(call)

            async def given_up_in_mid_stream(text: str) -> None:
                begun = asyncio.Event()
                call = asyncio.create_task(first_delta(model, text, begun))
                await begun.wait()
                await give_up(call)

            await asyncio.gather(
                *(given_up_after_steps(chance.randrange(100)) for _ in range(10)),
                *(given_up_unanswered(text) for text in ["/hang", "/comments"] * 5),
                *(given_up_in_mid_stream(text) for text in ["/stall", "/dribble"] * 5),
            )
            async with asyncio.timeout(BOUND):
                assert (await complete(model, user("still there?")))[0].endswith("still there?")
                seen = await server.wait_for(lambda seen: seen.open_connections == 0)
        assert len(seen.peer_closes) >= 20

    run(test())


async def give_up(call: asyncio.Task[Any]) -> None:
    call.cancel()
    async with asyncio.timeout(BOUND):
        await asyncio.wait({call})


def test_closing_the_model_ends_its_calls_with_an_error() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            model = OpenAIModel(server.url, "m")
            begun = asyncio.Event()
            call = asyncio.create_task(first_delta(model, "/stall", begun))
            await begun.wait()
            await model.aclose()
            with pytest.raises(ModelError) as caught:
                async with asyncio.timeout(BOUND):
                    await call
            assert caught.value.kind == "interrupted"
            await server.wait_for(lambda seen: seen.open_connections == 0)

    run(test())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/tcp")
def test_connection_is_watched_by_tcp() -> None:
    """A peer that vanishes without a word is found out even when no limit is set."""

    async def test() -> None:
        async with PracticeServer() as server:
            stream = OpenAIModel(server.url, "m").stream(user("/stall"))
            await anext(stream)
            timers = timers_to(int(server.url.removesuffix("/v1").rpartition(":")[2]))
            await stream.aclose()
        assert timers == ["02"]  # 02 is the keepalive timer

    run(test())


def timers_to(port: int) -> list[str]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [row for row in rows if row[3] == "01"]
    return [row[5][:2] for row in established if int(row[2].rpartition(":")[2], 16) == port]


def test_more_of_a_complete_reply_is_not_waited_for_after_an_item_of_the_last_moment() -> None:
    class Complete:
        finish_reason = "stop"
        provider_details = None

    async def test() -> None:
        item = asyncio.get_running_loop().create_future()

        async def contents() -> AsyncGenerator[Delta, None]:
            yield await item
            await asyncio.Event().wait()

        response: Any = Complete()
        tail = _Tail(response)
        more = contents()
        waiting = asyncio.create_task(tail.next(more))
        await asyncio.sleep(0)
        item.set_result(Delta("x"))
        for _ in range(2):
            tail.stop()
            tail._look()
        assert await waiting == Delta("x")
        assert await tail.next(more) is None
        tail.stop()

    run(test())
