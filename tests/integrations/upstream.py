"""A model server that does what a test says, byte by byte, and knows who left."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tests.helpers import PATIENCE

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Peer:
    """A connection of a client, as the server sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, data: bytes) -> bool:
        """False when the client is gone."""
        try:
            self._connection.sendall(data)
        except OSError:
            return False
        return True

    def event(self, data: str) -> bool:
        return self.send(f"data: {data}\n\n".encode())

    def close(self) -> None:
        self._connection.shutdown(socket.SHUT_RDWR)

    def wait_until_left(self, seconds: float = PATIENCE) -> bool:
        """Whether the client closed within so many seconds. Nothing more is expected of it."""
        self._connection.settimeout(seconds)
        try:
            return self._connection.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


U = TypeVar("U", bound="Upstream")
Script = Callable[[Peer, int], object]


class Upstream:
    """``heard``: the requests, in order; ``met``: how many connections there were. ``came``,
    ``spoke``, ``asked`` and ``left`` are released for each connection, the first that comes over
    it, request, and connection that is over.
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.heard: list[bytes] = []
        self.met = 0
        self.left = threading.Semaphore(0)
        self.came = threading.Semaphore(0)
        self.spoke = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)
        self._script = script
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._tls = tls
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._latest = connection
            self.met += 1
            self.came.release()
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            connection.recv(1, socket.MSG_PEEK)
            self.spoke.release()
            with self._greeted(connection) as greeted:
                self._converse(greeted)
        except OSError:
            # It left in the middle of something.
            connection.close()
        self.left.release()

    def _greeted(self, connection: socket.socket) -> socket.socket:
        if self._tls is None:
            return connection
        return self._tls.wrap_socket(connection, server_side=True)

    def _converse(self, connection: socket.socket) -> None:
        while (request := _request(connection)) is not None:
            self.heard.append(request)
            self.asked.release()
            self._script(Peer(connection), len(self.heard))

    def drop(self) -> None:
        """End the latest connection, which has to be one without TLS."""
        self._latest.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@contextmanager
def upstream(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Upstream]:
    """``script`` answers each request; its number counts from one."""
    with serving(Upstream(script, tls)) as server:
        yield server


@contextmanager
def serving(server: U) -> Iterator[U]:
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def _request(connection: socket.socket) -> bytes | None:
    """The next request with its body; None when the client is gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            chunk = connection.recv(65536)
        except OSError:
            return None
        if not chunk:
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if b"content-length" in line
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
