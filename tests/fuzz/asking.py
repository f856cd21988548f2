"""Requests to the gateway: heads and bodies in the process, and raw bytes on a socket.

An input of ``http`` looks like a request, but nothing in it has to be one::

    POST /v1/chat/completions
    x-turnlock-session: a

    {"model":"main",…

Whatever it has not got itself is added: the host, the token, the type of its body.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import shutil
import tempfile
from collections.abc import AsyncGenerator, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

import turnlock
from tests.helpers import PATIENCE
from turnlock.config import Config, default_config
from turnlock.gateway import Agent, Pace
from turnlock.gateway.app import create_app
from turnlock.gateway.connection import ABORT
from turnlock.gateway.errors import CODES
from turnlock.gateway.server import Stop, serve
from turnlock.gateway.service import Gateway
from turnlock.limits import Limits
from turnlock.models import Delta, Finished, Message
from turnlock.session import is_part
from turnlock.transcript.jsonl import read_lines

_TOKEN = "token"
_QUICK = Pace(headers=1.0, queued=1.0, keepalive=0.05, head=0.5, body=0.5, hand_over=2.0)
_PATIENCE = 2 * PATIENCE
_TYPES = (b"application/json", b"text/event-stream")


class _Echo:
    provider = api = "echo"
    model = "echo"

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        yield Delta(f"re: {messages[-1]['content']}")
        yield Finished("stop", None, "echo")

    async def aclose(self) -> None:
        pass


class _Errors(logging.Handler):
    """What is logged as an error: that of a bug, which no request may reach."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


