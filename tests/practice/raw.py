"""A client of bytes: it sees what the socket gives, with no HTTP library to smooth it over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

BOUND = 30.0  # longest wait of a test for what has to happen at once
QUIET = 0.05  # how long nothing may come for a test to call it silence


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(bounded())


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[str]:
        """The data of each event, comments left out."""
        blocks = self.body.decode().split("\n\n")
        return [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]

    def error(self) -> Any:
        return self.json()["error"]


class Raw:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Answer:
        async with asyncio.timeout(BOUND):
            raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = raw.strip().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        return Answer(int(status_line.split()[1]), {k.lower(): v for k, v in pairs}, b"")

    async def answer(self) -> Answer:
        """One whole answer; fails when its body has no end."""
        head = await self.head()
        async with asyncio.timeout(BOUND):
            if "content-length" in head.headers:
                body = await self.reader.readexactly(int(head.headers["content-length"]))
            else:
                body = b"".join([chunk async for chunk in self.chunks()])
        return head._replace(body=body)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The chunks of a chunked body, up to its end."""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)

    async def silent(self) -> bool:
        """Whether nothing comes, not even an end."""
        try:
            async with asyncio.timeout(QUIET):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(BOUND):
            return await self.reader.read(-1)


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Raw]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


def post(body: bytes | Mapping[str, Any], headers: Mapping[str, str] | None = None) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{name}: {value}\r\n" for name, value in (headers or {}).items()]
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n"
    return f"{head}{''.join(lines)}\r\n".encode() + data


def chat(text: str, *, stream: bool = True, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "stream": stream, **more}


async def ask(url: str, body: bytes | Mapping[str, Any], **headers: str) -> Answer:
    async with connect(url) as raw:
        await raw.send(post(body, {k.replace("_", "-"): v for k, v in headers.items()}))
        return await raw.answer()


def content(answer: Answer) -> list[str]:
    """The texts of a stream's deltas."""
    chunks = [json.loads(event) for event in answer.events() if event != "[DONE]"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return [delta["content"] for delta in deltas if delta.get("content")]
