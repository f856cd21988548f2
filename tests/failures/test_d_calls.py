"""D. Hung and half-dead model calls."""

from __future__ import annotations

import asyncio
import ctypes
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from tests.gateway import raw, serving
from tests.gateway.serving import Scripted, Served
from tests.gateway.test_native_events import listening
from tests.helpers import PATIENCE
from tests.models.endpoint import endpoint, head
from tests.models.wires import OPENAI, WIRES, Line, Script, ScriptedServer, hang, reply, scripted
from tests.mutants import faults
from turnlock.errors import ModelError
from turnlock.models import Delta, Finished, Message, complete, transport
from turnlock.models.openai import OpenAIModel
from turnlock.practice import PracticeServer

from .declaring import Bite, mode
from .gateways import Talk, models, talking
from .test_b_teardown import deaf

LONG = "first_token = 60\nidle = 60\nturn = 100\ndrain = 0.5"

Story = Callable[[Served, Talk, ScriptedServer], Awaitable[None]]


def play(tmp_path: Path, story: Story, script: Script = reply) -> None:
    """A gateway whose model is behind an endpoint that does what the script says."""

    async def test() -> None:
        async with (
            scripted(OPENAI, script) as upstream,
            talking(tmp_path, rest=models(main=upstream.url)) as (gateway, talk),
        ):
            await story(gateway, talk, upstream)

    serving.run(test())


@mode("D1", bites=Bite(faults.NO_WATCHDOG, shows="no answer"))
def test_d1_an_endpoint_that_never_answers_costs_each_message_its_limit(tmp_path: Path) -> None:
    async def story(gateway: Served, talk: Talk, upstream: ScriptedServer) -> None:
        assert await talk("one") == "model_limit"
        assert await talk("two") == "model_limit"
        upstream.script = reply
        assert await talk("three") == "hello"
        assert [marker["reason"] for marker in gateway.markers()] == ["model-limit"] * 2

    play(tmp_path, story, hang)


async def says_three_words(line: Line) -> None:
    await line.begin()
    for word in ("one ", "two ", "three "):
        await line.send(OPENAI.text(word))
    await line.hold()


@mode("D2", bites=Bite(faults.IDLE_UNLIMITED, shows="turn_limit"))
def test_d2_an_endpoint_that_falls_silent_is_left(tmp_path: Path) -> None:
    async def story(gateway: Served, talk: Talk, upstream: ScriptedServer) -> None:
        assert await talk("count", stream=True) == "model_limit"
        await serving.eventually(lambda: upstream.open == 0)
        assert gateway.said() == [("user", "count")], "half an answer is none"
        upstream.script = reply
        assert await talk("again") == "hello"

    play(tmp_path, story, says_three_words)


async def comments(line: Line) -> None:
    await line.begin()
    while True:
        await line.send(b": keepalive\n\n")
        await asyncio.sleep(0.05)


@mode("D3", bites=Bite(faults.BYTE_TIMER, shows="turn_limit"))
def test_d3_keepalives_do_not_feed_the_limit(tmp_path: Path) -> None:
    async def story(gateway: Served, talk: Talk, upstream: ScriptedServer) -> None:
        assert await talk("hello") == "model_limit"
        assert await talk("hello", stream=True) == "model_limit"

    play(tmp_path, story, comments)


async def complete_without_done(line: Line) -> None:
    await line.begin()
    await line.send(OPENAI.text("hello"), OPENAI.end("stop").removesuffix(b"data: [DONE]\n\n"))
    await line.hold()


async def complete_with_done(line: Line) -> None:
    await line.begin()
    await line.send(OPENAI.text("hello"), OPENAI.end("stop"))
    await line.hold()


@pytest.mark.parametrize("script", [complete_without_done, complete_with_done])
@mode("D4", bites=Bite(faults.BODY_HAS_TO_END, shows="model_limit"))
def test_d4_a_complete_answer_is_one_though_its_body_never_ends(
    tmp_path: Path, script: Script
) -> None:
    async def story(gateway: Served, talk: Talk, upstream: ScriptedServer) -> None:
        assert await talk("hello") == "hello"
        await serving.eventually(lambda: upstream.open == 0)
        assert gateway.markers() == []

    play(tmp_path, story, script)


def drop_all(sock: socket.socket) -> None:
    """Nothing of what the peer sends is seen any more: as behind a NAT that forgot the way."""
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0
    program = struct.pack("HP", 1, ctypes.addressof(nothing))
    sock.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER


