"""The practice model's server: connections, routes, counters, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import NamedTuple, Self

from ..clock import Clock, SystemClock
from ..errors import StoreError
from .faults import JSON, Exchange, Pace, answer
from .responses import ResponsesPaper, parse_response
from .script import Paper, Refusal, error, models, parse_chat
from .statistics import Counters, Statistics
from .wire import Request, Wire

_RESPONSES = "/v1/responses"
_METHODS = {"/v1/models": "GET", "/v1/chat/completions": "POST", _RESPONSES: "POST"}
_BODY_MAX = 16 * 1024 * 1024
# For a person who watches a reply arrive.
_INTERVAL_FOR_PEOPLE = 0.02


class _Plan(NamedTuple):
    """What a request gets: the mode's name, and what sends the answer."""

    mode: str
    send: Callable[[], Awaitable[None]]


class PracticeServer:
    """An OpenAI-compatible endpoint on a real socket, whose faults a request asks for.

    Times are seconds: ``interval`` between the deltas of a reply, ``pulse`` between the signs of
    life of ``/dribble`` and ``/comments``, ``retry_after`` what ``/429`` says, ``read_timeout``
    the longest wait for a complete request. With an ``api_key`` every request has to carry it.
    Port 0 takes a free port. One server belongs to one event loop.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        api_key: str | None = None,
        interval: float = 0.0,
        pulse: float = 1.0,
        retry_after: float = 2.0,
        read_timeout: float = 30.0,
        body_max: int = _BODY_MAX,
        clock: Clock | None = None,
    ) -> None:
        self._address = (host, port)
        self._api_key = api_key
        self._pace = Pace(interval, pulse, retry_after)
        self._read_timeout = read_timeout
        self._body_max = body_max
        self._clock = clock if clock is not None else SystemClock()
        self._counters = Counters()
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], Wire] = {}

    async def start(self) -> None:
        """Begin to listen. Raises `OSError` when the address cannot be had."""
        if self._server is not None:
            raise RuntimeError("this practice server is already started")
        self._server = await asyncio.start_server(self._accept, *self._address)

    @property
    def url(self) -> str:
        """The base URL for clients, ``http://127.0.0.1:PORT/v1``; only while it is started."""
        if self._server is None:
            raise RuntimeError("this practice server is not started")
        host, port, *_ = self._server.sockets[0].getsockname()
        return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"

    def statistics(self) -> Statistics:
        """What the server has seen until now."""
        return self._counters.read()

    async def wait_for(self, condition: Callable[[Statistics], bool]) -> Statistics:
        """Wait until the statistics meet a condition, and return them.

        There is no limit of its own; put it into ``asyncio.timeout``.
        """
        return await self._counters.wait(condition)

    async def close(self) -> None:
        """Stop listening and drop every connection at once, also the hanging ones.

        When it returns, no task and no socket of the server is left. Closing twice does nothing.
        """
        server, self._server = self._server, None
        if server is not None:
            server.close()
        connections = dict(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        for wire in connections.values():
            wire.abort()
            await wire.closed()
        if server is not None:
            await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # accepted by the kernel before close(), told after it
            writer.transport.abort()
            return
        wire = Wire(reader, writer, body_max=self._body_max, read_timeout=self._read_timeout)
        # A task that is cancelled before its first step runs no `finally`; a callback always runs.
        task = asyncio.create_task(self._converse(wire))
        self._connections[task] = wire
        self._counters.opened()
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        self._counters.closed()

    async def _converse(self, wire: Wire) -> None:
        try:
            while await self._serve_one(wire):
                pass
            await wire.close()
        except ConnectionError:
            pass
        finally:
            wire.abort()
        await wire.closed()

    async def _serve_one(self, wire: Wire) -> bool:
        """Answer one request; whether the connection can take another."""
        try:
            request = await wire.read_request()
        except Refusal as refusal:
            await _refuse(wire, refusal)
            return False
        if request is None:
            return False
        self._counters.asked()
        return await self._carry_out(self._plan(wire, request), wire) and wire.next_cycle()

    async def _carry_out(self, plan: _Plan, wire: Wire) -> bool:
        """Send the answer while watching for the peer to go; whether the answer was let finish."""
        asked = self._clock.monotonic()
        sending = asyncio.ensure_future(plan.send())
        gone = asyncio.create_task(wire.peer_gone())
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
                return True
        except ConnectionError:
            pass
        finally:
            sending.cancel()
            gone.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
        self._counters.peer_closed(plan.mode, self._clock.monotonic() - asked)
        return False

    def _plan(self, wire: Wire, request: Request) -> _Plan:
        try:
            self._check(request)
            if request.path == "/v1/models":
                body = models(int(self._clock.wall()))
                return _Plan("models", lambda: wire.respond(200, JSON, body))
            exchange = self._exchange(wire, request)
        except Refusal as refusal:
            refused = refusal
            return _Plan("refused", lambda: _refuse(wire, refused))
        return _Plan(exchange.chat.command.mode.value, lambda: answer(exchange))

    def _check(self, request: Request) -> None:
        method = _METHODS.get(request.path)
        if method is None:
            raise Refusal(404, f"there is no {request.path} here", code="unknown_url")
        if request.method != method:
            raise Refusal(405, f"{request.path} takes {method} only", code="method_not_allowed")
        if self._api_key is None:
            return
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, f"Bearer {self._api_key}".encode()):
            raise Refusal(401, "the API key is missing or wrong", code="invalid_api_key")

    def _exchange(self, wire: Wire, request: Request) -> Exchange:
        is_response = request.path == _RESPONSES
        parse = parse_response if is_response else parse_chat
        chat = parse(request.body, request.headers.get("x-practice-mode"))
        name = f"practice-{self._counters.read().requests}"
        created = int(self._clock.wall())
        paper = (
            ResponsesPaper(f"resp-{name}", created, chat.model)
            if is_response
            else Paper(f"chatcmpl-{name}", created, chat.model)
        )
        authorization = request.headers.get("authorization", "")
        return Exchange(wire, chat, paper, self._pace, authorization)


async def _refuse(wire: Wire, refusal: Refusal) -> None:
    body = error(refusal.message, "invalid_request_error", refusal.code)
    await wire.respond(refusal.status, JSON, body)


async def serve(host: str, port: int, announce: Callable[[str], None]) -> None:
    """Run a practice server until cancelled; ``announce`` gets its URL once it listens.

    Raises `StoreError` when the address cannot be had.
    """
    server = PracticeServer(host, port, interval=_INTERVAL_FOR_PEOPLE)
    try:
        await server.start()
    except (OSError, ValueError) as error:
        why, hint = "that is no name of a host", "another address: --host and --port"
        if isinstance(error, OSError):
            why = error.strerror or str(error)
        raise StoreError(f"{host}:{port}", "listen on", why, hint) from error
    try:
        announce(server.url)
        await asyncio.Event().wait()
    finally:
        await server.close()
