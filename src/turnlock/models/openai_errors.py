"""Each failure of the OpenAI SDK and its transport as one `ModelError`; see `failures`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

import anyio
import openai

from ..errors import ModelError
from .failures import deepest, kind_of_transport, plain, retry_after

# openai 3 moved from httpx to httpx2; 2.x refuses a client of httpx2.
_SDK_MAJOR = int(openai.__version__.partition(".")[0])
http: Any = importlib.import_module("httpx2" if _SDK_MAJOR >= 3 else "httpx")

# What the SDK raises, and what some of its versions let through from the layers below.
SDK_FAILURES: tuple[type[Exception], ...] = (
    openai.OpenAIError,
    http.HTTPError,
    http.StreamError,
    anyio.EndOfStream,
    OSError,
)
# How the SDK stumbles over a chunk that is no JSON, or is beyond reason (nested too deeply, numbers
# of thousands of digits), and over text of an encoding that is none, which codecs do in many ways.
UNREADABLE: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    RecursionError,
)
_NO_JSON = (json.JSONDecodeError, UnicodeDecodeError, RecursionError)


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


def _answer(error: Exception) -> Any:
    """The answer with an error as its status; None when there is none."""
    if isinstance(error, openai.APIStatusError):
        return error.response
    # One that the SDK stumbled over when it wanted to tell of it.
    before = error.__context__
    return before.response if isinstance(before, http.HTTPStatusError) else None


def _kind(error: Exception) -> str:
    if _answer(error) is not None:
        return "status"
    if isinstance(error, (*UNREADABLE, openai.APIResponseValidationError)):
        return "protocol"
    if isinstance(error, openai.APIConnectionError) or not isinstance(error, openai.APIError):
        return kind_of_transport(http, _root(error))
    return "status"


def _root(error: BaseException) -> BaseException:
    """The transport's own exception: the SDK keeps it as the cause."""
    while isinstance(error, openai.APIConnectionError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: Exception) -> int | None:
    answer = _answer(error)
    if answer is not None:
        code: int = answer.status_code
        return code
    # Once the stream has begun, the HTTP status is 200 for good; some put the real one here.
    body = error.body if isinstance(error, openai.APIError) else None
    said = body.get("code") if isinstance(body, Mapping) else None
    return said if isinstance(said, int) and 400 <= said <= 599 else None


def _detail(error: Exception) -> str:
    if isinstance(error, UNREADABLE):
        what = "what is no JSON" if isinstance(error, _NO_JSON) else "what cannot be read"
        return f"the endpoint sent {what}: {str(error) or type(error).__name__}"
    if isinstance(error, openai.APIStatusError):
        return _said(error.body) or error.response.text or error.message
    if isinstance(error, openai.APIError) and not isinstance(error, openai.APIConnectionError):
        return _said(error.body) or error.message
    name, why = type(_root(error)).__name__, str(deepest(error))
    return f"{name}: {why}" if why else name


def _said(body: object) -> str:
    said = body.get("message") if isinstance(body, Mapping) else body
    return said if isinstance(said, str) else ""


def _retry_after(error: Exception) -> float | None:
    answer = _answer(error)
    return None if answer is None else retry_after(answer.headers)