@mode("D5", bites=Bite(faults.NO_KEEPALIVE, shows="nobody noticed"))
def test_d5_a_path_that_swallows_everything_is_noticed_without_any_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, seconds in (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 1)):
        monkeypatch.setitem(transport._TCP_WATCH, name, seconds)
    monkeypatch.setitem(transport._TCP_WATCH, "TCP_USER_TIMEOUT", 1000)
    over = asyncio.Event()

    async def forgotten(line: Line) -> None:
        await line.begin()
        drop_all(line.writer.get_extra_info("socket"))
        await over.wait()

    async def test() -> None:
        async with scripted(OPENAI, forgotten) as upstream:
            model = OpenAIModel(upstream.url, "m")
            call = asyncio.create_task(complete(model, serving.user("hello")))
            try:
                await asyncio.wait({call}, timeout=PATIENCE)
                assert call.done(), "nobody noticed"
            finally:
                over.set()
                call.cancel()
            with pytest.raises(ModelError, match="interrupted"):
                await call

    serving.run(test())


@mode("D6", bites=Bite(faults.ALONE_UNLIMITED, shows="no answer"))
def test_d6_every_way_to_a_model_has_the_limit(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            scripted(OPENAI, hang) as silent,
            endpoint(head(500), b"<html>an error that goes on and", hold=True) as failing,
            endpoint(head(307, location=f"{silent.url}/x"), hold=True) as moved,
            talking(
                tmp_path, rest=models(main=silent.url, failing=failing.url, moved=moved.url)
            ) as (_, talk),
        ):
            ways = [
                talk("hello", session, stream=stream, agent=agent)
                for agent in ("main", "failing", "moved")
                for stream in (False, True)
                for session in (f"{agent}/{stream}", None)
            ]
            assert await asyncio.gather(*ways) == ["model_limit"] * len(ways)

    serving.run(test())


@pytest.mark.parametrize("provider", ["mistral", "ollama"])
@mode("D6", bites=())
def test_d6_every_class_of_models_has_the_limit(tmp_path: Path, provider: str) -> None:
    async def test() -> None:
        async with scripted(WIRES[provider], hang) as silent:
            table = models(main=silent.url, provider=provider, model=WIRES[provider].model)
            async with talking(tmp_path, rest=table) as (_, talk):
                assert await talk("hello") == "model_limit"

    serving.run(test())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("text", ["/cut", "/reset"])
@mode("D7", bites=Bite(faults.ANY_END_IS_ONE, shows="practice"))
def test_d7_an_answer_that_is_cut_short_is_none(tmp_path: Path, text: str, stream: bool) -> None:
    async def test() -> None:
        async with talking(tmp_path) as (gateway, talk):
            assert await talk(text, stream=stream) == "upstream_error"
            assert gateway.said() == [("user", text)]
            (marker,) = gateway.markers()
            assert (marker["reason"], "interrupted" in marker["error"]) == ("error", True)

    serving.run(test())


@mode("D8", bites=Bite(faults.ONE_LIMIT_FOR_ALL, shows="model_limit"))
def test_d8_a_first_word_has_a_limit_of_its_own(tmp_path: Path) -> None:
    async def test() -> None:
        limits = "first_token = 60\nidle = 1.0\nturn = 100"
        async with talking(tmp_path, limits=limits) as (_, talk):
            assert await talk("/slow 1.5") == "practice reply 1 to: /slow 1.5"

    serving.run(test())


@mode("D9", bites=Bite(faults.LEAKY_POOL, shows="model_limit|did not come to that"))
def test_d9_after_many_killed_calls_the_next_one_works(tmp_path: Path) -> None:
    chance = random.Random(9)
    texts = ["/hang", "/comments", "/stall", "/dribble", "/tokens 50"] * 4

    async def test() -> None:
        async with (
            PracticeServer(pulse=0.01) as practice,
            talking(tmp_path, rest=models(main=practice.url)) as (_, talk),
        ):
            calls = [
                asyncio.create_task(talk(text, str(place), stream=True))
                for place, text in enumerate(texts)
            ]
            # So many that those which hang are among them, whatever the order.
            await serving.eventually(lambda: practice.statistics().requests > len(texts) * 3 / 4)
            for call in chance.sample(calls, len(calls)):
                call.cancel()
                await asyncio.sleep(0.01 * chance.random())
            await asyncio.wait(calls)
            assert await talk("still there?", "new") == "practice reply 1 to: still there?"
            await serving.eventually(lambda: practice.statistics().open_connections == 0)

    serving.run(test())


@pytest.mark.parametrize("text", ["/hang", "/dribble"], ids=["before", "after"])
@mode("D10", bites=Bite(faults.CLIENT_STAYS, shows="did not come to that"))
def test_d10_a_client_that_leaves_leaves_the_endpoint_too(tmp_path: Path, text: str) -> None:
    """Before its first word, and after it."""

    async def test() -> None:
        async with (
            PracticeServer(pulse=0.01) as practice,
            talking(tmp_path, limits=LONG, rest=models(main=practice.url)) as (gateway, talk),
            raw.line(gateway) as connection,
        ):
            body = raw.chat(text, stream=True, user="a")
            await connection.send(raw.request(gateway, body=body))
            await serving.eventually(lambda: practice.statistics().requests == 1)
            if text == "/dribble":
                await connection.head()
            connection.writer.transport.abort()
            await serving.eventually(lambda: len(practice.statistics().peer_closes) == 1, PATIENCE)
            assert await talk("next") == "practice reply 2 to: next"

    serving.run(test())


