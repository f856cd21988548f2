"""A second message while a run has the thread: LangGraph's four answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

import turnlock
from tests.frameworks.langgraph import graphs
from tests.frameworks.langgraph.graphs import ALICE, Scripted, chat, echo, say, texts
from tests.helpers import PATIENCE, eventually
from turnlock import LeaseRevoked, LimitsError, SessionBusy, Store
from turnlock.integrations.langgraph import MultitaskStrategy, with_turns

Run = Callable[[Any, MultitaskStrategy], Any]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with turnlock.open_store(tmp_path / "state") as store:
        yield store


class First:
    """A run that is at its model, with its first turn behind it, until the test lets it go."""

    def __init__(self, store: Store, saver: Any = None) -> None:
        self.at_model = threading.Event()
        self.let_go = threading.Event()
        self.model = Scripted(reply=self.reply)
        self.graph = with_turns(chat(self.model, checkpointer=saver), store)
        self.graph.invoke(say("before"), ALICE)
        self.outcome: Any = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        assert self.at_model.wait(PATIENCE)

    def reply(self, messages: list[BaseMessage]) -> AIMessage:
        if messages[-1].content == "first":
            self.at_model.set()
            assert self.let_go.wait(PATIENCE)
        return echo(messages)

    def run(self) -> None:
        try:
            self.outcome = texts(self.graph.invoke(said("first"), ALICE))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.outcome = error

    def end(self) -> Any:
        self.let_go.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.outcome


@pytest.fixture(params=["ours", "wrapped"])
def first(request: pytest.FixtureRequest, store: Store) -> Iterator[First]:
    run = First(store, None if request.param == "ours" else InMemorySaver())
    yield run
    run.end()


def said(text: str) -> Any:
    """A message with an id that a client gave it."""
    return {"messages": [HumanMessage(text, id="m1")]}


def in_thread(graph: Any, strategy: MultitaskStrategy) -> list[str]:
    return texts(graph.invoke(say("second"), ALICE, multitask_strategy=strategy))


def in_task(graph: Any, strategy: MultitaskStrategy) -> list[str]:
    return texts(graphs.run(graph.ainvoke(say("second"), ALICE, multitask_strategy=strategy)))


both = pytest.mark.parametrize("run", [in_thread, in_task])


@both
def test_reject(run: Run, first: First, store: Store) -> None:
    """The second run is refused at once, and nothing of it is stored."""
    with pytest.raises(SessionBusy):
        run(first.graph, "reject")
    assert first.end() == ["before", "reply to before", "first", "reply to first"]
    assert "second" not in [entry["message"]["content"][0]["text"] for entry in messages(store)]


@both
def test_enqueue(run: Run, first: First, store: Store) -> None:
    """The second run waits for the first, and goes on from it."""
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(run(first.graph, "enqueue")))
    thread.start()
    eventually(lambda: store.waiters(["main/alice"])["main/alice"])
    assert isinstance(first.end(), list)
    thread.join(PATIENCE)
    assert outcome[0][2:] == ["first", "reply to first", "second", "reply to second"]


@both
def test_interrupt(run: Run, first: First, store: Store) -> None:
    """The first run is revoked; its message stays, and its answer never comes."""
    seen = run(first.graph, "interrupt")
    assert seen == ["before", "reply to before", "first", "second", "reply to second"]
    outcome = first.end()
    assert isinstance(outcome, LeaseRevoked)
    assert outcome.reason == "cancelled"
    assert texts(first.graph.get_state(ALICE)) == seen
    assert [entry["data"]["reason"] for entry in markers(store)] == ["cancelled"]


@both
def test_rollback(run: Run, first: First, store: Store) -> None:
    """The first run is revoked and undone: for the graph, and for who reads the history."""
    seen = run(first.graph, "rollback")
    assert seen == ["before", "reply to before", "second", "reply to second"]
    assert isinstance(first.end(), LeaseRevoked)
    assert texts(first.graph.get_state(ALICE)) == seen
    history = [texts(state) for state in first.graph.get_state_history(ALICE)]
    assert not any("first" in state for state in history)
    with store.turn("main/alice") as turn:
        assert [message["content"] for message in turn.messages()] == seen
    # It is not seen any more, but it is there, with its marker.
    assert "first" in [entry["message"]["content"][0]["text"] for entry in messages(store)]
    assert [entry["data"]["reason"] for entry in markers(store)] == ["cancelled"]


def test_a_message_that_was_rolled_back_may_be_said_again(first: First, store: Store) -> None:
    """A client's retry has the id of the message it retries: it is on the new branch, once."""
    first.graph.invoke(said("again"), ALICE, multitask_strategy="rollback")
    first.end()
    seen = in_thread(first.graph, "enqueue")
    whole = ["before", "reply to before", "again", "reply to again", "second", "reply to second"]
    assert seen == whole
    assert first.graph.get_state(ALICE).values["messages"][2].id == "m1"
    with store.turn("main/alice") as turn:
        assert [message["content"] for message in turn.messages()] == whole


