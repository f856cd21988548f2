"""The start: a clean-up that takes long is no gateway that is gone, and can be stopped."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from turnlock.doctor.live import gateway_of
from turnlock.errors import StoreError
from turnlock.gateway import Agent, AlreadyServed, Stop, serve, server, web
from turnlock.store import Store

from ..helpers import eventually as eventually_here
from .raw import Answer, chat, exchange, line, request
from .serving import Scripted, Served, ask, config, echo, eventually, run, served


class Paused:
    """A clean-up that has begun, and goes on when a test says so."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.goes_on = threading.Event()
        self.url = ""

    def clean_stale(self, store: Store) -> list[Any]:
        self.begun.set()
        assert self.goes_on.wait(20)
        return []

    @contextmanager
    def bound(self, host: str, port: int) -> Iterator[socket.socket]:
        with web.bound(host, port) as listener:
            self.url = web.url_of(listener)
            yield listener


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Iterator[Paused]:
    made = Paused()
    monkeypatch.setattr(Store, "clean_stale", lambda store: made.clean_stale(store))
    monkeypatch.setattr(server, "bound", made.bound)
    yield made
    made.goes_on.set()


AGENTS = {"main": Agent("main", Scripted(echo), "")}


async def ask_route(gateway: Served, target: str, method: str = "GET") -> Answer:
    body = chat() if method == "POST" else None
    return await exchange(gateway, request(gateway, target, method=method, body=body))


def test_while_it_cleans_up_it_says_that_it_starts_and_lets_nobody_in(
    tmp_path: Path, paused: Paused
) -> None:
    async def test() -> None:
        state, stop = tmp_path / "state", Stop()
        announced: list[str] = []
        serving = asyncio.create_task(
            serve(config(tmp_path), str(state), announced.append, stop=stop, agents=AGENTS)
        )
        await eventually(paused.begun.is_set)
        gateway = Served(paused.url, state)
        health = await ask_route(gateway, "/healthz")
        assert (health.status, health.body) == (503, b'{"status":"starting","ready":false}')
        for method, target in [("POST", "/v1/chat/completions"), ("GET", "/v1/models")]:
            answer = await ask_route(gateway, target, method)
            assert (answer.status, answer.error()["code"]) == (503, "starting")
            assert int(answer.headers["retry-after"]) > 0
        assert announced == []
        assert not (state / "gateway.json").exists()
        found = await asyncio.to_thread(gateway_of, str(state))
        assert found is not None
        assert found.condition.value == "starting"
        paused.goes_on.set()
        await eventually(lambda: announced)
        assert (await ask_route(gateway, "/healthz")).status == 200
        async with gateway.client() as client:
            assert await ask(client, "hello") == "re: hello"
        stop.wish()
        await serving

    run(test())


def test_a_clean_up_that_fails_stops_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(store: Store) -> list[Any]:
        raise StoreError("agents", "list", "Input/output error")

    monkeypatch.setattr(Store, "clean_stale", fail)

    async def test() -> None:
        async with served(tmp_path, Scripted(echo)) as gateway, gateway.client() as client:
            assert await ask(client, "hello") == "re: hello"

    run(test())
    assert "the start-up clean-up failed" in caplog.text


def test_a_client_that_came_early_is_answered_after_its_retry(
    tmp_path: Path, paused: Paused
) -> None:
    """The clients of the SDKs retry a 503 by themselves."""

    async def test() -> None:
        state, stop = tmp_path / "state", Stop()
        serving = asyncio.create_task(
            serve(config(tmp_path), str(state), lambda url: None, stop=stop, agents=AGENTS)
        )
        await eventually(paused.begun.is_set)
        async with Served(paused.url, state).client(max_retries=5) as client:
            asking = asyncio.create_task(ask(client, "hello"))
            async with line(Served(paused.url, state)) as other:
                await other.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                assert (await other.answer()).status == 503
            paused.goes_on.set()
            assert await asking == "re: hello"
        stop.wish()
        await serving

    run(test())


def test_a_stop_is_heard_while_it_cleans_up(tmp_path: Path, paused: Paused) -> None:
    async def test() -> None:
        state, stop = tmp_path / "state", Stop()
        announced: list[str] = []
        serving = asyncio.create_task(
            serve(config(tmp_path), str(state), announced.append, stop=stop, agents=AGENTS)
        )
        await eventually(paused.begun.is_set)
        stop.wish()
        await serving
        assert announced == []
        assert [path.name for path in state.iterdir()] == ["token"]
        assert gateway_of(str(state)) is None

    run(test())


def test_a_stop_is_heard_while_models_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some providers' libraries take seconds to import."""
    opening, over = threading.Event(), threading.Event()

    def opens(*settings: object) -> object:
        opening.set()
        over.wait(20)
        return Scripted(echo)

    async def test() -> None:
        monkeypatch.setattr("turnlock.models.opening.open_model", opens)
        stop = Stop()
        serving = asyncio.create_task(
            serve(config(tmp_path), str(tmp_path / "state"), lambda url: None, stop=stop)
        )
        await eventually(opening.is_set)
        stop.wish()
        await serving
        over.set()

    run(test())


def test_a_second_one_in_the_same_process_is_refused_and_told_that_the_first_answers(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async with served(tmp_path, Scripted(echo)) as gateway:
            with pytest.raises(AlreadyServed) as caught:
                await serve(config(tmp_path), str(gateway.state), lambda url: None, agents=AGENTS)
            error = caught.value
            assert (error.url, error.condition) == (gateway.url, "answers")
            assert "it is of this very process: end it first" in str(error)
            async with gateway.client() as client:
                assert await ask(client, "hello") == "re: hello"
        async with served(tmp_path, Scripted(echo)) as again, again.client() as client:
            assert await ask(client, "again") == "re: again"

    run(test())


def test_a_start_that_fails_leaves_the_directory_to_the_next(tmp_path: Path) -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            settings = config(tmp_path)
            used = settings._replace(gateway=settings.gateway._replace(port=port))
            with pytest.raises(Exception, match="in use"):
                await serve(used, str(tmp_path / "state"), lambda url: None, agents=AGENTS)
        assert not (tmp_path / "state" / "gateway.lock").exists()
        async with served(tmp_path, Scripted(echo)):
            pass

    run(test())


def test_a_task_that_is_cancelled_leaves_the_directory_to_the_next(
    tmp_path: Path, paused: Paused
) -> None:
    async def test() -> None:
        state = tmp_path / "state"
        serving = asyncio.create_task(
            serve(config(tmp_path), str(state), lambda url: None, agents=AGENTS)
        )
        await eventually(paused.begun.is_set)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        eventually_here(lambda: gateway_of(str(state)) is None)

    run(test())
