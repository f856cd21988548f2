"""The connections under the providers' SDKs: one for each request, and none is left behind.

A pool would offer one that died unnoticed to the next call, which then hangs.

The SDKs are built on httpx or on its successor httpx2, which have the same classes under two names.
Both may be installed, and an SDK refuses the other one's client; so each function here takes the
library that it is to use, as ``http``.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self
from urllib.parse import urlsplit

from .bodies import Passing

# A peer that is gone without a word is noticed after about two minutes, also when no limit is set.
_TCP_WATCH = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 15,
    "TCP_KEEPCNT": 4,
    "TCP_USER_TIMEOUT": 120_000,
}


# The words with a proxy, which the transport itself waits for without any limit.
_TUNNEL_BEGINS = ("setup_socks5_connection.started",)
_TUNNEL_ENDS = ("setup_socks5_connection.complete", "receive_response_headers.complete")


# Where the environment says that the certificates are; the first that is set counts.
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class _Line:
    """What one request is sent over; closing it closes the sockets themselves.

    The layers between forget a socket when a call is cancelled at the wrong moment: in the TLS
    handshake, or between the connection and the first byte of the request.
    """

    def __init__(self, http: Any, transport: Any, connect: float) -> None:
        self._http = http
        self._transport = transport
        self._connect = connect
        self._tunnel = asyncio.timeout(None)
        self._sockets: list[Any] = []

    async def send(self, request: Any) -> Any:
        request.extensions = {**request.extensions, "trace": self._trace}
        try:
            async with self._tunnel:
                return await self._transport.handle_async_request(request)
        except TimeoutError:
            if not self._tunnel.expired():
                raise
            raise self._http.ConnectTimeout("the proxy makes no connection") from None

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(".connect_tcp.complete"):
            self._sockets.append(info["return_value"])
        elif event.endswith(_TUNNEL_BEGINS) or _is_connect(event, info):
            self._tunnel.reschedule(asyncio.get_running_loop().time() + self._connect)
        elif event.endswith(_TUNNEL_ENDS):
            self._tunnel.reschedule(None)

    async def close(self) -> None:
        for sock in self._sockets:
            await sock.aclose()
        await self._transport.aclose()


def _is_connect(event: str, info: Mapping[str, Any]) -> bool:
    is_request = event.endswith(".send_request_headers.started")
    return is_request and getattr(info.get("request"), "method", b"") == b"CONNECT"


@functools.cache
def _body_class(http: Any) -> Any:
    class Body(http.AsyncByteStream):  # type: ignore[misc]  # a class of either library
        """A response's body that ends its line when it is closed."""

        def __init__(self, response: Any, end: Callable[[], Awaitable[None]]) -> None:
            self._stream = response.stream
            self._passing = Passing(http, response.headers)
            self._end = end

        def __aiter__(self) -> AsyncIterator[bytes]:
            # No generator, which would be closed when the garbage collector finds it.
            self._chunks = aiter(self._stream)
            return self

        async def __anext__(self) -> bytes:
            chunk = await anext(self._chunks, None)
            passed = self._passing.rest() if chunk is None else self._passing.take(chunk)
            if chunk is None and not passed:
                raise StopAsyncIteration
            return passed

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                await self._end()

    return Body


