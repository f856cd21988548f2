"""The gateway as a server: clean up, listen, announce, drain, stop, each once and in this order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack

import uvicorn
from starlette.types import ASGIApp

from ..config import Config
from ..errors import StoreError, TurnlockError
from ..store import Store, open_store
from ..turns.aio import on_worker
from .access import HEAD_BYTES_MAX
from .agents import Agent, model_keys, open_agents
from .app import create_app
from .connection import Connection, ServerConfig
from .pace import Pace
from .service import Gateway
from .state import load_token, make_directory, present

logger = logging.getLogger("turnlock")

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
# The clients of the SDKs keep an idle connection for less; who closes it second sees no error.
_KEEP_ALIVE = 30
# From the last outcome to the last byte of its answer.
_GRACE = 2
# The Date header is that old at most.
_TICK = 1.0


class Stop:
    """A wish to stop, from a signal or a test. Wished twice: without patience."""

    def __init__(self) -> None:
        self.wished = asyncio.Event()
        self.hastened = asyncio.Event()

    def wish(self) -> None:
        (self.hastened if self.wished.is_set() else self.wished).set()


async def serve(
    config: Config,
    state_dir: str,
    announce: Callable[[str], None],
    *,
    stop: Stop | None = None,
    agents: Mapping[str, Agent] | None = None,
    path: str = "",
    pace: Pace | None = None,
) -> None:
    """Serve until ``stop`` is wished or the task is cancelled.

    ``announce`` gets the url when connections are accepted. ``agents`` serve in place of those that
    the configuration names, and stay the caller's. ``path`` names the configuration in errors.
    Raises `ConfigError` for a model or a token that cannot be used, and `StoreError` for a
    state directory or an address that cannot.
    """
    stop = stop or Stop()
    pace = pace or Pace()
    keys = model_keys(config, path) if agents is None else {}
    make_directory(state_dir)
    token = load_token(state_dir)
    known = (token, *keys.values())
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_bound(config.gateway.host, config.gateway.port))
        store = open_store(state_dir, limits=config.limits, secrets=known)
        if not await _clean_up(store, stop):
            return
        if agents is None:
            agents = await stack.enter_async_context(open_agents(config, keys, path))
        gateway = Gateway(config, store, agents, known_secrets=known, pace=pace)
        web = _Web(create_app(gateway, token=token), listener, pace)
        # On the way out turns end first, so that their clients can still be told.
        stack.push_async_callback(web.close)
        stack.push_async_callback(gateway.close)
        await web.start()
        url = _url(listener)
        with present(state_dir, url):
            announce(url)
            await web.until(stop.wished)
            await gateway.drain(stop.hastened)
            await web.close()


async def _clean_up(store: Store, stop: Stop) -> bool:
    """Remove what dead holders left; False when a stop was wished before it was done."""
    cleaning = on_worker(store.clean_stale)
    wished = asyncio.ensure_future(stop.wished.wait())
    await asyncio.wait((cleaning, wished), return_when=asyncio.FIRST_COMPLETED)
    wished.cancel()
    if not cleaning.done():
        return False
    try:
        cleaned = cleaning.result()
    except TurnlockError as error:
        logger.warning("the start-up clean-up failed: %s", error)
    else:
        logger.info(
            "start-up clean-up: %d locks, %d stale ones removed",
            len(cleaned),
            sum(lock.removed for lock in cleaned),
        )
    return not stop.wished.is_set()


class _Web:
    """uvicorn, without its signals, its logging and its own idea of when to stop."""

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
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
        )
        config.head_patience = pace.head
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
        self.listening.set()

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second whether it should exit.
        while not self.should_exit:
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self.leaving.wait()

    def leave(self) -> None:
        self.should_exit = True
        self.leaving.set()


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that has its address but does not listen yet: before clean-up nobody gets in."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        raise _no_address((host, port), error) from error
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise _no_address((host, port), error) from error
        yield listener


def _no_address(address: tuple[object, ...], error: OSError) -> StoreError:
    return StoreError(
        f"{address[0]}:{address[1]}",
        "listen on",
        error.strerror or str(error),
        "is another gateway running? another port: --port, or port in [gateway]",
    )


def _url(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    host = _WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
