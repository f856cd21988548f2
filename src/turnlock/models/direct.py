"""Models of providers with a protocol of their own, through pydantic-ai's direct layer.

pydantic-ai knows each provider's form of messages, events, usage and errors; it is told to do
nothing else. The SDKs below it retry nothing, take no key from the environment, trace nothing, and
are given the connections of `turnlock.models.transport`: one for each request, closed with it.

What is passed on is content alone: pings, empty deltas and the frames around blocks are dropped, so
that limits go by content as they do for every other model.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, NamedTuple

import anyio
import httpx2
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelHTTPError,
    UnexpectedModelBehavior,
    UserError,
)
from pydantic_ai.messages import (
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
)
from pydantic_ai.models import Model as AnyModel
from pydantic_ai.models import StreamedResponse
from pydantic_ai.settings import ModelSettings

from ..errors import ModelError
from .direct_messages import prompt
from .failures import deepest, kind_of_transport, plain, retry_after, words
from .limits import check_seconds
from .messages import Unsendable
from .protocol import Delta, Finished, Message, Thinking
from .sendable import checked_key, sendable
from .transport import Call, http_client

# What the transport raises, and what an SDK lets through from the layers below.
_TRANSPORT: tuple[type[Exception], ...] = (
    httpx2.HTTPError,
    httpx2.StreamError,
    anyio.EndOfStream,
    OSError,
)
# How SDKs and pydantic-ai stumble over an answer that is not of the form they rely on.
_STUMBLES: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
    RecursionError,
)
_FAILURES: tuple[type[Exception], ...] = (AgentRunError, UserError, *_TRANSPORT, *_STUMBLES)
# An endpoint may keep the body open after a complete answer; more of it is waited for once or twice
# so long. That has to be shorter than any limit between contents, or a complete reply would be
# ended by it.
_TAIL = 0.1
_PLACEHOLDER_KEY = "none"
_NOTHING_CAME = "ended without content"
_CAUSES_MAX = 20


class _Made(NamedTuple):
    """A provider's model. ``key`` was checked, and ``client`` is the one to use for HTTP."""

    model: AnyModel[Any]
    settings: ModelSettings


def _anthropic(base_url: str, model: str, key: str, client: Any) -> _Made:
    import anthropic
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    sdk = anthropic.AsyncAnthropic(
        api_key=key,
        base_url=base_url,
        max_retries=0,
        timeout=client.timeout,
        http_client=client,
        open_telemetry=False,
    )
    provider = AnthropicProvider(anthropic_client=sdk)
    return _Made(AnthropicModel(model, provider=provider), ModelSettings())


def _google(base_url: str, model: str, key: str, client: Any) -> _Made:
    from google.genai.types import HttpRetryOptions
    from pydantic_ai.models.google import GoogleModel, GoogleModelSettings
    from pydantic_ai.providers.google import GoogleProvider

    provider = GoogleProvider(
        api_key=key,
        base_url=base_url,
        http_client=client,
        retry_options=HttpRetryOptions(attempts=1),
    )
    made = GoogleModel(model, provider=provider)
    settings = GoogleModelSettings()
    if made.profile.get("supports_thinking"):
        # Without this a model that thinks by default is silent until it speaks.
        settings["google_thinking_config"] = {"include_thoughts": True}
    return _Made(made, settings)


def _mistral(base_url: str, model: str, key: str, client: Any) -> _Made:
    from mistralai.client import Mistral
    from pydantic_ai.models.mistral import MistralModel
    from pydantic_ai.providers.mistral import MistralProvider

    sdk = Mistral(api_key=key, server_url=base_url, async_client=client, retry_config=None)
    return _Made(MistralModel(model, provider=MistralProvider(mistral_client=sdk)), ModelSettings())


class _Provider(NamedTuple):
    """``version`` ends a base URL that is written with the path which the SDK adds itself."""

    api: str
    version: str
    make: Callable[[str, str, str, Any], _Made]


_PROVIDERS: Mapping[str, _Provider] = {
    "anthropic": _Provider("anthropic-messages", "/v1", _anthropic),
    "google": _Provider("google-generative-ai", "/v1beta", _google),
    "mistral": _Provider("mistral-conversations", "/v1", _mistral),
}
_REASONS = {"tool_call": "tool_calls"}


