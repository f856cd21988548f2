"""A connection to a gateway of this host, which takes no longer than it may, whatever comes.

A time-out of a socket is for each part that arrives. Something that answers a byte a second would
be listened to for ever, so there is one moment by which all has to be there.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, InvalidURL
from typing import Any
from urllib.parse import urlsplit

from ..clock import SystemClock


class _Timed(socket.socket):
    """Receives until a moment of the monotonic clock; then raises TimeoutError."""

    deadline: float

    def recv_into(self, *arguments: Any) -> int:
        left = self.deadline - SystemClock.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)
        return super().recv_into(*arguments)


@contextlib.contextmanager
def connected(url: str, patience: float) -> Iterator[HTTPConnection]:
    """All that is read of it has to come within ``patience`` seconds.

    Raises OSError, and ValueError for a url that is none of this host.
    """
    deadline = SystemClock.monotonic() + patience
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise ValueError(url)
    try:
        connection = HTTPConnection(parts.hostname, parts.port, timeout=patience)
    except InvalidURL as error:
        raise ValueError(url) from error
    try:
        connection.connect()
        connection.sock = _timed(connection.sock, deadline)
        if connection.sock.getsockname()[0] != connection.sock.getpeername()[0]:
            raise ValueError(url)
        yield connection
    except HTTPException as error:
        raise ConnectionError(f"{url} speaks no HTTP: {error!r}") from error
    finally:
        connection.close()


def _timed(given: socket.socket, deadline: float) -> _Timed:
    timeout = given.gettimeout()
    timed = _Timed(given.family, given.type, given.proto, given.detach())
    timed.settimeout(timeout)
    timed.deadline = deadline
    return timed
