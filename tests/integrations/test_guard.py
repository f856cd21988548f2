"""Guarded calls: whatever the client, a call of a turn ends with the turn, and by its limits."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from google import genai
from pydantic_ai.direct import model_request
from pydantic_ai.messages import ModelRequest
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import turnlock
from tests.helpers import PATIENCE, eventually
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.integrations.guarding import NothingToGuard, guard_new
from turnlock.store import Store
from turnlock.testing import ManualClock

from .calls import (
    COMMENTS,
    CONTENT,
    PINGS,
    TEXT,
    all_left,
    answering,
    in_the_middle,
    never,
    read_all,
    read_all_async,
    revoke_once_asked,
)
from .upstream import HEAD, WHOLE, Peer, Upstream, upstream

HTTP = pytest.mark.parametrize("http", [httpx, httpx2], ids=["httpx", "httpx2"])


def revoked_while(
    store: turnlock.Store, client: Any, server: Upstream, **limits: Any
) -> turnlock.LeaseRevoked:
    """The end of a turn whose thread reads to the end of what the server says."""
    with (
        pytest.raises(turnlock.LeaseRevoked) as raised,
        store.turn("main/a", **limits) as turn,
    ):
        turn.append(turnlock.user("hello"))
        read_all(client, server.url)
    all_left(server)
    client.close()
    return raised.value


# A thread that waits for a model comes back


@HTTP
@pytest.mark.parametrize("script", [never, in_the_middle], ids=["headers", "middle"])
def test_a_thread_that_waits_comes_back_when_its_turn_is_revoked(
    store: turnlock.Store, http: Any, script: Any
) -> None:
    with upstream(script) as server:
        revoked = revoked_while(store, turnlock.guard(http.Client()), server, max_hold=0.3)
    assert revoked.reason == "hold-limit"
    with store.turn("main/a", wait=PATIENCE) as turn:
        turn.append(turnlock.user("and on it goes"))


@HTTP
def test_so_does_one_whose_transport_wraps_another(store: turnlock.Store, http: Any) -> None:
    """As those of pydantic-ai that try again: what wraps has no connections of its own."""

    class Wrapping(http.BaseTransport):  # type: ignore[misc]
        def __init__(self) -> None:
            self.wrapped = http.HTTPTransport()

        def handle_request(self, request: Any) -> Any:
            return self.wrapped.handle_request(request)

        def close(self) -> None:
            self.wrapped.close()

    with upstream(never) as server:
        client = turnlock.guard(http.Client(transport=Wrapping()))
        assert revoked_while(store, client, server, max_hold=0.3).reason == "hold-limit"


def test_without_the_guard_it_does_not(store: turnlock.Store) -> None:
    with upstream(never) as server, httpx.Client() as client:
        thread = threading.Thread(target=hang, args=(store, client, server.url))
        thread.start()
        assert server.asked.acquire(timeout=PATIENCE)
        assert store.revoke("main/a")
        with store.turn("main/a", wait=PATIENCE):
            assert thread.is_alive()
            assert not server.left.acquire(blocking=False)
    # The server's end is what ends it.
    thread.join()


def hang(store: turnlock.Store, client: Any, url: str) -> None:
    with suppress(turnlock.LeaseRevoked, httpx.HTTPError), store.turn("main/a"):
        client.post(url, timeout=0.5 + PATIENCE / 10)


def answering_once(peer: Peer, number: int) -> None:
    if number == 1:
        peer.send(WHOLE)
    else:
        never(peer, number)


@HTTP
def test_a_connection_of_the_pool_is_ended_as_well(store: turnlock.Store, http: Any) -> None:
    with upstream(answering_once) as server:
        client = turnlock.guard(http.Client())
        client.get(server.url)
        assert server.asked.acquire(timeout=PATIENCE)
        revoking = revoke_once_asked(store, server)
        revoked_while(store, client, server)
        revoking.join()
        assert server.met == 1


@HTTP
def test_so_is_one_that_was_open_before_the_guard(store: turnlock.Store, http: Any) -> None:
    with upstream(answering_once) as server:
        client = http.Client()
        client.get(server.url)
        assert server.asked.acquire(timeout=PATIENCE)
        revoking = revoke_once_asked(store, server)
        revoked_while(store, turnlock.guard(client), server)
        revoking.join()
        assert server.met == 1


@HTTP
def test_so_is_a_tasks_that_nobody_cancels(store: turnlock.Store, http: Any) -> None:
    async def test() -> None:
        async with http.AsyncClient() as client:
            await client.get(server.url)
            assert server.asked.acquire(timeout=PATIENCE)
            turnlock.guard(client)
            revoking = revoke_once_asked(store, server)
            with pytest.raises(turnlock.LeaseRevoked):
                async with store.turn("main/a"):
                    task = asyncio.create_task(read_all_async(client, server.url))
                    await asyncio.shield(task)
            with pytest.raises(turnlock.LeaseRevoked):
                async with asyncio.timeout(PATIENCE):
                    await task
            await asyncio.to_thread(revoking.join)

    with upstream(answering_once) as server:
        asyncio.run(test())
        assert server.met == 1
        all_left(server)


def test_a_turn_that_ends_takes_the_call_of_a_forgotten_thread_with_it(
    store: turnlock.Store,
) -> None:
    errors: list[BaseException] = []

    def ask(turn: Any) -> None:
        try:
            read_all(turnlock.guard(httpx.Client(), turn=turn), server.url)
        except turnlock.TurnlockError as error:
            errors.append(error)

    with upstream(never) as server:
        with store.turn("main/a") as turn:
            thread = threading.Thread(target=ask, args=(turn,))
            thread.start()
            assert server.asked.acquire(timeout=PATIENCE)
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert [type(error) for error in errors] == [turnlock.LeaseRevoked]


def test_a_call_after_the_end_of_its_turn_is_refused(store: turnlock.Store) -> None:
    with upstream(never) as server, httpx.Client() as client:
        with store.turn("main/a") as turn:
            turnlock.guard(client, turn=turn)
        with pytest.raises(turnlock.LeaseRevoked):
            client.get(server.url)
        assert server.heard == []


# Limits, by content


@HTTP
@pytest.mark.parametrize(
    ("script", "limits"),
    [
        (never, {"first": 0.3}),
        (in_the_middle, {"idle": 0.3}),
        (COMMENTS, {"first": 0.3}),
        (PINGS, {"first": 0.3}),
        (CONTENT, {"whole": 0.5}),
    ],
    ids=["never", "middle", "comments", "pings", "without end"],
)
def test_a_limit_that_passes_revokes_the_turn(
    store: turnlock.Store, http: Any, script: Any, limits: dict[str, float]
) -> None:
    with upstream(script) as server:
        revoked = revoked_while(store, turnlock.guard(http.Client(), **limits), server)
    assert revoked.reason == "model-limit"
    (marker,) = [
        one for one in store.read("main/a") if one.get("customType") == "openclaw:prompt-error"
    ]
    assert marker["data"]["turnId"] == revoked.turn_id


def test_the_limits_are_those_of_the_store_unless_given(state: Path) -> None:
    limits = turnlock.Limits(first_token=0.3)
    with turnlock.open_store(state, limits=limits) as store, upstream(never) as server:
        revoked = revoked_while(store, turnlock.guard(httpx.Client()), server)
    assert revoked.reason == "model-limit"


def test_content_that_comes_in_time_may_take_its_time(store: turnlock.Store) -> None:
    def script(peer: Peer, number: int) -> None:
        peer.send(HEAD)
        for _ in range(12):
            peer.event(TEXT)
            time.sleep(0.2)
        peer.close()

    with (
        upstream(script) as server,
        turnlock.guard(httpx.Client(), idle=2.0) as client,
        store.turn("main/a"),
    ):
        assert read_all(client, server.url).count(b"Hi") == 12


@HTTP
@pytest.mark.parametrize(("first", "own", "connect"), [(30, 5, 30), (30, None, 30), (3, 5, 3)])
def test_a_connection_has_the_time_of_the_first_content(
    http: Any, first: float, own: float | None, connect: float
) -> None:
    """The SDKs' few seconds are meant for who tries again, which in a turn nobody does."""
    limits: list[dict[str, float | None]] = []

    def answer(request: Any) -> Any:
        limits.append(request.extensions["timeout"])
        return http.Response(200)

    with (
        turnlock.open_store("memory:", limits=turnlock.Limits(first_token=first)) as store,
        http.Client(transport=http.MockTransport(answer)) as client,
        store.turn("main/a"),
    ):
        turnlock.guard(client).get("http://model", timeout=http.Timeout(9, connect=own))
    (limit,) = limits
    assert (limit["connect"], limit["read"]) == (connect, 9)


