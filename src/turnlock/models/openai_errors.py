"""Each failure of the OpenAI SDK and its transport as one `ModelError`.

==============  ==================================================================
kind            what happened
==============  ==================================================================
``connect``     there was no connection: nothing was asked
``status``      the endpoint answered with an error, as HTTP status or in the stream
``protocol``    it answered something that is no chat completion
``interrupted``  the answer ended before its end
==============  ==================================================================
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping

import anyio
import openai

from ..errors import ModelError
from .openai_transport import http

# What the SDK raises, and what some of its versions let through from the layers below.
SDK_FAILURES: tuple[type[Exception], ...] = (
    openai.OpenAIError,
    http.HTTPError,
    http.StreamError,
    anyio.EndOfStream,
    OSError,
)
# A chunk that is no JSON, or nested so deep that it can only be an attack.
UNREADABLE: tuple[type[Exception], ...] = (
    json.JSONDecodeError,
    UnicodeDecodeError,
    RecursionError,
)

# The transport has one class for a peer that left and for one that speaks no HTTP.
_PEER_LEFT = re.compile("disconnected|closed connection")
_CAUSES_MAX = 20
_DETAIL_MAX = 300
# Enough for any head of a page; the rest of a big one is not worth the time.
_RAW_MAX = 8192
_INVISIBLE = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def model_error(error: Exception, *, provider: str, model: str) -> ModelError:
    """The `ModelError` for an exception of `SDK_FAILURES` or `UNREADABLE`."""
    return ModelError(
        provider=provider,
        model=model,
        kind=_kind(error),
        detail=plain(_detail(error)),
        status=_status(error),
        retry_after=_retry_after(error),
    )


def _kind(error: Exception) -> str:
    if isinstance(error, (*UNREADABLE, openai.APIResponseValidationError)):
        return "protocol"
    if isinstance(error, openai.APIConnectionError) or not isinstance(error, openai.APIError):
        return _kind_of_transport(_root(error))
    return "status"


def _kind_of_transport(error: BaseException) -> str:
    never_connected = (
        http.ConnectError,
        http.ConnectTimeout,
        http.ProxyError,
        http.UnsupportedProtocol,
    )
    if isinstance(error, never_connected):
        return "connect"
    if isinstance(error, http.DecodingError | http.TooManyRedirects):
        return "protocol"
    if isinstance(error, http.RemoteProtocolError) and not _PEER_LEFT.search(str(error)):
        return "protocol"
    return "interrupted"


def _root(error: BaseException) -> BaseException:
    """The transport's own exception: the SDK keeps it as the cause."""
    while isinstance(error, openai.APIConnectionError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _deepest(error: BaseException) -> BaseException:
    """Where the system's words are: the layers above say no more than "failed"."""
    for _ in range(_CAUSES_MAX):
        if error.__cause__ is None:
            break
        error = error.__cause__
    return error


def _status(error: Exception) -> int | None:
    if isinstance(error, openai.APIStatusError):
        return error.status_code
    # Once the stream has begun, the HTTP status is 200 for good; some put the real one here.
    body = error.body if isinstance(error, openai.APIError) else None
    code = body.get("code") if isinstance(body, Mapping) else None
    return code if isinstance(code, int) and 400 <= code <= 599 else None


def _detail(error: Exception) -> str:
    if isinstance(error, UNREADABLE):
        return f"the endpoint sent what is no JSON: {error}"
    if isinstance(error, openai.APIStatusError):
        return _said(error.body) or error.response.text or error.message
    if isinstance(error, openai.APIError) and not isinstance(error, openai.APIConnectionError):
        return _said(error.body) or error.message
    name, why = type(_root(error)).__name__, str(_deepest(error))
    return f"{name}: {why}" if why else name


def _said(body: object) -> str:
    said = body.get("message") if isinstance(body, Mapping) else body
    return said if isinstance(said, str) else ""


def plain(text: str) -> str:
    """One line of at most 300 printable characters, without HTML."""
    text = text[:_RAW_MAX]
    if "<" in text:
        text = html.unescape(_TAG.sub(" ", _INVISIBLE.sub(" ", text)))
    visible = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(visible.split())
    return line if len(line) <= _DETAIL_MAX else f"{line[: _DETAIL_MAX - 1]}…"


def _retry_after(error: Exception) -> float | None:
    """Seconds from Retry-After. Its other form, a date, would need the endpoint's clock."""
    if not isinstance(error, openai.APIStatusError):
        return None
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