class _World:
    """An event loop with a gateway, kept from one input to the next; its sessions are not."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory(prefix="turnlock-fuzz-")
        self.root = Path(self.directory.name, "state")
        self.errors = _Errors()
        logging.getLogger().addHandler(self.errors)

    def config(self) -> Config:
        config = default_config()
        small = config.gateway._replace(port=0, max_body_bytes=1 << 20)
        return config._replace(gateway=small, limits=Limits(wait=0.2, turn=5.0, drain=1.0))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(_PATIENCE):
                return await work

        return self.loop.run_until_complete(bounded())

    def check(self) -> None:
        """S9, S15: nothing has gone wrong by itself, and only files of sessions were made."""
        found, self.errors.found = self.errors.found, []
        assert not found, found
        for path in (self.root / "agents").rglob("*"):
            if not path.is_dir():
                _check_file(self.root, path)
        shutil.rmtree(self.root / "agents", ignore_errors=True)


def _check_file(root: Path, path: Path) -> None:
    agent, middle, base = path.relative_to(root / "agents").parts
    assert middle == "sessions"
    assert is_part(agent)
    assert is_part(base.removesuffix(".lock").removesuffix(".jsonl")), base
    if base.endswith(".jsonl"):
        content = path.read_bytes()
        for line in read_lines(lambda at, size: content[at : at + size]):
            assert line.entry is not None, line.raw
            json.loads(line.raw.decode(), parse_constant=_refuse)
            assert not line.raw.decode().splitlines()[1:], line.raw


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


# In the process


class _InProcess(_World):
    def __init__(self) -> None:
        super().__init__()
        self.gateway, self.app = self.run(self._make())

    async def _make(self) -> tuple[Gateway, Any]:
        store = turnlock.open_store(self.root, durability="none")
        agents = {"main": Agent("main", _Echo(), "")}
        gateway = Gateway(self.config(), store, agents, known_secrets=(_TOKEN,), pace=_QUICK)
        return gateway, create_app(gateway, token=_TOKEN)


@functools.cache
def _in_process() -> _InProcess:
    return _InProcess()


class _Request(NamedTuple):
    scope: dict[str, Any]
    body: bytes


def ask(data: bytes) -> None:
    """I11: each request has one answer, as the description says, and never one of a bug."""
    world = _in_process()
    request = _request(data)
    sent = world.run(_answered(world, request))
    _judge(request, sent)
    world.check()


def _request(data: bytes) -> _Request:
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    raw, _, query = target.partition(b"?")
    raw = raw if raw.startswith(b"/") else b"/" + raw
    headers = [_header(line) for line in lines]
    named = {name for name, _ in headers}
    fine = [(b"host", b"localhost"), (b"authorization", f"Bearer {_TOKEN}".encode())]
    fine += [(b"content-type", b"application/json")] if body else []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": (method.decode("latin-1") or "GET").upper(),
        "scheme": "http",
        "path": unquote_to_bytes(raw).decode("utf-8", "replace"),
        "raw_path": raw,
        "query_string": query,
        "root_path": "",
        "headers": [*((name, value) for name, value in fine if name not in named), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "extensions": {ABORT: lambda: None},
    }
    return _Request(scope, body)


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value.strip()


async def _answered(world: _InProcess, request: _Request) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    told = iter([{"type": "http.request", "body": request.body, "more_body": False}])
    is_stream = request.scope["path"].startswith("/events")
    over = asyncio.Event()

    async def receive() -> dict[str, Any]:
        message = next(told, None)
        if message is not None:
            return message
        if not is_stream:
            await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            over.set()

    await world.app(request.scope, receive, send)
    assert await world.gateway.exchanges.ended(_PATIENCE), "its work goes on without it"
    return sent


def _judge(request: _Request, sent: list[dict[str, Any]]) -> None:
    starts = [one for one in sent if one["type"] == "http.response.start"]
    assert len(starts) == 1
    status, headers = starts[0]["status"], dict(starts[0]["headers"])
    assert status != 500
    body = b"".join(one.get("body", b"") for one in sent)
    kind = headers.get(b"content-type", b"").partition(b";")[0]
    assert kind in _TYPES, (kind, request.scope["path"])
    if status >= 400 and request.scope["method"] != "HEAD" and body:
        error = json.loads(body, parse_constant=_refuse).get("error")
        # The health check has a status and no error.
        assert error is None or CODES[error["code"]].status == status, error
    elif kind == b"application/json" and body:
        json.loads(body, parse_constant=_refuse)


def seeds() -> list[bytes]:
    chat = {"model": "main", "messages": [{"role": "user", "content": "hello"}]}
    asked = {"role": "user", "content": [{"type": "text", "text": "é"}]}
    history = {"role": "assistant", "content": "x"}, asked
    streamed = chat | {"stream": True, "stream_options": {"include_usage": True}}
    entry = {"entries": [{"type": "message", "message": {"role": "user", "content": "x"}}]}
    to_chat = b"POST /v1/chat/completions\nx-turnlock-session: a\n\n"
    return [
        to_chat + json.dumps(chat).encode(),
        to_chat + json.dumps(streamed).encode(),
        to_chat + json.dumps(chat | {"user": "u/1", "n": 1, "messages": history}).encode(),
        b"POST /v1/chat/completions\n\n" + json.dumps(chat | {"user": "../x"}).encode(),
        b"POST /sessions/main/a/entries\n\n" + json.dumps(entry).encode(),
        to_chat + b'{"model": ' + b"[" * 3000, to_chat + b'{"model": ' + b"9" * 5000 + b"}",
        b'POST /sessions/main/a/release\n\n{"turn_id": null, "reason": "operator"}',
        b"GET /sessions/main/a", b"GET /sessions?limit=2&after=main/a", b"GET /locks",
        b"GET /healthz", b"GET /sessions/main/a/transcript?after=x&limit=2", b"GET /statistics",
        b"GET /events?session=main/a\nlast-event-id: x-1", b"GET /v1/models/main",
        b"GET /openapi.json", b"HEAD /sessions/..%2f..%2fx/a", b"PATCH /v1/models",
        b"GET /locks\norigin: null\nhost: evil.example\nauthorization: Bearer x",
    ]  # fmt: skip


WORDS = (
    b"GET ", b"POST ", b"HEAD ", b"OPTIONS ", b"/v1/chat/completions", b"/sessions/main/a",
    b"/sessions/", b"/entries", b"/release", b"/transcript", b"/events", b"?", b"&", b"limit=",
    b"after=", b"wait=", b"session=", b"%2f", b"%00", b"%", b"%ff", b"..", b"\n", b"\n\n",
    b"x-turnlock-session: ", b"x-openclaw-session-key: ", b"idempotency-key: ", b"host: ",
    b"authorization: Bearer ", b"origin: ", b"content-type: ", b"content-length: 1",
    b"transfer-encoding: chunked", b"content-encoding: gzip", b"x-stainless-retry-count: ",
    b"last-event-id: ", b'"model": ', b'"messages": ', b'"role": ', b'"content": ', b'"user": ',
    b'"stream": true', b'"n": 2', b'"entries": ', b'"turn_id": ', b'"reason": ', b'"tool"', b"null",
    b"true", b"[]", b"{}", b"[" * 3000, b"9" * 4400, b"1e999", b"NaN", b'"\\ud800"', b"\\u0000",
    b'"type": "custom", "customType": "openclaw:prompt-error"', b'"epoch": 9', b'"id": "x"',
    b"\xff",
    "\u2028".encode(), b"0" * 30, b"-1", b"1e400", b"h" * 17000,
)  # fmt: skip


# On a socket


class _OnSocket(_World):
    def __init__(self) -> None:
        super().__init__()
        self.stop = Stop()
        self.url = ""
        self.task: asyncio.Task[None] | None = None
        self.run(self._start())

    async def _start(self) -> None:
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        agents = {"main": Agent("main", _Echo(), "")}
        work = serve(
            self.config(),
            str(self.root),
            listening.set_result,
            stop=self.stop,
            agents=agents,
            pace=_QUICK,
        )
        self.task = asyncio.create_task(work)
        await asyncio.wait((self.task, listening), return_when=asyncio.FIRST_COMPLETED)
        self.url = listening.result()

    @property
    def token(self) -> bytes:
        return Path(self.root, "token").read_bytes().strip()


@functools.cache
def _on_socket() -> _OnSocket:
    return _OnSocket()


def say(data: bytes) -> None:
    """Whatever a client says, its connection ends, others are served, and no bug is logged.

    ``TOKEN`` in the bytes stands for the token, ``PORT`` for the port.
    """
    world = _on_socket()
    port = urlsplit(world.url).port
    raw = data.replace(b"TOKEN", world.token).replace(b"PORT", str(port).encode())
    said = world.run(_spoken(port or 0, raw))
    assert not said or said.startswith(b"HTTP/1.1 "), said[:100]
    assert b"HTTP/1.1 500 " not in said
    health = world.run(_spoken(port or 0, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    assert health.startswith(b"HTTP/1.1 200 "), health
    world.check()


async def _spoken(port: int, raw: bytes) -> bytes:
    """All that is answered to a client that says so much and then no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        writer.write_eof()
        return await reader.read(-1)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def raw_seeds() -> list[bytes]:
    head = b"host: localhost:PORT\r\nauthorization: Bearer TOKEN\r\n"
    body = b'{"model":"main","messages":[{"role":"user","content":"hello"}]}'
    sized = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    chunked = b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    ask = b"POST /v1/chat/completions HTTP/1.1\r\nx-turnlock-session: a\r\n"
    return [
        ask + head + sized + body,
        ask + head + chunked + chunks,
        ask + head + sized + body[:9],
        b"GET /locks HTTP/1.1\r\n" + head + b"\r\nGET /locks HTTP/1.1\r\n" + head + b"\r\n",
        b"GET /events HTTP/1.1\r\n" + head + b"upgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"GET /locks HTTP/1.1\r\n" + head.replace(b"PORT", b"\xb2") + b"\r\n",
        b"GET /locks HTTP/1.1\r\n" + head.replace(b"PORT", b"x") + b"\r\n",
        b"GET http://evil.example/locks HTTP/1.1\r\n" + head + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01",
        b"",
    ]


RAW_WORDS = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"GET ", b"POST ",
    b"TOKEN", b"PORT", b"host: localhost\r\n", b"content-length: 5\r\n", b"content-length: -1\r\n",
    b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip\r\n", b"expect: 100-continue\r\n",
    b"connection: close\r\n", b"upgrade: websocket\r\n", b"\r\n folded", b"ffffffffffffffff\r\n",
    b"0\r\n\r\n", b"/locks", b"/healthz", b"*", b"/%00", b"?", b"#", b"\0", b"\xff", b"h" * 17000,
)  # fmt: skip
