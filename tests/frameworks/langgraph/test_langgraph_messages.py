"""Messages there and back, what others said in a session, and threads of any name."""

from __future__ import annotations

import base64
import contextlib
import operator
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Overwrite
from pydantic import BaseModel
from typing_extensions import TypedDict

import turnlock
from tests.frameworks.langgraph.graphs import ALICE, Scripted, accepted, chat, echo, say, texts
from turnlock import Store
from turnlock.integrations.langgraph import TurnlockSaver, with_turns
from turnlock.integrations.langgraph.messages import closed, of_entry, to_entry
from turnlock.transcript.entries import CUT_OFF

BOB: Any = {"configurable": {"thread_id": "bob"}}
CALLS: list[Any] = [{"name": "look", "args": {"at": "it"}, "id": "c1"}]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with turnlock.open_store(tmp_path / "state", durability="none") as store:
        yield store


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage("hello", id="1"),
        SystemMessage("be kind", id="2"),
        AIMessage("yes", id="3", tool_calls=CALLS),
        ToolMessage("seen", id="4", tool_call_id="c1", name="look", status="error"),
    ],
)
def test_a_message_is_an_entry_that_everybody_reads(message: BaseMessage) -> None:
    """What the common form has comes back from it, whoever reads it."""
    entry = to_entry(message, "any")
    assert entry is not None
    read = of_entry(entry)
    assert read is not None
    assert (read.type, read.content) == (message.type, message.content)
    for name in ("tool_calls", "tool_call_id", "name", "status"):
        assert getattr(read, name, None) == getattr(message, name, None)


def test_what_the_common_form_loses_comes_back(store: Store) -> None:
    """Images, names, extra arguments: a graph gets back what it gave."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    given = HumanMessage(
        [{"type": "text", "text": "look"}, image], name="Al", additional_kwargs={"x": [1, {"y": 2}]}
    )
    for saver in (None, InMemorySaver()):
        graph = with_turns(chat(Scripted(reply=echo), checkpointer=saver), store)
        graph.invoke({"messages": [given]}, ALICE)
        read = graph.get_state(ALICE).values["messages"][0]
        assert (read.content, read.name) == (given.content, given.name)
        assert read.additional_kwargs == given.additional_kwargs
        graph.checkpointer.delete_thread("alice")  # type: ignore[union-attr]


def test_a_message_takes_its_room_once(store: Store) -> None:
    """A conversation grows by its messages, not by its messages times its steps."""
    graph = with_turns(chat(Scripted(reply=echo)), store)
    sizes = []
    for number in range(24):
        graph.invoke(say(f"{number} " + "x" * 2000), ALICE)
        sizes.append(next(iter(store.sessions())).size)
    # What is left that grows are the ids in each checkpoint: a few bytes a message.
    grown = [after - before for before, after in pairwise(sizes)]
    assert grown[-1] < grown[0] * 1.5


@pytest.mark.parametrize(
    "messages",
    [
        [HumanMessage("a"), AIMessage("", tool_calls=CALLS)],
        [AIMessage("", tool_calls=CALLS), HumanMessage("b"), ToolMessage("x", tool_call_id="c1")],
        [HumanMessage("a"), ToolMessage("x", tool_call_id="c0")],
        [
            AIMessage("", tool_calls=CALLS),
            ToolMessage("x", tool_call_id="c1"),
            ToolMessage("y", tool_call_id="c1"),
        ],
    ],
)
def test_a_history_that_a_provider_refuses_is_closed(messages: list[BaseMessage]) -> None:
    """Calls without result, results elsewhere, without call, or twice."""
    assert not accepted(messages)
    assert accepted(closed(messages))


def test_a_history_that_a_provider_takes_stays_as_it_is() -> None:
    """Also when the results stand in another order than the calls, or ids come again."""
    two = [*CALLS, {"name": "look", "args": {}, "id": "c2"}]
    messages = [
        AIMessage("", tool_calls=two),
        ToolMessage("2", tool_call_id="c2"),
        ToolMessage("1", tool_call_id="c1"),
        AIMessage("", tool_calls=CALLS),
        ToolMessage("again", tool_call_id="c1"),
    ]
    assert closed(messages) == messages


@pytest.mark.parametrize("saver", [None, InMemorySaver])
def test_calls_that_an_interrupt_left_open_are_closed_by_a_new_message(
    saver: Any, store: Store
) -> None:
    """The hole and the cure: without it a provider refuses the thread for ever."""
    model = Scripted(reply=echo, sent=[])
    plain = chat(model, checkpointer=InMemorySaver())
    graph = with_turns(chat(model, checkpointer=saver and saver()), store)
    for one in (plain, graph):
        one.update_state(ALICE, {"messages": [HumanMessage("a"), AIMessage("", tool_calls=CALLS)]})
        one.invoke(say("b"), ALICE)
    assert [accepted(sent) for sent in model.sent] == [False, True]


@pytest.mark.parametrize("saver", [None, InMemorySaver])
def test_a_result_that_the_input_brings_is_the_calls_result(saver: Any, store: Store) -> None:
    """A tool on the client's side: its result is the answer, and no other is put before it."""
    model = Scripted(reply=echo, sent=[])
    graph = with_turns(chat(model, checkpointer=saver and saver()), store)
    two: list[Any] = [*CALLS, {"name": "look", "args": {}, "id": "c2"}]
    graph.update_state(ALICE, {"messages": [HumanMessage("a"), AIMessage("", tool_calls=two)]})
    graph.invoke({"messages": [ToolMessage("42", tool_call_id="c1"), HumanMessage("b")]}, ALICE)
    sent = model.sent[-1]
    assert accepted(sent)
    assert [one.content for one in sent[:3]] == ["a", "", "42"]
    graph.invoke(say("c"), ALICE)
    assert model.sent[-1][: len(sent)] == sent


