"""HTTP byte by byte: requests that no client library sends, answers as the socket has them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .serving import BOUND, Served


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def error(self) -> dict[str, Any]:
        found = json.loads(self.body)["error"]
        assert isinstance(found, dict)
        return found


class Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Answer:
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = raw.strip().split("\r\n")
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        return Answer(int(status.split()[1]), headers, b"")

    async def answer(self) -> Answer:
        """One whole answer; it returns with its last byte."""
        async with asyncio.timeout(BOUND):
            head = await self.head()
            if "content-length" in head.headers:
                body = await self.reader.readexactly(int(head.headers["content-length"]))
            else:
                body = b"".join([chunk async for chunk in self.chunks()])
        return head._replace(body=body)

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)

    async def end(self) -> bytes:
        """Everything up to the end of the connection, which has to come."""
        async with asyncio.timeout(BOUND):
            return await self.reader.read(-1)


@asynccontextmanager
async def line(gateway: Served) -> AsyncIterator[Line]:
    parts = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


def request(
    gateway: Served,
    target: str = "/v1/chat/completions",
    *,
    method: str = "POST",
    body: bytes | None = None,
    **headers: Any,
) -> bytes:
    """A request that is fine but for what the arguments change; None leaves a header out."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    fine: dict[str, str | None] = {
        "host": urlsplit(gateway.url).netloc,
        "authorization": f"Bearer {gateway.token}",
    }
    if body is not None:
        fine |= {"content-type": "application/json", "content-length": str(len(body))}
    lines = [f"{name}: {value}\r\n" for name, value in (fine | given).items() if value is not None]
    return f"{method} {target} HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + (body or b"")


def chat(text: str = "hello", **more: Any) -> bytes:
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": "main", "messages": messages, **more}).encode()


async def exchange(gateway: Served, data: bytes) -> Answer:
    async with line(gateway) as connection:
        await connection.send(data)
        return await connection.answer()


async def post(gateway: Served, body: bytes, **headers: Any) -> Answer:
    return await exchange(gateway, request(gateway, body=body, **headers))


async def post_to(gateway: Served, target: str, body: bytes, **headers: Any) -> Answer:
    return await exchange(gateway, request(gateway, target, body=body, **headers))


async def get(gateway: Served, target: str, **headers: Any) -> Answer:
    return await exchange(gateway, request(gateway, target, method="GET", **headers))
