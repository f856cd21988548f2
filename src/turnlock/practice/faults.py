"""How each mode answers: the ordinary reply, and every way to break it.

A mode that returns before the body's end leaves the answer half said; the server then closes the
connection. A mode that never returns is ended when the peer goes, or with the server.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, NoReturn

from .responses import ResponsesPaper
from .script import Chat, Mode, Paper, error, pieces, sse
from .wire import Wire

JSON = {"content-type": "application/json"}
_EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
_HTML = {"content-type": "text/html; charset=utf-8"}
_HTML_LENGTH = 64 * 1024


class Pace(NamedTuple):
    """Seconds between the deltas of a reply, between the signs of life of a fault, to retry in."""

    interval: float
    pulse: float
    retry_after: float


class Exchange(NamedTuple):
    """One request to the model, and the connection that its answer goes to."""

    wire: Wire
    chat: Chat
    paper: Paper | ResponsesPaper
    pace: Pace
    authorization: str

    async def begin_stream(self, headers: Mapping[str, str] = _EVENTS) -> None:
        await self.wire.begin(200, headers)
        await self.wire.data(self.paper.begin(self.chat))

    async def say(self, text: str) -> None:
        await self.wire.data(self.paper.say(text))
        await asyncio.sleep(self.pace.interval)

    async def say_all(self) -> None:
        """Everything from the first content to the last event; the body stays open."""
        count = 0
        if self.chat.command.mode is Mode.TOOL:
            await self.wire.data(self.paper.call(*self.chat.command[2:]))
        else:
            for text in pieces(self.chat):
                await self.say(text)
                count += 1
        await self.wire.data(self.paper.end(self.chat, count))

    def whole(self) -> bytes:
        return self.paper.whole(self.chat)

    async def half(self, headers: Mapping[str, str] = _EVENTS) -> None:
        """The head of the answer and about half of its body."""
        if self.chat.stream:
            await self.begin_stream(headers)
            said = list(pieces(self.chat))
            for text in said[: max(1, len(said) // 2)]:
                await self.say(text)
        else:
            body = self.whole()
            await self.wire.begin(200, JSON | {"content-length": str(len(body))})
            await self.wire.data(body[: len(body) // 2])


async def answer(exchange: Exchange) -> None:
    """Answer in the mode that the request asks for."""
    await _MODES[exchange.chat.command.mode](exchange)


async def _reply(exchange: Exchange) -> None:
    if not exchange.chat.stream:
        await exchange.wire.respond(200, JSON, exchange.whole())
        return
    await exchange.begin_stream()
    await exchange.say_all()
    await exchange.wire.end()


async def _hang(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def _stall(exchange: Exchange) -> None:
    await exchange.half()
    await asyncio.Event().wait()


async def _dribble(exchange: Exchange) -> None:
    if not exchange.chat.stream:
        await _blank(exchange)
    await exchange.begin_stream()
    for number in itertools.count(1):
        await exchange.say(f"drip {number} ")
        await asyncio.sleep(exchange.pace.pulse)


async def _comments(exchange: Exchange) -> None:
    if not exchange.chat.stream:
        await _blank(exchange)
    await exchange.begin_stream()
    while True:
        await exchange.wire.data(b": keepalive\n\n")
        await exchange.wire.data(exchange.paper.say(""))
        await asyncio.sleep(exchange.pace.pulse)


async def _blank(exchange: Exchange) -> NoReturn:
    # White space before a JSON text is legal: how a proxy keeps a long call without stream alive.
    await exchange.wire.begin(200, JSON)
    while True:
        await exchange.wire.data(b" \n")
        await asyncio.sleep(exchange.pace.pulse)


async def _reset(exchange: Exchange) -> None:
    await exchange.half()
    exchange.wire.reset()


async def _cut(exchange: Exchange) -> None:
    await exchange.half(_EVENTS | {"connection": "close"})
    if exchange.chat.stream:
        # A proxy ends the body like this when its upstream dies: by HTTP the answer is complete.
        await exchange.wire.end()


async def _rate_limit(exchange: Exchange) -> None:
    headers = JSON | {"retry-after": f"{exchange.pace.retry_after:g}"}
    body = error("Rate limit reached for practice", "requests", "rate_limit_exceeded")
    await exchange.wire.respond(429, headers, body)


async def _server_error(exchange: Exchange) -> None:
    head = "<!DOCTYPE html><html><head><title>500 Internal Server Error</title></head><body>"
    text = "<p>The server had an <b>internal error</b>.</p>\n"
    page = head + text * (_HTML_LENGTH // len(text)) + "</body></html>"
    await exchange.wire.respond(500, _HTML, page.encode())


async def _garbage(exchange: Exchange) -> None:
    if not exchange.chat.stream:
        await exchange.wire.respond(200, JSON, b'{"choices": [oops')
        return
    await exchange.begin_stream()
    await exchange.wire.data(sse(b'{"choices": [oops'))
    await exchange.wire.end()


async def _leak(exchange: Exchange) -> None:
    key = exchange.authorization.removeprefix("Bearer ")
    message = f"Incorrect API key provided: {key}."
    body = error(message, "invalid_request_error", "invalid_api_key")
    await exchange.wire.respond(401, JSON, body)


async def _open(exchange: Exchange) -> None:
    if exchange.chat.stream:
        await exchange.begin_stream()
        await exchange.say_all()
    else:
        await exchange.wire.begin(200, JSON)
        await exchange.wire.data(exchange.whole())
    await asyncio.Event().wait()


async def _slow(exchange: Exchange) -> None:
    if not exchange.chat.stream:
        await asyncio.sleep(exchange.chat.command.amount)
        await _reply(exchange)
        return
    await exchange.begin_stream()
    await asyncio.sleep(exchange.chat.command.amount)
    await exchange.say_all()
    await exchange.wire.end()


_MODES: Mapping[Mode, Callable[[Exchange], Awaitable[None]]] = {
    Mode.REPLY: _reply,
    Mode.HANG: _hang,
    Mode.STALL: _stall,
    Mode.DRIBBLE: _dribble,
    Mode.COMMENTS: _comments,
    Mode.RESET: _reset,
    Mode.CUT: _cut,
    Mode.RATE_LIMIT: _rate_limit,
    Mode.SERVER_ERROR: _server_error,
    Mode.GARBAGE: _garbage,
    Mode.LEAK: _leak,
    Mode.OPEN: _open,
    Mode.SLOW: _slow,
    Mode.TOKENS: _reply,
    Mode.TOOL: _reply,
}
