"""A server's connection that bounds what a client may take, and sees it leave while it waits."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from .access import HEAD_BYTES_MAX, head_too_large
from .descriptors import CONNECTIONS_MAX, Seldom
from .errors import Refusal, bad_request, too_many

logger = logging.getLogger("turnlock")

# In a scope's extensions: what ends the connection at once, whatever it still has to send.
ABORT = "turnlock.abort"

# Bytes that may lie behind a request which is not answered yet. Beyond, none are read until it is.
BEHIND_MAX = 64 * 1024


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration, and `Pace.head` and `Pace.slow`.

    ``most`` connections are served at once. As many more are told that they are too many, and
    whatever comes beyond is closed without a word.
    """

    head_patience: float = 10.0
    slow: float = 30.0
    most: int = CONNECTIONS_MAX

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.complaints = Seldom()


class Connection(H11Protocol):
    """uvicorn has no limit for a head: a client that sends a byte a minute keeps its connection.

    The same limit ends a connection whose client goes on sending a body after its answer.

    Where bytes come behind a request, the beginning of the next one or a stray end of a line,
    uvicorn reads no more until the request is answered, and so does not see its client leave. Here
    it reads on, up to `BEHIND_MAX`.

    Nor does uvicorn, or asyncio, have a limit for what is sent: a client that does not read keeps
    its connection for ever, also one that is closed, which first sends what it has. Here a
    connection of which nothing was taken for ``slow`` seconds is aborted.
    """

    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app = self._admitted(transport)

        async def with_abort(scope: Any, receive: Any, send: Any) -> None:
            extensions = scope.get("extensions") or {}
            await app(
                {**scope, "extensions": {**extensions, ABORT: transport.abort}}, receive, send
            )

        self.app = with_abort
        # From the first byte that the system does not take, pause_writing() is called.
        transport.set_write_buffer_limits(0)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._has_request():
            self._stop()
            self._read_on()
        else:
            self._expect_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._has_request():
            self._read_on()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_taking(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._stop_taking()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._stop_taking()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and end the connection.

        It may come in the body of a request that the application is at. It has one answer, this one
        or as much as was sent of its own; uvicorn would send both, and log what h11 says to that.
        """
        refusal = bad_request(msg)
        if self.conn.our_state is h11.IDLE and len(self.conn.trailing_data[0]) > HEAD_BYTES_MAX:
            refusal = head_too_large()
        if self._has_request():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(refusal)
        else:
            self.transport.close()

    def _admitted(self, transport: asyncio.Transport) -> ASGIApp:
        """Who answers here: the application, or nobody but a refusal."""
        config = self.config
        assert isinstance(config, ServerConfig)
        if len(self.connections) <= config.most:
            app: ASGIApp = self.app
            return app
        if config.complaints.is_time(self.loop.time()):
            logger.warning("more than %d connections: further ones are refused", config.most)
        if len(self.connections) > 2 * config.most:
            transport.abort()
        refusal = too_many("too_many_connections", f"{config.most} connections are open already")
        refusal.headers["connection"] = "close"
        return refusal.response()

    def _send(self, refusal: Refusal) -> None:
        body = refusal.body()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "cache-control": "no-store",
            "connection": "close",
        }
        for event in (
            h11.Response(status_code=refusal.status, headers=list(headers.items())),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def _has_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _read_on(self) -> None:
        behind, _ = self.conn.trailing_data
        if self.conn.their_state is h11.DONE and len(behind) <= BEHIND_MAX:
            self.flow.resume_reading()

    def _expect_head(self) -> None:
        if self._deadline is None:
            assert isinstance(self.config, ServerConfig)
            self._deadline = self.loop.call_later(self.config.head_patience, self.transport.close)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expect_taking(self, unsent: int) -> None:
        assert isinstance(self.config, ServerConfig)
        self._taking = self.loop.call_later(self.config.slow, self._look_what_was_taken, unsent)

    def _look_what_was_taken(self, unsent: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < unsent:
            self._expect_taking(left)
        else:
            self.transport.abort()

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
