"""A model behind an endpoint that behaves, and what it makes of odd but complete answers."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from turnlock.errors import LimitsError
from turnlock.models import Delta, Finished, Model, Thinking, complete
from turnlock.models.openai import OpenAIModel
from turnlock.practice import PracticeServer

from .endpoint import BOUND, DONE, chunk, endpoint, event, head, run, user


async def items(model: Model, text: str = "hello") -> list[Delta | Thinking | Finished]:
    async with aclosing(model.stream(user(text))) as stream:
        return [item async for item in stream]


def test_reply_comes_as_deltas_and_one_finished() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            *deltas, end = await items(OpenAIModel(server.url, "practice"))
        assert len(deltas) > 1
        assert all(isinstance(delta, Delta) and delta.text for delta in deltas)
        assert isinstance(end, Finished)
        assert (end.reason, end.model) == ("stop", "practice")
        assert end.usage is not None
        assert end.usage["completion_tokens"] == len(deltas)

    run(test())


def test_model_answers_the_history_it_is_given() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            history = [*user("one"), {"role": "assistant", "content": "1"}, *user("two")]
            text, _ = await complete(OpenAIModel(server.url, "practice"), history)
        assert text == "practice reply 2 to: two"

    run(test())


def test_many_calls_at_once_share_one_model() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            model = OpenAIModel(server.url, "practice")
            replies = await asyncio.gather(*(complete(model, user(f"n{i}")) for i in range(20)))
        assert [text for text, _ in replies] == [f"practice reply 1 to: n{i}" for i in range(20)]

    run(test())


def test_request_asks_for_a_stream_with_usage_and_is_never_repeated() -> None:
    async def test() -> None:
        async with endpoint(head(503)) as told:
            with pytest.raises(Exception, match="503"):
                await items(OpenAIModel(told.url, "m"))
        (body,) = told.bodies
        assert body == {
            "model": "m",
            "messages": user("hello"),
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    run(test())


@pytest.mark.parametrize(("given", "sent"), [("sk-1\n", "sk-1"), (None, "none"), ("", "none")])
def test_key_is_the_given_one_and_never_one_of_the_environment(
    given: str | None, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")

    async def test() -> None:
        async with endpoint(head(), chunk("hi", "stop"), DONE) as told:
            await items(OpenAIModel(told.url, "m", given))
        assert told.heads[0]["authorization"] == f"Bearer {sent}"

    run(test())


def test_proxy_of_the_environment_does_not_capture_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    async def test() -> None:
        async with PracticeServer() as server:
            url = server.url.replace("127.0.0.1", "localhost")
            assert (await complete(OpenAIModel(url, "m"), user("x")))[0]

    run(test())


def test_proxy_of_the_environment_is_used_for_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    async def test() -> None:
        async with endpoint(head(), chunk("by proxy", "stop"), DONE) as told:
            monkeypatch.setenv("http_proxy", told.url.removeprefix("http://").removesuffix("/v1"))
            text, _ = await complete(OpenAIModel("http://model.invalid/v1", "m"), user("x"))
        assert text == "by proxy"
        assert told.heads[0]["host"] == "model.invalid"

    run(test())


def test_half_of_an_emoji_in_the_history_does_not_stop_the_call() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            model = OpenAIModel(server.url, "m")
            assert (await complete(model, user("a\ud83d b")))[0].endswith("a\ufffd b")
            assert (await complete(model, user("\ud83d\ude00")))[0].endswith("\U0001f600")

    run(test())


SILENT = [
    b": keepalive\n\n",
    event('{"choices": []}'),
    event('{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}'),
    event('{"choices": [{"index": 0, "delta": {"content": null}}]}'),
    event('{"choices": [{"index": 0, "delta": {"content": ["odd"]}}]}'),
    event('{"choices": [{"index": 0}]}'),
    event('{"choices": ["odd"], "usage": "odd", "model": 5}'),
    event('{"choices": "odd"}'),
    event("{}"),
]


def test_signs_of_life_and_odd_chunks_are_not_content() -> None:
    async def test() -> None:
        async with endpoint(head(), *SILENT, chunk("hi", "stop"), *SILENT, DONE) as told:
            assert await items(OpenAIModel(told.url, "m")) == [
                Delta("hi"),
                Finished("stop", None, "m"),
            ]

    run(test())


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_shown_reasoning_is_thinking_and_no_part_of_the_reply(key: str) -> None:
    def delta(**said: str) -> bytes:
        return event(json.dumps({"choices": [{"index": 0, "delta": said}]}))

    thought = [delta(**{key: ""}), delta(**{key: "hm, "}), delta(**{key: "so", "content": "yes"})]

    async def test() -> None:
        async with endpoint(head(), *thought, chunk(None, "stop"), DONE) as told:
            model = OpenAIModel(told.url, "m")
            made = await items(model)
            assert (await complete(model, user("x")))[0] == "yes"
        assert [type(item) for item in made] == [Thinking, Thinking, Delta, Finished]
        assert [item[0] for item in made[:-1]] == ["hm, ", "so", "yes"]

    run(test())


@pytest.mark.parametrize(
    ("ending", "finished"),
    [
        ([chunk(None, "stop"), DONE], Finished("stop", None, "m")),
        ([chunk(None, "length"), DONE], Finished("length", None, "m")),
        ([chunk(None, "stop")], Finished("stop", None, "m")),
        (
            [chunk(None, "stop", model="m-2", usage={"n": 1}), DONE],
            Finished("stop", {"n": 1}, "m-2"),
        ),
        (
            [chunk(None, "stop"), event('{"choices": [], "usage": {"n": 2}}'), DONE],
            Finished("stop", {"n": 2}, "m"),
        ),
        ([chunk(None, "stop"), event("no json")], Finished("stop", None, "m")),
    ],
    ids=["done", "length", "no-done", "usage-beside", "usage-after", "garbage-after"],
)
def test_finish_reason_makes_a_reply_complete(ending: list[bytes], finished: Finished) -> None:
    async def test() -> None:
        async with endpoint(head(), chunk("hi"), *ending) as told:
            assert await items(OpenAIModel(told.url, "m")) == [Delta("hi"), finished]

    run(test())


def test_text_beside_and_after_the_finish_reason_is_not_lost() -> None:
    async def test() -> None:
        async with endpoint(head(), chunk("a", "stop"), chunk("b"), DONE) as told:
            assert (await complete(OpenAIModel(told.url, "m"), user("x")))[0] == "ab"

    run(test())


def test_refusal_is_what_the_model_says() -> None:
    said = event('{"choices": [{"index": 0, "delta": {"content": null, "refusal": "no"}}]}')

    async def test() -> None:
        async with endpoint(head(), said, chunk(None, "stop"), DONE) as told:
            assert (await complete(OpenAIModel(told.url, "m"), user("x")))[0] == "no"

    run(test())


@pytest.mark.parametrize("ending", [[chunk(None, "stop")], [chunk(None, "stop"), DONE]])
def test_body_that_never_ends_does_not_hold_a_complete_reply(ending: list[bytes]) -> None:
    async def test() -> None:
        async with endpoint(head(), chunk("hi"), *ending, hold=True) as told:
            async with asyncio.timeout(BOUND):
                assert (await complete(OpenAIModel(told.url, "m"), user("x")))[0] == "hi"
                await told.gone.wait()

    run(test())


def test_practice_open_is_a_reply_and_its_connection_is_dropped() -> None:
    async def test() -> None:
        async with PracticeServer() as server:
            async with asyncio.timeout(BOUND):
                text, end = await complete(OpenAIModel(server.url, "m"), user("/open"))
                seen = await server.wait_for(lambda seen: seen.open_connections == 0)
        assert text == "practice reply 1 to: /open"
        assert end.usage is not None
        assert [gone.mode for gone in seen.peer_closes] == ["open"]

    run(test())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:80/v1",
        "ftp://host/v1",
        "http:///v1",
        "http://host:port/v1",
        "http://host:0/v1",
        "http://a..b/v1",
        "http://host\x00/v1",
        f"http://{'x' * 64}.test/v1",
    ],
)
def test_base_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        OpenAIModel(url, "m")


@pytest.mark.parametrize("key", ["sk-se\ncret", "sk-secrét", "sk-sec\x7fret"])
def test_key_that_no_header_can_carry_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        OpenAIModel("http://127.0.0.1/v1", "m", key)
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("connect", [0, -1.0, float("inf"), None])
def test_connect_has_to_be_a_time(connect: Any) -> None:
    with pytest.raises(LimitsError, match="connect"):
        OpenAIModel("http://127.0.0.1/v1", "m", connect=connect)
