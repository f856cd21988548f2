"""One connection of the server, with a transport and a time of the test's own."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.server import ServerState

from turnlock.gateway.connection import BEHIND_MAX, Connection, ServerConfig

from .serving import run

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


def connected(app: Any) -> tuple[Connection, Transport]:
    config = ServerConfig(app, http=Connection, ws="none", lifespan="off", log_config=None)
    transport = Transport()
    connection = Connection(config, ServerState(), {})
    connection.connection_made(transport)
    return connection, transport


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
