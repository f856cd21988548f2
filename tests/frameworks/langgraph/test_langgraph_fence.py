"""What a revoked turn of a graph still writes is refused, whatever the checkpointer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver

import turnlock
from tests.frameworks.langgraph import graphs
from tests.frameworks.langgraph.graphs import ALICE, Scripted, chat, echo, say, texts
from tests.helpers import PATIENCE
from turnlock import LeaseRevoked, Store
from turnlock.integrations.langgraph import TurnlockSaver, with_turns

Making = Callable[[Path, Store], BaseCheckpointSaver[Any]]


class Gate:
    """Holds a model's answer to one message until a test lets it go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def reply(self, messages: list[BaseMessage]) -> AIMessage:
        if messages[-1].content == "A":
            self.reached.set()
            assert self.opened.wait(PATIENCE)
        return echo(messages)


class Late:
    """A run of A in a thread of its own, which waits at a gate; what came of it."""

    def __init__(self, gate: Gate, run: Callable[[], Any]) -> None:
        self.gate = gate
        self.outcome: Any = None

        def go() -> None:
            try:
                self.outcome = run()
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.outcome = error

        self.thread = threading.Thread(target=go)
        self.thread.start()
        assert gate.reached.wait(PATIENCE)

    def land(self) -> Any:
        self.gate.opened.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.outcome


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with turnlock.open_store(tmp_path / "state") as store:
        yield store


def ours(path: Path, store: Store) -> BaseCheckpointSaver[Any]:
    return TurnlockSaver(store)


def memory(path: Path, store: Store) -> BaseCheckpointSaver[Any]:
    return InMemorySaver()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteSaver]:
    with SqliteSaver.from_conn_string(str(tmp_path / "checkpoints.db")) as saver:
        yield saver


def test_without_turns_a_late_run_takes_the_head(sqlite: SqliteSaver) -> None:
    """The hole: B's finished turn vanishes from the thread when A's answer comes after it."""
    gate = Gate()
    graph = chat(Scripted(reply=gate.reply), checkpointer=sqlite)
    late = Late(gate, lambda: graph.invoke(say("A"), ALICE))
    graph.invoke(say("B"), ALICE)
    late.land()
    assert texts(graph.get_state(ALICE)) == ["A", "reply to A"]


@pytest.mark.parametrize("making", [ours, memory])
def test_a_finished_turn_stays_the_head(making: Making, tmp_path: Path, store: Store) -> None:
    """A was revoked; its answer is refused, and B's turn is the last of the thread."""
    gate = Gate()
    graph = with_turns(
        chat(Scripted(reply=gate.reply), checkpointer=making(tmp_path, store)), store
    )
    late = Late(gate, lambda: graph.invoke(say("A"), ALICE))
    assert store.revoke("main/alice")
    graph.invoke(say("B"), ALICE)
    outcome = late.land()
    assert isinstance(outcome, LeaseRevoked)
    assert outcome.reason == "operator"
    assert texts(graph.get_state(ALICE)) == ["A", "B", "reply to B"]


def test_a_wrapped_database_keeps_the_head(sqlite: SqliteSaver, store: Store) -> None:
    """The same around SQLite, which two processes could share."""
    gate = Gate()
    graph = with_turns(chat(Scripted(reply=gate.reply), checkpointer=sqlite), store)
    late = Late(gate, lambda: graph.invoke(say("A"), ALICE))
    assert store.revoke("main/alice")
    graph.invoke(say("B"), ALICE)
    assert isinstance(late.land(), LeaseRevoked)
    assert texts(graph.get_state(ALICE)) == ["A", "B", "reply to B"]


class Slow(InMemorySaver):
    """A storage that hangs between the check of the fence and its own write."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.armed = False

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        self.hang()
        return super().put(config, checkpoint, metadata, new_versions)

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        self.hang()
        super().put_writes(config, writes, task_id, task_path)

    def hang(self) -> None:
        if self.armed:
            self.gate.reached.set()
            assert self.gate.opened.wait(PATIENCE)


@pytest.mark.parametrize("what", ["checkpoint", "writes"])
def test_what_a_storage_takes_late_is_not_seen(what: str, store: Store) -> None:
    """The fence goes up between the check and the write: the write is there, and counts nothing."""
    inner = Slow()

    def reply(messages: list[BaseMessage]) -> AIMessage:
        inner.armed = messages[-1].content == "A" and what == "writes"
        return echo(messages)

    graph = with_turns(chat(Scripted(reply=reply), checkpointer=inner), store)
    inner.armed = what == "checkpoint"
    late = Late(inner.gate, lambda: graph.invoke(say("A"), ALICE))
    assert store.revoke("main/alice")
    inner.armed = False
    graph.invoke(say("B"), ALICE)
    assert isinstance(late.land(), LeaseRevoked)
    assert texts(graph.get_state(ALICE)) == ["A", "B", "reply to B"]
    seen = {one.config["configurable"]["checkpoint_id"] for one in graph.get_state_history(ALICE)}
    stored = {one.config["configurable"]["checkpoint_id"] for one in inner.list(ALICE)}
    assert seen < stored if what == "checkpoint" else seen <= stored
    writes = [one.pending_writes or [] for one in graph.checkpointer.list(ALICE)]  # type: ignore[union-attr]
    assert not [value for found in writes for _, _, value in found if "reply to A" in str(value)]


def test_a_thread_that_outlives_its_turn_writes_nothing(store: Store) -> None:
    """Nobody waits for it any more, and the session is free: still it is no turn of its own."""
    gate = Gate()
    graph = chat(Scripted(reply=gate.reply), checkpointer=TurnlockSaver(store))

    async def give_up() -> None:
        async with store.turn("main/alice"):
            run = asyncio.to_thread(graph.invoke, say("A"), ALICE, durability="sync")
            late.append(asyncio.create_task(run))
            await asyncio.to_thread(gate.reached.wait, PATIENCE)
        gate.opened.set()
        with pytest.raises(LeaseRevoked):
            await late[0]

    late: list[asyncio.Task[Any]] = []
    graphs.run(give_up())
    assert texts(graph.get_state(ALICE)) == ["A"]


def test_a_write_outside_of_a_turn_is_one(store: Store) -> None:
    """A saver alone, without turns of anybody: each write waits for its session, and ends."""
    graph = chat(Scripted(reply=echo), checkpointer=TurnlockSaver(store))
    graph.invoke(say("hello"), ALICE)
    assert texts(graph.get_state(ALICE)) == ["hello", "reply to hello"]
    assert store.locks() == []
    kinds = [entry.get("customType") for entry in store.read("main/alice")]
    assert kinds.count("turnlock:turn") == kinds.count("turnlock:end") > 1


def test_updates_of_a_state_are_of_one_turn(store: Store) -> None:
    """`update_state` is one turn, and waits for a run as a run does."""
    graph = with_turns(chat(Scripted(reply=echo)), store, multitask_strategy="reject")
    graph.update_state(ALICE, say("noted"))
    kinds = [entry.get("customType") for entry in store.read("main/alice")]
    assert kinds.count("turnlock:turn") == 1

    def update_elsewhere() -> None:
        with pytest.raises(turnlock.SessionBusy):
            graph.update_state(ALICE, say("too soon"))

    with store.turn("main/alice"):
        thread = threading.Thread(target=update_elsewhere)
        thread.start()
        thread.join()
    assert texts(graph.get_state(ALICE)) == ["noted"]
