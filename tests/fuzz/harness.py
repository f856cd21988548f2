"""What a target is, and one run of it: bounded in the time that it may use.

Two bounds. The processor's time is counted, which another process's load does not change. A call
that blocks uses none, so an alarm ends what takes too long by the clock; that bound is generous.
"""

from __future__ import annotations

import functools
import http.client
import ipaddress
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any, NamedTuple, NoReturn
from unittest import mock

from tests.helpers import PATIENCE

# Of processor time: what a user would call a hang is there with a second already (`make fuzz`).
CPU_SECONDS = 20.0
# By the clock, for what blocks.
WALL_SECONDS = 3 * PATIENCE


class Target(NamedTuple):
    """``run`` raises when bytes break a promise. ``words``: pieces that make other inputs of one.

    ``examples``: how many hypothesis makes in ``make test``. ``connects``: whether an input may
    name a host.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()
    examples: int = 60
    connects: bool = False


class Hung(BaseException):
    """An input takes too long. No Exception: the frames that isolate failures let it through."""


def check(
    target: Target, data: bytes, *, cpu: float = CPU_SECONDS, wall: float = WALL_SECONDS
) -> None:
    """Run one input. Raises what the target raises, and `Hung` for a bound that was passed."""
    with _offline() if target.connects else nullcontext(), _warm(target.run), _alarm(wall):
        began = time.process_time()
        target.run(data)
        used = time.process_time() - began
    if used > cpu:
        raise Hung(f"{used:.2f} s of processor time for {len(data)} bytes")


@functools.cache
def _warm(run: Callable[[bytes], None]) -> AbstractContextManager[None]:
    """What is imported and begun for the first input, which takes long, is not its doing."""
    with suppress(Exception):
        run(b"")
    return nullcontext()


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> NoReturn:
        raise Hung(f"it blocks: nothing came of it in {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    rest, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, rest)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _offline() -> Iterator[None]:
    """Whatever host an input names: none but this one is asked, and no url of a gateway at all."""
    refused = mock.Mock(side_effect=ConnectionRefusedError)
    with (
        mock.patch.object(http.client.HTTPConnection, "connect", refused),
        mock.patch.object(socket.socket, "connect", _connect_here),
        mock.patch.object(socket, "getaddrinfo", _look_up_here),
    ):
        yield


_connect, _look_up = socket.socket.connect, socket.getaddrinfo


def _connect_here(self: socket.socket, address: Any) -> None:
    if self.family != socket.AF_UNIX and not ipaddress.ip_address(address[0]).is_loopback:
        raise ConnectionRefusedError
    _connect(self, address)


def _look_up_here(host: Any, *args: Any, **named: Any) -> Any:
    if host not in ("127.0.0.1", "localhost"):
        raise socket.gaierror(socket.EAI_NONAME, "no other host is looked up")
    return _look_up(host, *args, **named)
