"""The body of a request: bounded in size and time, and JSON without its pitfalls."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from .errors import ClientLeft, Refusal, bad_request


def has_body(request: Request) -> bool:
    """Whether anything comes behind the head, by what that says."""
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def read_object(request: Request, *, limit: int, patience: float) -> dict[str, Any]:
    """The request's JSON object, of at most ``limit`` bytes, complete in ``patience`` seconds.

    Raises `Refusal`: 415 for another type, 413 and 408 for the bounds, 400 for what is no strict
    JSON object.
    """
    _check_type(request)
    try:
        data = await _read(request, limit, patience)
    except ClientDisconnect:
        raise ClientLeft from None
    return parse_object(data)


def parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object: UTF-8, no NaN or Infinity, no number or nesting beyond reason."""
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_number, parse_float=_finite)
    except UnicodeDecodeError:
        raise bad_request("the body is not UTF-8") from None
    except ValueError as error:
        raise bad_request(f"the body is not JSON: {str(error)[:200]}") from None
    except RecursionError:
        raise bad_request("the body is nested too deeply") from None
    if not isinstance(value, dict):
        raise bad_request("the body has to be a JSON object")
    return value


def _check_type(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal("unsupported_media_type", "the Content-Type has to be application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal("unsupported_media_type", "a Content-Encoding is not supported")


async def _read(request: Request, limit: int, patience: float) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(patience):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    # What is still to come is dropped by the server: a client whose connection is
                    # closed before it has sent everything sees a reset instead of the answer.
                    raise Refusal("body_too_large", f"the body has more than {limit} bytes")
    except TimeoutError:
        text = f"the body was not complete after {patience:g} s"
        raise Refusal("body_timeout", text, headers={"connection": "close"}) from None
    return bytes(data)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text)


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no number of JSON")
