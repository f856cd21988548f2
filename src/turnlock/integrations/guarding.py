"""``turnlock.guard``: the HTTP clients in a model's client, found and guarded.

SDKs and frameworks keep an HTTP client of httpx or httpx2 under one of a few names. Its transports
are replaced by ones that guard (`transport`), in place: whoever has the client has the guarded one.
An SDK's own retries would repeat a call that a limit ended, each time with all of its patience; so
inside a turn there are none: the turn, and who runs it, decide.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from ..turns.scope import current_turn
from .transport import CallLimits, async_transport, sync_transport

C = TypeVar("C")

# Where clients of SDKs and frameworks keep the client below them.
_NAMES = (
    "_client",
    "_async_client",
    "client",
    "async_client",
    "root_client",
    "root_async_client",
    "http_client",
    "_api_client",
    "_httpx_client",
    "_async_httpx_client",
)
_DEPTH_MAX = 4
_LIBRARIES = ("httpx", "httpx2")
_NONE = (
    "has no client of httpx or httpx2 that could be guarded;"
    " give its SDK one that has a transport of turnlock.integrations.httpx or .httpx2"
)
_NOT_ALL = (
    "makes its async calls with aiohttp, which cannot be guarded; give it a client of httpx for"
    " them: http_options=HttpOptions(httpx_async_client=httpx.AsyncClient())"
)


class NothingToGuard(TypeError):
    """It has no HTTP client of httpx or httpx2, or other ones besides. Attribute: ``client``."""

    def __init__(self, client: object, why: str = _NONE) -> None:
        self.client = client
        super().__init__(f"a {type(client).__name__} {why}")


def guard(
    client: C,
    *,
    turn: Any = None,
    first: float | None = None,
    idle: float | None = None,
    whole: float | None = None,
) -> C:
    """Make every HTTP call of ``client`` that is made in a turn a call of that turn.

    ``client``: of httpx or httpx2, or what keeps one of these where SDKs and frameworks do (those
    of openai and anthropic, pydantic-ai's models and providers), sync or async. It is changed and
    returned; guarding it again changes the limits.

    In a turn, ``first`` seconds are given to the first content and ``idle`` between contents (None:
    the store's limits), ``whole`` to a call (None: what the turn has). When one passes the turn is
    revoked with reason ``model-limit``; when the turn is revoked for any reason, or ends, its calls
    end at once, a thread's too. Only content counts as progress, see `content`. The SDK retries
    nothing within a turn.

    ``turn``: the turn of all its calls, for threads that do not have the context of their caller
    (as ``loop.run_in_executor`` makes them, other than ``asyncio.to_thread``). Once it is over they
    are refused, until the client is guarded again.

    Not promised: the look-up of a host name in a thread cannot be ended; nor can what goes over a
    transport that has no connections of httpcore (it still has the limits). Over HTTP/2 calls
    share a connection, and end with it.

    Raises `NothingToGuard`, also where a client has others besides (Google's, which makes its async
    calls with aiohttp where that is installed, unless it is given a client of httpx for them), and
    `LimitsError`.
    """
    limits = CallLimits(first, idle, whole).checked()
    found = list(_clients(client, _DEPTH_MAX))
    if not _has_any(found):
        raise NothingToGuard(client)
    if _has_others(found):
        raise NothingToGuard(client, _NOT_ALL)
    for library, one in found:
        if library is None:
            _end_retries(one)
        else:
            _guard_transports(library, one, turn, limits)
    return client


def guard_new(client: object) -> bool:
    """Guard what of ``client`` nobody has guarded yet; whether all that it uses is guarded.

    For plug-ins, which meet the same client again and again: whoever guarded it has set its limits.
    """
    found = list(_clients(client, _DEPTH_MAX))
    for library, one in found:
        if library is None:
            _end_retries(one)
        elif not isinstance(one._transport, _guarding_transport(library, one)):
            _guard_transports(library, one, None, CallLimits())
    return _has_any(found) and not _has_others(found)


def _has_any(found: Sequence[tuple[Any, Any]]) -> bool:
    return any(library is not None for library, _ in found)


def _has_others(found: Sequence[tuple[Any, Any]]) -> bool:
    """Google's client has those of httpx, and uses aiohttp in their place where it is installed."""
    ask = (getattr(one, "_use_aiohttp", None) for _, one in found)
    return any(uses() is True for uses in ask if callable(uses))


def _clients(client: Any, depth: int) -> Iterator[tuple[Any, Any]]:
    """The client and those below it, each with its library: None for what is no HTTP client."""
    library = _library_of(client)
    yield library, client
    if library is not None or depth == 0:
        return
    below = [_part(client, name) for name in _NAMES]
    for one in {id(one): one for one in below if _may_hold_one(one)}.values():
        yield from _clients(one, depth - 1)


def _part(client: object, name: str) -> Any:
    # Some make it at the first look, and raise what they like, as for a key that is missing.
    with contextlib.suppress(Exception):
        return getattr(client, name, None)
    return None


def _may_hold_one(value: object) -> bool:
    return value is not None and hasattr(value, "__dict__") and not callable(value)


def _library_of(client: object) -> Any:
    for name in _LIBRARIES:
        library = sys.modules.get(name)
        if library is not None and isinstance(client, (library.Client, library.AsyncClient)):
            return library
    return None


def _guarding_transport(http: Any, client: Any) -> Any:
    return async_transport(http) if isinstance(client, http.AsyncClient) else sync_transport(http)


def _guard_transports(http: Any, client: Any, turn: Any, limits: CallLimits) -> None:
    make = _guarding_transport(http, client)

    def guarded(transport: Any) -> Any:
        if transport is None:
            return None
        inner = transport._inner if isinstance(transport, make) else transport
        return make(inner, turn=turn, **limits._asdict())

    client._transport = guarded(client._transport)
    client._mounts = {pattern: guarded(one) for pattern, one in client._mounts.items()}


def _end_retries(client: Any) -> None:
    kind: Any = type(client)
    if isinstance(getattr(client, "max_retries", None), int) and not hasattr(kind, "max_retries"):
        client.__class__ = _without_retries(kind)


@functools.cache
def _without_retries(kind: Any) -> Any:
    """The class of an SDK's client, with ``max_retries`` 0 inside of a turn."""

    def retries(self: Any) -> int:
        own = self.__dict__["max_retries"]
        return _NoRetries(own) if _is_in_turn(self) else int(own)

    def set_retries(self: Any, value: int) -> None:
        self.__dict__["max_retries"] = getattr(value, "own", value)

    added = {"max_retries": property(retries, set_retries), "__module__": kind.__module__}
    return type(kind.__name__, (kind,), added)


class _NoRetries(int):
    """0; a copy of the client that is made in a turn has the client's own outside of it."""

    own: int

    def __new__(cls, own: int) -> _NoRetries:
        made = super().__new__(cls, 0)
        made.own = own
        return made


def _is_in_turn(client: Any) -> bool:
    """Whether its calls are a turn's: that which `guard` was told, or the current one."""
    # Not by getattr, as some clients make the one below at the first look at it.
    transport = getattr(client.__dict__.get("_client"), "_transport", None)
    return (getattr(transport, "_turn", None) or current_turn()) is not None
