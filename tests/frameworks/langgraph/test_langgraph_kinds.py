"""Graphs of every kind: interrupted ones, functions, graphs in graphs, steps side by side."""

from __future__ import annotations

from collections.abc import Iterator
from operator import add
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

import turnlock
from tests.frameworks.langgraph import graphs
from tests.frameworks.langgraph.graphs import (
    ALICE,
    Scripted,
    accepted,
    calling,
    chat,
    echo,
    say,
    texts,
)
from turnlock import Store
from turnlock.integrations.langgraph import with_turns

savers = pytest.mark.parametrize("saver", [None, InMemorySaver])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with turnlock.open_store(tmp_path / "state", durability="none") as store:
        yield store


@tool
def ask() -> str:
    """Ask a person."""
    return f"they said {interrupt('may I?')}"


@savers
def test_a_run_that_waits_for_a_person_goes_on_in_another_turn(saver: Any, store: Store) -> None:
    """Nobody holds the session while the person thinks; the answer is the call's one result."""
    model = Scripted(reply=calling("ask"))
    graph: Any = with_turns(chat(model, [ask], checkpointer=saver and saver()), store)
    assert "__interrupt__" in graph.invoke(say("do it"), ALICE)
    assert store.locks() == []
    # Another process would make its own graph; all that it has is the store.
    again: Any = graph if saver else with_turns(chat(model, [ask]), store)
    result = graph.invoke(Command(resume="yes"), ALICE)
    assert texts(result) == ["do it", "", "they said yes", "done"]
    assert accepted(result["messages"])
    assert texts(again.get_state(ALICE)) == texts(result)
    with store.turn("main/alice") as turn:
        roles = [message["role"] for message in turn.messages()]
    assert roles == ["user", "assistant", "tool", "assistant"]


@savers
def test_who_speaks_instead_of_answering_closes_the_question(saver: Any, store: Store) -> None:
    """The call gets a result that says that there is none, and the new message is heard."""
    model = Scripted(reply=lambda sent: calling("ask")(sent) if len(sent) == 1 else echo(sent))
    graph: Any = with_turns(chat(model, [ask], checkpointer=saver and saver()), store)
    graph.invoke(say("do it"), ALICE)
    result = graph.invoke(say("never mind"), ALICE)
    assert accepted(model.sent[-1])
    assert isinstance(result["messages"][2], ToolMessage)
    assert texts(result)[-2:] == ["never mind", "reply to never mind"]


@savers
def test_a_function_is_a_graph_as_well(saver: Any, store: Store) -> None:
    """The functional API: its runs are turns, and what it saved comes back."""

    @task
    def double(number: int) -> int:
        assert turnlock.current_turn() is not None
        return 2 * number

    @entrypoint(checkpointer=saver and saver())
    def total(number: int, *, previous: int | None = None) -> int:
        return (previous or 0) + double(number).result()

    graph: Any = with_turns(total, store)
    assert [graph.invoke(number, ALICE) for number in (1, 2, 3)] == [2, 6, 12]
    turns = [entry for entry in store.read("main/alice") if entry["type"] == "custom"]
    assert [one["customType"] for one in turns].count("turnlock:turn") == 3


@savers
def test_a_graph_in_a_graph_is_of_the_same_turn(saver: Any, store: Store) -> None:
    """Its checkpoints are fenced with the others; what it says to itself is not conversation."""
    inside = StateGraph(MessagesState)
    inside.add_node("think", lambda state: {"messages": [AIMessage("hm")]})
    inside.add_edge(START, "think")
    inner: Any = with_turns(inside.compile(), store)

    def outer(state: MessagesState) -> Any:
        thought = inner.invoke({"messages": [HumanMessage("think!")]})
        return {"messages": [AIMessage(f"I thought {thought['messages'][-1].content}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("outer", outer)
    builder.add_edge(START, "outer")
    graph: Any = with_turns(builder.compile(checkpointer=saver and saver()), store)
    assert texts(graph.invoke(say("x"), ALICE)) == ["x", "I thought hm"]
    with store.turn("main/alice") as turn:
        assert [message["content"] for message in turn.messages()] == ["x", "I thought hm"]
    kinds = [entry.get("customType") for entry in store.read("main/alice")]
    assert kinds.count("turnlock:turn") == 1


@savers
def test_steps_side_by_side_write_in_one_turn(saver: Any, store: Store) -> None:
    """Many nodes at once, in threads and in tasks: each write is there."""

    class State(TypedDict):
        seen: Annotated[list[int], add]

    builder = StateGraph(State)
    for number in range(8):
        builder.add_node(f"n{number}", lambda state, number=number: {"seen": [number]})
        builder.add_edge(START, f"n{number}")
    graph: Any = with_turns(builder.compile(checkpointer=saver and saver()), store)
    graph.invoke({"seen": []}, ALICE)
    graphs.run(graph.ainvoke({"seen": []}, ALICE))
    assert sorted(graph.get_state(ALICE).values["seen"]) == sorted([*range(8)] * 2)
    bare: Any = builder.compile(checkpointer=graph.checkpointer)
    with store.turn("main/alice"):
        bare.invoke({"seen": []}, ALICE)
    assert len(graph.get_state(ALICE).values["seen"]) == 24
    turns = [entry for entry in store.read("main/alice") if entry["type"] == "custom"]
    assert [one["customType"] for one in turns].count("turnlock:turn") == 3


@savers
def test_time_travel_starts_a_branch(saver: Any, store: Store) -> None:
    """A run from an old checkpoint is told nothing that came after it."""
    graph: Any = with_turns(chat(Scripted(reply=echo), checkpointer=saver and saver()), store)
    graph.invoke(say("one"), ALICE)
    old = graph.get_state(ALICE).config
    graph.invoke(say("two"), ALICE)
    assert texts(graph.invoke(say("instead"), old)) == [
        "one",
        "reply to one",
        "instead",
        "reply to instead",
    ]
    assert texts(graph.get_state(ALICE))[-1] == "reply to instead"


def test_a_tool_that_fails_ends_its_turn_with_a_marker(store: Store) -> None:
    """What a node raises is what its caller gets; the session is free, and the next turn runs."""

    def fail(messages: Any) -> AIMessage:
        raise KeyError("no such thing")

    broken: Any = with_turns(chat(Scripted(reply=fail)), store)
    with pytest.raises(KeyError):
        broken.invoke(say("one"), ALICE)
    markers = [
        entry["data"] for entry in store.read("main/alice") if "error" in entry.get("data", {})
    ]
    assert [one["reason"] for one in markers] == ["error"]
    graph: Any = with_turns(chat(Scripted(reply=echo)), store)
    assert texts(graph.invoke(say("two"), ALICE)) == ["one", "two", "reply to two"]


def test_a_missing_framework_is_named() -> None:
    """Who has not installed the extra is told which one it is."""
    import subprocess
    import sys

    code = "import sys; sys.modules['langgraph'] = None; import turnlock.integrations.langgraph"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'turnlock[langgraph]'" in done.stderr
