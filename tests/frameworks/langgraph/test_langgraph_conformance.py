"""Both savers are checkpointers, as LangGraph's own suite understands the word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.report import CapabilityReport
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

import turnlock
from turnlock.integrations.langgraph import FencedSaver, TurnlockSaver

Saver = BaseCheckpointSaver[Any]
Making = Callable[[Path], AbstractAsyncContextManager[Saver]]
BASE = {"put", "put_writes", "get_tuple", "list", "delete_thread"}
EXTENDED = {"delete_for_runs", "copy_thread", "prune"}


@asynccontextmanager
async def in_files(path: Path) -> AsyncGenerator[Saver, None]:
    yield TurnlockSaver(turnlock.open_store(path, durability="none"))


@asynccontextmanager
async def in_memory(path: Path) -> AsyncGenerator[Saver, None]:
    yield TurnlockSaver(turnlock.open_store("memory:"))


@asynccontextmanager
async def around_memory(path: Path) -> AsyncGenerator[Saver, None]:
    yield FencedSaver(InMemorySaver(), turnlock.open_store("memory:"))


@asynccontextmanager
async def around_sqlite(path: Path) -> AsyncGenerator[Saver, None]:
    async with AsyncSqliteSaver.from_conn_string(":memory:") as inner:
        yield FencedSaver(inner, turnlock.open_store("memory:"))


@asynccontextmanager
async def around_ours(path: Path) -> AsyncGenerator[Saver, None]:
    inner = TurnlockSaver(turnlock.open_store("memory:"))
    yield FencedSaver(inner, turnlock.open_store("memory:"))


def report(making: Making, path: Path, capabilities: set[str]) -> CapabilityReport:
    made = 0

    async def savers() -> AsyncGenerator[Saver, None]:
        nonlocal made
        made += 1
        async with making(path / str(made)) as saver:
            yield saver

    registered = checkpointer_test(name="saver")(savers)
    return asyncio.run(validate(registered, capabilities=capabilities))


def failures(report: CapabilityReport) -> list[str]:
    return [one for result in report.results.values() for one in result.failures]


@pytest.mark.parametrize("making", [in_files, in_memory, around_ours])
def test_all_suites_pass(making: Making, tmp_path: Path) -> None:
    """Every capability that LangGraph knows is there, and passes."""
    found = report(making, tmp_path, BASE | EXTENDED)
    assert failures(found) == []
    assert {name for name, one in found.results.items() if one.passed} == BASE | EXTENDED


@pytest.mark.parametrize("making", [around_memory, around_sqlite])
def test_a_wrapped_saver_keeps_its_capabilities(making: Making, tmp_path: Path) -> None:
    """A wrapped saver passes what it passed before; these have nothing beyond the base."""
    found = report(making, tmp_path, BASE)
    assert failures(found) == []
    assert {name for name, one in found.results.items() if one.passed} == BASE


def test_the_suites_can_fail(tmp_path: Path) -> None:
    """A saver that forgets a task's writes fails them."""

    class Forgetful(TurnlockSaver):
        async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
            found = await super().aget_tuple(config)
            return found and found._replace(pending_writes=[])

    @asynccontextmanager
    async def forgetful(path: Path) -> AsyncGenerator[Saver, None]:
        yield Forgetful(turnlock.open_store("memory:"))

    assert failures(report(forgetful, tmp_path, BASE))
