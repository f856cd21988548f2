"""The connections under the OpenAI SDK: one for each request, and none is left behind.

A pool would offer one that died unnoticed to the next call, which then hangs.
"""

from __future__ import annotations

import functools
import importlib
import ipaddress
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import openai

# openai 3 moved from httpx to httpx2. Both may be installed, and 2.x refuses a client of httpx2.
_SDK_MAJOR = int(openai.__version__.partition(".")[0])
http: Any = importlib.import_module("httpx2" if _SDK_MAJOR >= 3 else "httpx")

# A peer that is gone without a word is noticed after about two minutes, also when no limit is set.
_TCP_WATCH = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 15,
    "TCP_KEEPCNT": 4,
    "TCP_USER_TIMEOUT": 120_000,
}


class _Line:
    """What one request is sent over; closing it closes the sockets themselves.

    The layers between forget a socket when a call is cancelled at the wrong moment: in the TLS
    handshake, or between the connection and the first byte of the request.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._sockets: list[Any] = []

    async def send(self, request: Any) -> Any:
        request.extensions = {**request.extensions, "trace": self._trace}
        return await self._transport.handle_async_request(request)

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(".connect_tcp.complete"):
            self._sockets.append(info["return_value"])

    async def close(self) -> None:
        for sock in self._sockets:
            await sock.aclose()
        await self._transport.aclose()


class _Body(http.AsyncByteStream):  # type: ignore[misc]  # a class of either library
    """A response's body that ends its line when it is closed."""

    def __init__(self, stream: Any, end: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._end = end

    def __aiter__(self) -> AsyncIterator[bytes]:
        body: AsyncIterator[bytes] = self._stream.__aiter__()
        return body

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._end()


class Lines:
    """A transport for httpx that gives every request a line of its own."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._open: set[_Line] = set()

    async def handle_async_request(self, request: Any) -> Any:
        line = _Line(self._make())
        self._open.add(line)
        try:
            response = await line.send(request)
        except BaseException:
            await self._end(line)
            raise
        response.stream = _Body(response.stream, functools.partial(self._end, line))
        return response

    async def _end(self, line: _Line) -> None:
        self._open.discard(line)
        await line.close()

    async def aclose(self) -> None:
        for line in list(self._open):
            await self._end(line)


def http_client(base_url: str, connect: float) -> Any:
    """The SDK's HTTP client for one endpoint. Raises `ValueError` when the URL cannot be used."""
    host = _host(base_url)
    direct = _is_loopback(host)
    make = functools.partial(
        http.AsyncHTTPTransport,
        proxy=None if direct else _proxy(base_url, host),
        trust_env=not direct,
        verify=_tls(trust_env=not direct),
        limits=http.Limits(max_connections=None, max_keepalive_connections=0),
        socket_options=_socket_options(),
    )
    make()  # a proxy that cannot be used is refused now and not by the first call
    return http.AsyncClient(
        transport=Lines(make),
        trust_env=not direct,
        timeout=http.Timeout(None, connect=connect),
        follow_redirects=True,
    )


@functools.cache
def _tls(*, trust_env: bool) -> ssl.SSLContext:
    # Reading the certificates takes 50 ms, and every model of a process needs the same ones.
    context: ssl.SSLContext = http.create_ssl_context(trust_env=trust_env)
    return context


def _host(base_url: str) -> str:
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


def _proxy(base_url: str, host: str) -> Any:
    # With a transport of one's own httpx leaves the environment's proxies to the caller.
    if urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(urlsplit(base_url).scheme) or proxies.get("all")
    if not proxy:
        return None
    return http.Proxy(proxy if "://" in proxy else f"http://{proxy}")


def _socket_options() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in _TCP_WATCH.items():
        option = getattr(socket, name, None)  # not every platform has every one
        if option is not None:
            options.append((socket.IPPROTO_TCP, option, value))
    return options
