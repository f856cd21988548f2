"""One connection of the server: what is bounded, and what its client does not do."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from uvicorn.server import ServerState

from turnlock.gateway.connection import BEHIND_MAX, Connection, ServerConfig
from turnlock.models import Delta, Finished, Message

from .raw import chat, request
from .serving import QUICK, Scripted, Served, eventually, run, served
from .test_gateway_waiting import PATIENT

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = ["on"]
        self.written = b""
        self.buffered = 0
        self.is_aborted = False

    def pause_reading(self) -> None:
        self.reads.append("paused")

    def resume_reading(self) -> None:
        self.reads.append("on")

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limit = high


class Timer:
    def __init__(self, delay: float, callback: Callable[[], object]) -> None:
        self.delay = delay
        self.ring = callback

    def cancel(self) -> None:
        self.ring = lambda: None


class Timers:
    """Of a loop only its timers; the test has them ring."""

    def __init__(self) -> None:
        self.made: list[Timer] = []

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        self.made.append(Timer(delay, lambda: callback(*args)))
        return self.made[-1]

    def ring(self) -> float:
        """Let the newest one ring; its delay."""
        newest = self.made.pop()
        newest.ring()
        return newest.delay


class Waiting:
    """An application whose answers wait for the test."""

    def __init__(self) -> None:
        self.asked = 0
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def connected(app: Any, loop: Any = None) -> tuple[Connection, Transport]:
    return next(all_connected(app, loop))


def all_connected(
    app: Any, loop: Any = None, most: int = 10
) -> Iterator[tuple[Connection, Transport]]:
    """One after the other, to the same server."""
    config = ServerConfig(app, http=Connection, ws="none", lifespan="off", log_config=None)
    config.most = most
    transport = Transport()
    config.slow = 7.0
    state = ServerState()
    while True:
        transport = Transport()
        connection = Connection(config, state, {}, loop)
        connection.connection_made(transport)
        yield connection, transport


def test_what_comes_behind_a_request_is_bounded_and_answered_in_turn() -> None:
    async def test() -> None:
        app = Waiting()
        connection, transport = connected(app)
        connection.data_received(GET)
        await asyncio.sleep(0)
        connection.data_received(GET)
        assert transport.reads[-1] == "on"
        connection.data_received(GET + b"\r\n" * BEHIND_MAX)
        assert transport.reads[-1] == "paused"
        app.go_on.set()
        for task in list(connection.tasks):
            await task
        while connection.tasks:
            await asyncio.wait(connection.tasks)
        assert app.asked == 3
        assert transport.written.count(b"HTTP/1.1 204") == 3
        assert transport.reads[-1] == "on"
        connection.connection_lost(None)

    run(test())


def test_who_takes_nothing_for_so_long_is_cut_off() -> None:
    timers = Timers()
    connection, transport = connected(Waiting(), timers)
    assert transport.limit == 0
    transport.buffered = 100
    connection.pause_writing()
    transport.buffered = 99
    assert timers.ring() == 7.0
    assert not transport.is_aborted
    assert timers.ring() == 7.0
    assert transport.is_aborted


def test_who_has_taken_all_of_it_may_wait() -> None:
    timers = Timers()
    connection, transport = connected(Waiting(), timers)
    transport.buffered = 100
    connection.pause_writing()
    transport.buffered = 0
    connection.resume_writing()
    assert timers.ring() == 7.0
    assert not transport.is_aborted


async def much(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
    """More than the buffers of two sockets take."""
    for _ in range(7):
        yield Delta("x" * 1_000_000)
    yield Finished("stop", None, "script")


@contextmanager
def deaf(gateway: Served, body: bytes) -> Iterator[None]:
    """A client that asks, and reads nothing."""
    parts = urlsplit(gateway.url)
    assert parts.hostname is not None
    assert parts.port is not None
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((parts.hostname, parts.port))
        client.sendall(request(gateway, body=body))
        yield


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_does_not_read_its_answer_keeps_no_connection(
    tmp_path: Path, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Connection] = []
    connection_lost = Connection.connection_lost

    def note(connection: Connection, exc: Exception | None) -> None:
        lost.append(connection)
        connection_lost(connection, exc)

    monkeypatch.setattr(Connection, "connection_lost", note)

    async def test() -> None:
        pace = QUICK._replace(slow=0.3)
        async with served(tmp_path, Scripted(much), pace=pace, limits=PATIENT) as gateway:
            with deaf(gateway, chat(stream=stream, user="a")):
                await eventually(lambda: lost)
            # Its turn was none of its victims.
            assert [role for role, _ in gateway.said()] == ["user", "assistant"]
            assert gateway.markers() == []

    run(test())


def test_at_the_end_who_does_not_read_is_cut_off_without_a_word_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        pace = QUICK._replace(slow=3600.0)
        async with served(tmp_path, Scripted(much), pace=pace, limits=PATIENT) as gateway:
            with deaf(gateway, chat(stream=True, user="a")):
                await eventually(lambda: gateway.terminals())
                gateway.stop.wish()
                await eventually(lambda: not (gateway.state / "gateway.json").exists())

    run(test())
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_of_too_many_connections_some_are_told_and_the_rest_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        app = Waiting()
        app.go_on.set()
        server = all_connected(app, most=2)
        made = [next(server) for _ in range(6)]
        for connection, _ in made:
            connection.data_received(GET)
        for task in list(made[0][0].tasks):
            await task
        assert [b"204" in transport.written for _, transport in made] == [True] * 2 + [False] * 4
        for _, transport in made[2:4]:
            assert transport.written.startswith(b"HTTP/1.1 503 ")
            assert b"connection: close" in transport.written
            assert b'"code":"too_many_connections"' in transport.written
        assert [transport.is_aborted for _, transport in made] == [False] * 4 + [True] * 2
        assert len(caplog.records) == 1
        # Who comes when there is room again is served.
        for connection, _ in made[1:]:
            connection.connection_lost(None)
        connection, transport = next(server)
        connection.data_received(GET)
        await asyncio.wait(connection.tasks)
        assert b"204" in transport.written
        for one in (connection, made[0][0]):
            one.connection_lost(None)

    run(test())
