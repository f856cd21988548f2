"""What a model's endpoint answers: any bytes, to every client of ours.

The head is fine, or a part of the bytes: up to a line with ``--`` they are lines of the head.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from tests.helpers import PATIENCE
from tests.models.endpoint import chunk, event, user
from turnlock.errors import ModelError
from turnlock.models import Delta, Finished, Model, Thinking

_SEPARATOR = b"\n--\n"
_PATIENCE = 2 * PATIENCE
_HEAD = b"content-type: text/event-stream"
_BREAKS = (b"\r", b"\n")


class _Server:
    """An endpoint that answers every request with the bytes of the input, and then is gone."""

    def __init__(self, provider: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.answer = b""
        self.model: Model = self.run(self._start(provider))

    async def _start(self, provider: str) -> Model:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return _MAKERS[provider](url)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(_PATIENCE):
                return await work

        return self.loop.run_until_complete(bounded())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def _openai(url: str) -> Model:
    from turnlock.models.openai import OpenAIModel

    return OpenAIModel(f"{url}/v1", "m")


def _ollama(url: str) -> Model:
    from turnlock.models.ollama import OllamaModel

    return OllamaModel(url, "m")


def _direct(provider: str) -> Callable[[str], Model]:
    def make(url: str) -> Model:
        from tests.models.wires import WIRES
        from turnlock.models.direct import DirectModel

        return DirectModel(url, WIRES[provider].model, provider=provider)

    return make


_MAKERS: dict[str, Callable[[str], Model]] = {
    "openai": _openai,
    "ollama": _ollama,
    **{provider: _direct(provider) for provider in ("anthropic", "google", "mistral")},
}
_server = functools.cache(_Server)


def answer_to(provider: str) -> Callable[[bytes], None]:
    """I11 for models: content and one `Finished`, or a `ModelError`; nothing else, and an end."""

    def run(data: bytes) -> None:
        server = _server(provider)
        server.answer = _as_http(data)
        try:
            items = server.run(_listen(server.model))
        except ModelError as error:
            _is_told(error)
        else:
            assert [isinstance(item, Finished) for item in items].index(True) == len(items) - 1

    return run


def _is_told(error: ModelError) -> None:
    assert error.kind in ("connect", "status", "protocol", "interrupted")
    assert str(error).isprintable()


async def _listen(model: Model) -> list[Delta | Thinking | Finished]:
    items = [item async for item in model.stream(user("hello"))]
    for item in items:
        if isinstance(item, Finished):
            assert isinstance(item.reason, str)
        else:
            assert isinstance(item.text, str)
    return items


def _as_http(data: bytes) -> bytes:
    head, separator, body = data.partition(_SEPARATOR)
    if not separator:
        head, body = _HEAD, data
    if head.startswith(b"HTTP/"):
        return head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body
    lines = [line.strip() for line in head.split(b"\n") if b":" in line]
    return b"HTTP/1.1 200 OK\r\nconnection: close\r\n" + b"".join(
        line + b"\r\n" for line in lines
    ) + b"\r\n" + body  # fmt: skip


def openai_seeds() -> list[bytes]:
    fine = chunk("hel") + b": ping\n\n" + chunk("lo", model="n") + chunk(None, "stop")
    usage = event('{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}')
    refused = b'{"error":{"message":"no","type":"t","code":"c","param":null}}'
    return [
        fine + usage + event("[DONE]"),
        chunk("hel"),
        event('{"error":{"message":"overloaded","code":503}}'),
        b"HTTP/1.1 429 Too\ncontent-type: application/json\nretry-after: 3" + _SEPARATOR + refused,
        b"HTTP/1.1 500 No\ncontent-type: text/html; charset=utf-8" + _SEPARATOR + b"<p>no</p>",
        b"content-type: text/event-stream\ntransfer-encoding: chunked" + _SEPARATOR + b"5\r\ndata:",
        b"HTTP/1.1 302 Go\nlocation: /v1/else" + _SEPARATOR,
        b"content-type: application/json" + _SEPARATOR + b'{"choices": []}',
        b"",
    ]


def ollama_seeds() -> list[bytes]:
    return [
        b'content-type: application/x-ndjson\n--\n{"model":"m","message":{"role":"assistant",'
        b'"content":"hi","thinking":"hm"},"done":false}\n{"message":{"role":"assistant",'
        b'"content":""},"done":true,"done_reason":"stop","prompt_eval_count":1,"eval_count":2}\n',
        b'{"error":"no"}\n',
        b"HTTP/1.1 404 No\n--\n" + b'{"error":"no such model"}',
        b"",
    ]


def direct_seeds(provider: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        from tests.models.wires import WIRES

        wire = WIRES[provider]
        kind = f"content-type: {wire.content_type}".encode() + _SEPARATOR
        whole = wire.begin() + wire.thought("hm") + wire.text("hel") + wire.ping()
        refusal = b"HTTP/1.1 429 Too" + _SEPARATOR + wire.refusal(429, "slow down")
        return [
            kind + whole + wire.end("stop"),
            kind + wire.begin(),
            kind + (wire.failure or b""),
            refusal,
            b"",
        ]

    return seeds


WORDS = (
    b"data: ", b"\n\n", b"\r\n\r\n", b"event: ", b"id: ", b"retry: 1\n", b": c\n\n", b"[DONE]",
    b'"choices":', b'"delta":', b'"content":', b'"finish_reason":"stop"', b'"usage":', b'"model":',
    b'"error":', b'"message":', b'"code":', b'"index":', b'"reasoning_content":', b'"refusal":',
    b'"done":true', b'"done_reason":', b"null", b"true", b"[]", b"{}", b"1", b'""', b"[" * 3000,
    b"9" * 4400, b"1e999", b"NaN", b'"\\ud800"', b"\\u0000", b"\xff", "\u2028".encode(), b"\0",
    _SEPARATOR, b"HTTP/1.1 500 X\n", b"HTTP/1.1 200 OK\n", b"HTTP/1.1 302 X\n", b"HTTP/1.1 99 X\n",
    b"content-type: ", b"application/json", b"text/event-stream", b"; charset=", b"base64", b"idna",
    b"utf-16", b"hex", b"zlib_codec", b"content-encoding: gzip\n", b"content-encoding: br\n",
    b"transfer-encoding: chunked\n", b"content-length: 3\n", b"retry-after: ", b"location: http://[",
    b"date: ", b"Thu, 01 Jan 1970 00:00:00 GMT", b"Thu, 01 Jan 99999 00:00:00 +9999",
)  # fmt: skip
