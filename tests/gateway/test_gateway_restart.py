"""A gateway that is killed at any moment comes back: each interrupted turn marked once, its clients
told by the end of their connection, and nothing asked of a model again.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from ..doctor.planting import bytes_of
from ..helpers import Child, child
from .raw import chat, line, request
from .serving import (
    PROCESS,
    Scripted,
    Served,
    ask,
    config_file,
    echo,
    eventually,
    failure,
    process,
    run,
    served,
)

pytestmark = pytest.mark.processes

SLOW = "first_token = 30\nidle = 30\nturn = 60\ndrain = 30"


class Load:
    """Turns of every kind under way in a gateway, and what their clients have got of it."""

    def __init__(self, gateway: Served, client: openai.AsyncOpenAI) -> None:
        self.gateway = gateway
        self.client = client
        self.got = b""
        self.turns: list[asyncio.Task[openai.APIError]] = []
        self.stream: asyncio.Task[bytes] | None = None

    async def begin(self) -> None:
        """One done, one hanging with two queued behind it, one streaming."""
        assert await ask(self.client, "hello", session="done")
        self.turns.append(self._hang("/hang"))
        await eventually(lambda: self.gateway.said("hung"))
        self.turns += [self._hang("queued"), self._hang("queued too")]
        self.stream = asyncio.create_task(self._stream())
        await eventually(lambda: self.got.count(b"data: ") > 3)

    def _hang(self, text: str) -> asyncio.Task[openai.APIError]:
        return asyncio.create_task(failure(self.client, text, session="hung"))

    async def _stream(self) -> bytes:
        """Reads until its connection ends; what came last."""
        body = chat("/dribble", stream=True, user="streaming")
        async with line(self.gateway) as connection:
            await connection.send(request(self.gateway, body=body))
            while chunk := await connection.reader.read(65536):
                self.got += chunk
        return self.got

    async def lost(self) -> None:
        """Every client is told by the end of its connection, and by nothing else."""
        for turn in self.turns:
            assert isinstance(await turn, openai.APIConnectionError)
        assert self.stream is not None
        try:
            await self.stream
        except ConnectionError:
            pass
        assert b"[DONE]" not in self.got
        assert b"error" not in self.got


async def comes_back(tmp_path: Path, gateway: Served) -> None:
    """The next gateway has marked what was interrupted, and asks a model nothing by itself."""
    assert gateway.markers("hung") == gateway.markers("streaming") == []
    model = Scripted(echo)
    async with served(tmp_path, model, limits=SLOW) as again, again.client() as client:
        assert [m["reason"] for m in again.markers("hung")] == ["interrupted"]
        assert [m["reason"] for m in again.markers("streaming")] == ["interrupted"]
        assert again.markers("done") == []
        # What only waited had no turn, and left nothing.
        assert again.said("hung") == [("user", "/hang")]
        before = bytes_of(again.state / "agents")
        assert await ask(client, "hello", session="other") == "re: hello"
        assert len(model.calls) == 1
        after = bytes_of(again.state / "agents")
        assert {path: after[path] for path in before} == before
        assert await ask(client, "go on", session="hung") == "re: go on"
        for name in ("hung", "streaming", "done"):
            terminals = again.terminals(name)
            assert len(terminals) == len(set(terminals)) == (2 if name == "hung" else 1)


async def killed(gateway: Served, started: Child) -> None:
    started.kill()


async def killed_in_its_drain(gateway: Served, started: Child) -> None:
    started.process.send_signal(signal.SIGTERM)
    await eventually(
        lambda: json.loads((gateway.state / "gateway.lock").read_text())["stage"] == "draining"
    )
    started.kill()


async def killed_while_stopped(gateway: Served, started: Child) -> None:
    await asyncio.to_thread(started.stop)
    started.kill()


@pytest.mark.parametrize("end", [killed, killed_while_stopped])
def test_under_load(tmp_path: Path, end: Callable[[Served, Child], Awaitable[None]]) -> None:
    async def test(gateway: Served, started: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            load = Load(gateway, client)
            await load.begin()
            await end(gateway, started)
            await load.lost()
        await comes_back(tmp_path, gateway)

    with process(tmp_path, limits=SLOW) as (gateway, started):
        run(test(gateway, started))


def test_in_its_drain(tmp_path: Path) -> None:
    async def test(gateway: Served, started: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            turn = asyncio.create_task(failure(client, "/hang"))
            await eventually(lambda: gateway.said())
            waits = asyncio.create_task(failure(client, "queued"))
            await killed_in_its_drain(gateway, started)
            assert isinstance(await turn, openai.APIConnectionError)
            # Told of the drain, or cut off by the end of the process: it was stored either way.
            assert isinstance(await waits, openai.APIError)
        async with served(tmp_path, Scripted(echo), limits=SLOW) as again:
            assert [m["reason"] for m in again.markers()] == ["interrupted"]
            assert again.said() == [("user", "/hang")]

    with process(tmp_path, limits=SLOW) as (gateway, started):
        run(test(gateway, started))


# It cleans up with a pause before every lock, and again before it serves.
PAUSES = """
    import turnlock.store
    clean = turnlock.store.Store.clean
    def pausing(self, record, after=None, **more):
        print("before", record.session, flush=True)
        sys.stdin.readline()
        cleaned = clean(self, record, after, **more)
        print("after", flush=True)
        sys.stdin.readline()
        return cleaned
    turnlock.store.Store.clean = pausing
