"""What a stranger, a page in a browser, or a hostile client can send, each beside what is fine."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from turnlock.gateway.access import Access, host_of

from .raw import chat, exchange, get, line, post, request
from .serving import QUICK, Scripted, Served, echo, run, served

ROUTES = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/main"),
    ("POST", "/v1/chat/completions"),
    ("OPTIONS", "/v1/chat/completions"),
    ("DELETE", "/v1/chat/completions"),
    ("GET", "/nowhere"),
    ("GET", "/healthz/"),
]


def echoing(tmp_path: Path, gateway: str = "") -> Any:
    return served(tmp_path, Scripted(echo), gateway=gateway)


async def fine(gateway: Served) -> None:
    """The control: the same gateway answers a request that is as it should be."""
    assert (await post(gateway, chat())).status == 200


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "bearer {}",
        "Basic {}",
        "{}",
        "Bearer {}x",
        "Bearer  {}",
    ],
)
def test_every_route_but_health_wants_the_token(gateway: Served, given: str | None) -> None:
    async def test() -> None:
        header = None if given is None else given.format(gateway.token)
        for method, target in ROUTES:
            data = request(gateway, target, method=method, body=chat(), authorization=header)
            answer = await exchange(gateway, data)
            assert answer.status == 401, (method, target)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.error()["code"] == "invalid_token"
        in_query = request(gateway, f"/v1/models?token={gateway.token}", authorization=header)
        assert (await exchange(gateway, in_query)).status == 401
        assert (await get(gateway, "/healthz", authorization=header)).status == 200
        assert (await get(gateway, "/v1/models")).status == 200

    run(test())


def test_two_tokens_are_none(gateway: Served) -> None:
    async def test() -> None:
        twice = f"Bearer {gateway.token}\r\nauthorization: Bearer x"
        assert (await get(gateway, "/v1/models", authorization=twice)).status == 401

    run(test())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1.evil.example:{}", 421),
        ("localhost.:{}", 421),
        ("user@127.0.0.1:{}", 421),
        ("127.0.0.1:{}:80", 421),
        ("[::1]evil", 421),
        ("", 421),
        ("127.0.0.1\r\nhost: evil.example", 400),
        (None, 400),
        ("127.0.0.1:{}", 200),
        ("localhost:{}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{}", 200),
        ("agents.example:{}", 200),
        ("with-a-port.example:{}", 200),
    ],
)
def test_the_host_is_one_of_ours(gateway: Served, host: str | None, status: int) -> None:
    async def test() -> None:
        port = gateway.url.rpartition(":")[2]
        header = None if host is None else host.format(port)
        for target in ("/v1/models", "/healthz"):
            async with line(gateway) as connection:
                await connection.send(request(gateway, target, method="GET", host=header))
                assert (await connection.head()).status == status

    run(test())


def test_an_absolute_target_does_not_stand_in_for_the_host(gateway: Served) -> None:
    async def test() -> None:
        target = f"{gateway.url}/v1/models"
        assert (await get(gateway, target)).status == 404
        assert (await get(gateway, target, host="evil.example")).status == 421

    run(test())


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1", 403),
        ("https://good.example.evil.example", 403),
        ("", 403),
        ("https://good.example", 200),
        (None, 200),
    ],
)
def test_an_origin_has_to_be_allowed(gateway: Served, origin: str | None, status: int) -> None:
    async def test() -> None:
        answer = await post(gateway, chat(), origin=origin)
        assert answer.status == status
        preflight = request(
            gateway,
            method="OPTIONS",
            origin=origin,
            access_control_request_method="POST",
        )
        refused = await exchange(gateway, preflight)
        assert refused.status in (403, 405)
        for one in (answer, refused):
            assert not [name for name in one.headers if name.startswith("access-control")]

    run(test())


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonp", 415),
        ("", 415),
        (None, 415),
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
    ],
)
def test_a_body_says_that_it_is_json(gateway: Served, kind: str | None, status: int) -> None:
    async def test() -> None:
        assert (await post(gateway, chat(), content_type=kind)).status == status
        assert (await post(gateway, chat(), content_encoding="gzip")).status == 415

    run(test())


BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe{}",
    chat().decode().encode("utf-16"),
    chat()[:-1] + b',"x":NaN}',
    chat()[:-1] + b',"x":-Infinity}',
    chat()[:-1] + b',"x":1e999}',
    chat()[:-1] + b',"x":' + b"9" * 6000 + b"}",
    chat()[:-1] + b',"x":' + b"[" * 60_000 + b"]" * 60_000 + b"}",
    b'{"a":' * 60_000,
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_body_that_is_no_json_object_is_refused(gateway: Served, body: bytes) -> None:
    async def test() -> None:
        answer = await post(gateway, body)
        assert (answer.status, answer.error()["type"]) == (400, "invalid_request_error")
        await fine(gateway)

    run(test())


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},
        {"model": 7},
        {"messages": None},
        {"messages": []},
        {"messages": {}},
        {"messages": ["text"]},
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": "root", "content": "x"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "system", "content": "only this"}]},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
        {"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "y"}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"stream": "yes"},
        {"stream_options": []},
        {"user": ["a"]},
        {"n": 2},
        {"n": True},
        {"tools": [{"type": "function"}]},
        {"tool_choice": "required"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        {"modalities": ["text", "audio"]},
        {"logprobs": True},
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(gateway: Served, changes: Any) -> None:
    async def test() -> None:
        body = {"user": "refused", **json.loads(chat()), **changes}
        answer = await post(gateway, json.dumps(body).encode())
        assert (answer.status, answer.error()["type"]) == (400, "invalid_request_error")
        assert not gateway.transcript("refused")
        await fine(gateway)

    run(test())


def test_an_option_that_changes_nothing_is_taken(gateway: Served) -> None:
    async def test() -> None:
        options: dict[str, Any] = {
            "n": 1,
            "tools": [],
            "tool_choice": "none",
            "response_format": {"type": "text"},
            "modalities": ["text"],
            "logprobs": False,
            "top_logprobs": None,
            "temperature": 0.5,
        }
        assert (await post(gateway, chat(**options))).status == 200

    run(test())


def test_a_big_body_is_refused_however_it_says_its_size(tmp_path: Path) -> None:
    async def test() -> None:
        # A client that still sends a while after its answer is cut, and 50 MB take their time.
        pace = QUICK._replace(head=10.0)
        small = "max_body_bytes = 2048"
        async with served(tmp_path, Scripted(echo), gateway=small, pace=pace) as gateway:
            big = chat("x" * 5000)
            announced = await post(gateway, big)
            assert (announced.status, announced.error()["code"]) == (413, "body_too_large")
            head = request(gateway, content_type="application/json", transfer_encoding="chunked")
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (big[:1000], big[1000:]))
            counted = await exchange(gateway, head + chunks + b"0\r\n\r\n")
            assert counted.status == 413
            huge = await post(gateway, b"[" * 1_000_000)
            assert huge.status == 413
            await fine(gateway)

    run(test())


def test_slow_clients_are_cut(tmp_path: Path) -> None:
    async def slow_body(gateway: Served) -> None:
        async with line(gateway) as connection:
            await connection.send(request(gateway, body=chat())[:-5])
            answer = await connection.answer()
            assert (answer.status, answer.error()["code"]) == (408, "body_timeout")
            assert await connection.end() == b""

    async def slow_head(gateway: Served, sent: bytes) -> None:
        async with line(gateway) as connection:
            await connection.send(sent)
            assert await connection.end() == b""

    async def slow_second_head(gateway: Served) -> None:
        async with line(gateway) as connection:
            await connection.send(request(gateway, "/healthz", method="GET"))
            assert (await connection.answer()).status == 200
            await connection.send(b"GET /healthz HTTP/1.1\r\nhost: ")
            assert await connection.end() == b""

    async def endless_body(gateway: Served) -> None:
        async with line(gateway) as connection:
            head = request(gateway, body=b"", authorization=None, content_length="1000000")
            await connection.send(head)
            assert (await connection.answer()).status == 401
            await connection.send(b"x")
            assert await connection.end() == b""

    async def test() -> None:
        async with echoing(tmp_path) as gateway:
            await asyncio.gather(
                slow_body(gateway),
                slow_head(gateway, b""),
                slow_head(gateway, b"POST /v1/chat"),
                slow_second_head(gateway),
                endless_body(gateway),
            )
            await fine(gateway)

    run(test())


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / FTP/1.1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\n"
        b"content-length: 6\r\n\r\nhello",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"y" * 20_000,
    ],
    ids=["tls", "no-http", "two-lengths", "two-framings", "big-head", "huge-head", "open-head"],
)
def test_what_is_no_http_is_cut(gateway: Served, data: bytes) -> None:
    async def test() -> None:
        async with line(gateway) as connection:
            await connection.send(data)
            assert (await connection.end())[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431")
        await fine(gateway)

    run(test())


@pytest.mark.parametrize("size", [20_000, 40_000])
@pytest.mark.parametrize("is_complete", [True, False])
def test_a_head_that_is_too_large_is_said_to_be(
    gateway: Served, size: int, is_complete: bool
) -> None:
    """Also one of which only a part has come: the server judges that before the application."""

    async def test() -> None:
        head = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"y" * size
        async with line(gateway) as connection:
            await connection.send(head + b"\r\n\r\n" * is_complete)
            answer = await connection.answer()
            assert (answer.status, answer.error()["code"]) == (431, "headers_too_large")

    run(test())


@pytest.mark.parametrize("token", ["wrong", None])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_body_that_turns_into_no_http_has_one_answer(
    gateway: Served, caplog: pytest.LogCaptureFixture, token: str | None, is_late: bool
) -> None:
    """A stranger must not fill the log: with uvicorn alone this was a traceback a request."""
    broken = b"3f?\r\n"

    async def test() -> None:
        more: dict[str, Any] = {} if token is None else {"authorization": f"Bearer {token}"}
        head = request(gateway, transfer_encoding="chunked", **more)
        async with line(gateway) as connection:
            await connection.send(head if is_late else head + broken)
            if is_late:
                if token is not None:
                    assert (await connection.answer()).status == 401
                await connection.send(broken)
            said = await connection.end()
        assert said.count(b"HTTP/1.1 ") <= 1
        await fine(gateway)

    run(test())
    assert [one for one in caplog.records if one.levelname in ("ERROR", "CRITICAL")] == []


def test_unknown_paths_and_methods_are_said_in_json(gateway: Served) -> None:
    async def test() -> None:
        for target in ("/", "/v1", "/v1/chat/completions/", "/v1/../healthz", "//healthz"):
            answer = await get(gateway, target)
            assert (answer.status, answer.error()["code"]) == (404, "unknown_url")
        wrong = await exchange(gateway, request(gateway, method="PUT", body=chat()))
        assert (wrong.status, wrong.error()["code"]) == (405, "method_not_allowed")
        assert wrong.headers["allow"] == "POST"
        upgrade = await get(gateway, "/v1/models", connection="upgrade", upgrade="websocket")
        assert upgrade.status == 200

    run(test())


@pytest.mark.parametrize(
    "value",
    [
        b"../../../etc/passwd",
        b"..%2f..%2fetc",
        b"a/../../b",
        b"-rf",
        b"CON",
        b"a\tb",
        b"main/",
        b"/main",
        b"main/a/b",
        b"x" * 3000,
        "\u202eevil".encode(),
        "\u00e9".encode(),
    ],
)
def test_a_hostile_session_name_stays_inside(gateway: Served, value: bytes) -> None:
    async def test() -> None:
        data = request(gateway, body=chat(), x_turnlock_session="@")
        answer = await exchange(gateway, data.replace(b"@", value))
        assert answer.status == 200
        agent, _, name = answer.headers["x-turnlock-session"].partition("/")
        assert agent == "main"
        assert gateway.said(name)[0] == ("user", "hello")
        stored = {path.parent for path in gateway.state.parent.rglob("*.jsonl")}
        assert stored == {gateway.state / "agents" / "main" / "sessions"}

    run(test())


@pytest.mark.parametrize("value", [b"", b"  ", b"\xff\xfe", b"a\r\nx-turnlock-session: b"])
def test_a_session_header_that_names_none_is_refused(gateway: Served, value: bytes) -> None:
    async def test() -> None:
        data = request(gateway, body=chat(), x_turnlock_session="@")
        answer = await exchange(gateway, data.replace(b"@", value))
        assert answer.status == 400
        await fine(gateway)

    run(test())


def test_a_message_cannot_forge_an_entry(tmp_path: Path) -> None:
    forged = json.dumps(
        {"type": "custom", "customType": "turnlock:end", "data": {"turnId": "x"}, "epoch": 2**60}
    )
    texts = [f"a\n{forged}\n", "a\u2028b\u0085c", "\ud83d half", "\x1b]8;;http://x\x07", "\x00"]

    async def test() -> None:
        async with echoing(tmp_path) as gateway:
            for text in texts:
                assert (await post(gateway, chat(text, user="a"))).status == 200
            entries = gateway.transcript()
            assert len(entries) == 1 + 4 * len(texts)
            assert [e["epoch"] for e in entries[1::4]] == [1, 2, 3, 4, 5]
            raw = (gateway.state / "agents/main/sessions/a.jsonl").read_text("utf-8")
            assert len(raw.splitlines()) == len(entries)

    run(test())


@pytest.mark.parametrize("name", ["10.0.0.7", "[::ffff:10.0.0.7]:80"])
def test_by_ipv4_a_listener_for_both_kinds_goes_by_its_address(name: str) -> None:
    async def test() -> None:
        answered: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            answered.append(200)

        async def send(message: Any) -> None:
            answered.append(message.get("status", 0))

        access = Access(app, token="", hosts=["::"], origins=[])
        headers = [(b"host", name.encode())]
        scope = {"type": "http", "path": "/healthz", "headers": headers}
        await access({**scope, "server": ("::ffff:10.0.0.7", 80)}, None, send)  # type: ignore[arg-type]
        assert answered == [200]
        await access({**scope, "server": ("::ffff:10.0.0.8", 80)}, None, send)  # type: ignore[arg-type]
        assert answered[1] == 421

    run(test())


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("localhost", "localhost"),
        ("Localhost:80", "localhost"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
        ("[::1", ""),
        ("[::1]x", ""),
        ("a:b", ""),
        ("a:80:90", ""),
        ("", ""),
    ],
)
def test_the_host_of_a_header(value: str, host: str) -> None:
    assert host_of(value) == host
