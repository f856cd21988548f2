"""Whatever the model does: a typed error, an end of the turn, and a reply to the next message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from turnlock import open_store
from turnlock.models import Delta, Finished, Message, Thinking

from .raw import chat, line, request
from .serving import (
    QUICK,
    Scripted,
    ask,
    deaf_sleep,
    echo,
    eventually,
    facts,
    failure,
    last_text,
    run,
    served,
    user,
)

# Far above what a session takes to go on after a limit; below what it takes to hang.
SOON = 15.0

# mode, marker's reason, status of an early failure, code, whether content comes first
MODES = [
    ("/hang", "model-limit", 504, "model_limit", False),
    ("/comments", "model-limit", 504, "model_limit", False),
    ("/stall", "model-limit", 504, "model_limit", True),
    ("/dribble", "model-limit", 504, "model_limit", True),
    ("/reset", "error", 502, "upstream_error", True),
    ("/cut", "error", 502, "upstream_error", True),
    ("/garbage", "error", 502, "upstream_error", False),
    ("/429", "error", 502, "upstream_error", False),
    ("/500", "error", 502, "upstream_error", False),
    ("/leak", "error", 502, "upstream_error", False),
]


@pytest.mark.parametrize(("mode", "reason", "status", "code", "content"), MODES)
def test_a_failed_turn_is_an_error_and_the_next_one_a_reply(
    tmp_path: Path, mode: str, reason: str, status: int, code: str, content: bool
) -> None:
    async def fail_and_go_on(client: openai.AsyncOpenAI, stream: bool) -> openai.APIError:
        session = f"s{stream}"
        error = await failure(client, f"{mode} now", session=session, stream=stream)
        reply = await ask(client, "hello", session=session)
        assert reply == "practice reply 2 to: hello"
        return error

    async def test() -> None:
        # The client's own retries are on: none of these may be repeated by it.
        async with served(tmp_path) as gateway, gateway.client() as client:
            whole, streamed = await asyncio.gather(
                fail_and_go_on(client, False), fail_and_go_on(client, True)
            )
            assert isinstance(whole, openai.APIStatusError)
            assert (whole.status_code, whole.code) == (status, code)
            assert whole.response.headers["x-should-retry"] == "false"
            assert (isinstance(streamed, openai.APIStatusError), streamed.code) == (
                not content,
                code,
            )
            for session, error in (("sFalse", whole), ("sTrue", streamed)):
                (marker,) = gateway.markers(session)
                assert (marker["reason"], marker["turnId"]) == (reason, facts(error)["turn"])
                said = gateway.said(session)
                assert said[:2] == [("user", f"{mode} now"), ("user", "hello")]
                assert len(said) == 3
                assert len(gateway.terminals(session)) == len(set(gateway.terminals(session))) == 2

    run(test())


def test_an_upstream_status_is_told_and_a_key_is_not(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as gateway, gateway.client() as client:
            limited = facts(await failure(client, "/429", session="b"))
            assert (limited["upstream_status"], limited["kind"]) == (429, "status")
            leaked = await failure(client, "/leak")
            assert facts(leaked)["upstream_status"] == 401
            assert "[redacted]" in str(leaked)
            assert "[redacted]" in gateway.markers()[0]["error"]
            for text in (str(leaked.body), str(gateway.transcript())):
                assert "practice-" not in text

    run(test())


def test_the_session_goes_on_as_soon_as_the_limit_has_passed(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as gateway, gateway.client() as client:
            began = time.monotonic()
            hung = asyncio.create_task(failure(client, "/hang"))
            await eventually(gateway.claim().exists)
            reply = asyncio.create_task(ask(client, "hello"))
            error = await hung
            assert await reply == "practice reply 2 to: hello"
            took = time.monotonic() - began
            assert 0.5 <= took < 0.5 + SOON
            assert facts(error)["limit"] == 0.5

    run(test())


def test_content_without_end_meets_the_turn_limit(tmp_path: Path) -> None:
    async def babble(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        while last_text(messages) == "babble":
            yield Delta("la ")
            await asyncio.sleep(0.01)
        async for item in echo(messages):
            yield item

    async def test() -> None:
        limits = "turn = 0.5\nfirst_token = 0.4\nidle = 0.4"
        async with (
            served(tmp_path, Scripted(babble), limits=limits) as gateway,
            gateway.client() as client,
        ):
            for session in ("a", None):
                error = await (
                    failure(client, "babble")
                    if session
                    else stateless_failure(client, "babble", stream=True)
                )
                assert error.code == "turn_limit"
                assert facts(error)["limit"] == 0.5
            assert gateway.markers()[0]["reason"] == "hold-limit"
            assert await ask(client, "hello") == "re: hello"

    run(test())


def test_thinking_is_progress_that_only_the_whole_turn_bounds(tmp_path: Path) -> None:
    """Past first_token and idle many times over; the marker says what it was at."""

    async def ponder(
        messages: Sequence[Message],
    ) -> AsyncGenerator[Delta | Thinking | Finished, None]:
        while last_text(messages) == "ponder":
            yield Thinking("hm")
            await asyncio.sleep(0.01)
        yield Thinking()
        async for item in echo(messages):
            yield item

    async def test() -> None:
        limits = "turn = 0.6\nfirst_token = 0.3\nidle = 0.3"
        async with (
            served(tmp_path, Scripted(ponder), limits=limits) as gateway,
            gateway.client() as client,
        ):
            assert (await failure(client, "ponder")).code == "turn_limit"
            assert (await stateless_failure(client, "ponder")).code == "turn_limit"
            (marker,) = gateway.markers()
            assert (marker["reason"], marker["phase"]) == ("hold-limit", "thinking")
            assert await ask(client, "hello") == "re: hello"
            assert gateway.said()[-1] == ("assistant", "re: hello")

    run(test())


async def stateless_failure(
    client: openai.AsyncOpenAI, text: str, *, stream: bool = False
) -> openai.APIError:
    try:
        answer: Any = await client.chat.completions.create(
            model="main", messages=user(text), stream=stream
        )
        if stream:
            async for _ in answer:
                pass
    except openai.APIError as error:
        return error
    raise AssertionError("it was answered")


def test_a_call_without_session_is_bounded_as_well(tmp_path: Path) -> None:
    limits = "first_token = 1.2\nidle = 0.8\nturn = 5.0"  # all at once: on a slow machine slowly

    async def test() -> None:
        async with (
            served(tmp_path, limits=limits) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            errors = await asyncio.gather(
                *(
                    stateless_failure(client, mode, stream=stream)
                    for mode, *_ in MODES
                    for stream in (False, True)
                )
            )
            codes = [code for _, _, _, code, _ in MODES for _ in range(2)]
            assert [error.code for error in errors] == codes
            assert not (gateway.state / "agents").exists()

    run(test())


def test_code_that_ignores_its_cancellation_holds_up_nobody(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def deaf(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        if last_text(messages) == "deaf":
            await deaf_sleep(release)
        async for item in echo(messages):
            yield item

    async def test() -> None:
        model = Scripted(deaf)
        async with served(tmp_path, model) as gateway, gateway.client(max_retries=0) as client:
            began = time.monotonic()
            errors = await asyncio.gather(
                failure(client, "deaf"), stateless_failure(client, "deaf")
            )
            assert time.monotonic() - began < 0.5 + SOON
            assert [error.code for error in errors] == ["model_limit", "model_limit"]
            assert await ask(client, "hello") == "re: hello"
            release.set()
            # What the zombie came back with is nowhere.
            await eventually(lambda: len(asyncio.all_tasks()) < 12)
            assert gateway.said() == [
                ("user", "deaf"),
                ("user", "hello"),
                ("assistant", "re: hello"),
            ]

    run(test())


def test_a_blocked_event_loop_ends_the_turn_all_the_same(tmp_path: Path) -> None:
    async def block(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        if last_text(messages) == "block":
            time.sleep(0.8)  # noqa: ASYNC251 - the fault
        async for item in echo(messages):
            yield item

    async def test() -> None:
        async with (
            served(tmp_path, Scripted(block)) as gateway,
            gateway.client() as client,
        ):
            error = await failure(client, "block")
            assert error.code == "model_limit"
            marker = gateway.markers()[0]
            assert marker["heldMs"] < 800  # fenced while the loop was blocked, not after it
            assert await ask(client, "hello") == "re: hello"

    run(test())


def test_a_turn_that_an_operator_takes_is_said_to_be_taken(tmp_path: Path) -> None:
    async def test() -> None:
        limits = "first_token = 5\nidle = 5\nturn = 6"
        async with (
            served(tmp_path, limits=limits) as gateway,
            gateway.client() as client,
        ):
            turn = asyncio.create_task(failure(client, "/hang"))
            await eventually(lambda: gateway.said())
            with open_store(gateway.state) as operator:
                assert await asyncio.to_thread(operator.revoke, "main/a")
            error = await turn
            assert isinstance(error, openai.InternalServerError)
            assert (error.status_code, error.code) == (503, "operator")
            assert [m["reason"] for m in gateway.markers()] == ["operator"]
            assert await ask(client, "hello") == "practice reply 2 to: hello"

    run(test())


def test_a_bug_in_a_model_is_an_error_without_details(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        if last_text(messages) == "break":
            raise ZeroDivisionError("internals")
        async for item in echo(messages):
            yield item

    async def test() -> None:
        async with served(tmp_path, Scripted(broken)) as gateway, gateway.client() as client:
            error = await failure(client, "break")
            assert isinstance(error, openai.InternalServerError)
            assert error.code == "internal_error"
            assert "internals" not in str(error)
            assert "internals" in caplog.text
            assert await ask(client, "hello") == "re: hello"

    run(test())


def test_a_stream_says_nothing_before_it_knows_and_then_keeps_alive(tmp_path: Path) -> None:
    async def test() -> None:
        pace = QUICK._replace(headers=0.1, keepalive=0.1)
        async with served(tmp_path, pace=pace) as gateway, line(gateway) as connection:
            body = chat("/hang", stream=True, user="a")
            await connection.send(request(gateway, body=body))
            answer = await connection.answer()
            assert answer.status == 200  # the head was due before the limit
            assert answer.body.count(b": keepalive\n\n") >= 2
            events = [e for e in answer.body.split(b"\n\n") if e.startswith(b"data: ")]
            assert b'"code":"model_limit"' in events[-1]
            assert b"[DONE]" not in answer.body

    run(test())


async def _half(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
    yield Delta("half a")


def test_a_reply_without_an_end_is_none(tmp_path: Path) -> None:
    """Whatever a model's library makes of a stream that was cut."""

    async def test() -> None:
        async with served(tmp_path, Scripted(_half)) as gateway, gateway.client() as client:
            error = await failure(client, "hello")
            assert isinstance(error, openai.APIStatusError)
            assert (error.status_code, error.code) == (502, "upstream_error")
            assert gateway.said() == [("user", "hello")]
            assert [marker["reason"] for marker in gateway.markers()] == ["error"]

    run(test())
