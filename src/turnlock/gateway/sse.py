"""What a client gets for its exchange: an answer in one piece, or a stream of events.

The last byte is sent when the exchange has its outcome, and so after the turn's terminal entry is
durable and its lease is free. A stream sends its head with the first content, or after
``Pace.headers`` once its turn has begun; what fails before has a status of its own, what fails
later ends the stream with an error event and without ``[DONE]``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .completion import KEEPALIVE, Paper, event
from .errors import Refusal
from .exchange import Exchange, Phase, Reply
from .pace import Pace

STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


class Answer:
    """An ASGI application for one exchange. A client that leaves cancels it."""

    def __init__(
        self,
        exchange: Exchange[Reply],
        paper: Paper,
        pace: Pace,
        *,
        stream: bool,
        include_usage: bool,
    ) -> None:
        self._exchange = exchange
        self._paper = paper
        self._pace = pace
        self._stream = stream
        self._include_usage = include_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with client_watched(receive, self._exchange):
            if not self._stream:
                await self._whole(scope, receive, send)
                return
            first = await self._first()
            if first is None:
                await self._whole(scope, receive, send)
            else:
                await self._events(first, send)

    async def _first(self) -> str | None:
        """What the stream begins with. While its turn is queued it may still become a 409."""
        queued = 0.0
        while True:
            first = await self._exchange.next(self._pace.headers)
            queued += self._pace.headers
            waiting = self._exchange.phase is Phase.WAITING and queued < self._pace.queued
            if first != "" or not waiting:
                return first

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        outcome = await self._exchange.outcome
        if isinstance(outcome, Refusal):
            outcome.headers.update(self._headers())
            response = outcome.response()
        else:
            body = self._paper.completion(outcome)
            response = Response(body, headers=self._headers(), media_type="application/json")
        await response(scope, receive, send)

    async def _events(self, first: str, send: Send) -> None:
        headers = [(k.encode(), v.encode()) for k, v in (STREAM | self._headers()).items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _body(send, self._paper.opening())
        piece: str | None = first
        while piece is not None:
            await _body(send, self._paper.piece(piece) if piece else KEEPALIVE)
            piece = await self._exchange.next(self._pace.keepalive)
        await _body(send, self._end(await self._exchange.outcome), last=True)

    def _end(self, outcome: Reply | Refusal) -> bytes:
        if isinstance(outcome, Refusal):
            return event(outcome.body())
        return self._paper.ending(outcome, include_usage=self._include_usage)

    def _headers(self) -> dict[str, str]:
        headers = headers_of(self._exchange)
        if self._exchange.repeated:
            headers["x-turnlock-repeated"] = "true"
        return headers


def headers_of(exchange: Exchange[Any]) -> dict[str, str]:
    """What every answer says of its turn."""
    headers = {"x-turnlock-turn": exchange.identity}
    if exchange.session is not None:
        headers["x-turnlock-session"] = exchange.session
    return headers


@asynccontextmanager
async def client_watched(receive: Receive, exchange: Exchange[Any]) -> AsyncIterator[None]:
    """Watch the client for as long as the block runs; an error of the block is a client lost."""
    watch = asyncio.create_task(_tell_of_leaving(receive, exchange), name="client watch")
    try:
        yield
    except BaseException:
        exchange.client_left()
        raise
    finally:
        watch.cancel()


async def _tell_of_leaving(receive: Receive, exchange: Exchange[Any]) -> None:
    await until_gone(receive)
    exchange.client_left()


async def until_gone(receive: Receive) -> None:
    """Wait until the client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(send: Send, data: bytes, *, last: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": not last})
