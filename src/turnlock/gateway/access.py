"""Who may ask anything at all: the checks before every route.

A page in a browser of this machine can reach a loopback port, by its address or by a name that was
made to point at it (DNS rebinding). So the host that a request names has to be one of ours, an
origin has to be allowed by name, and no answer carries a header of CORS. Behind that every route
but ``/healthz`` wants the bearer token.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import Refusal

HEALTH = "/healthz"
HEAD_BYTES_MAX = 16 * 1024
_CLOSE = {"connection": "close"}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Access:
    """ASGI middleware."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        hosts: Iterable[str],
        origins: Iterable[str],
    ) -> None:
        self._app = app
        self._token = _digest(token.encode())
        self._hosts = _LOOPBACK | {host_of(host) or host.lower() for host in hosts}
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            refusal = self._judge(scope)
            if refusal is not None:
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _judge(self, scope: Scope) -> Refusal | None:
        if sum(len(key) + len(value) for key, value in scope["headers"]) > HEAD_BYTES_MAX:
            return head_too_large()
        if _values(scope, b"transfer-encoding") and _values(scope, b"content-length"):
            # Two servers in a row may disagree where such a request ends (request smuggling).
            text = "a request has a Content-Length or a Transfer-Encoding, not both"
            return Refusal("invalid_request", text, headers=_CLOSE)
        if not self._is_own_host(scope):
            return Refusal("unknown_host", "this gateway does not go by that Host")
        if any(origin not in self._origins for origin in _values(scope, b"origin")):
            return Refusal("origin_not_allowed", "requests of this Origin are not allowed")
        if scope["path"] == HEALTH:
            return None
        if not self._has_token(scope):
            headers = {"www-authenticate": "Bearer"}
            return Refusal("invalid_token", "the token is missing or wrong", headers=headers)
        return None

    def _is_own_host(self, scope: Scope) -> bool:
        values = _values(scope, b"host")
        if len(values) != 1:
            return False
        name = host_of(values[0].decode("latin-1"))
        # The address that the client has connected to is no name, so nobody can have rebound it.
        local = scope.get("server")
        return name in self._hosts or (local is not None and name in _names(str(local[0]).lower()))

    def _has_token(self, scope: Scope) -> bool:
        values = _values(scope, b"authorization")
        given = values[0] if len(values) == 1 else b""
        token = given.removeprefix(b"Bearer ")
        return token != given and hmac.compare_digest(_digest(token), self._token)


def head_too_large() -> Refusal:
    text = f"the headers have more than {HEAD_BYTES_MAX} bytes"
    return Refusal("headers_too_large", text, headers=_CLOSE)


def host_of(value: str) -> str:
    """The host of a Host header, in lower case: without its port, an IPv6 one without brackets."""
    if value.startswith("["):
        name, bracket, port = value[1:].partition("]")
        valid = bracket and (not port or (port[0] == ":" and port[1:].isdigit()))
    else:
        name, colon, port = value.partition(":")
        valid = not colon or port.isdigit()
    return name.lower() if valid else ""


def _names(address: str) -> tuple[str, str]:
    """The address, as IPv4 too: a listener for both kinds has it inside of an IPv6 one."""
    return address, address.removeprefix("::ffff:")


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _digest(token: bytes) -> bytes:
    # Of equal length, whatever was sent: the comparison tells nothing about the token's.
    return hashlib.sha256(token).digest()