async def overloaded(line: Line) -> None:
    await line.send(head(529, "application/json"), OPENAI.refusal(529, "Overloaded"))


async def breaks(line: Line) -> None:
    await line.begin()
    await line.send(OPENAI.text("hel"), OPENAI.failure or b"")


async def garbage(line: Line) -> None:
    await line.begin()
    await line.send(OPENAI.garbage)


@mode("D11", bites=Bite(faults.ERROR_IS_REPLY, shows="Overloaded|ModelError|status"))
def test_d11_no_error_is_ever_a_word_of_the_model(tmp_path: Path) -> None:
    faults_of_all_kinds = [overloaded, breaks, garbage, says_three_words, hang]

    async def story(gateway: Served, talk: Talk, upstream: ScriptedServer) -> None:
        texts = []
        for number, script in enumerate(faults_of_all_kinds):
            upstream.script = script
            texts.append(f"message {number}")
            answer = await talk(texts[-1])
            assert answer in ("upstream_error", "model_limit"), answer
        upstream.script = reply
        assert await talk("the last") == "hello"
        users = [("user", text) for text in (*texts, "the last")]
        assert gateway.said() == [*users, ("assistant", "hello")]
        sent = upstream.requests[-1][2]["messages"]
        assert [(one["role"], one["content"]) for one in sent] == users

    play(tmp_path, story)


@mode("D12", bites=Bite(faults.ERROR_UNSAID, shows="0 errors"))
def test_d12_every_end_is_told_once_to_the_client_and_to_who_listens(tmp_path: Path) -> None:
    texts = ["/hang", "/stall", "/cut", "/reset", "/500", "/garbage", "hello"]

    async def test() -> None:
        async with talking(tmp_path) as (gateway, _), listening(gateway) as listener:
            for text in texts:
                answer = await raw.post(gateway, raw.chat(text, stream=True, user="a"))
                errors = answer.body.count(b'{"error":')
                done = answer.body.count(b"data: [DONE]")
                assert (errors, done) == ((0, 1) if text == "hello" else (1, 0)), (
                    f"{text}: {errors} errors and {done} ends"
                )
                assert not gateway.is_held()
            ends: Counter[str] = Counter()
            while len(ends) < len(texts):
                event = await listener.event()
                if event.name in ("TurnReleased", "TurnRevoked"):
                    ends[event.facts["turn_id"]] += 1
            assert set(ends.values()) == {1}
            assert sorted(gateway.terminals()) == sorted(ends)

    serving.run(test())


@mode("D13", bites=Bite(faults.NO_HAND_OVER, shows="no answer"))
def test_d13_after_a_time_out_every_message_is_a_turn(tmp_path: Path) -> None:
    over = asyncio.Event()

    async def hangs_once(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        if serving.last_text(messages) == "hang":
            await deaf(over)
        async for item in serving.echo(messages):
            yield item

    async def test() -> None:
        model = Scripted(hangs_once)
        async with talking(tmp_path, model) as (gateway, talk):
            try:
                assert await talk("hang") == "model_limit"
                answers = [await talk(text) for text in ("1", "2", "3")]
                assert answers == ["re: 1", "re: 2", "re: 3"]
            finally:
                over.set()
            assert len(model.calls) == 4
            said = [text for role, text in gateway.said() if role == "user"]
            assert said == ["hang", "1", "2", "3"]

    serving.run(test())


def half_dead(over: asyncio.Event) -> Callable[..., Awaitable[None]]:
    """Takes what is small at once and the rest at 10 KB/s, and answers it then."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", asked, re.IGNORECASE)
            left = int(found[1]) if found else 0
            while left > 100_000 and not over.is_set():
                left -= len(await reader.readexactly(1024))
                await asyncio.sleep(0.1)
            await reader.readexactly(left)
            writer.write(head() + OPENAI.begin() + OPENAI.text("hello") + OPENAI.end("stop"))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    return serve


@mode("D14", bites=Bite(faults.FIRST_UNLIMITED, shows="turn_limit"))
def test_d14_an_endpoint_that_crawls_through_a_large_request_is_bounded(tmp_path: Path) -> None:
    async def test() -> None:
        crawling = socket.create_server(("127.0.0.1", 0))
        crawling.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        over = asyncio.Event()
        server = await asyncio.start_server(half_dead(over), sock=crawling, limit=4096)
        url = f"http://127.0.0.1:{crawling.getsockname()[1]}/v1"
        async with server, talking(tmp_path, rest=models(main=url)) as (_, talk):
            try:
                assert await talk("small") == "hello"
                assert await talk("x" * 3_900_000, "large") == "model_limit"
                assert await talk("small again") == "hello"
            finally:
                over.set()

    serving.run(test())
