"""A model behind any OpenAI-compatible endpoint, through the ``openai`` SDK.

The SDK's own guards are off: it retries nothing (one limit must not become three), and it reads
without a time-out, since one that every byte resets never ends a call which sends keepalives. The
turn's limits rule; here every other way for a call to end is made a visible one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

try:
    import openai
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "an OpenAI-compatible model needs the openai package: pip install 'turnlock[models]'",
        name=missing.name,
    ) from missing

from ..errors import ModelError
from .alternating import alternating, wants_alternation
from .failures import plain
from .limits import check_seconds
from .openai_errors import SDK_FAILURES, UNREADABLE, http, model_error
from .protocol import Delta, Finished, Message, Thinking
from .sendable import checked_key, sendable
from .transport import http_client

# An endpoint may keep the body open after a complete answer; so long its usage is waited for. That
# gives no content: were it as long as a limit between contents, a complete reply would be ended.
_TAIL = 0.25
_PLACEHOLDER_KEY = "none"
_END = object()


class OpenAIModel:
    """Chat completions of one model at one endpoint, always streamed.

    ``base_url`` is like ``https://api.openai.com/v1``. Without an ``api_key`` a placeholder is
    sent, never a key from the environment. ``connect`` limits, in seconds, the TCP connection, then
    the tunnel through a proxy, then the TLS handshake. Proxies of the environment are used, but
    never for a loopback address. Reasoning that the endpoint shows (``reasoning_content``, or
    ``reasoning``) becomes `Thinking`.

    An endpoint that refuses two messages of one side in a row is asked once more without, and from
    then on without at once: see `turnlock.models.alternating`.

    Every call has a connection of its own: a pooled one that died unnoticed would make the next
    call hang. Raises `ValueError` for a ``base_url`` or ``api_key`` that cannot be used and
    `LimitsError` for ``connect``. An object belongs to one event loop.
    """

    api = "openai-completions"

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        provider: str = "openai",
        connect: float = 10.0,
    ) -> None:
        check_seconds("connect", connect)
        client = http_client(http, base_url, connect, redirects=True)
        self.provider = provider
        self.model = model
        self._alternates = False
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=checked_key(api_key) or _PLACEHOLDER_KEY,
            max_retries=0,
            timeout=client.timeout,
            http_client=client,
        )

    async def stream(
        self, messages: Sequence[Message]
    ) -> AsyncGenerator[Delta | Thinking | Finished, None]:
        """See `turnlock.models.Model.stream`."""
        chunks = await self._answer(sendable(messages))
        reply = _Reply(self.model)
        try:
            while (chunk := await self._next(chunks, reply)) is not _END:
                for item in self._take(chunk, reply):
                    yield item
        finally:
            await chunks.close()
        yield self._finished(reply, chunks.response.headers.get("content-type", ""))

    async def aclose(self) -> None:
        """See `turnlock.models.Model.aclose`."""
        await self._client.close()

    async def _answer(self, messages: list[Message]) -> openai.AsyncStream[object]:
        if not self._alternates:
            try:
                return await self._open(messages)
            except ModelError as error:
                if not wants_alternation(error):
                    raise
            self._alternates = True
        return await self._open(alternating(messages))

    async def _open(self, messages: list[Message]) -> openai.AsyncStream[object]:
        body = {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            # cast_to=object: chunks as plain JSON. The SDK's classes are filled without a check,
            # so they promise attributes that a broken endpoint did not send.
            return await self._client.post(
                "/chat/completions",
                body=body,
                cast_to=object,
                stream=True,
                stream_cls=openai.AsyncStream[object],
            )
        except (*SDK_FAILURES, *UNREADABLE) as error:
            raise model_error(error, provider=self.provider, model=self.model) from error

    async def _next(self, chunks: openai.AsyncStream[object], reply: _Reply) -> object:
        try:
            async with asyncio.timeout_at(reply.deadline):
                return await anext(chunks)
        except StopAsyncIteration:
            return _END
        except (*SDK_FAILURES, *UNREADABLE) as error:
            if reply.reason is not None:
                return _END  # however it ends: what was complete stays complete
            raise model_error(error, provider=self.provider, model=self.model) from error

    def _take(self, chunk: object, reply: _Reply) -> list[Delta | Thinking]:
        if not isinstance(chunk, Mapping):
            raise self._failed("protocol", f"a chunk is no JSON object: {chunk!r}")
        items = reply.take(chunk)
        if reply.reason is not None and (items or reply.deadline is None):
            reply.deadline = asyncio.get_running_loop().time() + _TAIL
        return items

    def _finished(self, reply: _Reply, content_type: str) -> Finished:
        if reply.reason is None and not reply.begun and "event-stream" not in content_type:
            raise self._failed("protocol", f"the answer is {content_type!r}, not an event stream")
        if reply.reason is None:
            raise self._failed("interrupted", "the stream ended without a finish_reason")
        if reply.reason == "error":
            raise self._failed("interrupted", "the endpoint gave up in the middle of its answer")
        return Finished(reply.reason, reply.usage, reply.model)

    def _failed(self, kind: str, detail: str) -> ModelError:
        return ModelError(provider=self.provider, model=self.model, kind=kind, detail=plain(detail))


class _Reply:
    """What the chunks of an answer add up to, besides its text. Nothing in them is trusted."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.begun = False
        self.reason: str | None = None
        self.usage: Mapping[str, object] | None = None
        self.deadline: float | None = None

    def take(self, chunk: Mapping[str, object]) -> list[Delta | Thinking]:
        """Note a chunk, and return its content."""
        self.begun = True
        model, usage = chunk.get("model"), chunk.get("usage")
        if isinstance(model, str) and model:
            self.model = model
        if isinstance(usage, Mapping):
            self.usage = usage
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        return self._take_choice(choice) if isinstance(choice, Mapping) else []

    def _take_choice(self, choice: Mapping[str, object]) -> list[Delta | Thinking]:
        reason, delta = choice.get("finish_reason"), choice.get("delta")
        if isinstance(reason, str) and reason:
            self.reason = reason
        if not isinstance(delta, Mapping):
            return []
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        text = delta.get("content") or delta.get("refusal")
        items: list[Delta | Thinking] = []
        if isinstance(thought, str) and thought:
            items.append(Thinking(thought))
        if isinstance(text, str) and text:
            items.append(Delta(text))
        return items
