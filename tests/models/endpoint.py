"""An endpoint that says given bytes, for answers that no practice mode gives."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

BOUND = 30.0  # longest wait of a test for what has to happen at once


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(bounded())


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def chunk(text: str | None = None, reason: str | None = None, **more: Any) -> bytes:
    """One event of a stream; ``more`` goes to the top of the object."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return event(json.dumps({"id": "x", "choices": [choice], **more}))


def event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


DONE = event("[DONE]")


def head(status: int = 200, content_type: str = "text/event-stream", **more: str) -> bytes:
    """A head without a length: the body goes on until the connection ends."""
    headers = {"content-type": content_type, "connection": "close", **more}
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return f"HTTP/1.1 {status} X\r\n{''.join(lines)}\r\n".encode()


class Endpoint:
    """Answers every connection with the same bytes, and keeps the requests that it got."""

    def __init__(self, answer: bytes, *, hold: bool) -> None:
        self.answer = answer
        self.hold = hold
        self.url = ""
        self.heads: list[Mapping[str, str]] = []
        self.bodies: list[Any] = []
        self.gone = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._read(reader)
            writer.write(self.answer)
            await writer.drain()
            if self.hold:
                await reader.read(1)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.gone.set()
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        pairs = [line.split(": ", 1) for line in raw.strip().split("\r\n")[1:]]
        self.heads.append({name.lower(): value for name, value in pairs})
        length = int(self.heads[-1].get("content-length", 0))
        self.bodies.append(json.loads(await reader.readexactly(length) or b"null"))


@asynccontextmanager
async def endpoint(*answer: bytes, hold: bool = False) -> AsyncIterator[Endpoint]:
    """An endpoint that says ``answer`` and then ends the connection, or holds it open."""
    told = Endpoint(b"".join(answer), hold=hold)
    server = await asyncio.start_server(told.serve, "127.0.0.1", 0)
    told.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield told
    finally:
        server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOUND):
                await server.wait_closed()
