"""A gateway and a practice model as processes of their own, and clients for both."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .contenders import ROOT

_CONFIG = """
[gateway]
port = 0
max_waiting = 4000

[limits]
first_token = 600
turn = 600

[models.practice]
provider = "openai"
base_url = "{url}"
model = "practice"

[agents.main]
model = "practice"
"""
_STOP_SECONDS = 30


class Served(NamedTuple):
    """Where they listen: ``model`` and ``gateway`` are base urls; ``state``: a directory."""

    model: str
    gateway: str
    token: str
    state: str


@contextmanager
def serving(directory: str) -> Iterator[Served]:
    """Both, until the block ends. Files of the gateway are in the directory."""
    with several(directory, 1) as (served,):
        yield served


@contextmanager
def several(directory: str, number: int, *store: str) -> Iterator[list[Served]]:
    """So many gateways in front of one model. ``store``: a database, for one store of them all."""
    _allow_many_files()
    config = os.path.join(directory, "turnlock.toml")
    os.makedirs(directory, exist_ok=True)
    with ExitStack() as stack:
        model = stack.enter_context(practice_model())
        with open(config, "w", encoding="utf-8") as file:
            file.write(_CONFIG.format(url=model))
        more = [argument for url in store for argument in ("--store", url)]
        yield [
            _served(stack, model, config, os.path.join(directory, f"state-{one}"), more)
            for one in range(number)
        ]


def _served(stack: ExitStack, model: str, config: str, state: str, more: Sequence[str]) -> Served:
    gateway = stack.enter_context(
        _server("turnlock", "gateway", "--config", config, "--state-dir", state, *more)
    )
    with open(os.path.join(state, "token"), encoding="utf-8") as file:
        token = file.read().strip()
    return Served(model, f"{gateway}/v1", token, state)


@contextmanager
def practice_model() -> Iterator[str]:
    """The practice model alone; its base url."""
    with _server("bench.practice_model") as url:
        yield url


@contextmanager
def _server(module: str, *arguments: str) -> Iterator[str]:
    """A serving module; the url that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"{module} did not start")
        yield url
    finally:
        # A gateway with hung calls would drain; nobody waits for their answers.
        process.kill()
        process.communicate(timeout=_STOP_SECONDS)


def _allow_many_files() -> None:
    """A thousand calls are three thousand connections, and processes inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Client:
    """One connection that is kept, as an SDK keeps it. Not for several threads."""

    def __init__(self, base_url: str, token: str = "") -> None:
        self._url = urlsplit(base_url)
        self._token = token
        assert self._url.hostname is not None
        self._connection = http.client.HTTPConnection(self._url.hostname, self._url.port)

    def complete(self, model: str, session: str = "", *, stream: bool = False) -> float:
        """One chat completion, whole; how long it took in ms."""
        body = _body(model, "hello", stream=stream)
        headers = _headers(self._token, session)
        started = time.perf_counter()
        self._connection.request("POST", f"{self._url.path}/chat/completions", body, headers)
        response = self._connection.getresponse()
        answer = response.read()
        took = time.perf_counter() - started
        if response.status != 200:
            raise RuntimeError(f"{self._url.geturl()} answered {response.status}: {answer[:300]!r}")
        return 1e3 * took

    def close(self) -> None:
        self._connection.close()


class HungCalls:
    """Chat completions that the model never answers, each on a session of its own."""

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def begin(self, served: Served, number: int) -> None:
        url = urlsplit(served.gateway)
        for one in range(number):
            _, writer = await asyncio.open_connection(url.hostname, url.port)
            body = _body("main", "/hang", stream=False)
            head = _headers(served.token, f"main/hung-{one}") | {
                "Host": url.netloc,
                "Content-Length": str(len(body)),
            }
            lines = [f"POST {url.path}/chat/completions HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in head.items()]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
            await writer.drain()
            self._writers.append(writer)

    async def end(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _headers(token: str, session: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if session:
        headers["X-Turnlock-Session"] = session
    return headers


def _body(model: str, text: str, *, stream: bool) -> bytes:
    message: dict[str, Any] = {"role": "user", "content": text}
    return json.dumps({"model": model, "messages": [message], "stream": stream}).encode()
