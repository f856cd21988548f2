"""F. Damage to transcripts: what passes through the gateway. What is on the disk is beside it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

import turnlock
from tests.gateway import serving
from tests.gateway.raw import chat, line, post, request
from tests.gateway.serving import (
    Scripted,
    Served,
    ask,
    echo,
    eventually,
    facts,
    failure,
    last_text,
    served,
)
from tests.helpers import child, holder
from tests.models.endpoint import endpoint, event, head
from tests.mutants import faults
from tests.transcript.strict import judge
from turnlock.errors import ModelError
from turnlock.models import Delta, Finished, Message
from turnlock.transcript.entries import MARKER

from .declaring import Bite, mode
from .programs import FREE

Items = AsyncGenerator[Delta | Finished, None]


def broken(detail: str = "broken") -> ModelError:
    return ModelError(provider="p", model="m", kind="status", detail=detail)


PATIENT = "turn = 40.0"  # for what ends by itself, on a busy machine too
# For models that hang.
IMPATIENT = "first_token = 1.0\nidle = 1.0\nturn = 40.0"
BROKEN = ("/hang", "/comments", "/stall", "/reset", "/cut", "/garbage", "/429", "/500")


@mode("F9", bites=Bite(faults.MESSAGE_LAST, shows="lost"))
def test_f9_however_a_turn_fails_the_users_message_is_there_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            served(tmp_path, limits=IMPATIENT) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            failures = (failure(client, text, session=text[1:]) for text in BROKEN)
            await asyncio.gather(*failures)
            for text in BROKEN:
                assert gateway.said(text[1:]) == [("user", text)], "lost"

    serving.run(test())


@mode("F9", bites=Bite(faults.MESSAGE_LAST, shows="did not come to that"))
def test_f9_a_gateway_that_is_killed_in_the_models_call_has_the_message(tmp_path: Path) -> None:
    with serving.process(tmp_path, limits=PATIENT) as (gateway, process):

        async def test() -> None:
            async with line(gateway) as connection:
                await connection.send(request(gateway, body=chat("/hang", user="a")))
                await eventually(gateway.said)
                process.kill()

        serving.run(test())
        assert gateway.said() == [("user", "/hang")]


@mode("F11", bites=Bite(faults.UNTIED, shows="answered again"))
def test_f11_of_each_message_it_is_on_record_whether_it_was_answered(tmp_path: Path) -> None:
    is_down = True

    async def down_at_first(messages: Sequence[Message]) -> Items:
        if is_down and last_text(messages) != "4":
            raise broken()
        async for item in echo(messages):
            yield item

    async def test() -> None:
        nonlocal is_down
        model = Scripted(down_at_first)

        async def send(text: str) -> str:
            answer = await post(gateway, chat(text, user="a"), idempotency_key=f"key-{text}")
            return answer.body.decode()

        async with served(tmp_path, model, limits=PATIENT) as gateway:
            for text in "1234":
                await send(text)
            assert unanswered(gateway) == ["1", "2", "3"]
            is_down = False
            asked = len(model.calls)
            assert "re: 4" in await send("4")
            assert len(model.calls) == asked, "answered again"
            # The old ones get an answer of their own, if somebody still wants one.
            assert "re: 2" in await send("2")
            assert model.calls[-1][-1]["content"] == "2"
            assert unanswered(gateway) == ["1", "3"]
            assert [text for role, text in gateway.said() if role == "user"] == list("1234")

    serving.run(test())


def unanswered(gateway: Served) -> list[str]:
    """The messages of turns that failed and of which no reply says that it answers them."""
    entries = gateway.transcript()
    failed = {entry["epoch"] for entry in entries if entry.get("customType") == MARKER}
    ids = {entry["id"] for entry in entries}
    return [
        entry["message"]["content"][0]["text"]
        for entry in entries
        if entry["type"] == "message"
        and entry["message"]["role"] == "user"
        and f"re-{entry['id']}" not in ids
        and entry["epoch"] in failed
    ]


@mode(
    "F12",
    bites=(
        Bite(faults.EMPTY_STORED, shows="it was answered"),
        Bite(faults.MARKERS_SENT, shows="assistant"),
    ),
)
def test_f12_after_five_failures_the_model_is_sent_what_was_said_and_no_error(
    tmp_path: Path,
) -> None:
    async def empty_at_first(messages: Sequence[Message]) -> Items:
        match len(model.calls):
            case 1 | 2:
                yield Finished("stop", None, "script")
            case 3:
                yield Delta(" \n")
                yield Finished("content_filter", None, "script")
            case 4 | 5:
                raise broken("messages.1: all messages must have non-empty content")
            case _:
                async for item in echo(messages):
                    yield item

    model = Scripted(empty_at_first)

    async def test() -> None:
        async with (
            served(tmp_path, model, limits=PATIENT) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            for text in "12345":
                await failure(client, text)
            assert await ask(client, "6") == "re: 6"
            assert len(gateway.markers()) == 5
            sent = [(message["role"], message["content"]) for message in model.calls[-1]]
            assert sent == [("user", text) for text in "123456"]
            judge([dict(message) for message in model.calls[-1]])

    serving.run(test())


def behind(url: str) -> str:
    """The tables of a gateway whose model is at this url."""
    return f"""
        [models.it]
        provider = "openai"
        base_url = "{url}"
        model = "it"
        api_key_env = "THE_KEY"
        [agents.main]
        model = "it"
    """


@mode("F13", bites=Bite(faults.DUMPED, shows="bytes"))
def test_f13_of_a_page_of_html_one_short_line_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "a-key-for-the-endpoint")
    row = '<tr><td class="x">&nbsp;upstream <b>failed</b></td></tr>\n'
    page = f"<!doctype html><style>td {{}}</style><h1>502</h1><table>{row * 2000}</table>".encode()

    async def test() -> None:
        async with (
            endpoint(head(502, "text/html"), page) as upstream,
            served(tmp_path, rest=behind(upstream.url), limits=PATIENT) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            told = [str(await failure(client, "hello")) for _ in range(10)]
            size = (gateway.state / "agents/main/sessions/a.jsonl").stat().st_size
            # Its ten messages, openings and markers.
            assert size < 20_000, f"{size} bytes after 10 pages of {len(page)}"
            for text in (*told, *(marker["error"] for marker in gateway.markers())):
                assert "502 upstream failed" in text
                assert "<" not in text
                assert len(text) < 1000

    serving.run(test())


KEY = "correct-horse-battery-staple"
ECHOES = {
    "JSON": head(401, "application/json")
    + json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}."}}).encode(),
    "stream": head() + event(json.dumps({"error": {"message": f"no credit for {KEY}"}})),
    **{
        # What is kept of it ends somewhere in the key.
        f"cut at {length}": head(500, "text/html")
        + f"<p>{'x' * (299 - length)}{KEY} is not known to us</p>".encode()
        for length in (5, 12, 20, len(KEY) - 1)
    },
    "long page": head(500, "text/html")
    + b"<script>" + b"x" * (8192 - 8 - 9 - 12) + b"</script>" + f"{KEY} and more".encode(),
}  # fmt: skip


@mode(
    "F14",
    bites=(Bite(faults.KEYS_UNKNOWN, shows="leak"), Bite(faults.WHOLE_KEYS_ONLY, shows="leak")),
)
def test_f14_a_key_that_the_endpoint_repeats_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)

    async def test() -> None:
        async with (
            endpoint() as upstream,
            served(tmp_path, rest=behind(upstream.url), limits=PATIENT) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            for name, answer in ECHOES.items():
                upstream.answer = answer
                error = await failure(client, name, stream=name == "stream")
                check_no_leak(f"the answer to {name}", f"{error} {error.body}")
            assert KEY in upstream.heads[0]["authorization"], "it was sent there"
            assert len(gateway.markers()) == len(ECHOES)
            for path in gateway.state.rglob("*"):
                if path.is_file():
                    check_no_leak(str(path), path.read_text())

    with caplog.at_level(logging.DEBUG, "turnlock"):
        serving.run(test())
    assert "ended without a reply" in caplog.text
    check_no_leak("the log", caplog.text)


def check_no_leak(what: str, text: str) -> None:
    found = [KEY[at : at + 8] for at in range(len(KEY) - 7) if KEY[at : at + 8] in text]
    assert not found, f"a leak in {what}: {found}"


async def fenced(gateway: Served) -> None:
    def by_another_process() -> None:
        with child(FREE, gateway.state) as process:
            process.expect("True")

    await asyncio.to_thread(by_another_process)


async def failing(gateway: Served) -> None:
    (gateway.state / "agents/main/sessions/a.jsonl").unlink()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("trouble", [fenced, failing])
@mode("F16", bites=Bite(faults.DELIVERED_FIRST, shows="it was answered"))
def test_f16_a_reply_that_could_not_be_stored_is_no_reply(
    tmp_path: Path, trouble: Callable[[Served], Awaitable[None]], stream: bool
) -> None:
    async def test() -> None:
        async def reply_into_trouble(messages: Sequence[Message]) -> Items:
            yield Delta("re: ")
            if len(model.calls) == 1:
                await trouble(gateway)
            yield Delta(last_text(messages))
            yield Finished("stop", None, "script")

        model = Scripted(reply_into_trouble)
        async with (
            served(tmp_path, model, limits=PATIENT) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            error = await failure(client, "1", stream=stream)
            assert facts(error)["code"] in ("operator", "superseded", "storage_error")
            assert await ask(client, "2", stream=stream) == "re: 2"
            # What the client was not given as a reply, the model does not take for one.
            assert ("assistant", "re: 1") not in gateway.said()
            assert [m["role"] for m in model.calls[-1]] == ["user"] * len(model.calls[-1])

    serving.run(test())


@mode("F17", bites=Bite(faults.SPEAKS_FOR_THE_USER, shows="Continue"))
def test_f17_the_user_said_what_the_user_sent_and_nothing_else(tmp_path: Path) -> None:
    async def fail_or_hang(messages: Sequence[Message]) -> Items:
        if last_text(messages) == "fail":
            raise broken()
        if last_text(messages) == "hang":
            await asyncio.Event().wait()
        async for item in echo(messages):
            yield item

    async def test() -> None:
        model = Scripted(fail_or_hang)
        async with (
            served(tmp_path, model, instructions="be brief", limits=IMPATIENT) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            # A process that died in its turn, one that failed, one that hung.
            with holder(gateway.state, "T1") as process:
                process.kill()
            await failure(client, "fail")
            await failure(client, "hang")
            no_words = [*serving.user(""), {"role": "system", "content": "Continue."}]
            with pytest.raises(Exception, match="is empty"):
                await client.chat.completions.create(
                    model="main", messages=no_words, extra_headers=serving.in_session()
                )
            assert await ask(client, "and now?") == "re: and now?"
            said = [text for role, text in gateway.said() if role == "user"]
            assert said == ["from T1", "fail", "hang", "and now?"]
            assert "be brief" not in json.dumps(gateway.transcript())
            assert [m["role"] for m in model.calls[-1]] == ["system"] + ["user"] * 4

    serving.run(test())


@mode("F18", bites=Bite(faults.RETRIES_UNKNOWN, shows="4 times"))
def test_f18_a_message_that_its_client_sends_again_is_stored_once(tmp_path: Path) -> None:
    async def hang_at_first(messages: Sequence[Message]) -> Items:
        if len(model.calls) < 4:
            await asyncio.Event().wait()
        async for item in echo(messages):
            yield item

    model = Scripted(hang_at_first)

    async def test() -> None:
        body = chat("once", user="a")
        async with served(tmp_path, model, limits=PATIENT) as gateway:
            for tries in range(3):
                # As the SDK does it: its time is over, it leaves, and counts.
                async with line(gateway) as connection:
                    again = {"x_stainless_retry_count": str(tries)}
                    await connection.send(request(gateway, body=body, **again))
                    await eventually(lambda: len(model.calls) > tries)  # noqa: B023
            last = await post(gateway, body, x_stainless_retry_count="3")
            assert b"re: once" in last.body
            said = gateway.said()
            times = said.count(("user", "once"))
            assert times == 1, f"{times} times"
            assert model.calls[-1] == serving.user("once")

    serving.run(test())


@mode("F23", bites=Bite(faults.STALE_VIEW, shows="ordered twice"))
def test_f23_who_comes_second_sees_what_the_first_one_did(tmp_path: Path) -> None:
    orders: list[str] = []

    async def test() -> None:
        async def order_once(messages: Sequence[Message]) -> Items:
            if len(model.calls) == 1:
                store = turnlock.open_store(gateway.location)
                await eventually(lambda: store.waiters(["main/a"])["main/a"] == 1)
            if not any(m["content"] == "ordered" for m in messages):
                orders.append(last_text(messages))
            yield Delta("ordered")
            yield Finished("stop", None, "script")

        model = Scripted(order_once)
        async with (
            served(tmp_path, model, limits=PATIENT) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            first, second = "one pizza", "one pizza, please"
            answers = await asyncio.gather(ask(client, first), ask(client, second))
            assert set(answers) == {"ordered"}
            assert len(orders) == 1, "ordered twice"
            assert model.calls[1][:-1] == [
                *model.calls[0],
                {"role": "assistant", "content": "ordered"},
            ]

    serving.run(test())
