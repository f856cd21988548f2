"""A configuration that is read again counts for what begins then, and disturbs nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from turnlock.config import Config, default_config, load_config
from turnlock.gateway import Reload
from turnlock.gateway.reloading import changes
from turnlock.models import Delta, Finished, Message

from ..helpers import Child
from .raw import get
from .serving import (
    Scripted,
    Served,
    ask,
    config_file,
    echo,
    eventually,
    facts,
    failure,
    last_text,
    process,
    run,
    served,
)

LONG = "first_token = 20\nidle = 20\nturn = 30\ndrain = 1"
SHORT = "first_token = 0.2\nidle = 0.2\nturn = 0.4\ndrain = 1"
A = '[models.m]\nbase_url = "http://127.0.0.1:1"\n[agents.main]\nmodel = "m"\n'
B = '[models.n]\nbase_url = "http://127.0.0.1:1"\n[agents.main]\nmodel = "n"\n'


class Named:
    """A model of a configuration; it answers ``hold`` once it is opened, and all else at once."""

    provider, api = "named", "openai-completions"

    def __init__(self, model: str, opened: asyncio.Event) -> None:
        self.model = model
        self.is_closed = False
        self._opened = opened

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        if last_text(messages) == "hold":
            await self._opened.wait()
        assert not self.is_closed
        yield Delta(f"from {self.model}")
        yield Finished("stop", None, self.model)

    async def aclose(self) -> None:
        self.is_closed = True


class Models:
    """Every model that was opened, in the place of those that call an endpoint."""

    def __init__(self) -> None:
        self.opened: list[Named] = []
        self.gate = asyncio.Event()

    def open(self, provider: str, base_url: str | None, model: str, key: str | None) -> Named:
        if model == "broken":
            raise ValueError("it cannot be")
        self.opened.append(Named(model, self.gate))
        return self.opened[-1]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    made = Models()
    monkeypatch.setattr("turnlock.models.opening.open_model", made.open)
    return made


class Reloading:
    """The configuration file of a gateway, and the wish to have it read again."""

    def __init__(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.reload = Reload(lambda: load_config(str(tmp_path / "turnlock.toml")))
        self._tmp_path = tmp_path
        self._caplog = caplog
        caplog.set_level("INFO", "turnlock")

    async def now(self, *, limits: str = LONG, rest: str = "", gateway: str = "") -> str:
        """Read this configuration; what the log says of it."""
        config_file(self._tmp_path, limits=limits, rest=rest, gateway=gateway)
        return await self.again()

    async def again(self) -> str:
        self._caplog.clear()
        self.reload.wish()
        await eventually(lambda: "reloaded" in self._caplog.text)
        return self._caplog.text


@pytest.fixture
def reloading(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Reloading:
    return Reloading(tmp_path, caplog)


def test_limits_count_for_turns_that_begin_then(
    tmp_path: Path, models: Models, reloading: Reloading
) -> None:
    async def test() -> None:
        async with (
            served(tmp_path, limits=LONG, rest=A, reload=reloading.reload) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            long = asyncio.create_task(ask(client, "hold", session="long"))
            queued = asyncio.create_task(ask(client, "hold", session="long"))
            await eventually(lambda: gateway.said("long"))
            said = await reloading.now(limits=SHORT, rest=A)
            assert "first_token = 0.2 (was 20.0)" in said
            assert "idle = 0.2 (was 20.0)" in said
            error = facts(await failure(client, "hold", session="short"))
            assert (error["code"], error["limit"]) == ("model_limit", 0.2)
            # They had begun before, one of them as a waiter: they keep what they began with.
            assert not long.done()
            assert not queued.done()
            models.gate.set()
            assert [await long, await queued] == ["from m", "from m"]
            assert gateway.markers("long") == []

    run(test())


def test_a_model_is_closed_when_the_last_turn_that_began_with_it_ends(
    tmp_path: Path, models: Models, reloading: Reloading
) -> None:
    async def test() -> None:
        async with (
            served(tmp_path, limits=LONG, rest=A, reload=reloading.reload) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            turn = asyncio.create_task(ask(client, "hold"))
            await eventually(lambda: gateway.said())
            said = await reloading.now(rest=B)
            assert "[models.m] is gone" in said
            assert "[models.n] is new" in said
            assert "[agents.main] changed" in said
            assert await ask(client, "hello", session="b") == "from n"
            old, new = models.opened
            assert not old.is_closed
            models.gate.set()
            assert await turn == "from m"
            await eventually(lambda: old.is_closed)
            assert not new.is_closed
        assert new.is_closed

    run(test())


def test_a_model_that_stays_is_the_same_one_and_goes_on(
    tmp_path: Path, models: Models, reloading: Reloading
) -> None:
    async def test() -> None:
        both = f'{A}[agents.second]\nmodel = "m"\n'
        async with (
            served(tmp_path, limits=LONG, rest=A, reload=reloading.reload) as gateway,
            gateway.client() as client,
        ):
            assert "[agents.second] is new" in await reloading.now(rest=both)
            assert [one.id async for one in client.models.list()] == ["main", "second"]
            await reloading.now(rest=A)
            assert [one.id async for one in client.models.list()] == ["main"]
            error = await failure_of(client, "second")
            assert (error.status_code, error.code) == (404, "model_not_found")
            assert await ask(client, "hello") == "from m"
        assert [one.model for one in models.opened] == ["m"]

    run(test())


async def failure_of(client: openai.AsyncOpenAI, agent: str) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        await client.models.retrieve(agent)
    return caught.value


def test_the_practice_model_is_not_begun_anew(tmp_path: Path, reloading: Reloading) -> None:
    async def test() -> None:
        async with (
            served(tmp_path, limits=LONG, reload=reloading.reload) as gateway,
            gateway.client() as client,
        ):
            turn = asyncio.create_task(ask(client, "/slow 0.3"))
            await eventually(lambda: gateway.said())
            await reloading.now(limits=SHORT)
            assert "practice reply 1" in await turn

    run(test())


BROKEN = {
    "no TOML": "[",
    "unknown key": "[limits]\nlunch = 5",
    "limits that contradict": "[limits]\nidle = 50\nturn = 40",
    "a variable that is not set": '[models.m]\napi_key_env = "NOT_SET"\n[agents.main]\nmodel = "m"',
    "a model that cannot be": '[models.broken]\n[agents.main]\nmodel = "broken"',
    "half of it": f'{B}[models.broken]\n[agents.second]\nmodel = "broken"',
}


@pytest.mark.parametrize("name", [*BROKEN, "no file"])
def test_a_configuration_that_cannot_be_used_changes_nothing(
    tmp_path: Path, models: Models, reloading: Reloading, name: str
) -> None:
    async def test() -> None:
        async with (
            served(tmp_path, limits=LONG, rest=A, reload=reloading.reload) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            path = tmp_path / "turnlock.toml"
            path.unlink()
            if name in BROKEN:
                path.write_text(BROKEN[name])
            said = await reloading.again()
            assert "ERROR" in said
            assert f"was not reloaded, the old one stays: configuration '{path}'" in said
            assert await ask(client, "hello") == "from m"
            # What was opened on the way is closed again.
            assert [one.is_closed for one in models.opened] == [False] + [True] * (
                len(models.opened) - 1
            )
            # And a sound one counts then.
            assert "[models.n] is new" in await reloading.now(rest=B)
            assert await ask(client, "hello") == "from n"

    run(test())


def test_what_only_a_restart_changes_is_said_and_left(
    tmp_path: Path, models: Models, reloading: Reloading
) -> None:
    async def test() -> None:
        async with (
            served(tmp_path, limits=LONG, rest=A, reload=reloading.reload) as gateway,
            gateway.client() as client,
        ):
            settings = 'host = "::1"\nallowed_hosts = ["x.example"]\nmax_waiting = 7'
            said = await reloading.now(rest=A, gateway=settings)
            changed, fixed = said.split("only with a restart of the gateway: ")
            assert "max_waiting = 7 (was 1000)" in changed
            assert "host = '::1' (was '127.0.0.1'), allowed_hosts = ('x.example',)" in fixed
            assert "host" not in changed
            assert await ask(client, "hello") == "from m"
            assert (await get(gateway, "/v1/models", host="x.example")).status == 421

    run(test())


def test_the_key_of_a_new_model_is_a_secret_from_then_on(
    tmp_path: Path, reloading: Reloading, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Leaks(Named):
        async def stream(
            self, messages: Sequence[Message]
        ) -> AsyncGenerator[Delta | Finished, None]:
            if messages:
                raise ValueError("it says hunter2-hunter2")
            yield Delta("")

    async def test() -> None:
        gate = asyncio.Event()
        monkeypatch.setenv("NEW_KEY", "hunter2-hunter2")
        monkeypatch.setattr(
            "turnlock.models.opening.open_model", lambda p, u, model, k: Leaks(model, gate)
        )
        rest = A.replace("[agents", 'api_key_env = "NEW_KEY"\n[agents')
        async with (
            served(tmp_path, limits=LONG, rest=A, reload=reloading.reload) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            await reloading.now(rest=rest)
            assert (await failure(client, "hello")).code == "internal_error"
            (marker,) = gateway.markers()
            assert "it says" in marker["error"]
            assert "hunter2" not in marker["error"]

    run(test())


def test_agents_of_the_caller_stay(tmp_path: Path, reloading: Reloading) -> None:
    async def test() -> None:
        async with (
            served(tmp_path, Scripted(echo), limits=LONG, reload=reloading.reload) as gateway,
            gateway.client() as client,
        ):
            assert "idle = 0.2" in await reloading.now(limits=SHORT, rest=A)
            assert await ask(client, "hello") == "re: hello"

    run(test())


def test_changes_are_named_and_no_value_of_a_model_is_told() -> None:
    old = default_config()
    new = Config(old.gateway, old.limits, {}, old.agents)
    assert changes(old, new) == ["[models.practice] is gone"]
    assert changes(old, old) == []


# By a signal


async def log_says(started: Child, text: str) -> str:
    """The next line of a process's log that has the text."""
    assert started.process.stderr is not None
    while text not in (found := await asyncio.to_thread(started.process.stderr.readline)).decode():
        assert found, f"the log ended without {text!r}"
    return found.decode()


