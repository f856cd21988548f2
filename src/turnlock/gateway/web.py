"""The web server: uvicorn, without its signals, its logging and its own idea of when to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Iterator

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import StoreError
from .access import HEAD_BYTES_MAX, HEALTH
from .connection import Connection, ServerConfig
from .descriptors import connections_max
from .errors import Refusal
from .pace import Pace

logger = logging.getLogger("turnlock")

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
# The clients of the SDKs keep an idle connection for less; who closes it second sees no error.
_KEEP_ALIVE = 30
# From the last outcome to the last byte of its answer; who has not taken it by then is cut off.
_GRACE = 2
# What is still at work then is cancelled.
_GRACE_MORE = 1
# The Date header is that old at most.
_TICK = 1.0
# asyncio accepts so many connections in one go; without a descriptor left it also fails, tells it
# and sets a timer so many times, instead of once. As many more may wait to be accepted as ever.
_ACCEPTED_AT_ONCE = 100
_BACKLOG = 2048
_RETRY_STARTING = 1


class Door:
    """What is served while there is nothing to serve yet: 503, and that it lives and starts.

    A port that refuses looks like a process that is gone, to whoever probes it.
    """

    def __init__(self) -> None:
        self._app: ASGIApp | None = None

    def open(self, app: ASGIApp) -> None:
        """From here on every request is the application's."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._app or _starting(scope["path"])
        await answer(scope, receive, send)


def _starting(path: str) -> ASGIApp:
    headers = {"retry-after": str(_RETRY_STARTING), "connection": "close"}
    if path == HEALTH:
        return JSONResponse({"status": "starting", "ready": False}, 503, headers)
    text = "the gateway is starting: it cleans up first"
    return Refusal("starting", text, headers=headers).response()


class Web:
    """One application on one listener."""

    def __init__(self, app: ASGIApp, listener: socket.socket, pace: Pace) -> None:
        config = ServerConfig(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_ACCEPTED_AT_ONCE,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE + _GRACE_MORE,
        )
        config.head_patience = pace.head
        config.slow = pace.slow
        config.most = connections_max()
        self._server = _Server(config)
        self._listener = listener
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to accept connections. Raises `StoreError` when the address cannot be had."""
        self._task = asyncio.create_task(self._server.serve([self._listener]), name="web server")
        await self.until(self._server.listening)

    async def until(self, event: asyncio.Event) -> None:
        """Wait for the event; raises what ended the server, should that come first."""
        assert self._task is not None
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((waiting, self._task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._task.done():
            self._check()

    async def close(self) -> None:
        """Send what is under way, then end every connection. Closing twice does nothing."""
        self._server.leave()
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=_GRACE)
            self._server.cut_off()
            await asyncio.wait((self._task,))
            if not self._task.cancelled() and self._task.exception() is not None:
                logger.error("the web server failed: %r", self._task.exception())

    def _check(self) -> None:
        assert self._task is not None
        try:
            self._task.result()
        except OSError as error:
            raise _no_address(self._listener.getsockname(), error) from error
        if not self._server.should_exit:
            raise StoreError("the web server", "serve", "it ended by itself")


class _Server(uvicorn.Server):
    def __init__(self, config: ServerConfig) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # What a signal means is decided above: a drain comes first.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listener in sockets or []:
            listener.listen(_BACKLOG)
        self.listening.set()

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second whether it should exit.
        while not self.should_exit:
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self.leaving.wait()

    def cut_off(self) -> None:
        """Abort every connection. A task that sends on it goes on, and ends by itself."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def leave(self) -> None:
        self.should_exit = True
        self.leaving.set()


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that has its address and does not listen yet. Raises `StoreError`."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
    except (OSError, ValueError) as error:
        raise _no_address((host, port), error) from error
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise _no_address((host, port), error) from error
        yield listener


def _no_address(address: tuple[object, ...], error: OSError | ValueError) -> StoreError:
    hint = "another address: --host and --port, or host and port in [gateway]"
    where = f"{address[0]}:{address[1]}"
    if isinstance(error, ValueError):
        # What the encoding of names of hosts says, which goes by its rules and not by DNS.
        return StoreError(where, "listen on", "that is no name of a host", hint)
    if error.errno == errno.EADDRINUSE:
        hint = "is another gateway running? another port: --port, or port in [gateway]"
    return StoreError(where, "listen on", error.strerror or str(error), hint)


def url_of(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    host = _WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
