"""A transport that makes every HTTP call of a turn a call of that turn.

Within a turn a request has the limits of a model call: it must bring content within ``first``
seconds and again within ``idle``, and be over within ``whole``. When one passes, or the turn is
revoked or over for any other reason, the call ends at once: the task that waits is cancelled or
told by an error, and the thread that waits is woken by the end of its socket. Outside of a turn a
request is none of our business and goes its way.

httpx and httpx2 have the same classes under two names; so each class here is made for the library
that it is to serve.
"""

from __future__ import annotations

import asyncio
import functools
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

from ..errors import LeaseRevoked
from ..limits import check_limit
from ..turns.aio import call_on_loop
from ..turns.calling import OpenCall
from ..turns.scope import current_turn
from .content import pieces_of
from .sockets import adopt, connections_over, drop_closed, instrument, sending


class CallLimits(NamedTuple):
    """Seconds; None: ``first`` and ``idle`` of the store, and no ``whole``."""

    first: float | None = None
    idle: float | None = None
    whole: float | None = None

    def checked(self) -> CallLimits:
        """Raises `LimitsError`."""
        for name, value in self._asdict().items():
            if value is not None:
                check_limit(name, value)
        return self


class GuardedCall:
    """One request of a turn, from before it is sent until its body is closed."""

    def __init__(self, turn: Any, limits: CallLimits) -> None:
        self._lock = threading.Lock()
        self._streams: set[Any] = set()
        self._used: set[Any] = set()
        self._is_over = self._failed = False
        self._on_end: Callable[[], object] | None = None
        first, idle, whole = limits
        self.of_turn: OpenCall = turn.begin_call(self._end, first=first, idle=idle, whole=whole)

    def uses(self, stream: Any) -> None:
        if stream in self._streams:
            return
        with self._lock:
            self._streams.add(stream)
            if self._is_over:
                stream.end(self)

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call it, from any thread, when the call is ended from outside; at once if it was."""
        with self._lock:
            self._on_end = callback
            if self._is_over:
                callback()

    def is_using(self, stream: Any) -> bool:
        return stream in self._streams

    def check(self) -> None:
        if self._is_over:
            self.of_turn.check()

    def close(self) -> None:
        self.of_turn.close()
        with self._lock:
            # From here on they are somebody else's.
            self._used |= self._streams
            self._streams.clear()

    def left_behind(self, transport: Any) -> list[Any]:
        """Connections in the pool that nobody can use after this call, once it is closed."""
        is_over = self._is_turn_over()
        if not (is_over or self._failed):
            return []
        used = connections_over(transport, self._used)
        return [one for one in used if is_over or not one.is_available()]

    def _is_turn_over(self) -> bool:
        try:
            self.of_turn.check()
        except LeaseRevoked:
            return True
        return False

    def fail(self) -> None:
        self._failed = True
        self.close()

    def raise_if_over(self, error: BaseException) -> None:
        """Raises `LeaseRevoked` if what failed did so because of the turn's end."""
        if isinstance(error, Exception) and not isinstance(error, LeaseRevoked):
            try:
                self.of_turn.check()
            except LeaseRevoked as revoked:
                raise revoked from error

    def prepare(self, request: Any) -> None:
        """No limit of the client's own outlasts ours where no socket can be ended yet.

        Nor is one for the connection shorter: the SDKs' own is for who tries again, and one stop of
        the process as long as that would fail the turn.

        And no compression: content is looked for in what comes. Where the header is signed there
        may be one, and what comes compressed counts as it comes.
        """
        timeouts = dict(request.extensions.get("timeout") or {})
        first = self.of_turn.first
        if first != math.inf:
            timeouts["connect"] = first
            timeouts["pool"] = min(timeouts.get("pool") or math.inf, first)
        request.extensions = {**request.extensions, "timeout": timeouts}
        if not _is_signed(request.headers, "accept-encoding"):
            request.headers["accept-encoding"] = "identity"

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
            for stream in self._streams:
                stream.end(self)
            if self._on_end is not None:
                self._on_end()


def _is_signed(headers: Any, name: str) -> bool:
    """Whether a header is among those of AWS's signature, which holds for no other value of it."""
    kind, _, said = headers.get("authorization", "").partition(" ")
    signed = said.partition("SignedHeaders=")[2].partition(",")[0]
    return kind.startswith("AWS4-") and name in signed.lower().split(";")


class _Guarding:
    """What the transports have in common. Raises `LimitsError`."""

    # The transport of the library that does the work, when none is given.
    _default: Callable[[], Any]

    def __init__(
        self,
        transport: Any = None,
        *,
        turn: Any = None,
        first: float | None = None,
        idle: float | None = None,
        whole: float | None = None,
    ) -> None:
        self._inner = self._default() if transport is None else transport
        self._turn = turn
        self._limits = CallLimits(first, idle, whole).checked()
        instrument(self._inner)

    def _call(self) -> GuardedCall | None:
        """A call of the turn that there is; None outside of one."""
        turn = self._turn or current_turn()
        if turn is None:
            return None
        adopt(self._inner)
        return GuardedCall(turn, self._limits)