# Seconds: short enough that the watchdog takes it for no stop of the process.
STEP = 0.2


def five_slow_calls(store: turnlock.Store, clock: ManualClock, script: Any) -> None:
    with (
        upstream(script) as server,
        turnlock.guard(httpx.Client()) as client,
        store.turn("main/a", max_stall=2.5 * STEP) as turn,
    ):
        for _ in range(5):
            eventually(lambda: clock.waiting)
            clock.advance(STEP)
            store.check_leases()
            client.get(server.url)
        turn.check()


async def five_slow_calls_of_a_task(store: turnlock.Store, clock: ManualClock, script: Any) -> None:
    with upstream(script) as server:
        async with (
            turnlock.guard(httpx.AsyncClient()) as client,
            store.turn("main/a", max_stall=2.5 * STEP) as turn,
        ):
            for _ in range(5):
                await asyncio.to_thread(eventually, lambda: clock.waiting)
                clock.advance(STEP)
                store.check_leases()
                await client.get(server.url)
            await turn.check()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def slow(state: Path, clock: ManualClock) -> Iterator[turnlock.Store]:
    backend = FilesBackend(StateDirectory(str(state)), clock=clock)
    with Store(backend, location=str(state), clock=clock) as store:
        yield store


def test_an_answer_in_one_piece_is_progress_of_its_turn(
    slow: turnlock.Store, clock: ManualClock
) -> None:
    five_slow_calls(slow, clock, answering)
    asyncio.run(five_slow_calls_of_a_task(slow, clock, answering))