def test_a_result_may_be_changed_by_its_id(store: Store) -> None:
    """As any message: it is no second result of its call."""
    graph = with_turns(chat(Scripted(reply=echo)), store)
    result = ToolMessage("42", tool_call_id="c1", id="t1")
    graph.update_state(ALICE, {"messages": [AIMessage("", tool_calls=CALLS), result]})
    graph.invoke({"messages": [result.model_copy(update={"content": "43"})]}, ALICE)
    assert texts(graph.get_state(ALICE)) == ["", "43", "reply to 43"]


def test_calls_in_the_middle_are_closed_too(store: Store) -> None:
    """A thread that was damaged before it came here."""
    model = Scripted(reply=echo, sent=[])
    graph = with_turns(chat(model), store)
    old = [HumanMessage("a"), AIMessage("", tool_calls=CALLS), HumanMessage("b"), AIMessage("c")]
    graph.update_state(ALICE, {"messages": old})
    graph.invoke(say("d"), ALICE)
    assert accepted(model.sent[-1])
    assert [text for text in texts(graph.get_state(ALICE)) if len(text) == 1] == list("abcd")


LISTS: Any = TypedDict("LISTS", {"messages": Annotated[list[Any], operator.add]})
FORMAT: Any = add_messages(format="langchain-openai")  # type: ignore[call-arg]
FORMATTED: Any = TypedDict("FORMATTED", {"messages": Annotated[list[Any], FORMAT]})


def speaking(state: Any, saver: Any, sent: list[Any], *, names: bool) -> Any:
    """A graph with a state of its own kind; its replies have ids, or none."""

    def speak(state: Any) -> Any:
        sent.append(list(state["messages"]))
        said = AIMessage(f"reply to {state['messages'][-1].content}")
        return {"messages": [said.model_copy(update={"id": str(uuid.uuid4())}) if names else said]}

    builder = StateGraph(state)
    builder.add_node("speak", speak)
    builder.add_edge(START, "speak")
    return builder.compile(checkpointer=saver and saver())


