"""Every provider, by its own wire format: the same content, the same failures, the same ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from contextlib import aclosing
from typing import Any

import pytest

from turnlock.errors import LimitsError, ModelError
from turnlock.models import Delta, Finished, Model, Thinking, complete
from turnlock.models.opening import BASE_URLS, open_model
from turnlock.models.transport import _tls

from .endpoint import BOUND, head, run, user
from .wires import WIRES, Line, Script, ScriptedServer, hang, pings, reply, scripted, stall

PROVIDERS = sorted(WIRES)
OTHERS = [name for name in PROVIDERS if name != "openai"]
every_provider = pytest.mark.parametrize("provider", PROVIDERS)
other_providers = pytest.mark.parametrize("provider", OTHERS)


def model_at(server: ScriptedServer, key: str | None = "sk-1") -> Model:
    return open_model(server.wire.provider, server.url, server.wire.model, key)


async def items(model: Model, text: str = "hello") -> list[Delta | Thinking | Finished]:
    async with aclosing(model.stream(user(text))) as stream:
        return [item async for item in stream]


async def failure(server: ScriptedServer, content: int = 0) -> ModelError:
    """The failure of a call, after so many pieces of text."""
    model = model_at(server)
    seen: list[Delta] = []
    with pytest.raises(ModelError) as caught:
        async with asyncio.timeout(BOUND), aclosing(model.stream(user("hello"))) as stream:
            async for item in stream:
                assert not isinstance(item, Finished)
                if isinstance(item, Delta):
                    seen.append(item)
                    server.content_seen.set()
    assert len(seen) == content
    error = caught.value
    assert (error.provider, error.model) == (server.wire.provider, server.wire.model)
    assert 0 < len(error.detail) <= 300
    await server.wait_for(lambda it: it.open == 0)
    assert len(server.requests) == 1, "a call was repeated"
    return error


@every_provider
def test_reply_is_content_in_order_and_then_the_end(provider: str) -> None:
    async def test() -> None:
        async with scripted(WIRES[provider], reply) as server:
            made = await items(model_at(server))
            assert server.requests[0][0] == server.wire.path
        kinds = [type(item) for item in made]
        assert kinds == [Thinking, Delta, Delta, Finished]
        assert [item[0] for item in made] == ["hm", "hel", "lo", "stop"]
        end = made[-1]
        assert isinstance(end, Finished)
        assert end.usage is not None
        assert {**end.usage} == {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        assert end.model

    run(test())


LINE_ENDS = "\x85\u2028\u2029"


@every_provider
def test_a_text_keeps_what_only_unicode_takes_for_the_end_of_a_line(provider: str) -> None:
    """JSON may have them as they are: some SDKs would split one line of the answer at them."""

    async def raw(line: Line) -> None:
        await line.begin()
        await line.send(line.wire.text("a#b").replace(b"#", LINE_ENDS.encode()))
        await line.send(line.wire.end("stop"))

    async def test() -> None:
        async with scripted(WIRES[provider], raw) as server:
            text, _ = await complete(model_at(server), user("x"))
        assert text == f"a{LINE_ENDS}b"

    run(test())


@every_provider
@pytest.mark.parametrize("reason", ["length", "refused"])
def test_reason_to_finish_has_one_word_everywhere(provider: str, reason: str) -> None:
    async def ended(line: Line) -> None:
        await line.begin()
        await line.send(line.wire.text("hi"), line.wire.end(reason))

    async def test() -> None:
        async with scripted(WIRES[provider], ended) as server:
            text, end = await complete(model_at(server), user("x"))
        known = {"length": "length", "refused": "content_filter"}[reason]
        assert text == "hi"
        assert end.reason == (reason if (provider, reason) == ("ollama", "refused") else known)

    run(test())


@every_provider
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 429, 500, 503, 529])
def test_status_is_told_with_its_words_and_its_time_to_retry(provider: str, status: int) -> None:
    async def refuse(line: Line) -> None:
        answer = head(status, "application/json", retry_after="7")
        await line.send(answer, line.wire.refusal(status, "the prompt is too long"))

    async def test() -> None:
        async with scripted(WIRES[provider], refuse) as server:
            error = await failure(server)
        assert (error.kind, error.status, error.retry_after) == ("status", status, 7.0)
        assert error.detail == "the prompt is too long"

    run(test())


@every_provider
def test_time_to_retry_may_be_a_date(provider: str) -> None:
    async def refuse(line: Line) -> None:
        date, until = "Fri, 31 Dec 1999 23:59:17 GMT", "Fri, 31 Dec 1999 23:59:59 GMT"
        answer = head(429, "application/json", retry_after=until, date=date)
        await line.send(answer, line.wire.refusal(429, "slow down"))

    async def test() -> None:
        async with scripted(WIRES[provider], refuse) as server:
            assert (await failure(server)).retry_after == 42.0

    run(test())


def test_prompt_that_google_blocks_is_an_end_and_not_an_empty_stream() -> None:
    async def block(line: Line) -> None:
        await line.begin()
        feedback = '{"promptFeedback": {"blockReason": "SAFETY"}, "responseId": "r"}'
        await line.send(f"data: {feedback}\n\n".encode())

    async def test() -> None:
        async with scripted(WIRES["google"], block) as server:
            made = await items(model_at(server))
        assert [item[0] for item in made] == ["content_filter"]

    run(test())


def test_time_to_retry_that_google_says_in_its_body_is_heard() -> None:
    async def refuse(line: Line) -> None:
        details = '[{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "14s"}]'
        body = f'{{"error": {{"code": 429, "message": "slow down", "details": {details}}}}}'
        await line.send(head(429, "application/json"), body.encode())

    async def test() -> None:
        async with scripted(WIRES["google"], refuse) as server:
            assert (await failure(server)).retry_after == 14.0

    run(test())


@every_provider
def test_key_does_not_follow_a_redirect_to_another_host(provider: str) -> None:
    async def test() -> None:
        async with scripted(WIRES[provider], reply) as other:

            async def redirect(line: Line) -> None:
                await line.send(head(307, location=f"{other.url}{other.wire.path}"))

            async with scripted(WIRES[provider], redirect) as server:
                with contextlib.suppress(ModelError):
                    await complete(model_at(server, "sk-secret"), user("x"))
                assert "sk-secret" in repr(server.requests)
                assert "sk-secret" not in repr(other.requests)

    run(test())


async def reset_at_once(line: Line) -> None:
    line.reset()


async def reset_in_answer(line: Line) -> None:
    await line.begin()
    await line.send(line.wire.text("hel"))
    await line.content_seen.wait()  # a reset destroys what the client has not read yet
    line.reset()


async def cut(line: Line) -> None:
    await line.begin()
    await line.send(line.wire.text("hel"))


async def empty(line: Line) -> None:
    await line.send(head(content_type=line.wire.content_type))


async def nothing(line: Line) -> None:
    pass


async def garbage(line: Line) -> None:
    await line.begin()
    await line.send(line.wire.text("hel"), line.wire.garbage)


async def html(line: Line) -> None:
    await line.send(head(502, "text/html"), b"<html><h1>Bad <b>Gateway</b></h1></html>")


# what the endpoint does; kind, status, pieces of text before it
FAULTS: list[tuple[Script, str, int | None, int]] = [
    (reset_at_once, "interrupted", None, 0),
    (nothing, "interrupted", None, 0),
    (empty, "interrupted", None, 0),
    (reset_in_answer, "interrupted", None, 1),
    (cut, "interrupted", None, 1),
    (garbage, "protocol", None, 1),
    (html, "status", 502, 0),
]


@every_provider
@pytest.mark.parametrize(
    ("script", "kind", "status", "content"), FAULTS, ids=[row[0].__name__ for row in FAULTS]
)
def test_fault_is_the_same_failure_everywhere(
    provider: str, script: Script, kind: str, status: int | None, content: int
) -> None:
    async def test() -> None:
        async with scripted(WIRES[provider], script) as server:
            error = await failure(server, content)
        assert (error.kind, error.status) == (kind, status)
        assert "<" not in error.detail

    run(test())


@pytest.mark.parametrize("provider", [p for p in PROVIDERS if WIRES[p].failure is not None])
def test_error_in_mid_stream_is_the_endpoints_word(provider: str) -> None:
    async def fail(line: Line) -> None:
        await line.begin()
        await line.send(line.wire.text("hel"), line.wire.failure or b"")
        await line.hold()

    async def test() -> None:
        async with scripted(WIRES[provider], fail) as server:
            error = await failure(server, 1)
        assert (error.kind, error.status) == ("status", WIRES[provider].failure_status)
        assert error.detail == "Overloaded"

    run(test())


@every_provider
def test_nobody_listening_is_a_failure_to_connect(provider: str) -> None:
    async def test() -> None:
        async with scripted(WIRES[provider], reply) as server:
            pass
        with pytest.raises(ModelError) as caught:
            await complete(model_at(server), user("x"))
        assert (caught.value.kind, caught.value.status) == ("connect", None)

    run(test())


@every_provider
def test_proxy_that_hangs_ends_at_the_connect_limit(
    monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass
        writer.close()

    async def test() -> None:
        proxy = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        url = "https://models.example.test"
        model = open_model(provider, url, WIRES[provider].model, None, connect=0.1)
        with pytest.raises(ModelError) as caught:
            async with asyncio.timeout(BOUND):
                await complete(model, user("x"))
        assert caught.value.kind == "connect"
        proxy.close()
        await proxy.wait_closed()

    run(test())


@every_provider
def test_signs_of_life_are_no_content(provider: str) -> None:
    """Two hundred of them, and whoever waits for the first item still waits."""
    sent = asyncio.Event()

    async def alive(line: Line) -> None:
        await line.begin()
        for _ in range(200):
            await line.send(line.wire.ping())
        await line.send(line.wire.thought("hm"))
        sent.set()
        await line.hold()

    async def test() -> None:
        async with scripted(WIRES[provider], alive) as server:
            async with asyncio.timeout(BOUND), aclosing(model_at(server).stream(user("x"))) as it:
                assert isinstance(await anext(it), Thinking)
            assert sent.is_set()
            await server.wait_for(lambda it: it.open == 0)

    run(test())


@every_provider
@pytest.mark.parametrize("script", [hang, stall, pings], ids=lambda script: script.__name__)
def test_cancelled_calls_leave_no_connection_and_harm_no_later_call(
    provider: str, script: Script
) -> None:
    async def test() -> None:
        async with scripted(WIRES[provider], script) as server:
            model = model_at(server)
            calls = [asyncio.create_task(complete(model, user("x"))) for _ in range(100)]
            await server.wait_for(lambda it: len(it.requests) == 100)
            assert server.open == 100
            for call in calls:
                call.cancel()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(end) for end in ended} == {asyncio.CancelledError}
            await server.wait_for(lambda it: it.open == 0)
            server.script = reply
            assert (await complete(model, user("x")))[0] == "hello"
            await model.aclose()

    run(test())


@every_provider
def test_calls_cancelled_at_any_step_leave_no_connection(provider: str) -> None:
    async def test() -> None:
        async with scripted(WIRES[provider], reply) as server:
            model = model_at(server)
            for steps in range(60):
                call = asyncio.create_task(complete(model, user("x")))
                for _ in range(steps):
                    await asyncio.sleep(0)
                call.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await call
            await server.wait_for(lambda it: it.open == 0)
            assert (await complete(model, user("x")))[0] == "hello"

    run(test())


@every_provider
def test_closing_the_generator_closes_the_connection(provider: str) -> None:
    async def test() -> None:
        async with scripted(WIRES[provider], stall) as server:
            stream = model_at(server).stream(user("x"))
            assert isinstance(await anext(stream), Delta)
            await stream.aclose()
            await server.wait_for(lambda it: it.open == 0)

    run(test())


@every_provider
def test_closing_the_model_ends_its_calls_with_an_error(provider: str) -> None:
    async def test() -> None:
        async with scripted(WIRES[provider], stall) as server:
            model = model_at(server)
            stream = model.stream(user("x"))
            assert isinstance(await anext(stream), Delta)
            await model.aclose()
            with pytest.raises(ModelError):
                async with asyncio.timeout(BOUND):
                    await anext(stream)
            await server.wait_for(lambda it: it.open == 0)

    run(test())


@every_provider
def test_body_that_never_ends_does_not_hold_a_complete_reply(provider: str) -> None:
    async def never_ending(line: Line) -> None:
        await reply(line)
        await line.hold()

    async def test() -> None:
        async with scripted(WIRES[provider], never_ending) as server:
            async with asyncio.timeout(BOUND):
                assert (await complete(model_at(server), user("x")))[0] == "hello"
            await server.wait_for(lambda it: it.open == 0)

    run(test())


@every_provider
def test_no_key_of_the_environment_is_ever_sent(
    monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    for name in ("ANTHROPIC", "GOOGLE", "GEMINI", "MISTRAL", "OLLAMA", "OPENAI"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-environment")
        monkeypatch.setenv(f"{name}_AUTH_TOKEN", "sk-environment")
        monkeypatch.setenv(f"{name}_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")

    async def test() -> None:
        async with scripted(WIRES[provider], reply) as server:
            await complete(model_at(server, None), user("x"))
            await complete(model_at(server, "sk-given"), user("x"))
            without, given = (repr(headers) for _, headers, _ in server.requests)
        assert "sk-" not in without
        assert "sk-given" in given
        assert "sk-environment" not in given

    run(test())


HISTORY: list[dict[str, Any]] = [
    {"role": "assistant", "content": "welcome"},
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "one"},
    {"role": "user", "content": [{"type": "text", "text": "two"}]},
    {"role": "assistant", "content": ""},
    {"role": "user", "content": "\n "},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "seen"},
    {"role": "tool", "tool_call_id": "c9", "content": "of no call"},
    {"role": "assistant", "content": "so it is"},
    {"role": "developer", "content": "be kind"},
    {"role": "user", "content": "cut \ud83d in half"},
]


async def asked(provider: str, history: list[dict[str, Any]]) -> Any:
    async with scripted(WIRES[provider], reply) as server:
        await complete(model_at(server), history)
        return server.requests[0][2]


def test_history_for_anthropic_alternates_and_begins_with_the_user() -> None:
    async def test() -> None:
        body = await asked("anthropic", HISTORY)
        roles = [message["role"] for message in body["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        assert "be brief" in str(body["system"])
        assert "be kind" in str(body["system"])
        assert "tool_use" in str(body["messages"])
        assert body["tool_choice"] == {"type": "none"}
        assert [tool["name"] for tool in body["tools"]] == ["look"]
        assert body["messages"][-1]["content"][0]["text"] == "cut \ufffd in half"
        texts = [part.get("text") for one in body["messages"] for part in one["content"]]
        assert all(text is None or text.strip() for text in texts)

    run(test())


@pytest.mark.parametrize("provider", ["anthropic", "google", "mistral"])
def test_ids_and_names_of_another_provider_are_made_fit(provider: str) -> None:
    """Ids that occur twice or have odd characters are refused by some, and so are names."""

    def called(name: str) -> list[dict[str, Any]]:
        function = {"name": name, "arguments": "{}"}
        call = {"id": "call|fc_1", "type": "function", "function": function}
        return [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call|fc_1", "content": f"result of {name}"},
        ]

    async def test() -> None:
        body = await asked(provider, [*user("x"), *called("a.b/c"), *called("a b")])
        said = json.dumps(body)
        assert "fc_1" not in said
        assert said.index("a_b_c") < said.index("result of a.b/c") < said.index("result of a b")
        if provider == "google":
            return  # its protocol goes by order
        assert said.count("call00001") == said.count("call00002") == 2

    run(test())


def test_history_for_google_begins_with_the_user_and_has_its_instructions_apart() -> None:
    async def test() -> None:
        body = await asked("google", HISTORY)
        roles = [message["role"] for message in body["contents"]]
        assert (roles[0], roles[-1]) == ("user", "user")
        assert ("model", "model") not in itertools.pairwise(roles)
        assert body["toolConfig"]["functionCallingConfig"]["mode"] == "NONE"
        assert "be brief" in str(body["systemInstruction"])
        assert "look" in str(body["contents"])
        assert body["contents"][-1]["parts"] == [{"text": "cut \ufffd in half"}]

    run(test())


def test_history_for_ollama_keeps_its_tool_calls() -> None:
    async def test() -> None:
        body = await asked("ollama", HISTORY)
        calls = [message for message in body["messages"] if message.get("tool_calls")]
        function = {"name": "look", "arguments": {"at": 1}}
        assert [call["tool_calls"][0]["function"] for call in calls] == [function]
        assert body["messages"][-1] == {"role": "user", "content": "cut \ufffd in half"}

    run(test())


def test_history_for_mistral_has_a_result_for_each_call() -> None:
    async def test() -> None:
        unanswered = [m for m in HISTORY if m.get("tool_call_id") != "c1"]
        for history in (HISTORY, unanswered):
            messages = (await asked("mistral", history))["messages"]
            assert [m["role"] for m in messages].count("tool") == 1
            assert messages[-1]["role"] == "user"

    run(test())


@other_providers
@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "image_url"),
        ({"role": "user", "content": 5}, "no text"),
        ({"role": "owl", "content": "hoo"}, "owl"),
        ({"role": "assistant", "tool_calls": [{"id": "x"}]}, "without a name"),
    ],
)
def test_what_a_provider_cannot_be_sent_is_refused_before_anything_is_sent(
    provider: str, message: dict[str, Any], why: str
) -> None:
    async def test() -> None:
        async with scripted(WIRES[provider], reply) as server:
            with pytest.raises(ModelError, match=why) as caught:
                await complete(model_at(server), [*user("x"), message])
            assert caught.value.kind == "request"
            assert server.requests == []

    run(test())


@every_provider
@pytest.mark.parametrize("url", ["ftp://host/v1", "http://host:0/v1", "http://a..b/v1"])
def test_base_url_that_is_none_is_refused_at_once(provider: str, url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        open_model(provider, url, "m", None)


@every_provider
@pytest.mark.parametrize("proxy", ["foo:bar:baz", "http://[::1", "ftp://x:1"])
def test_proxy_of_the_environment_that_is_none_is_named_as_one(
    provider: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ValueError, match="the proxy of the environment"):
        open_model(provider, "http://192.0.2.1/v1", "m", None)


@every_provider
def test_certificates_that_are_not_there_are_named(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/none.pem")
    monkeypatch.setattr("turnlock.models.transport._tls", _tls.__wrapped__)
    with pytest.raises(ValueError, match="SSL_CERT_FILE"):
        open_model(provider, "http://192.0.2.1/v1", "m", None)


@every_provider
def test_key_that_no_header_can_carry_is_refused_without_repeating_it(provider: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        open_model(provider, None, "m", "sk-se\ncret")
    assert "sk-" not in str(caught.value)


@every_provider
def test_connect_has_to_be_a_time(provider: str) -> None:
    with pytest.raises(LimitsError, match="connect"):
        open_model(provider, None, "m", None, connect=0)


@pytest.mark.parametrize("provider", sorted(BASE_URLS))
def test_every_known_provider_opens_with_an_address_of_its_own(provider: str) -> None:
    async def test() -> None:
        model = open_model(provider, None, "m", None)
        assert model.provider == provider
        await model.aclose()

    run(test())


VERSIONS = {"anthropic": ["/v1"], "google": ["/v1beta"], "mistral": ["/v1"]}
ENDINGS = [
    (provider, ending)
    for provider, versions in {**VERSIONS, "ollama": ["/v1", "/api"]}.items()
    for ending in ["", "/", *versions, f"{versions[0]}/"]
]


@pytest.mark.parametrize(("provider", "ending"), ENDINGS)
def test_base_url_may_end_in_the_version_that_the_provider_has(provider: str, ending: str) -> None:
    async def test() -> None:
        async with scripted(WIRES[provider], reply) as server:
            model = open_model(provider, server.url + ending, server.wire.model, None)
            await complete(model, user("x"))
            assert server.requests[0][0] == server.wire.path

    run(test())


HOSTILE = [
    "null",
    "5",
    "[1, 2]",
    '"text"',
    "{}",
    '{"type": 5}',
    '{"type": "message_start", "message": {}}',
    '{"type": "message_start", "message": null}',
    '{"type": "content_block_delta", "index": "x", "delta": null}',
    '{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 5}}',
    '{"type": "message_delta", "delta": null, "usage": null}',
    '{"candidates": 5}',
    '{"candidates": [{"content": {"parts": 5}}]}',
    '{"candidates": [{"content": {"parts": [{"text": {}}]}}]}',
    '{"candidates": [{"content": {"parts": [{}]}}]}',
    '{"choices": 5}',
    '{"choices": [{"delta": {"content": {}}}]}',
    '{"error": 5}',
    '{"error": {}}',
    '{"message": 5, "done": false}',
    '{"message": null, "done": true}',
    '{"done": "maybe"}',
    '{"a": ' * 100_000,
]


@every_provider
@pytest.mark.parametrize("said", HOSTILE, ids=[f"{said:.50}" for said in HOSTILE])
def test_whatever_is_said_is_content_or_one_kind_of_error(provider: str, said: str) -> None:
    """Nothing but `ModelError` comes out of a model, and never a reply that is no reply."""

    async def odd(line: Line) -> None:
        await line.begin()
        name = said.partition('"type": "')[2].partition('"')[0]
        event = f"event: {name}\ndata: {said}\n\n" if name else f"data: {said}\n\n"
        await line.send((f"{said}\n" if provider == "ollama" else event).encode())

    async def test() -> None:
        async with scripted(WIRES[provider], odd) as server:
            with pytest.raises(ModelError) as caught:
                await items(model_at(server))
            assert caught.value.kind in ("protocol", "interrupted", "status")
            assert caught.value.detail
            await server.wait_for(lambda it: it.open == 0)

    run(test())


@every_provider
def test_a_line_without_an_end_is_no_reply(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it would be kept, for as long as the limits of the turn allow."""
    monkeypatch.setattr("turnlock.models.bodies.LINE_MAX", 100_000)

    async def endless(line: Line) -> None:
        await line.begin()
        await line.send(b"data: ")
        while True:
            await line.send(b"x" * 1000)

    async def test() -> None:
        async with scripted(WIRES[provider], endless) as server:
            error = await failure(server)
        assert error.kind == "protocol"
        assert "a line of more than 100000 bytes" in error.detail

    run(test())