class Call:
    """The lines of one call of a model, so that its end is theirs, whatever the SDK does.

    An SDK that is built of nested async generators closes them when the garbage collector finds
    them, and its connections with them.
    """

    def __init__(self) -> None:
        self._ends: list[Callable[[], Awaitable[None]]] = []

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Requests that are sent in this block belong to the call."""
        token = _call.set(self)
        try:
            yield
        finally:
            _call.reset(token)

    def note(self, end: Callable[[], Awaitable[None]]) -> None:
        self._ends.append(end)

    async def end(self) -> None:
        for end in self._ends:
            await end()


_call: ContextVar[Call | None] = ContextVar("turnlock_model_call", default=None)


class Lines:
    """A transport that gives every request a line of its own."""

    def __init__(self, http: Any, make: Callable[[], Any], connect: float) -> None:
        self._http = http
        self._make = make
        self._connect = connect
        self._open: set[_Line] = set()

    async def handle_async_request(self, request: Any) -> Any:
        line = _Line(self._http, self._make(), self._connect)
        self._open.add(line)
        call = _call.get()
        if call is not None:
            call.note(functools.partial(self._end, line))
        try:
            response = await line.send(request)
        except BaseException:
            await self._end(line)
            raise
        response.stream = _body_class(self._http)(response, functools.partial(self._end, line))
        return response

    async def _end(self, line: _Line) -> None:
        self._open.discard(line)
        await line.close()

    async def aclose(self) -> None:
        for line in list(self._open):
            await self._end(line)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def http_client(http: Any, base_url: str, connect: float, *, redirects: bool) -> Any:
    """An SDK's HTTP client for one endpoint. Raises `ValueError` when the URL cannot be used, or
    what the environment says of a proxy or certificates.

    ``connect`` limits, in seconds, the TCP connection, the tunnel through a proxy, and the TLS
    handshake, each by itself. Nothing else is limited here. ``redirects`` may be followed where the
    key is in the Authorization header: to another host, the client takes no other header away.
    """
    return http.AsyncClient(**client_options(http, base_url, connect, redirects=redirects))


def client_options(http: Any, base_url: str, connect: float, *, redirects: bool) -> dict[str, Any]:
    """The arguments of `http_client`'s client, for an SDK that makes its own."""
    host = _host(http, base_url)
    direct = _is_loopback(host)
    make = functools.partial(
        http.AsyncHTTPTransport,
        proxy=None if direct else _proxy(http, base_url, host),
        trust_env=not direct,
        verify=_tls(http, trust_env=not direct),
        limits=http.Limits(max_connections=None, max_keepalive_connections=0),
        socket_options=socket_options(),
    )
    try:
        make()  # a proxy that cannot be used is refused now and not by the first call
    except (ValueError, ImportError) as error:
        raise _no_proxy(error) from None
    return {
        "transport": Lines(http, make, connect),
        "trust_env": not direct,
        "timeout": http.Timeout(None, connect=connect),
        "follow_redirects": redirects,
    }


@functools.cache
def _tls(http: Any, *, trust_env: bool) -> ssl.SSLContext:
    # Reading the certificates takes 50 ms, and every model of a process needs the same ones.
    try:
        context: ssl.SSLContext = http.create_ssl_context(trust_env=trust_env)
    except OSError as error:
        said = [f"{name}={os.environ[name]}" for name in _CERTIFICATES if os.environ.get(name)]
        where = f"of {said[0]}" if said else "for TLS"
        raise ValueError(f"the certificates {where} cannot be read: {error}") from None
    return context


def _host(http: Any, base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        host = parts.hostname or ""
        host.encode("idna")
        usable = parts.scheme in ("http", "https") and parts.port != 0 and bool(host)
        http.URL(base_url)
    except (ValueError, http.InvalidURL) as error:
        raise ValueError(f"the base_url is no URL: {error}") from None
    if not usable:
        raise ValueError("the base_url has to be like http://host:port/path or https://host/path")
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _proxy(http: Any, base_url: str, host: str) -> Any:
    # With a transport of one's own httpx leaves the environment's proxies to the caller.
    if urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(urlsplit(base_url).scheme) or proxies.get("all")
    if not proxy:
        return None
    try:
        return http.Proxy(proxy if "://" in proxy else f"http://{proxy}")
    except (ValueError, http.InvalidURL) as error:
        raise _no_proxy(error) from None


def _no_proxy(error: Exception) -> ValueError:
    return ValueError(f"the proxy of the environment cannot be used: {error}")


def socket_options() -> list[tuple[int, int, int]]:
    """Have the kernel ask whether a silent peer is still there."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in _TCP_WATCH.items():
        option = getattr(socket, name, None)  # not every platform has every one
        if option is not None:
            options.append((socket.IPPROTO_TCP, option, value))
    return options
