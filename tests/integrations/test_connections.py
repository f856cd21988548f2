"""Guarded calls over TLS and HTTP/2: what is ended is the connection itself, whatever is on it."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import httpx2
import pytest
import trustme

import turnlock
from tests.helpers import PATIENCE, eventually
from turnlock.integrations.sockets import instrument

from .calls import (
    NEVER,
    all_left,
    in_the_middle,
    never,
    read_all,
    read_all_async,
    revoke_once,
    revoke_once_asked,
)
from .upstream import Upstream, serving, upstream
from .upstream2 import Upstream2

HTTP = pytest.mark.parametrize("http", [httpx, httpx2], ids=["httpx", "httpx2"])


class Tls:
    """Both ends of it, with a certificate of our own."""

    def __init__(self, *protocols: str) -> None:
        authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.server)
        if protocols:
            self.server.set_alpn_protocols(list(protocols))
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


@pytest.fixture(scope="module")
def tls() -> Tls:
    return Tls()


@pytest.fixture(scope="module")
def tls2() -> Tls:
    return Tls("h2")


# A thread


@HTTP
@pytest.mark.parametrize("script", [never, in_the_middle], ids=["headers", "middle"])
def test_a_thread_that_waits_over_tls_comes_back(
    store: turnlock.Store, http: Any, script: Any, tls: Tls
) -> None:
    with upstream(script, tls.server) as server, http.Client(verify=tls.client) as client:
        revoking = revoke_once_asked(store, server)
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
            read_all(turnlock.guard(client), server.url)
        revoking.join()
        assert client._transport._inner._pool.connections == []
        all_left(server)


@contextmanager
def silent_at_the_handshake() -> Iterator[Upstream]:
    """It takes the client's first words of TLS, and answers nothing."""
    with upstream(never) as server:
        server.url = server.url.replace("http:", "https:")
        yield server


@HTTP
def test_a_thread_in_the_middle_of_the_handshake_comes_back(
    store: turnlock.Store, http: Any, tls: Tls
) -> None:
    """Wrapping takes the descriptor out of the socket that one would shut down."""
    with silent_at_the_handshake() as server, http.Client(verify=tls.client) as client:
        turnlock.guard(client, first=NEVER)
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
            revoking = revoke_once(store, server.spoke)
            client.get(server.url, timeout=None)
        revoking.join()
        assert client._transport._inner._pool.connections == []
        all_left(server)


def test_without_the_guard_it_stays_in_the_handshake(store: turnlock.Store, tls: Tls) -> None:
    def hang() -> None:
        with suppress(turnlock.LeaseRevoked, httpx.HTTPError), store.turn("main/a", max_hold=0.5):
            client.get(server.url, timeout=None)

    with silent_at_the_handshake() as server, httpx.Client(verify=tls.client) as client:
        thread = threading.Thread(target=hang)
        thread.start()
        eventually(lambda: server.met)
        with store.turn("main/a", wait=PATIENCE):
            assert thread.is_alive()
            assert not server.left.acquire(blocking=False)
        server.drop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


@HTTP
def test_a_handshake_that_hangs_has_the_limit_of_the_first_content(
    store: turnlock.Store, http: Any, tls: Tls
) -> None:
    with silent_at_the_handshake() as server, http.Client(verify=tls.client) as client:
        turnlock.guard(client, first=0.3)
        with pytest.raises(turnlock.LeaseRevoked) as raised, store.turn("main/a"):
            client.get(server.url, timeout=None)
        assert raised.value.reason == "model-limit"
        all_left(server)


# Tasks


@HTTP
@pytest.mark.parametrize("script", [never, in_the_middle], ids=["headers", "middle"])
def test_a_task_that_waits_over_tls_leaves_no_connection(
    store: turnlock.Store, http: Any, script: Any, tls: Tls
) -> None:
    async def test() -> None:
        async with turnlock.guard(http.AsyncClient(verify=tls.client)) as client:
            revoking = revoke_once_asked(store, server)
            with pytest.raises(turnlock.LeaseRevoked):
                async with store.turn("main/a"):
                    await read_all_async(client, server.url)
            assert client._transport._inner._pool.connections == []
            await asyncio.to_thread(all_left, server)
            revoking.join()

    with upstream(script, tls.server) as server:
        asyncio.run(test())


