"""What the practice model answers when nothing is to go wrong, and to requests that are wrong."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from turnlock.practice import PracticeServer, serve

from .raw import BOUND, ask, chat, connect, content, post, run


def test_reply_is_streamed_in_pieces_and_ends_with_a_reason_and_done() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            answer = await ask(server.url, chat("hello"))
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert len(content(answer)) > 1
        assert "".join(content(answer)) == "practice reply 1 to: hello"
        assert json.loads(answer.events()[-2])["choices"][0]["finish_reason"] == "stop"
        assert answer.events()[-1] == "[DONE]"

    run(test())


def test_reply_without_stream_is_one_object_with_usage() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            answer = (await ask(server.url, chat("hello there", stream=False))).json()
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["message"]["content"] == "practice reply 1 to: hello there"
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}

    run(test())


def test_usage_is_streamed_only_when_asked_for() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            plain = await ask(server.url, chat("hello"))
            asked = await ask(server.url, chat("hello", stream_options={"include_usage": True}))
        assert "usage" not in plain.body.decode()
        last = json.loads(asked.events()[-2])
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] == len(content(asked))

    run(test())


def test_number_counts_the_users_messages_and_the_text_is_the_last_one() -> None:
    history = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "image_url"}]},
        {"role": "assistant", "content": "yes"},
    ]

    async def test() -> None:
        async with PracticeServer() as server:
            answer = await ask(server.url, {"messages": history, "model": "any"})
        assert answer.json()["choices"][0]["message"]["content"] == "practice reply 2 to: t"
        assert answer.json()["model"] == "any"

    run(test())


def test_same_request_gets_the_same_deltas() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            first, second = [await ask(server.url, chat("again " * 100)) for _ in range(2)]
        assert content(first) == content(second)

    run(test())


def test_one_connection_takes_many_requests() -> None:
    async def test() -> None:
        async with PracticeServer() as server, connect(server.url) as raw:
            for number in range(3):
                await raw.send(post(chat(f"n{number}", stream=bool(number % 2))))
                assert (await raw.answer()).status == 200
            assert server.statistics()[:3] == (1, 1, 3)

    run(test())


def test_requests_sent_ahead_are_answered_in_order() -> None:
    async def test() -> None:
        async with PracticeServer() as server, connect(server.url) as raw:
            await raw.send(post(chat("/slow 0.01")) + post(chat("second")))
            assert "".join(content(await raw.answer())).endswith("/slow 0.01")
            assert "".join(content(await raw.answer())).endswith("second")

    run(test())


def test_models_lists_one_model() -> None:
    async def test() -> None:
        async with PracticeServer() as server, connect(server.url) as raw:
            await raw.send(b"GET /v1/models?limit=1 HTTP/1.1\r\nhost: x\r\n\r\n")
            assert [model["id"] for model in (await raw.answer()).json()["data"]] == ["practice"]

    run(test())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        {},
        {"messages": []},
        {"messages": "hello"},
        {"messages": ["hello"]},
        {"messages": [{"content": "no role"}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": ["text"]}]},
        chat("/slow"),
        chat("/slow nan"),
        chat("/slow -1"),
        chat("/slow 1e9"),
        chat("/tokens 0"),
        chat("/tokens 99999999999"),
        chat("/tokens ²"),
    ],
)
def test_bad_request_gets_an_error_object(body: Any) -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            answer = await ask(server.url, body)
        assert answer.status == 400
        assert answer.error()["type"] == "invalid_request_error"
        assert answer.error()["message"]

    run(test())


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /v1/nothing HTTP/1.1", 404),
        (b"GET /v1/chat/completions HTTP/1.1", 405),
        (b"DELETE /v1/models HTTP/1.1", 405),
        (b"no http at all", 400),
    ],
)
def test_wrong_path_method_or_protocol_gets_an_error_object(line: bytes, status: int) -> None:
    async def test() -> None:
        async with PracticeServer() as server, connect(server.url) as raw:
            await raw.send(line + b"\r\nhost: x\r\n\r\n")
            answer = await raw.answer()
        assert answer.status == status
        assert answer.error()["message"]

    run(test())


def test_head_gets_no_body() -> None:
    async def test() -> None:
        async with PracticeServer() as server, connect(server.url) as raw:
            await raw.send(b"HEAD /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert (await raw.head()).status == 405
            assert await raw.rest() == b""

    run(test())


def test_body_over_the_limit_is_refused_in_words() -> None:
    async def test() -> None:
        async with PracticeServer(body_max=1000) as server, connect(server.url) as raw:
            await raw.send(post(b"x" * 200_000))
            answer = await raw.answer()
            assert answer.status == 413
            assert "1000 bytes" in answer.error()["message"]
            assert await raw.rest() == b""

    run(test())


def test_endless_header_is_refused() -> None:
    async def test() -> None:
        async with PracticeServer() as server, connect(server.url) as raw:
            await raw.send(b"GET / HTTP/1.1\r\nx: " + b"x" * 200_000)
            assert (await raw.answer()).status == 431

    run(test())


def test_request_that_never_ends_is_dropped_in_time() -> None:
    async def test() -> None:
        async with PracticeServer(read_timeout=0.05) as server, connect(server.url) as raw:
            await raw.send(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 10\r\n")
            assert await raw.rest() == b""

    run(test())


def test_api_key_is_required_when_there_is_one() -> None:
    async def test() -> None:
        async with PracticeServer(api_key="right") as server:
            missing = await ask(server.url, chat("hello"))
            wrong = await ask(server.url, chat("hello"), authorization="Bearer wröng")
            right = await ask(server.url, chat("hello"), authorization="Bearer right")
        assert (missing.status, wrong.status, right.status) == (401, 401, 200)
        assert wrong.error()["code"] == "invalid_api_key"

    run(test())


def test_expect_100_is_answered_before_the_body() -> None:
    async def test() -> None:
        async with PracticeServer() as server, connect(server.url) as raw:
            head, _, body = post(chat("hello"), {"expect": "100-continue"}).partition(b"\r\n\r\n")
            await raw.send(head + b"\r\n\r\n")
            assert (await raw.head()).status == 100
            await raw.send(body)
            assert (await raw.answer()).status == 200

    run(test())


def test_serve_announces_its_url_and_ends_when_cancelled() -> None:
    async def test() -> None:
        announced: asyncio.Queue[str] = asyncio.Queue()
        serving = asyncio.create_task(serve("127.0.0.1", 0, announced.put_nowait))
        url = await asyncio.wait_for(announced.get(), BOUND)
        assert (await ask(url, chat("hello"))).status == 200
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(ConnectionError):
            await ask(url, chat("hello"))

    run(test())


def test_import_of_practice_loads_no_model_library() -> None:
    code = "import sys, turnlock.practice; print({'openai', 'httpx', 'httpx2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