@pytest.mark.parametrize("saver", [None, InMemorySaver])
@pytest.mark.parametrize("names", [False, True])
@pytest.mark.parametrize("state", [LISTS, FORMATTED])
def test_a_channel_whose_messages_have_no_ids_is_told_and_healed(
    state: Any, saver: Any, names: bool, store: Store
) -> None:
    """`operator.add` gives none, and a format takes them away: each is an entry, and once."""
    sent: list[Any] = []
    graph = with_turns(speaking(state, saver, sent, names=names), store)
    for _ in range(4):
        graph.invoke({"messages": [HumanMessage("A")]}, ALICE)
    whole = ["A", "reply to A"] * 4
    with store.turn("main/alice") as turn:
        assert [message["content"] for message in turn.messages()] == whole
        turn.append(turnlock.user("by hand"), turnlock.assistant("answered"))
    graph.update_state(ALICE, {"messages": [AIMessage("", tool_calls=CALLS)]})
    for text in "BC":
        graph.invoke({"messages": [HumanMessage(text)]}, ALICE)
        assert accepted(sent[-1])
    whole += ["", CUT_OFF, "by hand", "answered", "B", "reply to B", "C", "reply to C"]
    assert texts(graph.get_state(ALICE)) == whole
    with store.turn("main/alice") as turn:
        told = [str(message["content"] or "") for message in turn.messages()]
    assert sorted(told) == sorted(whole)


def test_a_list_that_is_broken_in_the_middle_still_grows(store: Store) -> None:
    """Nothing in it can be put elsewhere; the new message and what others said are added."""
    graph = with_turns(speaking(LISTS, None, [], names=True), store)
    broken = [AIMessage("", tool_calls=CALLS), HumanMessage("b")]
    graph.update_state(ALICE, {"messages": broken})
    with store.turn("main/alice") as turn:
        turn.append(turnlock.user("by hand"))
    graph.invoke({"messages": [HumanMessage("c")]}, ALICE)
    assert texts(graph.get_state(ALICE)) == ["", "b", "by hand", "c", "reply to c"]


def test_a_list_of_something_else_is_left_alone(store: Store) -> None:
    """Texts in a channel of that name are no messages, and stay what they are."""
    builder = StateGraph(LISTS)
    builder.add_node("speak", lambda state: {"messages": [len(state["messages"])]})
    builder.add_edge(START, "speak")
    graph: Any = with_turns(builder.compile(), store)
    graph.invoke({"messages": ["a", ["user", "b"]]}, ALICE)
    assert graph.invoke({"messages": []}, ALICE)["messages"] == ["a", ["user", "b"], 2, 3]


@pytest.mark.parametrize("saver", [None, InMemorySaver])
def test_what_others_said_the_graph_is_told(saver: Any, store: Store) -> None:
    """A session that the gateway began, or went on with, goes on with LangGraph; and back."""
    with store.turn("main/alice") as turn:
        turn.append(turnlock.user("by hand"), turnlock.assistant("answered"))
    graph = with_turns(chat(Scripted(reply=echo), checkpointer=saver and saver()), store)
    graph.invoke(say("one"), ALICE)
    with store.turn("main/alice") as turn:
        turn.append(turnlock.user("again"), turnlock.assistant("and again"))
    graph.invoke(say("two"), ALICE)
    seen = ["by hand", "answered", "one", "reply to one", "again", "and again", "two"]
    assert texts(graph.get_state(ALICE)) == [*seen, "reply to two"]
    with store.turn("main/alice") as turn:
        assert [message["content"] for message in turn.messages()] == [*seen, "reply to two"]


def test_a_saver_that_another_process_does_not_share_is_told(store: Store) -> None:
    """In memory, or lost at a restart: the transcript knows what was said in the meantime."""
    one, other = (
        with_turns(chat(Scripted(reply=echo), checkpointer=InMemorySaver()), store) for _ in "ab"
    )
    seen: list[str] = []
    for graph, text in ((one, "A"), (other, "B"), (one, "C"), (one, "D"), (other, "E")):
        seen += [text, f"reply to {text}"]
        graph.invoke(say(text), ALICE)
        assert texts(graph.get_state(ALICE)) == seen
    with store.turn("main/alice") as turn:
        assert [message["content"] for message in turn.messages()] == seen
    graph = with_turns(chat(Scripted(reply=echo), checkpointer=InMemorySaver()), store)
    assert texts(graph.invoke(say("F"), ALICE)) == [*seen, "F", "reply to F"]
    graph.checkpointer.delete_thread("alice")  # type: ignore[union-attr]
    assert texts(other.invoke(say("G"), ALICE))[-2:] == ["G", "reply to G"]


