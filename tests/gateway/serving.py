"""A gateway for tests, in the loop or as a process, with models that do what a test says."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import openai

import turnlock
from turnlock.config import Config, load_config
from turnlock.gateway import Agent, Pace, Reload, Stop, serve
from turnlock.models import Delta, Finished, Message, Thinking
from turnlock.transcript.entries import MARKER, is_terminal

from ..helpers import LONG_PATIENCE, Child, child

BOUND = 30.0  # longest wait of a test for what has to happen at once
FAST = "first_token = 0.5\nidle = 0.5\nturn = 2.0\ndrain = 1.0"
QUICK = Pace(headers=5.0, keepalive=0.1, head=0.3, body=0.3, hand_over=2.0)


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(50):
            await test

    asyncio.run(bounded())


# Where gateways that are made from here on have their sessions, if not in their directories.
STORE_URL: ContextVar[str | None] = ContextVar("STORE_URL", default=None)


class Served:
    """A gateway that listens, and what it keeps in its state directory, or in its store."""

    def __init__(self, url: str, state: Path) -> None:
        self.url = url
        self.state = state
        # What `open_store` opens its sessions by.
        self.location = STORE_URL.get() or str(state)
        self._is_on_files = STORE_URL.get() is None
        self.stop = Stop()

    @property
    def token(self) -> str:
        return (self.state / "token").read_text().strip()

    def client(self, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.token, **options)

    def client_sync(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.token, **options)

    def transcript(self, name: str = "a") -> list[dict[str, Any]]:
        """Every complete line; none before the session is there."""
        if not self._is_on_files:
            with turnlock.open_store(self.location) as store:
                return [json.loads(line.raw) for line in store.read_lines(f"main/{name}")]
        path = self.state / "agents" / "main" / "sessions" / f"{name}.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def is_held(self, name: str = "a") -> bool:
        with turnlock.open_store(self.location) as store:
            return store.status(f"main/{name}").lock is not None

    def claim(self, name: str = "a") -> Path:
        return self.state / "agents" / "main" / "sessions" / f"{name}.jsonl.lock"

    def said(self, name: str = "a") -> list[tuple[str, str]]:
        """(role, text) of every message in a session."""
        return [
            (entry["message"]["role"], entry["message"]["content"][0]["text"])
            for entry in self.transcript(name)
            if entry["type"] == "message"
        ]

    def markers(self, name: str = "a") -> list[dict[str, Any]]:
        """The data of every error marker in a session."""
        entries = self.transcript(name)
        return [entry["data"] for entry in entries if entry.get("customType") == MARKER]

    def terminals(self, name: str = "a") -> list[str]:
        """The turns that have a terminal entry, each as often as it has one."""
        return [e["data"]["turnId"] for e in self.transcript(name) if is_terminal(e)]


def config(tmp_path: Path, *, limits: str = FAST, gateway: str = "", rest: str = "") -> Config:
    return load_config(str(config_file(tmp_path, limits=limits, gateway=gateway, rest=rest)))


def config_file(tmp_path: Path, *, limits: str = FAST, gateway: str = "", rest: str = "") -> Path:
    path = tmp_path / "turnlock.toml"
    path.write_text(f"[gateway]\nport = 0\n{gateway}\n[limits]\n{limits}\n{rest}\n")
    return path


@asynccontextmanager
async def served(
    tmp_path: Path,
    model: Scripted | None = None,
    *,
    pace: Pace = QUICK,
    instructions: str = "",
    reload: Reload | None = None,
    **settings: str,
) -> AsyncIterator[Served]:
    """A gateway in this loop: with the practice model, or one agent ``main`` on ``model``."""
    state = tmp_path / "state"
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    made = Served("", state)
    agents = None if model is None else {"main": Agent("main", model, instructions)}
    settled = config(tmp_path, **settings)
    task = asyncio.create_task(
        serve(
            settled,
            str(state),
            listening.set_result,
            stop=made.stop,
            reload=reload,
            agents=agents,
            path=str(tmp_path / "turnlock.toml"),
            store_url=STORE_URL.get(),
            pace=pace,
        )
    )
    await asyncio.wait((task, listening), return_when=asyncio.FIRST_COMPLETED)
    if not listening.done():
        await task
    made.url = listening.result()
    try:
        yield made
    finally:
        made.stop.wish()
        async with asyncio.timeout(BOUND):
            await task


PROCESS = """
    from turnlock.gateway import run
    def announce(url):
        print(url, flush=True)
    store = sys.argv[3] if len(sys.argv) > 3 else None
    run(state_dir=sys.argv[1], config_path=sys.argv[2], host=None, port=None, announce=announce,
        store_url=store)
    print("ended", flush=True)
"""


@contextmanager
def process(tmp_path: Path, **settings: str) -> Iterator[tuple[Served, Child]]:
    """A gateway in a process of its own, with the practice model."""
    with process_of(PROCESS, tmp_path, **settings) as served:
        yield served


@contextmanager
def process_of(program: str, tmp_path: Path, **settings: str) -> Iterator[tuple[Served, Child]]:
    """As `process`, by a program that has `PROCESS` in it."""
    path = config_file(tmp_path, **settings)
    store = filter(None, [STORE_URL.get()])
    with child(program, tmp_path / "state", path, *store) as started:
        yield Served(started.line(LONG_PATIENCE), tmp_path / "state"), started


Script = Callable[[Sequence[Message]], AsyncGenerator[Delta | Thinking | Finished, None]]


class Scripted:
    """A model that runs ``script``, and keeps the messages of every call."""

    provider = "scripted"
    model = "script"
    api = "openai-completions"

    def __init__(self, script: Script) -> None:
        self._script = script
        self.calls: list[list[Message]] = []

    def stream(
        self, messages: Sequence[Message]
    ) -> AsyncGenerator[Delta | Thinking | Finished, None]:
        self.calls.append(list(messages))
        return self._script(messages)

    async def aclose(self) -> None:
        pass


def last_text(messages: Sequence[Message]) -> str:
    return str(messages[-1]["content"])


async def echo(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
    yield Delta("re: ")
    yield Delta(last_text(messages))
    yield Finished("stop", None, "script")


async def deaf_sleep(until: asyncio.Event) -> None:
    """Code that ignores its cancellation."""
    while not until.is_set():
        try:
            await until.wait()
        except asyncio.CancelledError:
            continue


async def eventually(condition: Callable[[], Any], patience: float = BOUND) -> Any:
    """Wait for a condition of this loop or of a file; its first true value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.002)
    return value


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def in_session(name: str = "a", **headers: str) -> Any:
    return {"X-Turnlock-Session": name, **headers}


async def ask(
    client: openai.AsyncOpenAI, text: str, *, session: str = "a", stream: bool = False
) -> str:
    """The reply to a message; raises what the client raises."""
    answer: Any = await client.chat.completions.create(
        model="main", messages=user(text), extra_headers=in_session(session), stream=stream
    )
    if not stream:
        return str(answer.choices[0].message.content)
    return "".join([c.choices[0].delta.content or "" async for c in answer if c.choices])


async def failure(client: openai.AsyncOpenAI, text: str, **how: Any) -> openai.APIError:
    """The error that a message ends in."""
    try:
        reply = await ask(client, text, **how)
    except openai.APIError as error:
        return error
    raise AssertionError(f"it was answered: {reply!r}")


def facts(error: openai.APIError) -> dict[str, Any]:
    """The error object that the gateway sent."""
    assert isinstance(error.body, dict)
    return error.body