"""


@contextmanager
def pausing(tmp_path: Path) -> Iterator[Child]:
    with child(PAUSES + PROCESS, tmp_path / "state", config_file(tmp_path, limits=SLOW)) as started:
        yield started


def test_in_its_clean_up(tmp_path: Path) -> None:
    """Killed before and after every lock in turn, and stopped there by a signal."""
    names = ("a", "b", "c")

    async def interrupt(gateway: Served, started: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            turns = [asyncio.create_task(failure(client, "/hang", session=one)) for one in names]
            await eventually(lambda: all(gateway.said(one) for one in names))
            started.kill()
            await asyncio.gather(*turns)

    with process(tmp_path, limits=SLOW) as (gateway, started):
        run(interrupt(gateway, started))
    for place in range(3):
        with pausing(tmp_path) as again:
            assert again.line().startswith("before ")
            if place == 1:
                # Nothing of it is half done, and the end is a clean one.
                again.process.send_signal(signal.SIGTERM)
                again.expect("ended")
                assert again.ended() == 0
                continue
            again.tell()
            again.expect("after")
            again.kill()
        assert sum(len(gateway.markers(one)) for one in names) == (1 if place < 2 else 2)

    async def test() -> None:
        async with served(tmp_path, Scripted(echo), limits=SLOW) as last:
            for one in names:
                assert [m["reason"] for m in last.markers(one)] == ["interrupted"]
                assert not last.claim(one).exists()

    run(test())


EXECUTES_ITSELF = """
    import os, signal
    # As a supervisor of old does it: the same process, and everything anew.
    def again(number, frame):
        os.execv(sys.executable, sys.orig_argv)
    signal.signal(signal.SIGUSR1, again)
"""


def test_in_place_as_the_same_process(tmp_path: Path) -> None:
    """A4: its own old claims, and its own old lock on the directory, are no obstacle to it."""

    async def test(gateway: Served, started: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            turn = asyncio.create_task(failure(client, "/hang"))
            await eventually(lambda: gateway.said())
            os.kill(started.pid, signal.SIGUSR1)
            assert isinstance(await turn, openai.APIConnectionError)
        url = await asyncio.to_thread(started.line)
        assert json.loads((gateway.state / "gateway.json").read_text())["url"] == url
        assert json.loads((gateway.state / "gateway.lock").read_text())["pid"] == started.pid
        assert [m["reason"] for m in gateway.markers()] == ["interrupted"]
        assert not gateway.claim().exists()
        again = Served(url, gateway.state)
        async with again.client() as client:
            assert await ask(client, "hello") == "practice reply 2 to: hello"
        assert len(gateway.terminals()) == len(set(gateway.terminals())) == 2

    path = config_file(tmp_path, limits=SLOW)
    with child(EXECUTES_ITSELF + PROCESS, tmp_path / "state", path) as started:
        run(test(Served(started.line(), tmp_path / "state"), started))