@HTTP
@pytest.mark.parametrize("apart", [False, True], ids=["the turn's task", "a task apart"])
def test_a_task_in_the_middle_of_the_handshake_leaves_no_connection(
    store: turnlock.Store, http: Any, tls: Tls, apart: bool
) -> None:
    """The client's own layers forget the socket of a handshake that is cancelled."""

    async def test() -> None:
        async with turnlock.guard(http.AsyncClient(verify=tls.client), first=NEVER) as client:
            with pytest.raises(turnlock.LeaseRevoked):
                async with store.turn("main/a"):
                    revoking = revoke_once(store, server.spoke)
                    asking = asyncio.create_task(client.get(server.url, timeout=None))
                    await (asyncio.shield(asking) if apart else asking)
            await asyncio.to_thread(all_left, server)
            revoking.join()
            with suppress(asyncio.CancelledError, turnlock.LeaseRevoked):
                await asking
            assert client._transport._inner._pool.connections == []

    with silent_at_the_handshake() as server:
        asyncio.run(test())


def test_outside_of_a_turn_a_client_may_run_on_a_loop_of_another_kind() -> None:
    """On trio's, httpcore connects with no event loop of asyncio running."""

    class Silent:
        async def connect_tcp(self, *args: Any) -> Any:
            return self

        def get_extra_info(self, info: str) -> None:
            return None

    class Transport:
        def __init__(self) -> None:
            self._pool = self
            self._network_backend: Any = Silent()

        async def handle_async_request(self) -> None: ...

    transport = Transport()
    instrument(transport)
    connecting = transport._network_backend.connect_tcp("host", 80)
    with pytest.raises(StopIteration) as connected:
        connecting.send(None)
    assert connected.value.value.get_extra_info("socket") is None


# HTTP/2


@HTTP
@pytest.mark.parametrize("path", ["/never", "/middle"])
@pytest.mark.parametrize("used", [False, True], ids=["new", "used before"])
def test_a_thread_that_waits_over_http2_comes_back(
    store: turnlock.Store, http: Any, path: str, used: bool, tls2: Tls
) -> None:
    with (
        serving(Upstream2(never, tls2.server)) as server,
        http.Client(verify=tls2.client, http2=True) as client,
    ):
        if not used:
            turnlock.guard(client)
        assert client.get(f"{server.url}/whole").http_version == "HTTP/2"
        turnlock.guard(client)
        assert server.asked.acquire(timeout=PATIENCE)
        revoking = revoke_once_asked(store, server)
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
            read_all(client, f"{server.url}{path}")
        revoking.join()
        assert server.met == 1
        all_left(server)
        # And it is no connection that the next call would be given.
        assert client.get(f"{server.url}/whole").status_code == 200
        assert server.met == 2


@HTTP
def test_over_http2_a_thread_that_waits_behind_another_comes_back(
    store: turnlock.Store, http: Any, tls2: Tls
) -> None:
    """One thread reads for all that share the connection; the other waits for a lock."""

    def ask(session: str) -> None:
        with suppress(turnlock.LeaseRevoked, http.HTTPError), store.turn(session):
            read_all(client, f"{server.url}/never")

    with (
        serving(Upstream2(never, tls2.server)) as server,
        http.Client(verify=tls2.client, http2=True) as client,
    ):
        turnlock.guard(client)
        client.get(f"{server.url}/whole")
        assert server.asked.acquire(timeout=PATIENCE)
        first, second = (
            threading.Thread(target=ask, args=(name,)) for name in ("main/a", "main/b")
        )
        for thread in (first, second):
            thread.start()
            assert server.asked.acquire(timeout=PATIENCE)
        assert store.revoke("main/b")
        for thread in (second, first):
            thread.join(PATIENCE)
            assert not thread.is_alive()
        all_left(server)


@HTTP
@pytest.mark.parametrize("path", ["/never", "/middle"])
def test_a_task_that_waits_over_http2_leaves_no_call_behind(
    store: turnlock.Store, http: Any, path: str, tls2: Tls
) -> None:
    async def test() -> None:
        client = turnlock.guard(http.AsyncClient(verify=tls2.client, http2=True))
        async with client:
            revoking = revoke_once_asked(store, server)
            with pytest.raises(turnlock.LeaseRevoked):
                async with store.turn("main/a"):
                    await read_all_async(client, f"{server.url}{path}")
            await asyncio.to_thread(all_left, server)
            revoking.join()
            assert (await client.get(f"{server.url}/whole")).http_version == "HTTP/2"

    with serving(Upstream2(never, tls2.server)) as server:
        asyncio.run(test())