def test_an_error_is_none(slow: turnlock.Store, clock: ManualClock) -> None:
    with pytest.raises(turnlock.LeaseRevoked, match="stall-limit"):
        five_slow_calls(slow, clock, failing)
    with pytest.raises(turnlock.LeaseRevoked, match="stall-limit"):
        asyncio.run(five_slow_calls_of_a_task(slow, clock, failing))


@pytest.mark.parametrize("name", ["first", "idle", "whole"])
def test_a_limit_that_is_none_is_refused_by_name(name: str) -> None:
    with pytest.raises(turnlock.LimitsError, match=name):
        turnlock.guard(httpx.Client(), **{name: -1})


# Tasks


@HTTP
@pytest.mark.parametrize("script", [never, in_the_middle], ids=["headers", "middle"])
def test_a_task_that_waits_is_cancelled_and_its_connection_closed(
    store: turnlock.Store, http: Any, script: Any
) -> None:
    async def test() -> None:
        async with turnlock.guard(http.AsyncClient()) as client:
            with pytest.raises(turnlock.LeaseRevoked) as raised:
                async with store.turn("main/a", max_hold=0.3):
                    await read_all_async(client, server.url)
            assert raised.value.reason == "hold-limit"
            await asyncio.to_thread(all_left, server)

    with upstream(script) as server:
        asyncio.run(test())


def test_a_task_of_its_own_that_nobody_cancels_is_told_too(store: turnlock.Store) -> None:
    async def test() -> None:
        async with turnlock.guard(httpx2.AsyncClient()) as client:
            with pytest.raises(turnlock.LeaseRevoked):
                async with store.turn("main/a", max_hold=0.3):
                    task = asyncio.create_task(read_all_async(client, server.url))
                    await asyncio.shield(task)
            with pytest.raises(turnlock.LeaseRevoked):
                await task

    with upstream(never) as server:
        asyncio.run(test())


