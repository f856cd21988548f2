"""A message gets its reply, the session remembers both, and what is not new is not stored."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest

from turnlock.models import Finished

from .serving import (
    Scripted,
    Served,
    ask,
    echo,
    failure,
    in_session,
    run,
    served,
    user,
)


def test_reply_in_one_piece_and_as_a_stream(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as gateway, gateway.client() as client:
            assert await ask(client, "one") == "practice reply 1 to: one"
            assert await ask(client, "two", stream=True) == "practice reply 2 to: two"
            assert gateway.said() == [
                ("user", "one"),
                ("assistant", "practice reply 1 to: one"),
                ("user", "two"),
                ("assistant", "practice reply 2 to: two"),
            ]
            assert len(gateway.terminals()) == 2

    run(test())


def test_the_blocking_client_is_served_as_well(tmp_path: Path) -> None:
    def talk(gateway: Served) -> None:
        with gateway.client_sync() as client:
            create: Any = client.chat.completions.create
            first = create(model="main", messages=user("one"), extra_headers=in_session())
            assert first.choices[0].message.content == "practice reply 1 to: one"
            assert first.usage.total_tokens > 0
            chunks = create(
                model="main",
                messages=user("two"),
                user="a",
                stream=True,
                stream_options={"include_usage": True},
            )
            seen = list(chunks)
            text = "".join(c.choices[0].delta.content or "" for c in seen if c.choices)
            assert text == "practice reply 2 to: two"
            assert seen[-1].usage.total_tokens > 0
            assert seen[-2].choices[0].finish_reason == "stop"

    async def test() -> None:
        async with served(tmp_path) as gateway:
            await asyncio.to_thread(talk, gateway)

    run(test())


def test_sessions_do_not_see_each_other(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as gateway, gateway.client() as client:
            assert await ask(client, "one", session="a") == "practice reply 1 to: one"
            assert await ask(client, "two", session="b") == "practice reply 1 to: two"
            assert await ask(client, "three", session="a") == "practice reply 2 to: three"

    run(test())


def test_the_transcript_is_the_history_and_the_rest_of_a_request_is_not(tmp_path: Path) -> None:
    async def test() -> None:
        model = Scripted(echo)
        async with served(tmp_path, model) as gateway, gateway.client() as client:
            await ask(client, "one")
            invented: Any = [
                {"role": "user", "content": "never said"},
                {"role": "assistant", "content": "nor this"},
                *user("two"),
            ]
            await client.chat.completions.create(
                model="main", messages=invented, extra_headers=in_session()
            )
            assert [m["content"] for m in model.calls[1]] == ["one", "re: one", "two"]
            assert gateway.said()[2:] == [("user", "two"), ("assistant", "re: two")]

    run(test())


def test_instructions_reach_the_model_and_not_the_transcript(tmp_path: Path) -> None:
    async def test() -> None:
        model = Scripted(echo)
        async with (
            served(tmp_path, model, instructions="be kind") as gateway,
            gateway.client() as client,
        ):
            messages: Any = [{"role": "developer", "content": "be brief"}, *user("hi")]
            await client.chat.completions.create(
                model="main", messages=messages, extra_headers=in_session()
            )
            assert model.calls[0] == [
                {"role": "system", "content": "be kind"},
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "hi"},
            ]
            assert gateway.said() == [("user", "hi"), ("assistant", "re: hi")]

    run(test())


def test_without_a_session_nothing_is_stored(tmp_path: Path) -> None:
    async def test() -> None:
        model = Scripted(echo)
        async with served(tmp_path, model) as gateway, gateway.client() as client:
            history: Any = [*user("one"), {"role": "assistant", "content": "1"}, *user("two")]
            for stream in (False, True):
                await client.chat.completions.create(model="main", messages=history, stream=stream)
            await ask(client, "with a session")
            stored = [path.name for path in (gateway.state / "agents").rglob("*.jsonl")]
            assert stored == ["a.jsonl"]
            assert [m["content"] for m in model.calls[0]] == ["one", "1", "two"]

    run(test())


@pytest.mark.parametrize(
    ("headers", "body_user", "session"),
    [
        ({"X-Turnlock-Session": "alice"}, "other", "main/alice"),
        ({"x-openclaw-session-key": "agent:main:dm"}, "other", "main/agent:main:dm"),
        ({"X-Turnlock-Session": "a", "x-openclaw-session-key": "b"}, None, "main/a"),
        ({}, "bob@example.org", "main/bob@example.org"),
        ({}, "two words", "main/two=20words"),
        ({}, "../../etc/passwd", "main/x=.=2E.=2F..=2Fetc=2Fpasswd"),
        ({"X-Turnlock-Session": "main/alice"}, None, "main/alice"),
        ({"X-Turnlock-Session": "other/alice"}, None, "other/alice"),
    ],
)
def test_where_a_request_belongs(
    gateway: Served, headers: dict[str, str], body_user: str | None, session: str
) -> None:
    async def test() -> None:
        async with gateway.client() as client:
            raw = await client.chat.completions.with_raw_response.create(
                model="main",
                messages=user("hi"),
                extra_headers=headers,
                user=body_user or openai.omit,
            )
            assert raw.headers["x-turnlock-session"] == session
            agent, _, name = session.partition("/")
            stored = gateway.state / "agents" / agent / "sessions" / f"{name}.jsonl"
            assert raw.headers["x-turnlock-turn"] in stored.read_text().splitlines()[-1]

    run(test())


def test_agents_by_their_names(tmp_path: Path) -> None:
    rest = '[agents.main]\n[agents.poet]\ninstructions = "rhyme"'

    async def test() -> None:
        async with served(tmp_path, rest=rest) as gateway, gateway.client() as client:
            assert sorted([m.id async for m in await client.models.list()]) == ["main", "poet"]
            assert (await client.models.retrieve("turnlock/poet")).id == "poet"
            for name in ("poet", "agent/poet", "turnlock/poet"):
                reply = await client.chat.completions.create(model=name, messages=user("x"))
                assert reply.model == name
            with pytest.raises(openai.NotFoundError) as caught:
                await client.chat.completions.create(model="gpt-4o", messages=user("x"))
            assert caught.value.code == "model_not_found"
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("gpt-4o")

    run(test())


def test_hundred_sessions_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            served(tmp_path, Scripted(echo), limits="") as gateway,
            gateway.client() as client,
        ):
            names = [f"s{number}" for number in range(100)]
            replies = await asyncio.gather(*(ask(client, n, session=n) for n in names))
            assert replies == [f"re: {name}" for name in names]

    run(test())


def test_a_reply_that_never_ends_its_body_is_a_reply(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, limits="") as gateway, gateway.client() as client:
            assert await ask(client, "/open up") == "practice reply 1 to: /open up"

    run(test())


def test_an_empty_reply_is_a_failure_of_the_model(tmp_path: Path) -> None:
    async def nothing(messages: Any) -> Any:
        if len(messages) == 1:
            yield Finished("stop", None, "m")
            return
        async for item in echo(messages):
            yield item

    async def test() -> None:
        async with served(tmp_path, Scripted(nothing)) as gateway, gateway.client() as client:
            error = await failure(client, "hi")
            assert (error.code, gateway.said()) == ("upstream_error", [("user", "hi")])
            assert await ask(client, "again") == "re: again"

    run(test())
