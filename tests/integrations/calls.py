"""What the model says in a test, and what those do who ask it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import turnlock
from tests.helpers import PATIENCE

from .upstream import HEAD, WHOLE, Peer, Upstream

TEXT = '{"choices": [{"delta": {"content": "Hi"}}]}'
EMPTY = '{"choices": [{"delta": {"role": "assistant", "content": ""}}]}'
# No test waits for it, so that what only it would end fails by its time-out.
NEVER = 3600.0


def never(peer: Peer, number: int) -> None:
    peer.wait_until_left(NEVER)


def answering(peer: Peer, number: int) -> None:
    peer.send(WHOLE)


def in_the_middle(peer: Peer, number: int) -> None:
    peer.send(HEAD)
    peer.event(TEXT)
    peer.wait_until_left(NEVER)


def dribbling(*events: bytes) -> Callable[[Peer, int], None]:
    def script(peer: Peer, number: int) -> None:
        peer.send(HEAD)
        while peer.send(b"".join(events)):
            if peer.wait_until_left(0.02):
                return

    return script


COMMENTS = dribbling(b": ping\n\n")
PINGS = dribbling(b'event: ping\ndata: {"type": "ping"}\n\n', f"data: {EMPTY}\n\n".encode())
CONTENT = dribbling(f"data: {TEXT}\n\n".encode())


def read_all(client: Any, url: str) -> bytes:
    """What a thread does that asks a model."""
    with client.stream("POST", url, json={}, timeout=NEVER) as response:
        return b"".join(response.iter_bytes())


async def read_all_async(client: Any, url: str) -> bytes:
    async with client.stream("POST", url, json={}, timeout=NEVER) as response:
        return b"".join([chunk async for chunk in response.aiter_bytes()])


def all_left(server: Upstream) -> None:
    """No client is there any more of those that came: a short limit may end one before it does."""
    for _ in range(server.met):
        assert server.left.acquire(timeout=PATIENCE), "a connection is still open"


def revoke_once_asked(store: turnlock.Store, server: Upstream) -> threading.Thread:
    return revoke_once(store, server.asked)


def revoke_once(store: turnlock.Store, moment: threading.Semaphore) -> threading.Thread:
    def revoke() -> None:
        assert moment.acquire(timeout=PATIENCE)
        assert store.revoke("main/a")

    thread = threading.Thread(target=revoke)
    thread.start()
    return thread