@pytest.mark.processes
def test_sighup_reads_the_file_again_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    async def test(gateway: Served, started: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            turn = asyncio.create_task(failure(client, "/hang"))
            await eventually(lambda: gateway.said())
            path = config_file(tmp_path, limits=SHORT, rest="[agents.other]")
            started.process.send_signal(signal.SIGHUP)
            assert "[agents.other] is new" in await log_says(started, "was reloaded")
            assert [one.id async for one in client.models.list()] == ["other"]
            path.write_text("[")
            started.process.send_signal(signal.SIGHUP)
            await log_says(started, "was not reloaded, the old one stays")
            assert [one.id async for one in client.models.list()] == ["other"]
            assert not turn.done()
            # While it drains there is nothing left to reload.
            started.process.send_signal(signal.SIGTERM)
            started.process.send_signal(signal.SIGHUP)
            await turn
            assert await asyncio.to_thread(started.ended) == 0

    with process(tmp_path, limits=LONG) as (gateway, started):
        run(test(gateway, started))


TERMINAL = """
import fcntl, signal, sys, termios
from turnlock.gateway import run
# The session of this process gets the terminal on stdin for its own.
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[3] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
run(state_dir=sys.argv[1], config_path=sys.argv[2], host=None, port=None, announce=lambda url: None)
"""


@contextmanager
def on_a_terminal(
    state: Path, config: Path, how: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A gateway that leads the session of a terminal of its own, and the terminal's other end."""
    terminal, inner = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, state, config, how],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    )
    os.close(inner)
    try:
        yield process, terminal
    finally:
        process.kill()
        process.wait()


@pytest.mark.processes
@pytest.mark.parametrize("how", ["plain", "nohup"])
def test_a_terminal_that_is_closed_ends_the_gateway_but_not_one_under_nohup(
    tmp_path: Path, how: str
) -> None:
    async def test(process: subprocess.Popen[bytes], terminal: int) -> None:
        await eventually(lambda: (state / "gateway.json").exists(), 20)
        os.close(terminal)
        if how == "nohup":
            config_file(tmp_path, limits=LONG, rest="[agents.other]")
            process.send_signal(signal.SIGHUP)
            url = json.loads((state / "gateway.json").read_text())["url"]
            async with Served(url, state).client() as client:
                while [one.id async for one in client.models.list()] != ["other"]:
                    pass
            process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert not (state / "gateway.json").exists()

    state = tmp_path / "state"
    with on_a_terminal(state, config_file(tmp_path, limits=LONG), how) as (process, terminal):
        run(test(process, terminal))
