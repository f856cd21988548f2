"""The recipes: each run as it stands, against the practice model."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.helpers import LONG_PATIENCE, Child, child

RECIPES = Path(__file__).parent.parent.parent / "examples/recipes"
PRACTICE = """
    import asyncio
    from turnlock.practice import PracticeServer

    async def serve():
        async with PracticeServer() as server:
            print(server.url, flush=True)
            await asyncio.Event().wait()

    asyncio.run(serve())
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with child(PRACTICE) as server:
        yield server.line(LONG_PATIENCE)


@pytest.fixture
def recipe(state: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads one as a module, with the environment that it asks for."""
    monkeypatch.setenv("STATE_DIR", str(state))
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("MODEL", "practice")

    def load(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def said(state: Path) -> list[str]:
    """The roles of the session's messages, and the reasons of its markers."""
    with turnlock.open_store(state) as store:
        return [
            entry["message"]["role"] if entry["type"] == "message" else entry["data"]["reason"]
            for entry in store.read("main/alice")
            if entry["type"] == "message" or "error" in entry["data"]
        ]


def test_a_loop_in_a_thread(recipe: Any, state: Path) -> None:
    loop = recipe("openai_thread")
    assert loop.answer("alice", "hello") == "practice reply 1 to: hello"
    assert loop.answer("alice", "again") == "practice reply 2 to: again"
    turnlock.guard(loop.client, first=0.3)
    with pytest.raises(turnlock.LeaseRevoked):
        loop.answer("alice", "/hang")
    assert said(state) == ["user", "assistant"] * 2 + ["user", "model-limit"]
    loop.client.close()


def test_a_loop_in_a_task_streams(recipe: Any, state: Path) -> None:
    async def ask(text: str) -> str:
        return "".join([piece async for piece in loop.answer("alice", text)])

    async def test() -> None:
        assert await ask("hello") == "practice reply 1 to: hello"
        turnlock.guard(loop.client, idle=0.3)
        with pytest.raises(turnlock.LeaseRevoked):
            await ask("/stall")
        with pytest.raises(ConnectionError):
            await ask("/cut")
        await loop.client.close()

    loop = recipe("openai_task")
    asyncio.run(test())
    assert said(state) == ["user", "assistant", "user", "model-limit", "user", "error"]


WORKER = """
    import os
    os.environ |= dict(STATE_DIR=sys.argv[2], OPENAI_BASE_URL=sys.argv[3], OPENAI_API_KEY="any",
                       MODEL="practice", BROKER_URL="memory://", FIRST="1")
    sys.path.insert(0, sys.argv[1])
    import celery_worker
    from celery.contrib.testing.worker import start_worker

    app = celery_worker.app
    app.conf.update(result_backend="cache+memory://")
    with start_worker(app, pool="solo", perform_ping_check=False):
        def ask(text, task_id):
            asked = celery_worker.answer.apply_async(("alice", text), task_id=task_id)
            result = asked.get(timeout=60, propagate=False)
            print(result if isinstance(result, str) else "failed", flush=True)
            asked.forget()

        ask("hello", "one")
        ask("hello", "one")
        ask("/hang", "two")
        ask("go on", "three")
"""


@pytest.mark.processes
@pytest.mark.timeout(180)
def test_a_task_of_celery(state: Path, url: str) -> None:
    """A task that is delivered twice is stored once; one that hangs ends, and the next is run."""
    pytest.importorskip("celery")
    with child(WORKER, RECIPES, state, url) as worker:
        printed = [line_of(worker) for _ in range(4)]
    assert printed == [
        "practice reply 1 to: hello",
        "practice reply 1 to: hello",
        "failed",
        "practice reply 3 to: go on",
    ]
    assert said(state) == ["user", "assistant", "user", "model-limit", "user", "assistant"]


def line_of(worker: Child) -> str:
    return worker.line(2 * LONG_PATIENCE)