def test_a_thread_that_was_there_before_goes_on(store: Store) -> None:
    """The wrapped saver's threads are adopted, and their messages become entries."""
    saver = InMemorySaver()
    chat(Scripted(reply=echo), checkpointer=saver).invoke(say("old"), ALICE)
    graph = with_turns(chat(Scripted(reply=echo), checkpointer=saver), store)
    graph.invoke(say("new"), ALICE)
    whole = ["old", "reply to old", "new", "reply to new"]
    assert texts(graph.get_state(ALICE)) == whole
    assert [texts(state) for state in graph.get_state_history(ALICE)][-1] == []
    with store.turn("main/alice") as turn:
        assert sorted(str(one["content"]) for one in turn.messages()) == sorted(whole)


def test_a_message_that_is_changed_or_removed_is_so_for_the_graph(store: Store) -> None:
    """The transcript has what was said; the graph's state has what the graph made of it."""
    graph = with_turns(chat(Scripted(reply=echo)), store)
    graph.invoke({"messages": [HumanMessage("secret", id="m1")]}, ALICE)
    graph.update_state(ALICE, {"messages": [HumanMessage("public", id="m1")]})
    assert texts(graph.get_state(ALICE))[0] == "public"
    graph.update_state(ALICE, {"messages": [RemoveMessage(id="m1")]})
    assert texts(graph.get_state(ALICE)) == ["reply to secret"]
    graph.invoke(say("next"), ALICE)
    assert texts(graph.get_state(ALICE))[0] == "reply to secret"


@dataclass(frozen=True)
class Record:
    messages: Annotated[list[Any], add_messages] = field(default_factory=list)
    mood: str = "good"


class Model(BaseModel):
    messages: Annotated[list[Any], add_messages] = []
    mood: str = "good"


@pytest.mark.parametrize("kind", [Record, Model])
def test_an_input_may_be_an_instance_of_the_state(kind: Any, store: Store) -> None:
    """Its message is durable, and the graph is told and healed, as with a plain dict."""
    sent: list[Any] = []

    def speak(state: Any) -> Any:
        durable = turnlock.current_turn().messages()[-1]
        sent.append((state.messages, state.mood, durable["content"]))
        return {"messages": [AIMessage("heard")]}

    builder = StateGraph(kind)
    builder.add_node("speak", speak)
    builder.add_edge(START, "speak")
    graph: Any = with_turns(builder.compile(), store)
    graph.update_state(ALICE, {"messages": [AIMessage("", tool_calls=CALLS)]})
    graph.invoke(kind(messages=[HumanMessage("hello")], mood="bad"), ALICE)
    assert texts(graph.get_state(ALICE)) == ["", CUT_OFF, "hello", "heard"]
    assert accepted(sent[0][0])
    assert sent[0][1:] == ("bad", "hello")


@pytest.mark.parametrize("say_it", [Overwrite, lambda said: {"__overwrite__": said}])
def test_an_input_that_overwrites_is_left_alone(say_it: Any, store: Store) -> None:
    """Who puts all messages anew knows what is there; they become entries with the checkpoint."""
    graph = with_turns(chat(Scripted(reply=echo)), store)
    graph.invoke(say("old"), ALICE)
    graph.invoke({"messages": say_it([HumanMessage("new", id="n1")])}, ALICE)
    assert texts(graph.get_state(ALICE)) == ["new", "reply to new"]
    assert "new" in "".join(written(entry) for entry in store.read("main/alice"))