class DirectModel:
    """One model of the provider ``anthropic``, ``google`` or ``mistral``, always streamed.

    ``base_url`` is like ``https://api.anthropic.com``, with or without the version that ends it.
    Without an ``api_key`` a placeholder is sent, never a key from the environment. ``connect``
    limits, in seconds, the TCP connection, then the tunnel through a proxy, then the TLS handshake.
    Proxies of the environment are used, but never for a loopback address.

    Every call has a connection of its own. Raises `ValueError` for a ``base_url`` or ``api_key``
    that cannot be used, `LimitsError` for ``connect``, and `ModuleNotFoundError` that names the
    extra when the provider's SDK is not installed. An object belongs to one event loop.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        provider: str,
        connect: float = 10.0,
    ) -> None:
        check_seconds("connect", connect)
        known = _PROVIDERS[provider]
        base_url = base_url.rstrip("/").removesuffix(known.version)
        self.provider = provider
        self.model = model
        self.api = known.api
        self._client = http_client(httpx2, base_url, connect, redirects=False)
        key = checked_key(api_key) or _PLACEHOLDER_KEY
        try:
            self._made = known.make(base_url, model, key, self._client)
        except ImportError as missing:
            raise ModuleNotFoundError(
                f"the provider {provider!r} is not installed: pip install 'turnlock[{provider}]'",
                name=missing.name,
            ) from missing

    async def stream(
        self, messages: Sequence[Message]
    ) -> AsyncGenerator[Delta | Thinking | Finished, None]:
        """See `turnlock.models.Model.stream`."""
        try:
            asked = prompt(sendable(messages))
        except Unsendable as error:
            raise self._failed("request", str(error)) from None
        settings = self._made.settings
        if asked.has_tools:
            settings = {**settings, "tool_choice": "none"}
        opening = self._made.model.request_stream(asked.messages, settings, asked.parameters)
        finished = None
        call = Call()
        try:
            async with AsyncExitStack() as stack:
                with call.opening():
                    response = await stack.enter_async_context(opening)
                async with aclosing(_until_complete(response)) as contents:
                    async for item in contents:
                        yield item
                finished = self._finished(response)
        except _FAILURES as error:
            if finished is None:
                raise self._explained(error) from error
        finally:
            await call.end()
        if finished is not None:
            yield finished

    async def aclose(self) -> None:
        """See `turnlock.models.Model.aclose`."""
        await self._client.aclose()

    def _finished(self, response: StreamedResponse) -> Finished:
        reason = _reason(response)
        if reason is None:
            raise self._failed("interrupted", "the stream ended without a reason to finish")
        if reason == "error":
            raise self._failed("interrupted", "the endpoint gave up in the middle of its answer")
        return Finished(_REASONS.get(reason, reason), _usage(response), response.model_name)

    def _explained(self, error: Exception) -> ModelError:
        status = error.status_code if isinstance(error, ModelHTTPError) else None
        return ModelError(
            provider=self.provider,
            model=self.model,
            kind=_kind(error),
            detail=plain(_detail(error)),
            status=status,
            retry_after=_retry_after(error),
        )

    def _failed(self, kind: str, detail: str) -> ModelError:
        return ModelError(provider=self.provider, model=self.model, kind=kind, detail=plain(detail))


async def _until_complete(response: StreamedResponse) -> AsyncGenerator[Delta | Thinking, None]:
    """The content until the stream ends; however it ends, what was complete stays complete."""
    tail = _Tail(response)
    try:
        async with aclosing(_contents(response)) as contents:
            while (item := await tail.next(contents)) is not None:
                yield item
    except _FAILURES:
        if _reason(response) is None:
            raise
    finally:
        tail.stop()


class _Tail:
    """Ends the wait for more of a reply that has its reason to finish.

    The reason is no event of its own, so it is looked for now and then.
    """

    def __init__(self, response: StreamedResponse) -> None:
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Timeout | None = None
        self._was_complete = False
        self._timer = self._loop.call_later(_TAIL, self._look)

    async def next(
        self, contents: AsyncGenerator[Delta | Thinking, None]
    ) -> Delta | Thinking | None:
        waiting = self._waiting = asyncio.timeout(None)
        try:
            async with waiting:
                return await anext(contents)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            if waiting.expired():
                return None
            raise
        finally:
            self._waiting = None

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        waiting = self._waiting
        if self._was_complete and waiting is not None and not waiting.expired():
            # An item that comes in this very moment is taken still: the next one is not waited for.
            waiting.reschedule(self._loop.time())
        self._was_complete = _reason(self._response) is not None
        self._timer = self._loop.call_later(_TAIL, self._look)


def _reason(response: StreamedResponse) -> str | None:
    """Why the reply ended, as far as it has; the provider's own word where there is no other."""
    said = (response.provider_details or {}).get("finish_reason")
    return response.finish_reason or (said if isinstance(said, str) and said else None)


async def _contents(response: StreamedResponse) -> AsyncGenerator[Delta | Thinking, None]:
    async for event in response:
        match event:
            case PartStartEvent(part=TextPart(content=text)) if text:
                yield Delta(text)
            case PartDeltaEvent(delta=TextPartDelta(content_delta=text)) if text:
                yield Delta(text)
            case PartStartEvent(part=ThinkingPart(content=text, signature=signature)):
                if text or signature:
                    yield Thinking(text)
            case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=thought, signature_delta=s)):
                if thought or s:
                    yield Thinking(thought or "")


def _usage(response: StreamedResponse) -> Mapping[str, object] | None:
    usage = response.usage
    if not usage.input_tokens and not usage.output_tokens:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _kind(error: Exception) -> str:
    if isinstance(error, ModelHTTPError):
        return "status"
    transport = _below(error, *_TRANSPORT)
    if transport is not None:
        return kind_of_transport(httpx2, transport)
    if _is_empty(error):
        return "interrupted"
    if isinstance(error, ModelAPIError) and error.in_stream:
        return "status"
    return "protocol"


def _is_empty(error: Exception) -> bool:
    return isinstance(error, UnexpectedModelBehavior) and _NOTHING_CAME in str(error)


def _below(error: BaseException, *kinds: type[Exception]) -> BaseException | None:
    """The first of the error and its causes that is of one of these kinds."""
    found: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if found is None or isinstance(found, kinds):
            return found
        found = found.__cause__
    return None


def _detail(error: Exception) -> str:
    if _is_empty(error):
        return "the stream ended with nothing in it"
    transport = _below(error, *_TRANSPORT)
    if transport is not None:
        name, why = type(transport).__name__, str(deepest(transport))
        return f"{name}: {why}" if why else name
    if isinstance(error, ModelAPIError):
        return words(error.body) or error.message
    name = type(error).__name__
    return f"the endpoint's answer is not of its protocol: {name}: {error}"


def _retry_after(error: Exception) -> float | None:
    if not isinstance(error, ModelHTTPError):
        return None
    told = retry_after(error.headers or {})
    # Google says it in the body, which pydantic-ai has read.
    return error.retry_after if told is None else told