class _Body:
    """A response's body, as far as it is the same for threads and tasks."""

    def __init__(self, response: Any, call: GuardedCall, transport: Any) -> None:
        self._stream = response.stream
        self._call = call
        self._of_turn = call.of_turn
        self._transport = transport
        self._pieces = pieces_of(response.headers)
        self._is_answer = self._pieces.is_whole and response.status_code < 400

    def _came(self, chunk: bytes) -> bytes:
        # Of chunks that come at once the first says it all, and the limit allows for that.
        if self._of_turn.is_fresh:
            self._pieces.passes(chunk)
        elif self._pieces.counts(chunk):
            self._of_turn.progressed()
        return chunk

    def _ended(self) -> None:
        if self._is_answer:
            self._of_turn.progressed()


def _drop(call: GuardedCall, transport: Any) -> None:
    """Close what a call left behind: the layers below would give it to the next one, or keep it.

    A connection of HTTP/2, that is, and one whose call was cancelled before it had begun to send.
    """
    left = call.left_behind(transport)
    for connection in left:
        connection.close()
    for connection in drop_closed(transport) if left else ():
        connection.close()


async def _drop_async(call: GuardedCall, transport: Any) -> None:
    left = call.left_behind(transport)
    for connection in left:
        await connection.aclose()
    for connection in drop_closed(transport) if left else ():
        await connection.aclose()


@functools.cache
def sync_transport(http: Any) -> Any:
    """`GuardedTransport` for httpx or httpx2."""

    class Body(_Body, http.SyncByteStream):  # type: ignore[misc]  # a class of either library
        def __iter__(self) -> Iterator[bytes]:
            chunks = iter(self._stream)
            while True:
                try:
                    chunk = next(chunks, None)
                    self._call.check()
                except BaseException as error:
                    self._call.fail()
                    self._call.raise_if_over(error)
                    raise
                if chunk is None:
                    self._ended()
                    return
                yield self._came(chunk)

        def close(self) -> None:
            self._call.close()
            _drop(self._call, self._transport)
            self._stream.close()

    class GuardedTransport(_Guarding, http.BaseTransport):  # type: ignore[misc]
        """Guards the calls that threads make in a turn.

        ``transport`` does the work (default: the library's own, with its defaults). ``turn`` is
        the turn that calls belong to; by default the current one of the thread, if it has one.
        """

        _default = http.HTTPTransport

        def handle_request(self, request: Any) -> Any:
            call = self._call()
            if call is None:
                return self._inner.handle_request(request)
            try:
                with sending(call):
                    call.prepare(request)
                    response = self._inner.handle_request(request)
            except BaseException as error:
                call.fail()
                _drop(call, self._inner)
                call.raise_if_over(error)
                raise
            response.stream = Body(response, call, self._inner)
            return response

        def close(self) -> None:
            self._inner.close()

    return GuardedTransport


@functools.cache
def async_transport(http: Any) -> Any:
    """`AsyncGuardedTransport` for httpx or httpx2."""

    class Body(_Body, http.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, response: Any, call: GuardedCall, transport: Any) -> None:
            super().__init__(response, call, transport)
            self._loop = asyncio.get_running_loop()
            self._closing: asyncio.Task[None] | None = None
            self._is_closed = False
            call.on_end(lambda: call_on_loop(self._loop, self._close_soon))

        def _close_soon(self) -> None:
            # A task that is cancelled before it reads will not close it.
            self._closing = self._loop.create_task(self.aclose())

        async def __aiter__(self) -> AsyncIterator[bytes]:
            chunks = aiter(self._stream)
            while True:
                try:
                    chunk = await anext(chunks, None)
                    self._call.check()
                except BaseException as error:
                    self._call.fail()
                    self._call.raise_if_over(error)
                    raise
                if chunk is None:
                    self._ended()
                    return
                yield self._came(chunk)

        async def aclose(self) -> None:
            if self._is_closed:
                # What it used may be another call's by now.
                return
            self._call.close()
            await _drop_async(self._call, self._transport)
            await self._stream.aclose()
            self._is_closed = True

    class AsyncGuardedTransport(_Guarding, http.AsyncBaseTransport):  # type: ignore[misc]
        """Guards the calls that tasks make in a turn. Arguments as `GuardedTransport` has them."""

        _default = http.AsyncHTTPTransport

        async def handle_async_request(self, request: Any) -> Any:
            call = self._call()
            if call is None:
                return await self._inner.handle_async_request(request)
            try:
                asyncio.get_running_loop()  # raises where another kind of loop runs
                with sending(call):
                    call.prepare(request)
                    response = await self._inner.handle_async_request(request)
            except BaseException as error:
                call.fail()
                await _drop_async(call, self._inner)
                call.raise_if_over(error)
                raise
            response.stream = Body(response, call, self._inner)
            return response

        async def aclose(self) -> None:
            await self._inner.aclose()

    return AsyncGuardedTransport