def test_a_copy_has_nothing_that_was_deleted(store: Store) -> None:
    """Neither the thread that was deleted, nor the checkpoints of one run that were."""
    graph = with_turns(chat(Scripted(reply=echo)), store)
    saver = graph.checkpointer
    assert isinstance(saver, TurnlockSaver)
    graph.invoke(say("secret"), ALICE)
    saver.delete_thread("alice")
    graph.invoke(say("new"), ALICE)
    graph.invoke(say("private"), {**ALICE, "metadata": {"run_id": "r1"}})
    saver.delete_for_runs(["r1"])
    with store.turn("main/alice") as turn:
        turn.append(turnlock.user("at last"))
    saver.copy_thread("alice", "bob")
    copied = "".join(written(entry) for entry in store.read("main/bob"))
    assert [word in copied for word in ("new", "at last")] == [True, True]
    assert [word in copied for word in ("secret", "private")] == [False, False]
    seen = ["new", "reply to new", "at last", "go on", "reply to go on"]
    assert texts(graph.invoke(say("go on"), BOB)) == seen


def written(value: Any) -> str:
    """All texts in an entry, also those that a serializer made bytes of."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return value + base64.b64decode(value, validate=True).decode("latin-1")
        return value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return "".join(written(part) for part in parts)


def test_a_state_without_messages_is_kept_as_well(store: Store) -> None:
    """Any state: its checkpoints are fenced, and nothing in it is taken for a conversation."""

    class State(TypedDict):
        count: int
        messages: list[str]

    builder = StateGraph(State)
    builder.add_node("add", lambda state: {"count": state["count"] + 1})
    builder.add_edge(START, "add")
    graph = with_turns(builder.compile(), store)
    assert graph.invoke({"count": 1, "messages": ["x"]}, ALICE)["count"] == 2
    assert graph.get_state(ALICE).values == {"count": 2, "messages": ["x"]}


@pytest.mark.parametrize(
    "thread",
    [
        "../../etc/passwd",
        "",
        ".",
        "a/b",
        "a\0b",
        "x" * 4000,
        "ü\u2028",
        "a=2Fb",
        7,
        "\ud800",
        "A b",
    ],
)
def test_a_thread_may_have_any_name(thread: Any, store: Store, tmp_path: Path) -> None:
    """It names one session, within the store, and comes back as it was."""
    graph = with_turns(chat(Scripted(reply=echo)), store)
    config: Any = {"configurable": {"thread_id": thread}}
    graph.invoke(say("mine"), config)
    graph.invoke(say("other"), {"configurable": {"thread_id": f"{thread}'"}})
    assert texts(graph.get_state(config)) == ["mine", "reply to mine"]
    saver = graph.checkpointer
    assert isinstance(saver, TurnlockSaver)
    named = {one.config["configurable"]["thread_id"] for one in saver.list(None)}
    assert str(thread).encode("utf-16", "surrogatepass").decode("utf-16", "replace") in named
    inside = (tmp_path / "state/agents/main/sessions").iterdir()
    assert len([one for one in inside if one.suffix == ".jsonl"]) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


def test_an_entry_that_only_looks_like_ours_is_skipped(store: Store) -> None:
    """Another program's, or a later version's: the rest of the thread still holds."""
    graph = with_turns(chat(Scripted(reply=echo)), store)
    graph.invoke(say("one"), ALICE)
    with store.turn("main/alice") as turn:
        for kind in ("checkpoint", "writes", "removed", "native"):
            for data in ({}, {"ns": 1}, {"ns": "", "id": []}, "text", None):
                entry = {"type": "custom", "customType": f"langgraph:{kind}", "data": data}
                turn.append(entry)
    fresh = with_turns(chat(Scripted(reply=echo)), store)
    assert texts(fresh.invoke(say("two"), ALICE))[:2] == ["one", "reply to one"]


def test_a_transcript_that_is_another_by_now_is_read_anew(store: Store, tmp_path: Path) -> None:
    """Moved away by hand under a running program: the thread is new, and no old id is used."""
    graph = with_turns(chat(Scripted(reply=echo)), store)
    graph.invoke(say("one"), ALICE)
    path = tmp_path / "state/agents/main/sessions/alice.jsonl"
    path.rename(path.with_suffix(".old"))
    assert texts(graph.get_state(ALICE)) == []
    graph.invoke(say("two"), ALICE)
    fresh = with_turns(chat(Scripted(reply=echo)), store)
    assert texts(fresh.get_state(ALICE)) == ["two", "reply to two"]
