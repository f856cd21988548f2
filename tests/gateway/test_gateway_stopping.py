"""The end: every turn with its terminal entry, every client told, in the time that is given."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import openai
import pytest

from turnlock import StoreError
from turnlock.config import load_config
from turnlock.gateway import Agent, Stop, serve
from turnlock.models import Delta, Finished, Message

from ..helpers import Child, child
from .raw import chat, get, line, post, request
from .serving import (
    BOUND,
    PROCESS,
    Scripted,
    Served,
    ask,
    config_file,
    deaf_sleep,
    eventually,
    facts,
    failure,
    process,
    run,
    served,
)
from .test_gateway_waiting import Gate, held

SLOW = "first_token = 20\nidle = 20\nturn = 30\n"


async def hung(gateway: Served, client: openai.AsyncOpenAI, **how: bool) -> asyncio.Task[object]:
    """A message whose turn is with a model that never answers."""
    turn: asyncio.Task[object] = asyncio.create_task(failure(client, "/hang", **how))
    await eventually(lambda: gateway.claim().exists() and len(gateway.said()) == 1)
    return turn


async def ended(process: Child) -> int:
    async with asyncio.timeout(BOUND):
        return await asyncio.to_thread(process.ended)


def test_sigterm_ends_a_hung_turn_in_time_with_its_marker(tmp_path: Path) -> None:
    async def test(gateway: Served, started: Child) -> None:
        async with gateway.client() as client:
            turn = await hung(gateway, client)
            began = time.monotonic()
            started.process.send_signal(signal.SIGTERM)
            error = await turn
            assert isinstance(error, openai.InternalServerError)
            assert (error.status_code, error.code) == (503, "shutting_down")
            assert error.response.headers["x-should-retry"] == "false"
            assert await ended(started) == 0
            assert time.monotonic() - began < 0.4 + 2.0
        heard_only_the_url(gateway, started)
        assert [m["reason"] for m in gateway.markers()] == ["cancelled"]
        assert len(gateway.terminals()) == 1
        assert not gateway.claim().exists()
        assert not (gateway.state / "gateway.json").exists()

    with process(tmp_path, limits=f"{SLOW}drain = 0.4") as (gateway, started):
        run(test(gateway, started))


def heard_only_the_url(gateway: Served, started: Child) -> None:
    """What a process has said by its end: its url, which `process` has read, and no secret."""
    assert started.process.stdout is not None
    assert started.process.stderr is not None
    assert started.process.stdout.read() == b"ended\n"
    log = started.process.stderr.read().decode()
    assert "start-up clean-up" in log
    assert "revoked" not in log
    assert "://" not in log
    assert gateway.token not in log


def test_a_second_signal_hastens_it(tmp_path: Path) -> None:
    async def test(gateway: Served, started: Child) -> None:
        async with gateway.client() as client:
            turn = await hung(gateway, client)
            started.process.send_signal(signal.SIGINT)
            await eventually_draining(gateway)
            assert not turn.done()
            began = time.monotonic()
            started.process.send_signal(signal.SIGTERM)
            assert getattr(await turn, "code", None) == "shutting_down"
            assert await ended(started) == 0
            assert time.monotonic() - began < 3.0

    with process(tmp_path, limits=f"{SLOW}drain = 30.0") as (gateway, started):
        run(test(gateway, started))


async def eventually_draining(gateway: Served) -> None:
    async with asyncio.timeout(BOUND):
        while (await get(gateway, "/healthz")).status == 200:
            pass


def test_a_killed_gateway_leaves_a_turn_that_the_next_one_marks_once(tmp_path: Path) -> None:
    async def hang_and_die(gateway: Served, started: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            turn = await hung(gateway, client)
            started.kill()
            assert isinstance(await turn, openai.APIConnectionError)
        assert gateway.claim().exists()
        assert gateway.terminals() == []

    async def start_again(replies: int) -> None:
        # Cleaned up before anybody could ask, and marked by the first start only.
        async with served(tmp_path, limits=SLOW) as gateway, gateway.client() as client:
            assert not gateway.claim().exists()
            assert [m["reason"] for m in gateway.markers()] == ["interrupted"]
            assert await ask(client, "hello") == f"practice reply {replies} to: hello"

    with process(tmp_path, limits=SLOW) as (gateway, started):
        run(hang_and_die(gateway, started))
    run(start_again(2))
    run(start_again(3))
    assert len(gateway.terminals()) == len(set(gateway.terminals())) == 3


def test_turns_that_can_end_do_and_new_requests_are_refused(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        limits = f"{SLOW}drain = 4.0"
        async with (
            served(tmp_path, gate.model, limits=limits) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            first = await held(gateway, client, gate)
            waiting = asyncio.create_task(failure(client, "b"))
            await asyncio.wait({waiting}, timeout=0.1)
            gateway.stop.wish()
            error = await waiting
            assert error.code == "shutting_down"
            assert isinstance(error, openai.APIStatusError)
            assert "x-should-retry" not in error.response.headers  # nothing of it was stored
            refused = await post(gateway, chat("c", user="c"))
            assert (refused.status, refused.error()["code"]) == (503, "shutting_down")
            assert refused.headers["connection"] == "close"
            assert int(refused.headers["retry-after"]) > 0
            health = await get(gateway, "/healthz")
            assert (health.status, json.loads(health.body)["ready"]) == (503, False)
            gate.opened.set()
            assert await first == "re: hold"
        assert gateway.said() == [("user", "hold"), ("assistant", "re: hold")]
        assert gateway.markers() == []

    run(test())


def test_a_stream_is_told_of_the_end(tmp_path: Path) -> None:
    async def test() -> None:
        limits = f"{SLOW}drain = 0.2"
        async with served(tmp_path, limits=limits) as gateway, line(gateway) as connection:
            await connection.send(request(gateway, body=chat("/stall", stream=True, user="a")))
            await connection.head()
            gateway.stop.wish()
            body = b"".join([chunk async for chunk in connection.chunks()])
            assert b'"code":"shutting_down"' in body
            assert b"[DONE]" not in body
            assert gateway.markers()[0]["reason"] == "cancelled"

    run(test())


def test_code_that_ignores_its_cancellation_does_not_hold_up_the_end(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def deaf(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        await deaf_sleep(release)
        yield Delta("too late")
        yield Finished("stop", None, "m")

    async def test() -> None:
        limits = f"{SLOW}drain = 0.2"
        async with (
            served(tmp_path, Scripted(deaf), limits=limits) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            turn = asyncio.create_task(failure(client, "hi"))
            await eventually(lambda: gateway.claim().exists() and gateway.said())
            gateway.stop.wish()
            assert (await turn).code == "shutting_down"
        assert [m["reason"] for m in gateway.markers()] == ["cancelled"]
        release.set()
        await asyncio.sleep(0)
        assert gateway.said() == [("user", "hi")]

    run(test())


DEAF_PROCESS = """
    import asyncio
    from turnlock.gateway import Agent, process, server
    from turnlock.models import Delta

    class Deaf:
        provider = model = api = "deaf"
        async def stream(self, messages):
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass
            yield Delta("never")
        async def aclose(self):
            pass

    agents = {"main": Agent("main", Deaf(), "")}
    serve = server.serve
    process.serve = lambda *a, **k: serve(*a, agents=agents, **k)
