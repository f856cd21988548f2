"""A network between a gateway and its database that can be cut, frozen, or made to lose answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from enum import Enum


class Net(Enum):
    """What becomes of what is sent."""

    WHOLE = "it arrives"
    FROZEN = "nothing arrives, and nobody is told"
    DEAF = "requests arrive, and answers are lost with the connection"


class Proxy:
    """Listens on loopback for a server's port. One thread for each direction of a connection."""

    def __init__(self, port: int | None) -> None:
        self._server = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._net = Net.WHOLE
        self._frozen: set[socket.socket] = set()
        self.lost = 0
        self.refused = 0
        # Set when there is something that was sent and does not arrive.
        self.kept = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, port: int | None) -> None:
        """Where the next connections go; None: they are refused, as by a server that is down."""
        self._server = port

    def become(self, net: Net) -> None:
        with self._changed:
            self._net = net
            self._frozen.clear()
            self._changed.notify_all()

    def freeze(self) -> None:
        """What is open now swallows all that is sent, and new connections are whole."""
        with self._changed:
            self._frozen |= self._open

    def cut(self) -> None:
        """Close every connection, as a server that crashes does."""
        with self._changed:
            for one in list(self._open):
                _shut(one)

    def close(self) -> None:
        # A thread that accepts keeps a socket that is only closed.
        _shut(self._listening)
        self.become(Net.WHOLE)
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if self._server is None:
                    self.refused += 1
                    _shut(near)
                    continue
                far = socket.create_connection(("127.0.0.1", self._server))
                with self._changed:
                    self._open |= {near, far}
                for one, other, is_answer in ((near, far, False), (far, near, True)):
                    pump = threading.Thread(
                        target=self._pump, args=(one, other, is_answer), daemon=True
                    )
                    pump.start()

    def _pump(self, one: socket.socket, other: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if not self._passes(one, is_answer):
                    break
                other.sendall(data)
        _shut(one)
        _shut(other)
        with self._changed:
            self._open -= {one, other}

    def _passes(self, one: socket.socket, is_answer: bool) -> bool:
        with self._changed:
            while self._net is Net.FROZEN or one in self._frozen:
                self.kept.set()
                self._changed.wait()
            if self._net is Net.DEAF and is_answer:
                self.lost += 1
                # One answer: the next connection is whole again.
                self._net = Net.WHOLE
                return False
            return True


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextlib.contextmanager
def proxy(port: int | None) -> Iterator[Proxy]:
    made = Proxy(port)
    try:
        yield made
    finally:
        made.close()
