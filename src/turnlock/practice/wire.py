"""One client connection: HTTP/1.1 framing by h11, and the raw socket for what HTTP has no word for.

A server framework would finish every answer that a handler begins. The faults must be able to
leave one half said, so the framing and the socket are both in the handler's hands here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

import h11

from .script import Refusal

_HEAD_MAX = 64 * 1024
_READ_SIZE = 64 * 1024
# What a client may send ahead while it waits for its answer.
_AHEAD_MAX = 64 * 1024
# A close waits this long for the peer to read the last bytes; an abort would destroy them.
_LINGER = 1.0


class Request(NamedTuple):
    """One complete request; header names are lower case, ``path`` is without a query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """The server's side of one connection. Everything it reads is bounded in size and time."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        body_max: int,
        read_timeout: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._body_max = body_max
        self._read_timeout = read_timeout
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_MAX)
        self._head_only = False

    async def read_request(self) -> Request | None:
        """The next request, or None when the peer has no more or takes too long over it.

        Raises `Refusal` for what is no HTTP/1.1 request and for a body over the limit.
        """
        try:
            async with asyncio.timeout(self._read_timeout):
                return await self._read_request()
        except TimeoutError:
            return None
        except h11.RemoteProtocolError as error:
            raise Refusal(error.error_status_hint, f"this is no HTTP request: {error}") from None

    async def _read_request(self) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if not await self._receive():
                    return None
            elif isinstance(event, h11.Request):
                head = event
                self._head_only = head.method == b"HEAD"
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._body_max:
                    raise Refusal(413, f"the body is longer than {self._body_max} bytes")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _request(head, bytes(body))
            else:
                return None

    async def _receive(self) -> bool:
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        data = await self._reader.read(_READ_SIZE)
        self._http.receive_data(data)
        return bool(data)

    async def peer_gone(self) -> None:
        """Wait until the peer closes or resets the connection."""
        ahead = len(self._http.trailing_data[0])
        while ahead < _AHEAD_MAX:
            try:
                data = await self._reader.read(_READ_SIZE)
            except ConnectionError:
                return
            if not data:
                return
            self._http.receive_data(data)
            ahead += len(data)
        await asyncio.Event().wait()

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of an answer. Without a content-length the body is chunked."""
        reason = HTTPStatus(status).phrase.encode("ascii")
        items = list(headers.items())
        await self._send(h11.Response(status_code=status, reason=reason, headers=items))

    async def data(self, data: bytes) -> None:
        """Send a part of the body; an answer to HEAD has none."""
        if self._head_only:
            return
        await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """Send the end of the body, so that the answer is complete."""
        await self._send(h11.EndOfMessage())

    async def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole answer."""
        await self.begin(status, {"content-length": str(len(body)), **headers})
        await self.data(body)
        await self.end()

    async def _send(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()

    def next_cycle(self) -> bool:
        """Make ready for another request; False when the last answer was not an end of one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if self._writer.is_closing():
            return False
        self._http.start_next_cycle()
        return True

    def reset(self) -> None:
        """Reset the connection: the peer sees ECONNRESET, not an end."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        """End the connection after what was sent; waits a second at most for the peer to follow."""
        if self._writer.is_closing():
            return
        # The end of a connection that the peer has reset fails with ENOTCONN, no ConnectionError.
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_LINGER):
                self._writer.write_eof()
                while await self._reader.read(_READ_SIZE):
                    pass

    def abort(self) -> None:
        """Drop the connection and whatever is unsent, now."""
        self._writer.transport.abort()

    async def closed(self) -> None:
        """Wait until the socket is closed."""
        with contextlib.suppress(ConnectionError):
            # All waiters share one future, and a cancelled one would cancel it for the others.
            await asyncio.shield(self._writer.wait_closed())


def _request(head: h11.Request, body: bytes) -> Request:
    return Request(
        method=head.method.decode("ascii"),
        path=head.target.decode("ascii", "replace").partition("?")[0],
        headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
        body=body,
    )