@pytest.mark.parametrize("saver", [None, InMemorySaver])
def test_a_message_of_a_deleted_thread_may_be_said_again(saver: Any, store: Store) -> None:
    """The thread is new, and so is the branch that it is said on."""

    def reply(messages: list[BaseMessage]) -> AIMessage:
        # A checkpoint and a task's writes tell of it at the same time.
        return AIMessage(echo(messages).content, id="m2")

    graph: Any = with_turns(chat(Scripted(reply=reply), checkpointer=saver and saver()), store)
    for text in ("one", "two", "three"):
        graph.checkpointer.delete_thread("alice")
        graph.invoke(said(text), ALICE)
        # Another process would make its own graph; what it knows, it has from the store.
        inner = saver and graph.checkpointer.inner
        again = with_turns(chat(Scripted(reply=echo), checkpointer=inner), store)
        assert texts(again.get_state(ALICE)) == [text, f"reply to {text}"]
        with store.turn("main/alice") as turn:
            contents = [message["content"] for message in turn.messages()]
        assert contents == [text, f"reply to {text}"]


def test_a_rollback_of_a_rollback_goes_back_to_before_both(store: Store) -> None:
    """What was undone stays undone when the run that undid it is undone itself."""
    first = First(store)
    gate, at_gate = threading.Event(), threading.Event()

    def reply(messages: list[BaseMessage]) -> AIMessage:
        if messages[-1].content == "second":
            at_gate.set()
            assert gate.wait(PATIENCE)
        return echo(messages)

    graph = with_turns(
        chat(Scripted(reply=reply), checkpointer=first.graph.checkpointer),
        store,
        multitask_strategy="rollback",
    )
    outcome: list[Any] = []

    def second() -> None:
        with pytest.raises(LeaseRevoked) as error:
            graph.invoke(say("second"), ALICE)
        outcome.append(error.value)

    thread = threading.Thread(target=second)
    thread.start()
    assert at_gate.wait(PATIENCE)
    seen = texts(graph.invoke(say("third"), ALICE))
    assert seen == ["before", "reply to before", "third", "reply to third"]
    gate.set()
    thread.join(PATIENCE)
    first.end()
    assert outcome
    with store.turn("main/alice") as turn:
        assert [message["content"] for message in turn.messages()] == seen


def test_a_first_run_that_is_rolled_back_leaves_an_empty_thread(store: Store) -> None:
    """There is nothing before it to go back to."""
    gate, at_gate = threading.Event(), threading.Event()

    def reply(messages: list[BaseMessage]) -> AIMessage:
        if messages[-1].content == "first":
            at_gate.set()
            assert gate.wait(PATIENCE)
        return echo(messages)

    graph = with_turns(chat(Scripted(reply=reply), checkpointer=InMemorySaver()), store)

    def first() -> None:
        with pytest.raises(LeaseRevoked):
            graph.invoke(say("first"), ALICE)

    thread = threading.Thread(target=first)
    thread.start()
    assert at_gate.wait(PATIENCE)
    assert in_thread(graph, "rollback") == ["second", "reply to second"]
    with store.turn("main/alice") as turn:
        assert [one["content"] for one in turn.messages()] == ["second", "reply to second"]
    gate.set()
    thread.join(PATIENCE)


def test_a_finished_run_is_not_rolled_back(store: Store) -> None:
    """What has ended has ended: there is nothing to be revoked."""
    graph = with_turns(chat(Scripted(reply=echo)), store, multitask_strategy="rollback")
    graph.invoke(say("first"), ALICE)
    assert texts(graph.invoke(say("second"), ALICE))[0] == "first"


def test_the_strategy_is_checked_at_once(store: Store) -> None:
    """A strategy that LangGraph does not know is refused where it is written."""
    graph = chat(Scripted(reply=echo))
    with pytest.raises(LimitsError, match="multitask_strategy"):
        with_turns(graph, store, multitask_strategy="queue")  # type: ignore[arg-type]
    with pytest.raises(LimitsError, match="multitask_strategy"):
        with_turns(graph, store).invoke(say("x"), ALICE, multitask_strategy="queue")
    assert list(store.sessions()) == []


def messages(store: Store) -> list[Any]:
    return [entry for entry in store.read("main/alice") if entry["type"] == "message"]


def markers(store: Store) -> list[Any]:
    return [
        entry
        for entry in store.read("main/alice")
        if entry.get("customType") == "openclaw:prompt-error"
    ]
