"""A server for tests that speaks each provider's wire format over a real socket, or breaks it.

A `Wire` is what a provider sends for the same few things; a `Script` says which of them, and when.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from .endpoint import BOUND, head


class Wire(NamedTuple):
    """How one provider says it. ``ping`` is each sign of life that it knows without content."""

    provider: str
    model: str
    content_type: str
    begin: Callable[[], bytes]
    ping: Callable[[], bytes]
    thought: Callable[[str], bytes]
    text: Callable[[str], bytes]
    end: Callable[[str], bytes]  # of stop, length, refused
    failure: bytes | None  # an error in mid-stream; None where the protocol has none
    failure_status: int | None
    refusal: Callable[[int, str], bytes]  # the body of an error status
    garbage: bytes
    path: str


def _sse(data: object, name: str | None = None) -> bytes:
    prefix = f"event: {name}\n" if name else ""
    return f"{prefix}data: {json.dumps(data)}\n\n".encode()


# Anthropic: named events; a block around each kind of content; ping events; an error event.


def _event(name: str, **data: object) -> bytes:
    return _sse({"type": name, **data}, name)


_indices = itertools.count()  # of the blocks of one answer, as far as answers do not overlap


def _block(block: Mapping[str, object], delta: Mapping[str, object]) -> bytes:
    index = next(_indices)
    return (
        _event("content_block_start", index=index, content_block=block)
        + _event("content_block_delta", index=index, delta=delta)
        + _event("content_block_stop", index=index)
    )


def _anthropic_begin() -> bytes:
    global _indices
    _indices = itertools.count()
    message: dict[str, object] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test-1",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 1},
    }
    return _event("message_start", message=message)


def _anthropic_end(reason: str) -> bytes:
    word = {"stop": "end_turn", "length": "max_tokens", "refused": "refusal"}[reason]
    delta = {"stop_reason": word, "stop_sequence": None}
    return _event("message_delta", delta=delta, usage={"output_tokens": 7}) + _event("message_stop")


ANTHROPIC = Wire(
    provider="anthropic",
    model="claude-test",
    content_type="text/event-stream; charset=utf-8",
    begin=_anthropic_begin,
    ping=lambda: (
        _event("ping")
        + b": comment\n\n"
        + _block({"type": "text", "text": ""}, {"type": "text_delta", "text": ""})
    ),
    thought=lambda text: _block(
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": text},
    ),
    text=lambda text: _block({"type": "text", "text": ""}, {"type": "text_delta", "text": text}),
    end=_anthropic_end,
    failure=_event("error", error={"type": "overloaded_error", "message": "Overloaded"}),
    failure_status=529,
    refusal=lambda status, message: json.dumps(
        {"type": "error", "error": {"type": "some_error", "message": message}}
    ).encode(),
    garbage=b"event: content_block_delta\ndata: {oops\n\n",
    path="/v1/messages",
)


# Google: one whole response an event; an error object in place of one.


def _gemini(text: str | None = None, *, thought: bool = False, **more: object) -> bytes:
    part = {"text": text, "thought": True} if thought else {"text": text}
    parts = {} if text is None else {"content": {"parts": [part], "role": "model"}}
    candidate = {**parts, "index": 0, **more}
    return _sse({"candidates": [candidate], "modelVersion": "gemini-test-1", "responseId": "r"})


def _gemini_end(reason: str) -> bytes:
    word = {"stop": "STOP", "length": "MAX_TOKENS", "refused": "SAFETY"}[reason]
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}
    candidate = {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": word}
    return _sse({"candidates": [candidate], "usageMetadata": usage, "responseId": "r"})


GOOGLE = Wire(
    provider="google",
    model="gemini-2.5-flash",
    content_type="text/event-stream",
    begin=lambda: b"",
    ping=lambda: _gemini("") + _sse({"usageMetadata": {"promptTokenCount": 5}, "responseId": "r"}),
    thought=lambda text: _gemini(text, thought=True),
    text=_gemini,
    end=_gemini_end,
    failure=_sse({"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}),
    failure_status=503,
    refusal=lambda status, message: json.dumps(
        {"error": {"code": status, "message": message, "status": "SOME"}}
    ).encode(),
    garbage=b"data: {oops\n\n",
    path="/v1beta/models/gemini-2.5-flash:streamGenerateContent",
)


# OpenAI, and Mistral, which differs in how it thinks.


def _choice(delta: object, reason: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    top = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return _sse({**top, "choices": [choice], **more})


_USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def _openai_end(reason: str) -> bytes:
    word = {"refused": "content_filter"}.get(reason, reason)
    return _choice({"content": ""}, word, usage=_USAGE) + b"data: [DONE]\n\n"


OPENAI = Wire(
    provider="openai",
    model="m",
    content_type="text/event-stream; charset=utf-8",
    begin=lambda: _choice({"role": "assistant", "content": ""}),
    ping=lambda: b": comment\n\n" + _choice({"content": ""}) + _choice({"role": "assistant"}),
    thought=lambda text: _choice({"reasoning_content": text}),
    text=lambda text: _choice({"content": text}),
    end=_openai_end,
    failure=_sse({"error": {"message": "Overloaded", "code": 503}}),
    failure_status=503,
    refusal=lambda status, message: json.dumps({"error": {"message": message}}).encode(),
    garbage=b"data: {oops\n\n",
    path="/v1/chat/completions",
)

MISTRAL = OPENAI._replace(
    provider="mistral",
    thought=lambda text: _choice(
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}
    ),
    ping=lambda: (
        b": comment\n\n" + _choice({"content": ""}) + _choice({"role": "assistant", "content": ""})
    ),
    failure=None,
    failure_status=None,
    refusal=lambda status, message: json.dumps(
        {"object": "error", "message": message, "type": "some", "code": "1"}
    ).encode(),
)


# Ollama: one object a line; an error line in place of one.


def _line(message: Mapping[str, object], **more: object) -> bytes:
    top = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": False}
    return json.dumps({**top, "message": {"role": "assistant", **message}, **more}).encode() + b"\n"


OLLAMA = Wire(
    provider="ollama",
    model="m",
    content_type="application/x-ndjson",
    begin=lambda: b"",
    ping=lambda: _line({"content": ""}),
    thought=lambda text: _line({"content": "", "thinking": text}),
    text=lambda text: _line({"content": text}),
    end=lambda reason: _line(
        {"content": ""}, done=True, done_reason=reason, prompt_eval_count=5, eval_count=7
    ),
    failure=b'{"error":"Overloaded"}\n',
    failure_status=None,
    refusal=lambda status, message: json.dumps({"error": message}).encode(),
    garbage=b"{oops\n",
    path="/api/chat",
)

WIRES = {wire.provider: wire for wire in (ANTHROPIC, GOOGLE, MISTRAL, OLLAMA, OPENAI)}


class Line:
    """One connection, seen from the server, with what was asked on it."""

    def __init__(
        self,
        wire: Wire,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        content_seen: asyncio.Event,
    ) -> None:
        self.wire = wire
        self.content_seen = content_seen
        self._reader = reader
        self.writer = writer

    async def begin(self) -> None:
        await self.send(head(content_type=self.wire.content_type), self.wire.begin())

    async def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))
        await self.writer.drain()

    async def hold(self) -> None:
        """Until the client goes."""
        while await self._reader.read(1024):
            pass

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Line], Awaitable[None]]


class ScriptedServer:
    """Answers every request as its script says; counts what it has seen."""

    def __init__(self, wire: Wire, script: Script) -> None:
        self.wire = wire
        self.script = script
        self.url = ""
        self.requests: list[tuple[str, Mapping[str, str], Any]] = []
        self.open = 0
        self.content_seen = asyncio.Event()  # set by the client of a test that has to wait
        self._changed = asyncio.Condition()

    async def wait_for(self, condition: Callable[[ScriptedServer], bool]) -> None:
        async with asyncio.timeout(BOUND), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._count(1)
        line = Line(self.wire, reader, writer, self.content_seen)
        try:
            self.requests.append(await _request(reader))
            await self._count(0)
            await self.script(line)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            await self._count(-1)

    async def _count(self, step: int) -> None:
        async with self._changed:
            self.open += step
            self._changed.notify_all()


async def _request(reader: asyncio.StreamReader) -> tuple[str, Mapping[str, str], Any]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return first.split(" ")[1].partition("?")[0], headers, json.loads(body or b"null")


@asynccontextmanager
async def scripted(wire: Wire, script: Script) -> AsyncIterator[ScriptedServer]:
    told = ScriptedServer(wire, script)
    server = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    if wire.provider == "openai":
        told.url += "/v1"
    try:
        yield told
    finally:
        server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOUND):
                await server.wait_closed()


# Scripts


async def reply(line: Line) -> None:
    wire = line.wire
    await line.begin()
    await line.send(wire.ping(), wire.thought("hm"), wire.ping(), wire.text("hel"), wire.ping())
    await line.send(wire.text("lo"), wire.end("stop"))


async def hang(line: Line) -> None:
    await line.hold()


async def stall(line: Line) -> None:
    await line.begin()
    await line.send(line.wire.text("hel"))
    await line.hold()


async def pings(line: Line) -> None:
    await line.begin()
    while True:
        await line.send(line.wire.ping())
        await asyncio.sleep(0.002)