"""


def test_a_process_with_such_code_ends_as_well(tmp_path: Path) -> None:
    async def test(gateway: Served, started: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            turn = asyncio.create_task(failure(client, "hi"))
            await eventually(lambda: gateway.claim().exists() and gateway.said())
            started.process.send_signal(signal.SIGTERM)
            assert facts(await turn)["code"] == "shutting_down"
            assert await ended(started) == 0
        assert [m["reason"] for m in gateway.markers()] == ["cancelled"]

    path = config_file(tmp_path, limits=f"{SLOW}drain = 0.2")
    with child(DEAF_PROCESS + PROCESS, tmp_path / "state", path) as started:
        run(test(Served(started.line(), tmp_path / "state"), started))


def test_where_it_listens_is_in_the_state_directory(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, Scripted(Gate().model.stream)) as gateway:
            path = gateway.state / "gateway.json"
            found = json.loads(path.read_text())
            assert (found["pid"], found["url"]) == (os.getpid(), gateway.url)
            assert found["started"].endswith("Z")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not path.exists()

    run(test())


def test_a_port_in_use_is_said_to_be_in_use(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, Gate().model) as gateway:
            port = gateway.url.rpartition(":")[2]
            path = tmp_path / "second.toml"
            path.write_text(f"[gateway]\nport = {port}\n")
            config = load_config(str(path))
            with pytest.raises(StoreError, match="in use") as caught:
                await serve(config, str(tmp_path / "other"), lambda url: None)
            assert "--port" in caught.value.hint
            assert (gateway.state / "gateway.json").exists()

    run(test())


def test_a_wish_before_the_start_is_heard(tmp_path: Path) -> None:
    async def test() -> None:
        stop = Stop()
        stop.wish()
        agents = {"main": Agent("main", Gate().model, "")}
        config = load_config(str(config_file(tmp_path)))
        announced: list[str] = []
        await serve(config, str(tmp_path / "s"), announced.append, stop=stop, agents=agents)
        assert announced == []

    run(test())
