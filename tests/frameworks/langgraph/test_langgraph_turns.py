"""Graphs, a model over HTTP, and whatever goes wrong with either, in one process and in two."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import Field

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
from tests.frameworks.langgraph.models import openai, practice
from tests.helpers import PATIENCE, child, eventually
from turnlock import LeaseRevoked, Limits, Store
from turnlock.integrations.langgraph import TurnlockSaver, with_turns
from turnlock.integrations.langgraph.callbacks import watched
from turnlock.practice import PracticeServer

Run = Callable[[Any, str], Any]
# Importing LangGraph takes its time, and more of it beside other work.
STARTED = 120.0
LIMITS = Limits(first_token=0.5, idle=0.5)


@pytest.fixture
def server() -> Iterator[PracticeServer]:
    with practice(pulse=0.05) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with turnlock.open_store(tmp_path / "state", limits=LIMITS) as store:
        yield store


def in_thread(graph: Any, text: str) -> Any:
    return graph.invoke(say(text), ALICE)


def in_task(graph: Any, text: str) -> Any:
    return graphs.run(graph.ainvoke(say(text), ALICE))


def streamed_in_task(graph: Any, text: str) -> Any:
    async def run() -> None:
        async for _ in graph.astream(say(text), ALICE, stream_mode="messages"):
            pass

    return graphs.run(run())


both = pytest.mark.parametrize("run", [in_thread, in_task])


@both
@pytest.mark.parametrize(
    ("fault", "streaming"),
    [
        *((fault, False) for fault in ("/hang", "/stall", "/dribble", "/comments")),
        # Not /dribble: what brings content for ever is bounded by max_hold, see below.
        *((fault, True) for fault in ("/hang", "/stall", "/comments")),
    ],
)
def test_a_hung_model_ends_its_turn(
    run: Run, fault: str, streaming: bool, server: PracticeServer, store: Store
) -> None:
    """Before headers, in mid-stream, with signs of life that are none: the limit ends it all.

    The thread comes back as well, its connection is closed, and the next turn has both messages.
    """
    model = turnlock.guard(openai(server.url, streaming=streaming))
    graph: Any = with_turns(chat(model), store)
    with pytest.raises(LeaseRevoked) as error:
        run(graph, f"{fault} please")
    assert error.value.reason == "model-limit"
    seen = run(graph, "go on")
    assert texts(seen) == [f"{fault} please", "go on", "practice reply 2 to: go on"]
    assert store.zombies() == []
    eventually(lambda: fault.removeprefix("/") in left(server))


class Streaming(Scripted):
    """A model whose stream is these contents, and after each of them whether it counted for any."""

    contents: list[Any]
    counted: list[bool] = Field(default_factory=list)

    def _stream(self, *args: Any, **options: Any) -> Iterator[ChatGenerationChunk]:
        for content in self.contents:
            yield ChatGenerationChunk(message=AIMessageChunk(content=content))
            (asked,) = watched.get()._calls.values()  # type: ignore[union-attr]
            self.counted.append(asked.call.has_content)


STREAMS = {"chunks": lambda model: model.stream("x")}
if hasattr(BaseCallbackHandler, "on_stream_event"):
    STREAMS["events"] = lambda model: model.stream_events("x", version="v3")


@pytest.mark.filterwarnings("ignore:.*in beta.*")
@pytest.mark.parametrize("stream", STREAMS)
def test_only_what_says_something_is_content(stream: str, store: Store) -> None:
    """Blocks and pieces of calls may be as empty as texts: a model that sends them for ever hangs.

    Streamed as chunks, or as the events of langchain-core's protocol.
    """
    contents = [
        "",
        [{"type": "text", "text": "", "index": 0}],
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "", "index": 0}]}],
        [{"type": "text", "text": "hello", "index": 0}],
        [{"type": "text", "text": "", "index": 0}],
    ]
    model = Streaming(reply=echo, contents=contents)

    def act(state: Any) -> Any:
        list(STREAMS[stream](model))
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node("act", act)
    builder.add_edge(START, "act")
    graph: Any = with_turns(builder.compile(), store)
    graph.invoke(say("x"), ALICE)
    assert model.counted[:3] == [False] * 3
    assert model.counted[4] is True


class Hanging(Scripted):
    """A model that says when it is asked, and never answers a task."""

    asked: asyncio.Event = Field(default_factory=asyncio.Event)

    async def _agenerate(self, *args: Any, **options: Any) -> ChatResult:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


async def cancelled(model: Hanging) -> None:
    """As who asks two models at once does with the slower one."""
    task = asyncio.create_task(model.ainvoke("x"))
    await model.asked.wait()
    task.cancel()
    await asyncio.wait({task})


async def timed_out(model: Hanging) -> None:
    """Then another model is asked, in the same task."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await model.ainvoke("x")
    await Scripted(reply=echo).ainvoke("x")


