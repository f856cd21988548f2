"""LangGraph's checkpointer for PostgreSQL, wrapped: the one that several hosts share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

import turnlock
from tests.frameworks.langgraph.graphs import ALICE, Scripted, chat, say, texts
from tests.frameworks.langgraph.test_langgraph_conformance import BASE, Saver, failures, report
from tests.frameworks.langgraph.test_langgraph_fence import Gate, Late
from tests.postgres.server import Server, programs, running
from turnlock import LeaseRevoked, Store
from turnlock.integrations.langgraph import FencedSaver, with_turns

# Each of the suites makes a saver, and a database takes a while to be made.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL server is installed")
    with running(found) as server:
        yield server


@pytest.fixture
def saver(server: Server) -> Iterator[PostgresSaver]:
    url = server.make_database("checkpoints")
    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
        yield saver
    server.drop("checkpoints")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with turnlock.open_store(tmp_path / "state") as store:
        yield store


def test_a_wrapped_saver_passes_the_suites(server: Server, tmp_path: Path) -> None:
    numbers = count()

    @asynccontextmanager
    async def around_postgres(path: Path) -> AsyncGenerator[Saver, None]:
        url = server.make_database(f"suite{next(numbers)}")
        async with AsyncPostgresSaver.from_conn_string(url) as inner:
            await inner.setup()
            yield FencedSaver(inner, turnlock.open_store("memory:"))

    found = report(around_postgres, tmp_path, BASE)
    assert failures(found) == []
    assert {name for name, one in found.results.items() if one.passed} == BASE


def test_without_turns_a_late_run_takes_the_head(saver: PostgresSaver) -> None:
    gate = Gate()
    graph = chat(Scripted(reply=gate.reply), checkpointer=saver)
    late = Late(gate, lambda: graph.invoke(say("A"), ALICE))
    graph.invoke(say("B"), ALICE)
    late.land()
    assert texts(graph.get_state(ALICE)) == ["A", "reply to A"]


def test_in_turns_a_finished_one_stays_the_head(saver: PostgresSaver, store: Store) -> None:
    gate = Gate()
    graph = with_turns(chat(Scripted(reply=gate.reply), checkpointer=saver), store)
    late = Late(gate, lambda: graph.invoke(say("A"), ALICE))
    assert store.revoke("main/alice")
    graph.invoke(say("B"), ALICE)
    assert isinstance(late.land(), LeaseRevoked)
    assert texts(graph.get_state(ALICE)) == ["A", "B", "reply to B"]
