"""What a practice server has seen, for tests to read and to wait for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

_PEER_CLOSES_MAX = 1000


class PeerClose(NamedTuple):
    """A peer that went before its answer's end, ``after`` seconds from its complete request."""

    mode: str
    after: float


class Statistics(NamedTuple):
    """Counts since the server was made; ``open_connections`` is the number now.

    ``requests`` counts complete HTTP requests, also refused ones. ``peer_closes`` are the latest
    thousand.
    """

    connections: int
    open_connections: int
    requests: int
    peer_closes: tuple[PeerClose, ...]


class Counters:
    """Where the server notes what it sees; belongs to the server's event loop."""

    def __init__(self) -> None:
        self._connections = 0
        self._open = 0
        self._requests = 0
        self._peer_closes: deque[PeerClose] = deque(maxlen=_PEER_CLOSES_MAX)
        self._waiters: set[asyncio.Event] = set()

    def read(self) -> Statistics:
        return Statistics(
            self._connections,
            self._open,
            self._requests,
            tuple(self._peer_closes),
        )

    async def wait(self, condition: Callable[[Statistics], bool]) -> Statistics:
        changed = asyncio.Event()
        self._waiters.add(changed)
        try:
            while not condition(now := self.read()):
                await changed.wait()
                changed.clear()
            return now
        finally:
            self._waiters.discard(changed)

    def opened(self) -> None:
        self._connections += 1
        self._open += 1
        self._tell()

    def closed(self) -> None:
        self._open -= 1
        self._tell()

    def asked(self) -> None:
        self._requests += 1
        self._tell()

    def peer_closed(self, mode: str, after: float) -> None:
        self._peer_closes.append(PeerClose(mode, after))
        self._tell()

    def _tell(self) -> None:
        for waiter in self._waiters:
            waiter.set()