async def passed_on(model: Hanging) -> None:
    """Timed out in a step of its own, which asks nobody else."""

    async def ask(text: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await model.ainvoke(text)

    await RunnableLambda(ask).ainvoke("x")


@pytest.mark.parametrize("give_up", [cancelled, timed_out, passed_on])
def test_a_call_that_a_node_gives_up_has_no_limit_any_more(
    give_up: Callable[[Hanging], Any], store: Store
) -> None:
    """LangChain does not tell that it was cancelled; its limit would end the turn later."""
    open_calls: list[int] = []

    async def act(state: Any) -> Any:
        await give_up(Hanging(reply=echo))
        open_calls.append(len(turnlock.current_turn()._core.lease.calls))
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node("act", act)
    builder.add_edge(START, "act")
    graph: Any = with_turns(builder.compile(), store)
    graphs.run(graph.ainvoke(say("x"), ALICE))
    assert open_calls == [0]


@both
def test_a_model_that_dribbles_for_ever_is_bounded_by_the_hold_limit(
    run: Run, server: PracticeServer, store: Store
) -> None:
    """Content counts as progress, so only the hold limit ends what never ends."""
    model = turnlock.guard(openai(server.url, streaming=True))
    graph: Any = with_turns(chat(model), store, max_hold=1.0)
    with pytest.raises(LeaseRevoked) as error:
        run(graph, "/dribble please")
    assert error.value.reason == "hold-limit"
    assert texts(run(graph, "go on"))[-1] == "practice reply 2 to: go on"


def test_a_task_needs_no_guarded_client(server: PracticeServer, store: Store) -> None:
    """The events of LangChain's models alone have the limits; a task's call is cancelled."""
    graph: Any = with_turns(chat(openai(server.url, streaming=True, max_retries=0)), store)
    for fault in ("/hang", "/stall", "/comments"):
        with pytest.raises(LeaseRevoked) as error:
            streamed_in_task(graph, fault)
        assert error.value.reason == "model-limit"
    eventually(lambda: {"hang", "stall", "comments"} <= left(server))


def test_who_reads_a_stream_is_told_and_not_cancelled(server: PracticeServer, store: Store) -> None:
    """Revoked while its reader is at something else, the stream says so when it is asked next."""
    graph: Any = with_turns(chat(openai(server.url)), store)

    async def read() -> int:
        chunks = graph.astream(say("hello"), ALICE)
        await anext(chunks)
        assert await asyncio.to_thread(store.revoke, "main/alice")
        await asyncio.sleep(0)
        with pytest.raises(LeaseRevoked):
            await anext(chunks)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert graphs.run(read()) == 0


def test_a_reader_that_leaves_ends_its_turn(server: PracticeServer, store: Store) -> None:
    """A stream that is closed, and a run that is cancelled, leave a marker and no lock."""
    graph: Any = with_turns(chat(openai(server.url)), store)

    async def leave() -> None:
        chunks = graph.astream(say("one"), ALICE)
        await anext(chunks)
        await chunks.aclose()
        assert store.locks() == []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await graph.ainvoke(say("/hang two"), ALICE)
        assert store.locks() == []

    graphs.run(leave())
    chunks = graph.stream(say("three"), ALICE)
    next(chunks)
    chunks.close()
    assert store.locks() == []
    assert reasons(store) == ["cancelled"] * 3
    assert texts(graph.invoke(say("four"), ALICE))[-1].endswith("to: four")


def test_two_streams_in_one_thread_are_each_in_their_own_turn(store: Store) -> None:
    """Gone over in turns, each graph is in its own session's turn, and their reader in none."""
    seen: list[str] = []

    def reply(messages: list[BaseMessage]) -> AIMessage:
        seen.append(turnlock.current_turn().session)
        return echo(messages)

    graph: Any = with_turns(chat(Scripted(reply=reply)), store)
    streams = [
        graph.stream(say("x"), {"configurable": {"thread_id": name}}, stream_mode="updates")
        for name in ("a", "b")
    ]
    for _ in zip(*streams, strict=True):
        assert turnlock.current_turn() is None
    assert seen == ["main/a", "main/b"]
    assert store.locks() == []


def test_a_run_within_a_turn_belongs_to_it(store: Store) -> None:
    """The turn of your own: one lease for a run and what you do around it."""
    graph: Any = with_turns(chat(Scripted(reply=echo)), store)

    async def run() -> None:
        async with store.turn("main/alice") as turn:
            await graph.ainvoke(say("one"), ALICE)
            await graph.ainvoke(say("two"), ALICE)
            await turn.append(turnlock.assistant("by hand"))

    graphs.run(run())
    kinds = [entry.get("customType") for entry in store.read("main/alice")]
    assert kinds.count("turnlock:turn") == 1
    assert texts(graph.invoke(say("three"), ALICE))[-3:] == ["by hand", "three", "reply to three"]


def test_a_task_that_outlives_a_turn_may_begin_another(store: Store) -> None:
    """What is refused is what belongs to the old one: a run that begins now is a turn of now."""
    graph: Any = with_turns(chat(Scripted(reply=echo)), store)

    async def run() -> Any:
        over = asyncio.Event()

        async def later() -> Any:
            await over.wait()
            return await graph.ainvoke(say("later"), ALICE)

        async with store.turn("main/alice"):
            task = asyncio.create_task(later())
        over.set()
        return await task

    assert texts(graphs.run(run())) == ["later", "reply to later"]


@pytest.mark.parametrize("saver", [None, InMemorySaver])
def test_what_a_stream_says_of_its_checkpoints_has_no_turn_in_it(saver: Any, store: Store) -> None:
    """A caller may store its config, and use it when the turn is long over."""
    graph: Any = with_turns(chat(Scripted(reply=echo), checkpointer=saver and saver()), store)

    async def streamed() -> list[Any]:
        return [one async for one in graph.astream(say("two"), ALICE, stream_mode="checkpoints")]

    chunks = [*graph.stream(say("one"), ALICE, stream_mode="checkpoints"), *graphs.run(streamed())]
    debug = [*graph.stream(say("three"), ALICE, stream_mode="debug")]
    chunks += [one["payload"] for one in debug if one["type"] == "checkpoint"]
    kept = [json.loads(json.dumps([one["config"], one["parent_config"]])) for one in chunks]
    assert len(kept) == 9
    assert texts(graph.get_state(kept[2][0])) == ["one", "reply to one"]
    seen = graph.invoke(say("instead"), chunks[2]["config"])
    assert texts(seen) == ["one", "reply to one", "instead", "reply to instead"]


def test_a_saver_of_another_store_is_refused(store: Store) -> None:
    """A turn there would fence nothing here."""
    other = TurnlockSaver(turnlock.open_store("memory:"))
    with pytest.raises(turnlock.StoreError, match="another store"):
        with_turns(chat(Scripted(reply=echo), checkpointer=other), store)


def test_every_way_to_run_a_graph_is_a_turn(store: Store) -> None:
    """`batch`, `astream_events` and the like: one turn for each run, and no lock left."""
    graph: Any = with_turns(chat(Scripted(reply=echo)), store)
    names = [{"configurable": {"thread_id": name}} for name in ("a", "b")]
    graph.batch([say("x"), say("y")], names)

    async def events() -> None:
        async for _ in graph.astream_events(say("z"), names[0], version="v2"):
            pass
        await graph.abatch([say("x"), say("y")], names)

    graphs.run(events())
    assert [turns(store, name) for name in ("main/a", "main/b")] == [3, 2]
    assert graph.with_config(tags=["t"]).invoke(say("w"), names[1])["messages"][-1]
    assert turns(store, "main/b") == 3
    assert store.locks() == []


def test_a_run_without_a_thread_takes_no_turn(store: Store) -> None:
    """A graph that nobody gave a thread has nothing to be kept apart."""
    graph: Any = with_turns(chat(Scripted(reply=echo)), store)
    with pytest.raises(ValueError, match="thread_id"):
        graph.invoke(say("x"))
    assert list(store.sessions()) == []


@pytest.mark.parametrize("durability", [None, "sync", "async", "exit"])
@pytest.mark.parametrize("saver", [None, InMemorySaver])
def test_the_users_message_is_durable_before_the_model_is_asked(
    durability: Any, saver: Any, store: Store
) -> None:
    """Whatever durability was asked for, the transcript has the message and so has the state."""

    def reply(messages: list[BaseMessage]) -> AIMessage:
        said = [entry for entry in store.read("main/alice") if entry["type"] == "message"]
        assert said[-1]["message"]["content"] == [{"type": "text", "text": "hello"}]
        if durability != "async":
            assert texts(graph.get_state(ALICE))[-1] == "hello"
        return echo(messages)

    graph: Any = with_turns(chat(Scripted(reply=reply), checkpointer=saver and saver()), store)
    graph.invoke(say("hello"), ALICE, durability=durability)
    graphs.run(graph.ainvoke(say("hello"), ALICE, durability=durability))


def test_the_phase_of_a_turn_is_its_node_its_model_or_its_tool(store: Store) -> None:
    """Events of the graph are the turn's progress."""
    phases: list[str] = []

    @tool
    def look() -> str:
        """Look."""
        phases.append(store.leases()[0].phase)
        return "seen"

    def reply(messages: list[BaseMessage]) -> AIMessage:
        phases.append(store.leases()[0].phase)
        return calling("look")(messages)

    graph: Any = with_turns(chat(Scripted(reply=reply), [look]), store)
    graph.invoke(say("x"), ALICE)
    assert phases == ["model", "tool look", "model"]


def test_no_tool_is_called_for_a_turn_that_is_over(store: Store) -> None:
    """Its side effect would be the next turn's surprise."""
    called: list[str] = []

    @tool
    def act() -> str:
        """Act."""
        called.append("act")
        return "acted"

    def reply(messages: list[BaseMessage]) -> AIMessage:
        assert store.revoke("main/alice")
        return calling("act")(messages)

    graph: Any = with_turns(chat(Scripted(reply=reply), [act]), store)
    with pytest.raises(LeaseRevoked):
        graph.invoke(say("x"), ALICE)
    assert called == []


def alone(graph: Any, store: Store) -> None:
    graph.invoke(say("x"), ALICE)


def in_loop(graph: Any, store: Store) -> None:
    asyncio.run(graph.ainvoke(say("x"), ALICE))


def in_thread_of_a_task(graph: Any, store: Store) -> None:
    async def run() -> None:
        async with store.turn("main/alice"):
            await asyncio.to_thread(graph.invoke, say("x"), ALICE)

    asyncio.run(run())


def in_loop_of_a_thread(graph: Any, store: Store) -> None:
    with store.turn("main/alice"):
        asyncio.run(graph.ainvoke(say("x"), ALICE))


@pytest.mark.parametrize(
    ("run", "is_async"),
    [
        (alone, False),
        (in_loop, True),
        (in_loop, False),
        (in_thread_of_a_task, False),
        (in_loop_of_a_thread, True),
        (in_loop_of_a_thread, False),
    ],
)
def test_no_tool_is_called_once_the_session_is_lost(
    run: Callable[[Any, Store], None], is_async: bool, tmp_path: Path, store: Store
) -> None:
    """The storage is asked before each tool, however threads and tasks are mixed."""
    called: list[str] = []
    over = threading.Event()

    @tool
    def look() -> str:
        """Look."""
        called.append("look")
        return "seen"

    @tool
    def lose() -> str:
        """Lose the session, which nobody tells this process."""
        called.append("lose")
        (tmp_path / "state/agents/main/sessions/alice.jsonl.lock").unlink()
        return "lost"

    tools = [look, lose, look]

    def act(state: Any) -> Any:
        try:
            return {"messages": [one.invoke({}) for one in tools]}
        finally:
            over.set()

    async def aact(state: Any) -> Any:
        try:
            return {"messages": [await one.ainvoke({}) for one in tools]}
        finally:
            over.set()

    builder = StateGraph(MessagesState)
    builder.add_node("act", aact if is_async else act)
    builder.add_edge(START, "act")
    graph: Any = with_turns(builder.compile(), store)
    with pytest.raises(LeaseRevoked):
        run(graph, store)
    assert over.wait(PATIENCE)
    assert called == ["look", "lose"]


CRASH = """
    import os, signal
    import turnlock
    from langchain.agents import create_agent
    from langchain_core.tools import tool
    from langgraph.checkpoint.sqlite import SqliteSaver
    from tests.frameworks.langgraph.graphs import ALICE, Scripted, calling, say
    from turnlock.integrations.langgraph import with_turns

    path, where = sys.argv[1:]

    def stop():
        print("there", flush=True)
        signal.pause()

    @tool
    def quick() -> str:
        "Quick."
        return "quick result"

    @tool
    def slow() -> str:
        "Slow."
        stop()

    def reply(messages):
        if where == "model":
            stop()
        return calling("quick", "slow")(messages)

    store = turnlock.open_store(path + "/state")
    with SqliteSaver.from_conn_string(path + "/checkpoints.db") as saver:
        wrapped = saver if os.environ["WRAPPED"] == "1" else None
        agent = create_agent(Scripted(reply=reply), [quick, slow], checkpointer=wrapped)
        with_turns(agent, store).invoke(say("A"), ALICE)
"""


@pytest.mark.processes
@pytest.mark.timeout(300)
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("where", ["model", "tool"])
def test_a_process_that_is_killed_loses_nothing(
    where: str, wrapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 at the model, and at the second of two tools: the next turn has all that was said.

    The first tool's result is there, the second's says that there is none, and a strict provider
    takes it.
    """
    monkeypatch.setenv("WRAPPED", str(int(wrapped)))
    with child(CRASH, tmp_path, where) as process:
        process.expect("there", STARTED)
        eventually(lambda: where == "model" or "quick result" in transcript(tmp_path))
        process.kill()
    model = Scripted(reply=echo)
    with (
        turnlock.open_store(tmp_path / "state") as store,
        SqliteSaver.from_conn_string(str(tmp_path / "checkpoints.db")) as saver,
    ):
        agent = create_agent(model, [], checkpointer=saver if wrapped else None)
        graph: Any = with_turns(agent, store)
        graph.invoke(say("B"), ALICE)
        graph.invoke(say("C"), ALICE)
        said = [str(message.content) for message in model.sent[-1]]
        assert [text for text in said if text in "ABC" and text] == ["A", "B", "C"]
        assert accepted(model.sent[0])
        assert accepted(model.sent[-1])
        if where == "tool":
            assert said[2] == "quick result"
            assert said[3].startswith("(There is no result")
        assert reasons(store) == ["interrupted"]
        with store.turn("main/alice") as turn:
            contents = [message["content"] for message in turn.messages()]
        assert [text for text in contents if text in ("A", "B", "C")] == ["A", "B", "C"]


TALK = """
    import turnlock
    from tests.frameworks.langgraph.graphs import ALICE, Scripted, chat, echo, say
    from turnlock.integrations.langgraph import with_turns

    path, name, count = sys.argv[1:]
    graph = with_turns(chat(Scripted(reply=echo)), turnlock.open_store(path))
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(count)):
        graph.invoke(say(f"{name}{number}"), ALICE)
    print("done", flush=True)
"""


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_two_processes_talk_in_one_thread(tmp_path: Path) -> None:
    """No finished turn is lost, each is contiguous, and each process' are in order."""
    with child(TALK, tmp_path, "a", 5) as one, child(TALK, tmp_path, "b", 5) as other:
        for process in (one, other):
            process.expect("ready", STARTED)
        for process in (one, other):
            process.tell()
        for process in (one, other):
            process.expect("done", STARTED)
    with turnlock.open_store(tmp_path) as store:
        said = texts(with_turns(chat(Scripted(reply=echo)), store).get_state(ALICE))
    asked, answered = said[::2], said[1::2]
    assert answered == [f"reply to {text}" for text in asked]
    for name in "ab":
        own = [text for text in asked if text.startswith(name)]
        assert own == [f"{name}{number}" for number in range(5)]


HANG = """
    import threading
    import turnlock
    from langchain_core.messages import AIMessage
    from langgraph.checkpoint.sqlite import SqliteSaver
    from tests.frameworks.langgraph.graphs import ALICE, Scripted, chat, say
    from turnlock.integrations.langgraph import with_turns

    def reply(messages):
        print("hangs", flush=True)
        sys.stdin.readline()
        return AIMessage("late")

    with SqliteSaver.from_conn_string(sys.argv[2]) as saver:
        store = turnlock.open_store(sys.argv[1])
        graph = with_turns(chat(Scripted(reply=reply), checkpointer=saver), store, max_hold=1.0)
        try:
            graph.invoke(say("A"), ALICE)
        except turnlock.LeaseRevoked as error:
            print(error.reason, flush=True)
"""


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_a_stopped_process_that_wakes_writes_nothing(tmp_path: Path) -> None:
    """Stopped beyond its limit, superseded by another process, and woken: it is refused."""
    database = str(tmp_path / "checkpoints.db")
    with (
        child(HANG, tmp_path / "state", database) as process,
        turnlock.open_store(tmp_path / "state") as store,
        SqliteSaver.from_conn_string(database) as saver,
    ):
        process.expect("hangs", STARTED)
        process.stop()
        graph = with_turns(chat(Scripted(reply=echo), checkpointer=saver), store)
        assert texts(graph.invoke(say("B"), ALICE)) == ["A", "B", "reply to B"]
        process.go_on()
        process.tell()
        assert process.line(STARTED) in ("hold-limit", "superseded")
        assert texts(graph.get_state(ALICE)) == ["A", "B", "reply to B"]


def test_no_connection_and_no_thread_is_left(server: PracticeServer, tmp_path: Path) -> None:
    """After many turns that were ended by their limit, there is no more than there was."""
    store = turnlock.open_store(tmp_path, limits=Limits(first_token=0.05))
    graph = with_turns(chat(turnlock.guard(openai(server.url))), store)

    def hang() -> None:
        with pytest.raises(LeaseRevoked):
            graph.invoke(say("/hang"), ALICE)

    hang()
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        hang()
    eventually(lambda: server.statistics().open_connections <= 2)
    eventually(lambda: threading.active_count() <= threads)
    # An error's traceback keeps its frames, and they the lease, until the collector runs.
    eventually(lambda: gc.collect() >= 0 and len(os.listdir("/proc/self/fd")) <= files)
    store.close()


def left(server: PracticeServer) -> set[str]:
    """The modes of the answers in whose midst a client closed its connection."""
    return {close.mode for close in server.statistics().peer_closes}


def reasons(store: Store) -> list[str]:
    return [
        entry["data"]["reason"]
        for entry in store.read("main/alice")
        if entry.get("customType") == "openclaw:prompt-error"
    ]


def turns(store: Store, key: str) -> int:
    return sum(entry.get("customType") == "turnlock:turn" for entry in store.read(key))


def transcript(path: Path) -> str:
    return (path / "state/agents/main/sessions/alice.jsonl").read_text()
