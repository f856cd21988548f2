"""A model of Ollama, through its own client and its own protocol: one JSON object a line.

Ollama also speaks OpenAI's protocol, but there an error in mid-stream loses its words. Its client
retries nothing and has no time-out; it is given the connections of `turnlock.models.transport`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

try:
    import httpx
    import ollama
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "the provider 'ollama' is not installed: pip install 'turnlock[ollama]'", name=missing.name
    ) from missing
except (OSError, ValueError, httpx.InvalidURL) as error:
    # Imported, it makes a client of its own, with which nobody asks anything.
    raise ValueError(
        f"the proxy of the environment, or its SSL_CERT_FILE, cannot be used: {error}"
    ) from error

import anyio

from ..errors import ModelError
from .failures import deepest, kind_of_transport, plain, retry_after, words
from .limits import check_seconds
from .messages import Unsendable, text_of, tool_calls
from .protocol import Delta, Finished, Message, Thinking
from .sendable import checked_key, sendable
from .transport import client_options

_TRANSPORT: tuple[type[Exception], ...] = (
    httpx.HTTPError,
    httpx.StreamError,
    anyio.EndOfStream,
    OSError,
)
# How the client stumbles over an answer that is not of the form it relies on.
_STUMBLES: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    RecursionError,
)
_FAILURES: tuple[type[Exception], ...] = (ollama.ResponseError, *_TRANSPORT, *_STUMBLES)
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# `load` and `unload` are answers to requests without messages.
_NO_REPLY = frozenset({"load", "unload"})


class OllamaModel:
    """One model of an Ollama server, always streamed.

    ``base_url`` is like ``http://127.0.0.1:11434``; a ``/v1`` or ``/api`` that ends it is left out.
    An ``api_key`` is sent as a bearer token; without one a placeholder is, never a key from the
    environment. ``connect`` limits, in seconds, the TCP connection, then the tunnel through a
    proxy, then the TLS handshake. Raises as `turnlock.models.direct.DirectModel`.

    The server loads a model before its first answer, which can take minutes and shows nothing:
    ``first_token`` has to leave time for it.
    """

    api = "ollama-chat"
    provider = "ollama"

    def __init__(
        self, base_url: str, model: str, api_key: str | None = None, *, connect: float = 10.0
    ) -> None:
        check_seconds("connect", connect)
        base_url = base_url.rstrip("/").removesuffix("/v1").removesuffix("/api")
        key = checked_key(api_key) or "none"
        self.model = model
        self._client = ollama.AsyncClient(
            base_url,
            headers={"authorization": f"Bearer {key}"},
            **client_options(httpx, base_url, connect, redirects=True),
        )

    async def stream(
        self, messages: Sequence[Message]
    ) -> AsyncGenerator[Delta | Thinking | Finished, None]:
        """See `turnlock.models.Model.stream`."""
        try:
            asked = [_message(place, one) for place, one in enumerate(sendable(messages))]
        except Unsendable as error:
            raise self._failed("request", str(error)) from None
        finished = None
        try:
            parts: Any = await self._client.chat(self.model, asked, stream=True)
            async with aclosing(parts):
                async for part in parts:
                    for item in _items(part):
                        yield item
                    if part.done:
                        finished = self._finished(part)
                        break
        except _FAILURES as error:
            if finished is None:
                raise self._explained(error) from error
        if finished is None:
            raise self._failed("interrupted", "the stream ended without its last object")
        yield finished

    async def aclose(self) -> None:
        """See `turnlock.models.Model.aclose`."""
        await self._client.close()  # type: ignore[no-untyped-call]

    def _finished(self, part: ollama.ChatResponse) -> Finished:
        reason = part.done_reason or "stop"
        if reason in _NO_REPLY:
            raise self._failed("protocol", f"the answer is no reply: {reason}")
        return Finished(reason, _usage(part), part.model or self.model)

    def _explained(self, error: Exception) -> ModelError:
        said, answer = isinstance(error, ollama.ResponseError), _answer(error)
        return ModelError(
            provider=self.provider,
            model=self.model,
            kind="status" if said or answer is not None else _kind(error),
            detail=plain(_detail(error)),
            status=answer.status_code if answer is not None else None,
            retry_after=retry_after(answer.headers) if answer is not None else None,
        )

    def _failed(self, kind: str, detail: str) -> ModelError:
        return ModelError(provider=self.provider, model=self.model, kind=kind, detail=plain(detail))


def _message(place: int, message: Message) -> dict[str, object]:
    role, text = message.get("role"), text_of(place, message)
    if role == "tool":
        return {"role": "tool", "content": text}
    if not isinstance(role, str) or role not in _ROLES:
        raise Unsendable(f"message {place} has the unknown role {role!r:.50}")
    made: dict[str, object] = {"role": _ROLES[role], "content": text}
    calls = [
        {"function": {"name": call.name, "arguments": call.arguments}}
        for call in tool_calls(place, message)
    ]
    return made | {"tool_calls": calls} if calls else made


def _items(part: ollama.ChatResponse) -> list[Delta | Thinking]:
    items: list[Delta | Thinking] = []
    if part.message.thinking:
        items.append(Thinking(part.message.thinking))
    if part.message.content:
        items.append(Delta(part.message.content))
    return items


def _usage(part: ollama.ChatResponse) -> Mapping[str, object] | None:
    asked, said = part.prompt_eval_count, part.eval_count
    if asked is None and said is None:
        return None
    asked, said = asked or 0, said or 0
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _kind(error: Exception) -> str:
    if isinstance(error, _TRANSPORT):
        return kind_of_transport(httpx, error)
    return "protocol"


def _answer(error: Exception) -> httpx.Response | None:
    # The client keeps only the body and the status; the answer itself is in what it raised before.
    before = error.__context__
    return before.response if isinstance(before, httpx.HTTPStatusError) else None


def _detail(error: Exception) -> str:
    if isinstance(error, ollama.ResponseError):
        return words(error.error) or error.error
    if isinstance(error, _TRANSPORT):
        name, why = type(error).__name__, str(deepest(error))
        return f"{name}: {why}" if why else name
    return f"the endpoint's answer is not of its protocol: {type(error).__name__}: {error}"