def test_a_call_in_another_thread_of_an_async_turn_ends_with_it(store: turnlock.Store) -> None:
    async def test() -> None:
        with pytest.raises(turnlock.LeaseRevoked):
            async with store.turn("main/a"):
                with turnlock.guard(httpx.Client()) as client:
                    await asyncio.to_thread(read_all, client, server.url)

    with upstream(in_the_middle) as server:
        revoking = revoke_once_asked(store, server)
        # asyncio.run waits for its threads: it would not come back.
        asyncio.run(test())
        revoking.join()
        all_left(server)


@HTTP
def test_the_kernel_asks_whether_a_silent_peer_is_there(store: turnlock.Store, http: Any) -> None:
    with (
        upstream(answering) as server,
        turnlock.guard(http.Client()) as client,
        store.turn("main/a"),
        client.stream("GET", server.url) as response,
    ):
        sock = response.extensions["network_stream"].get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000


# Outside of a turn


@HTTP
def test_outside_of_a_turn_a_call_goes_its_way(http: Any) -> None:
    with upstream(answering) as server, turnlock.guard(http.Client(), first=0.001) as client:
        assert client.get(server.url).json() == {}
    assert b"accept-encoding: gzip" in server.heard[0].lower()


def test_in_a_turn_nothing_is_compressed_as_nobody_could_look_into_it(
    store: turnlock.Store,
) -> None:
    with (
        upstream(answering) as server,
        turnlock.guard(httpx.Client()) as client,
        store.turn("main/a"),
    ):
        client.get(server.url)
    assert b"accept-encoding: identity" in server.heard[0].lower()


@pytest.mark.parametrize(
    ("signed", "sent"),
    [("accept;accept-encoding;host", b"br;q=1"), ("host;x-accept-encoding", b"identity")],
)
def test_a_header_that_aws_has_the_client_sign_is_left_as_it_is(
    store: turnlock.Store, signed: str, sent: bytes
) -> None:
    """With another one the signature is wrong, and every call of a turn refused."""
    credential = "AWS4-HMAC-SHA256 Credential=k/20261126/eu-west-1/bedrock/aws4_request"
    headers = {
        "accept-encoding": "br;q=1",
        "authorization": f"{credential}, SignedHeaders={signed}, Signature=5d67",
    }
    with (
        upstream(answering) as server,
        turnlock.guard(httpx.Client(headers=headers)) as client,
        store.turn("main/a"),
    ):
        client.get(server.url)
    assert b"\r\naccept-encoding: " + sent + b"\r\n" in server.heard[0].lower()


# Clients of SDKs


def failing(peer: Peer, number: int) -> None:
    peer.send(b"HTTP/1.1 500 no\r\nContent-Length: 0\r\nretry-after-ms: 1\r\n\r\n")


def test_an_sdk_retries_nothing_within_a_turn(store: turnlock.Store) -> None:
    with upstream(failing) as server:
        client = turnlock.guard(openai.OpenAI(api_key="x", base_url=server.url, max_retries=2))
        with store.turn("main/a"), pytest.raises(openai.InternalServerError):
            client.models.list()
        assert len(server.heard) == 1
        with pytest.raises(openai.InternalServerError):
            client.models.list()
        assert len(server.heard) == 1 + 3
        assert client.with_options(max_retries=1).max_retries == 1
        client.close()


def test_nor_in_a_thread_that_was_told_its_turn(store: turnlock.Store) -> None:
    """A thread's context has no turn, but its client has."""
    with upstream(failing) as server:
        client = openai.OpenAI(api_key="x", base_url=server.url, max_retries=2)
        with store.turn("main/a") as turn:
            mine = turnlock.guard(client, turn=turn)
            thread = threading.Thread(target=refused, args=(mine,))
            thread.start()
            thread.join()
            assert len(server.heard) == 1
            refused(mine.with_options(timeout=PATIENCE))
            assert len(server.heard) == 2
        assert turnlock.guard(client).max_retries == 2
        client.close()


def refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        client.models.list()


def test_a_copy_that_is_made_in_a_turn_has_its_retries_outside_of_it(store: turnlock.Store) -> None:
    with turnlock.guard(openai.OpenAI(api_key="x", max_retries=2)) as client:
        with store.turn("main/a"):
            copy = client.with_options(timeout=1)
            assert copy.max_retries == 0
        assert copy.max_retries == 2


def test_an_sdks_call_ends_with_its_turn(store: turnlock.Store) -> None:
    with upstream(in_the_middle) as server:
        client = turnlock.guard(openai.OpenAI(api_key="x", base_url=server.url))
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a", max_hold=0.5):
            for _ in client.chat.completions.create(model="m", messages=[], stream=True):
                pass
        all_left(server)
        client.close()


def test_anthropics_client_is_guarded_as_well(store: turnlock.Store) -> None:
    with upstream(never) as server:
        client = turnlock.guard(anthropic.Anthropic(api_key="x", base_url=server.url), first=0.3)
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
            client.messages.create(model="m", max_tokens=1, messages=[])
        assert len(server.heard) <= 1
        all_left(server)
        client.close()


def test_a_framework_that_makes_its_own_client_is_guarded_as_well(store: turnlock.Store) -> None:
    async def test() -> None:
        provider = OpenAIProvider(api_key="x", base_url=server.url)
        model = turnlock.guard(OpenAIChatModel("m", provider=provider))
        with pytest.raises(turnlock.LeaseRevoked):
            async with store.turn("main/a", max_hold=0.5):
                await model_request(model, [ModelRequest.user_text_prompt("hello")])
        await provider.client.close()

    with upstream(never) as server:
        asyncio.run(test())
        assert len(server.heard) <= 1
        all_left(server)


def test_an_async_sdks_call_ends_with_its_turn(store: turnlock.Store) -> None:
    async def test() -> None:
        client = turnlock.guard(openai.AsyncOpenAI(api_key="x", base_url=server.url))
        with pytest.raises(turnlock.LeaseRevoked):
            async with store.turn("main/a", max_hold=0.5):
                await client.chat.completions.create(model="m", messages=[])
        await client.close()

    with upstream(never) as server:
        asyncio.run(test())


def test_the_client_below_a_framework_is_found() -> None:
    class Framework:
        def __init__(self) -> None:
            self.root_client = openai.OpenAI(api_key="x")
            self.client = self.root_client.chat.completions

    found = turnlock.guard(Framework())
    transport: Any = found.root_client._client._transport
    assert type(transport).__name__ == "GuardedTransport"
    turnlock.guard(found)
    again: Any = found.root_client._client._transport
    assert again._inner is transport._inner
    found.root_client.close()


@pytest.mark.parametrize("client", [object(), "x", None, 3, Path("/x")])
def test_what_has_no_http_client_is_refused_by_its_type(client: object) -> None:
    with pytest.raises(NothingToGuard, match=type(client).__name__):
        turnlock.guard(client)


def test_what_also_calls_past_the_clients_that_are_guarded_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where aiohttp is installed, Google's async calls go over that: not all would be guarded."""
    monkeypatch.setattr("google.genai._api_client.has_aiohttp", True)
    with pytest.raises(NothingToGuard, match="httpx_async_client"):
        turnlock.guard(genai.Client(api_key="x"))
    assert not guard_new(genai.Client(api_key="x"))
    mine = genai.types.HttpOptions(httpx_async_client=httpx.AsyncClient())
    assert guard_new(turnlock.guard(genai.Client(api_key="x", http_options=mine)))


def test_googles_client_is_guarded_as_well() -> None:
    client = turnlock.guard(genai.Client(api_key="x"))
    found: Any = client._api_client
    for one in (found._httpx_client, found._async_httpx_client):
        assert "Guarded" in type(one._transport).__name__
