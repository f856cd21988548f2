"""``GET /events``: what happens, as it happens, as server-sent events.

::

    id: 5f0c2d9a41b7-17
    event: TurnRevoked
    data: {"at":"2026-11-26T10:15:30.123Z","session":"main/alice","turn_id":…}

The stream opens with ``listening``, whose id is that of the last event before it: who reconnects
with the ``Last-Event-ID`` that it saw last misses nothing, as long as the gateway has it. What it
has missed for good is told by ``gap``. A client that reads too slowly to be kept up to date, or
not at all, is dropped, by ``dropped`` if that reaches it; no turn ever waits for one. A stream
that ends because the gateway does says so by ``end``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from starlette.types import Receive, Scope, Send

from ...clock import iso
from ...errors import InvalidSessionKey
from ...session import parse_key
from ..broadcast import Broadcast, Happening, Resumed
from ..connection import ABORT
from ..errors import Refusal, bad_request, too_many
from ..jsonout import to_json
from ..pace import Pace
from ..sse import STREAM, until_gone
from .call import Call

LISTENERS_MAX = 64
_HEAD = [
    (name.encode(), value.encode())
    for name, value in (STREAM | {"cache-control": "no-store, no-transform"}).items()
]
_BATCH = 256
_ID_MAX = 255


async def listen(call: Call) -> Listening:
    gateway = call.gateway
    session = call.query.get("session")
    if session is not None:
        session = _checked(session)
    seen = call.header("last-event-id")
    if seen is not None and len(seen) > _ID_MAX:
        raise bad_request(f"a Last-Event-ID has 1 to {_ID_MAX} characters", param="last-event-id")
    if gateway.listeners >= LISTENERS_MAX:
        raise too_many("too_many_listeners", f"{LISTENERS_MAX} clients listen to events already")
    return Listening(call, gateway.broadcast, gateway.pace, session, seen)


def _checked(session: str) -> str:
    try:
        return str(parse_key(session))
    except InvalidSessionKey as error:
        raise Refusal("invalid_session_key", str(error), param="session") from None


class Listening:
    """An ASGI application: one client, until it leaves, falls behind, or the gateway stops."""

    def __init__(
        self, call: Call, broadcast: Broadcast, pace: Pace, session: str | None, seen: str | None
    ) -> None:
        self._gateway = call.gateway
        self._broadcast = broadcast
        self._pace = pace
        self._session = session
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._gateway.listeners += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEAD})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
            else:
                await self._tell_until_gone(receive, send, scope["extensions"][ABORT])
        finally:
            self._gateway.listeners -= 1

    async def _tell_until_gone(
        self, receive: Receive, send: Send, abort: Callable[[], None]
    ) -> None:
        telling = asyncio.create_task(self._tell(send), name="telling events")
        leaving = asyncio.create_task(until_gone(receive), name="listener watch")
        try:
            await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
            if telling.done() and not telling.result():
                # What it was sent lies in buffers; without this they would be kept for its sake.
                abort()
                await leaving
        finally:
            telling.cancel()
            leaving.cancel()

    async def _tell(self, send: Send) -> bool:
        """False when the client does not take what it is sent."""
        try:
            place, text = self._opening()
            await self._send(send, text)
            while True:
                await self._broadcast.wait(place, self._pace.keepalive)
                is_over = self._broadcast.is_closed
                found = self._broadcast.behind(place)
                if found is None:
                    return await self._end(send, "dropped", {"reason": "too slow"})
                if not found and is_over:
                    return await self._end(send, "end", {"reason": "shutting down"})
                place, text = self._next(place, found[:_BATCH])
                await self._send(send, text)
        except TimeoutError:
            return False

    def _opening(self) -> tuple[int, str]:
        broadcast = self._broadcast
        resumed = Resumed(broadcast.last, None, 0)
        if self._seen is not None:
            resumed = broadcast.resume(self._seen)
        identity = broadcast.identity(resumed.place)
        text = _event("listening", {"session": self._session}, identity)
        if resumed.gap is not None:
            told = {"reason": resumed.gap.value, "lost": resumed.lost}
            text += _event("gap", told, identity)
        return resumed.place, text

    def _next(self, place: int, batch: Sequence[Happening]) -> tuple[int, str]:
        """What is to be sent for these, and the place behind them."""
        if not batch:
            return place, ": keepalive\n\n"
        place = batch[-1].number
        texts = [self._shown(one) for one in batch if self._is_wanted(one)]
        # Without an event for this client its place is told all the same, for when it reconnects.
        return place, "".join(texts) or f"id: {self._broadcast.identity(place)}\n\n"

    def _is_wanted(self, one: Happening) -> bool:
        # What concerns no session concerns all of them: the process stood still.
        return self._session in (None, getattr(one.event, "session", self._session))

    def _shown(self, one: Happening) -> str:
        facts = {"at": iso(one.at), **one.event._asdict()}
        identity = self._broadcast.identity(one.number)
        return _event(type(one.event).__name__, facts, identity)

    async def _send(self, send: Send, text: str, *, last: bool = False) -> None:
        """Raises TimeoutError when the client does not take it."""
        async with asyncio.timeout(self._pace.slow):
            await send({"type": "http.response.body", "body": text.encode(), "more_body": not last})

    async def _end(self, send: Send, name: str, told: dict[str, Any]) -> bool:
        await self._send(send, _event(name, told), last=True)
        return True


def _event(name: str, facts: dict[str, Any], identity: str | None = None) -> str:
    first = "" if identity is None else f"id: {identity}\n"
    return f"{first}event: {name}\ndata: {to_json(facts)}\n\n"
