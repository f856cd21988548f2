"""The connections under an HTTP client, so that a call can be ended from outside.

Closing a client does not wake a thread that waits for an answer; shutting its socket down does. But
a client does not tell which socket a request uses, least of all one of its pool that was open
before. So the pool's network backend is wrapped, and each stream that it opens reports, at every
read and write, to the call that is being made in this thread or task (`sending`). Connections that
were open before that get such a stream when a call of a turn may be given them (`adopt`).

httpcore and its successor httpcore2 are the same here; both are only reached through what a client
already has.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from ..models.transport import socket_options
from ..turns.aio import call_on_loop


class User(Protocol):
    """Who sends over a stream."""

    def uses(self, stream: Any) -> None: ...

    def is_using(self, stream: Any) -> bool: ...


S = TypeVar("S")

_sending: ContextVar[User | None] = ContextVar("turnlock_sending", default=None)


@contextlib.contextmanager
def sending(user: User) -> Iterator[None]:
    """Streams that are used in this block are used by ``user``."""
    token = _sending.set(user)
    try:
        yield
    finally:
        # A generator that nobody closed is closed in another context.
        with contextlib.suppress(ValueError):
            _sending.reset(token)


def instrument(transport: Any) -> None:
    """Have a transport's connections report who uses them. One that has no pool stays as it is."""
    pool = _pool_of(transport)
    backend = getattr(pool, "_network_backend", None)
    if pool is None or backend is None or isinstance(backend, (_Backend, _AsyncBackend)):
        return
    is_async = hasattr(pool, "handle_async_request")
    pool._network_backend = _AsyncBackend(backend) if is_async else _Backend(backend)


def adopt(transport: Any) -> None:
    """Have the connections report too that a pool opened before it was instrumented."""
    pool = _pool_of(transport)
    wrapping = _AsyncStream if hasattr(pool, "handle_async_request") else _Stream
    for connection in getattr(pool, "connections", ()):
        inner = _protocol_of(connection)
        # Two threads may do it at once: a stream in two of ours is none the worse for it.
        if inner is not None and not isinstance(inner._network_stream, wrapping):
            _watch(inner._network_stream)
            inner._network_stream = wrapping(inner._network_stream)


def connections_over(transport: Any, streams: Collection[Any]) -> list[Any]:
    """The connections of a transport's pool that are made of these streams."""
    pool = _pool_of(transport)
    return [one for one in getattr(pool, "connections", ()) if _stream_of(one) in streams]


def drop_closed(transport: Any) -> list[Any]:
    """Give the slots of closed connections to those that wait; what else is to be closed for it."""
    pool = _pool_of(transport)
    closing: list[Any] = []
    # Older versions of httpcore do this by other names, and with the next request at the latest.
    with contextlib.suppress(AttributeError), pool._optional_thread_lock:
        closing = pool._assign_requests_to_connections()
    return closing


def _pool_of(transport: Any) -> Any:
    """The pool of a transport, or of the one that it wraps, as pydantic-ai's for retries do."""
    while transport is not None and not hasattr(transport, "_pool"):
        transport = getattr(transport, "wrapped", None)
    return getattr(transport, "_pool", None)


def _protocol_of(connection: Any) -> Any:
    """A connection of the pool is one of the protocol's, in one or two others; None: not yet."""
    while connection is not None and not hasattr(connection, "_network_stream"):
        connection = getattr(connection, "_connection", None)
    return connection


def _stream_of(connection: Any) -> Any:
    inner = _protocol_of(connection)
    return None if inner is None else inner._network_stream


def _note(stream: Any) -> None:
    user = _sending.get()
    if user is not None:
        user.uses(stream)


def _watch(stream: Any) -> None:
    sock = stream.get_extra_info("socket")
    for option in socket_options():
        # Not every stream is TCP.
        with contextlib.suppress(AttributeError, OSError):
            sock.setsockopt(*option)


class _Stream:
    """A stream of a thread's client."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        # What `end` shuts down; None once it is closed, and its number may be another's.
        self._socket = stream.get_extra_info("socket")

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        _note(self)
        data: bytes = self._stream.read(max_bytes, timeout)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        _note(self)
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        # A thread that waits on it would not be woken by its being closed.
        self._shut_down()
        self._now_is(None)
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> _Stream:
        # Wrapping takes the descriptor out of the socket: a second one stands for the connection,
        # or else nothing could end a handshake.
        with _twin_of(self._socket) as twin:
            self._now_is(twin)
            try:
                stream = _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))
            finally:
                self._now_is(None)
        return _noted(stream)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def end(self, user: User) -> None:
        """Wake whoever waits on it, from any thread."""
        self._shut_down()

    def _shut_down(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._socket is not None:
                # Not the method of a TLS socket, which drops what the waiting thread is using.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _now_is(self, sock: Any) -> None:
        with self._lock:
            self._socket = sock


def _twin_of(sock: Any) -> contextlib.AbstractContextManager[Any]:
    if sock is None:
        # Not every stream has one.
        return contextlib.nullcontext()
    return socket.fromfd(sock.fileno(), sock.family, sock.type)


class _AsyncStream:
    """A stream of an event loop's client."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._loop = _loop_of_asyncio()
        self._closing: asyncio.Task[None] | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        _note(self)
        data: bytes = await self._stream.read(max_bytes, timeout)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        _note(self)
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> _AsyncStream:
        try:
            stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            # Who is cancelled in a handshake forgets the socket.
            await self._stream.aclose()
            raise
        return _noted(_AsyncStream(stream))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def end(self, user: User) -> None:
        """Close it on its loop, from any thread; whoever waits on it is told by an error."""
        loop = self._loop
        if loop is not None:
            call_on_loop(loop, lambda: self._close_soon(user, loop))

    def _close_soon(self, user: User, loop: asyncio.AbstractEventLoop) -> None:
        # Since then it may have become somebody else's.
        if user.is_using(self):
            self._closing = loop.create_task(self._stream.aclose())


def _loop_of_asyncio() -> asyncio.AbstractEventLoop | None:
    """The loop that runs here. None: it is another's, such as trio's, where no turn has calls."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _Backend:
    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def connect_tcp(self, *args: Any, **options: Any) -> _Stream:
        stream = self._backend.connect_tcp(*args, **options)
        _watch(stream)
        return _noted(_Stream(stream))

    def connect_unix_socket(self, *args: Any, **options: Any) -> _Stream:
        return _noted(_Stream(self._backend.connect_unix_socket(*args, **options)))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class _AsyncBackend:
    def __init__(self, backend: Any) -> None:
        self._backend = backend

    async def connect_tcp(self, *args: Any, **options: Any) -> _AsyncStream:
        stream = await self._backend.connect_tcp(*args, **options)
        _watch(stream)
        return _noted(_AsyncStream(stream))

    async def connect_unix_socket(self, *args: Any, **options: Any) -> _AsyncStream:
        return _noted(_AsyncStream(await self._backend.connect_unix_socket(*args, **options)))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


def _noted(stream: S) -> S:
    """In front of a TLS handshake nothing is read or written by us."""
    _note(stream)
    return stream
