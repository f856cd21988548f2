"""Each fault bites: a client that sees the bare socket meets exactly what the mode promises."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from turnlock.practice import Mode, PracticeServer

from .raw import BOUND, Raw, ask, chat, connect, content, post, run

PULSE = 0.01


@contextlib.asynccontextmanager
async def asked(text: str, *, stream: bool) -> AsyncIterator[tuple[PracticeServer, Raw]]:
    async with PracticeServer(pulse=PULSE) as server, connect(server.url) as raw:
        await raw.send(post(chat(text, stream=stream), {"authorization": "Bearer sk-secret"}))
        yield server, raw


async def some(raw: Raw, count: int) -> list[str]:
    """The next chunks of a body that need not have an end."""
    got: list[str] = []
    async with asyncio.timeout(BOUND), contextlib.aclosing(raw.chunks()) as chunks:
        async for chunk in chunks:
            got.append(chunk.decode())
            if len(got) == count:
                break
    return got


@pytest.mark.parametrize("stream", [True, False])
def test_hang_takes_the_request_and_says_nothing(stream: bool) -> None:
    async def test() -> None:
        async with asked("/hang", stream=stream) as (server, raw):
            await server.wait_for(lambda seen: seen.requests == 1)
            assert await raw.silent()
            assert server.statistics().open_connections == 1

    run(test())


def test_stall_says_a_few_deltas_and_then_nothing() -> None:
    async def test() -> None:
        async with asked("/stall", stream=True) as (_, raw):
            assert (await raw.head()).status == 200
            begun = await some(raw, 3)
            assert "practice" in begun[1]
            assert await raw.silent()

    run(test())


def test_stall_without_stream_stops_in_the_middle_of_the_json() -> None:
    async def test() -> None:
        async with asked("/stall", stream=False) as (_, raw):
            length = int((await raw.head()).headers["content-length"])
            await raw.reader.readexactly(length // 2)
            assert await raw.silent()

    run(test())


def test_dribble_sends_content_again_and_again() -> None:
    async def test() -> None:
        async with asked("/dribble", stream=True) as (_, raw):
            await raw.head()
            _, *drips = await some(raw, 6)
            assert all("drip" in drip for drip in drips)

    run(test())


def test_comments_send_life_but_never_content() -> None:
    async def test() -> None:
        async with asked("/comments", stream=True) as (_, raw):
            await raw.head()
            _, *signs = await some(raw, 9)
            assert signs[0::2] == [": keepalive\n\n"] * 4
            deltas = [json.loads(sign.removeprefix("data: ")) for sign in signs[1::2]]
            assert {delta["choices"][0]["delta"]["content"] for delta in deltas} == {""}

    run(test())


@pytest.mark.parametrize("text", ["/dribble", "/comments"])
def test_without_stream_white_space_comes_for_ever(text: str) -> None:
    async def test() -> None:
        async with asked(text, stream=False) as (_, raw):
            assert (await raw.head()).headers["content-type"] == "application/json"
            assert "".join(await some(raw, 5)).strip() == ""

    run(test())


@pytest.mark.parametrize("stream", [True, False])
def test_reset_in_the_middle_reaches_the_peer_as_a_reset(stream: bool) -> None:
    async def test() -> None:
        async with asked("/reset", stream=stream) as (_, raw):
            assert (await raw.head()).status == 200
            with pytest.raises(ConnectionResetError):
                await raw.rest()

    run(test())


def test_cut_ends_the_body_cleanly_without_any_word_of_an_end() -> None:
    async def test() -> None:
        async with asked("/cut", stream=True) as (_, raw):
            answer = await raw.answer()
            assert await raw.rest() == b""
        assert 0 < len("".join(content(answer))) < len("practice reply 1 to: /cut")
        assert '"finish_reason":"stop"' not in answer.body.decode()
        assert "[DONE]" not in answer.events()

    run(test())


def test_cut_without_stream_closes_before_the_promised_length() -> None:
    async def test() -> None:
        async with asked("/cut", stream=False) as (_, raw):
            length = int((await raw.head()).headers["content-length"])
            assert 0 < len(await raw.rest()) < length

    run(test())


@pytest.mark.parametrize("stream", [True, False])
def test_429_says_when_to_come_back(stream: bool) -> None:
    async def test() -> None:
        async with PracticeServer(retry_after=7) as server:
            answer = await ask(server.url, chat("/429", stream=stream))
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert answer.error()["code"] == "rate_limit_exceeded"

    run(test())


@pytest.mark.parametrize("stream", [True, False])
def test_500_is_a_big_page_of_html(stream: bool) -> None:
    async def test() -> None:
        async with asked("/500", stream=stream) as (_, raw):
            answer = await raw.answer()
        assert answer.status == 500
        assert answer.headers["content-type"].startswith("text/html")
        assert len(answer.body) > 60_000

    run(test())


@pytest.mark.parametrize("stream", [True, False])
def test_garbage_has_status_200_and_no_json(stream: bool) -> None:
    async def test() -> None:
        async with asked("/garbage", stream=stream) as (_, raw):
            answer = await raw.answer()
        assert answer.status == 200
        with pytest.raises(json.JSONDecodeError):
            json.loads(answer.events()[-1] if stream else answer.body)

    run(test())


@pytest.mark.parametrize("stream", [True, False])
def test_leak_repeats_the_key(stream: bool) -> None:
    async def test() -> None:
        async with asked("/leak", stream=stream) as (_, raw):
            answer = await raw.answer()
        assert answer.status == 401
        assert "sk-secret" in answer.error()["message"]

    run(test())


def test_open_says_everything_and_never_ends_the_body() -> None:
    async def test() -> None:
        async with asked("/open", stream=True) as (_, raw):
            await raw.head()
            async with asyncio.timeout(BOUND):
                said = await raw.reader.readuntil(b"data: [DONE]\n\n\r\n")
            assert b'"finish_reason":"stop"' in said
            assert await raw.silent()

    run(test())


def test_open_without_stream_sends_the_whole_json_and_no_end() -> None:
    async def test() -> None:
        async with asked("/open", stream=False) as (_, raw):
            await raw.head()
            (body,) = await some(raw, 1)
            assert json.loads(body)["object"] == "chat.completion"
            assert await raw.silent()

    run(test())


@pytest.mark.parametrize("stream", [True, False])
def test_slow_holds_the_content_back(stream: bool) -> None:
    async def test() -> None:
        async with asked("/slow 3600", stream=stream) as (server, raw):
            await server.wait_for(lambda seen: seen.requests == 1)
            if stream:
                await raw.head()
                await some(raw, 1)
            assert await raw.silent()
        async with asked("/slow 0.01", stream=stream) as (_, raw):
            answer = await raw.answer()
        assert "practice" in ("".join(content(answer)) if stream else answer.body.decode())

    run(test())


@pytest.mark.parametrize("stream", [True, False])
def test_tokens_sends_that_many(stream: bool) -> None:
    async def test() -> None:
        async with asked("/tokens 300", stream=stream) as (_, raw):
            answer = await raw.answer()
        if stream:
            assert len(content(answer)) == 300
        else:
            assert answer.json()["usage"]["completion_tokens"] == 300

    run(test())


def test_header_asks_for_a_mode_before_the_message_does() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            by_header = await ask(server.url, chat("/500"), x_practice_mode="429")
            with_number = await ask(server.url, chat("hello"), x_practice_mode="tokens 2")
            unknown = await ask(server.url, chat("hello"), x_practice_mode="explode")
        assert (by_header.status, unknown.status) == (429, 400)
        assert content(with_number) == ["t1 ", "t2 "]

    run(test())


def test_other_words_with_a_slash_are_only_words() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            answer = await ask(server.url, chat("/help me"))
        assert "".join(content(answer)) == "practice reply 1 to: /help me"

    run(test())


SILENT_MODES = [Mode.HANG, Mode.STALL, Mode.DRIBBLE, Mode.COMMENTS, Mode.OPEN]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("mode", SILENT_MODES)
def test_peer_that_goes_is_noticed_and_its_time_taken(mode: Mode, stream: bool) -> None:
    async def test() -> None:
        async with PracticeServer(pulse=PULSE) as server:
            async with connect(server.url) as raw:
                await raw.send(post(chat(f"/{mode.value}", stream=stream)))
                await server.wait_for(lambda seen: seen.requests == 1)
                assert server.statistics().peer_closes == ()
            async with asyncio.timeout(BOUND):
                seen = await server.wait_for(lambda seen: seen.open_connections == 0)
            (gone,) = seen.peer_closes
            assert gone.mode == mode.value
            assert 0 <= gone.after < BOUND

    run(test())


def test_close_ends_every_connection_and_leaves_no_task() -> None:
    async def test() -> None:
        before = asyncio.all_tasks()
        server = PracticeServer(pulse=PULSE)
        await server.start()
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(server.url)) for _ in range(12)]
            for number, raw in enumerate(clients[:-1]):
                mode = SILENT_MODES[number % len(SILENT_MODES)]
                await raw.send(post(chat(f"/{mode.value}")))
            await server.wait_for(lambda seen: seen.requests == len(clients) - 1)
            async with asyncio.timeout(BOUND):
                await asyncio.gather(server.close(), server.close())
            assert asyncio.all_tasks() == before
            assert server.statistics().open_connections == 0
            for raw in clients:
                with contextlib.suppress(ConnectionError):
                    await raw.rest()
        await server.close()

    run(test())


def test_close_reaches_a_peer_that_reads_nothing() -> None:
    async def test() -> None:
        async with PracticeServer() as server, connect(server.url) as raw:
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await raw.send(post(chat("/tokens 1000000")))
            await server.wait_for(lambda seen: seen.requests == 1)
            async with asyncio.timeout(BOUND):
                await server.close()

    run(test())


def test_server_that_is_not_started_has_no_url_and_starts_once() -> None:
    async def test() -> None:
        server = PracticeServer()
        with pytest.raises(RuntimeError, match="not started"):
            _ = server.url
        async with server:
            with pytest.raises(RuntimeError, match="already started"):
                await server.start()

    run(test())
