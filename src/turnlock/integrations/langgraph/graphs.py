"""``with_turns``: a compiled graph each of whose runs is a turn.

The graph stays what it is; it gets a class of its own, below its class, whose runs take the turn on
their thread's session. All ways to run a graph (``invoke``, ``batch``, ``astream_events`` …) go
through ``stream`` or ``astream``, so it is these that do it.

A thread's run stays in its thread, but in a context of its own: whoever goes over two streams in
turn is in no turn between, and each graph is always in its own. A task's run is a task of its own:
revocation cancels that one, and whoever goes over the stream is told by `LeaseRevoked`, whatever it
is just waiting for.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig, ensure_config
from langgraph.channels.binop import BinaryOperatorAggregate
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.graph.message import add_messages
from langgraph.pregel import Pregel

from ...errors import StoreError
from ...store import Default, Store
from .callbacks import watch, watched
from .fenced import FencedSaver
from .messages import Adding, messages_in, prepared, said_in
from .own import TurnlockSaver
from .saving import TurnSaver, apart, open_turn, turn_of
from .taking import MultitaskStrategy, Wanted, in_async_turn, in_turn

G = TypeVar("G", bound="Pregel[Any, Any, Any, Any]")
Hand = Callable[[Any], Awaitable[None]]
_END = object()
# With options it is a partial of what it wraps.
_WITH_OPTIONS: Any = add_messages()  # type: ignore[call-arg]
# In the config around whatever a node of a graph runs.
_TASK = "__pregel_task_id"


def with_turns(
    graph: G,
    store: Store,
    *,
    multitask_strategy: MultitaskStrategy = "enqueue",
    wait: float | Default | None = Default.LIMITS,
    max_hold: float | Default = Default.LIMITS,
    max_stall: float | None = None,
    agent: str = "main",
    messages_key: str = "messages",
) -> G:
    """The graph, with each run of it a turn on its thread's session.

    ::

        graph = with_turns(builder.compile(checkpointer=saver), store)
        graph.invoke({"messages": [("user", "hello")]}, {"configurable": {"thread_id": "alice"}})

    ``graph``: compiled, of any kind; it is left as it is, and a copy is returned. Its checkpointer
    is wrapped (`FencedSaver`); one without keeps its checkpoints in the store (`TurnlockSaver`). A
    run without ``thread_id`` takes no turn. A run within a turn on its own session, such as one
    that you opened with ``store.turn``, belongs to that turn.

    ``multitask_strategy``: what a run does while another one has its thread, see `taking`; also an
    argument of each run (``graph.invoke(…, multitask_strategy="reject")``). ``wait``, ``max_hold``
    and ``max_stall``: seconds, as `Store.turn` has them. ``agent`` and ``messages_key``: as
    `TurnlockSaver` has them.

    In a turn

    * the messages of the input are durable before the first node runs, and so is the state with
      them: ``durability`` is "sync" unless you say "async", and "exit" is "sync" as well;
    * the graph is told first what it does not know yet: messages of a run that was cut off, and
      what others (the gateway, another framework) said in this session;
    * a tool call without result gets one that says so, before a new message goes to the model; if
      the input begins with its result, that one. A run that resumes (``None``, ``Command``) is left
      alone;
    * a call of a LangChain model has the limits of the store, content is progress, and no tool is
      called once the turn is over. A **thread's** call is ended only for a guarded client:
      ``turnlock.guard(model)``.

    These need a ``messages_key`` channel that adds messages: ``add_messages``, or ``operator.add``
    if the input's are LangChain's own. One that replaces them is left to you. Not promised: effects
    of nodes and tools are not undone.

    A run raises what `Store.turn` does, and `LeaseRevoked` when its session was taken from it.
    Raises `LimitsError`, `InvalidSessionKey` and, for a saver of ours with another store,
    `StoreError` at once.
    """
    saver = _saver(graph.checkpointer, store, agent, messages_key)
    wanted = Wanted(store, saver, multitask_strategy, wait, max_hold, max_stall).checked()
    kind: Any = type(graph)
    if issubclass(kind, _Turns):
        kind = kind.__mro__[2]
    made: G = graph.copy({"checkpointer": saver})
    made.__class__ = type(kind.__name__, (_Turns, kind), {"_wanted": wanted})
    saver.adding = _adding(made, saver.messages_key)
    return made


def _adding(graph: Pregel[Any, Any, Any, Any], key: str) -> Adding | None:
    channel = graph.channels.get(key)
    if not isinstance(channel, BinaryOperatorAggregate):
        return None
    reducer: Any = channel.operator
    if reducer is operator.add:
        return Adding.APPENDS
    if getattr(reducer, "func", reducer) not in (add_messages, _WITH_OPTIONS.func):
        return None
    formats = getattr(reducer, "keywords", {}).get("format") is not None
    return Adding.FORMATS if formats else Adding.MERGES


def _saver(found: Any, store: Store, agent: str, messages_key: str) -> TurnSaver:
    if isinstance(found, TurnSaver):
        if found.turnlock_store.identity("main/any") != store.identity("main/any"):
            raise StoreError(store.location, "take turns of", "the checkpointer has another store")
        return found
    if isinstance(found, BaseCheckpointSaver):
        return FencedSaver(found, store, agent=agent, messages_key=messages_key)
    return TurnlockSaver(store, agent=agent, messages_key=messages_key)


class _Turns(Pregel[Any, Any, Any, Any]):
    """What `with_turns` adds to a graph's class."""

    _wanted: Wanted

    def stream(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Any:
        """As the graph has it, in a turn."""
        wanted = self._strategy(options)
        session = self._session(config)
        turn = self._turn_around(session)
        if session is None or _is_within(turn):
            yield from super().stream(input, config, **options)
            return
        block = in_turn(wanted, session) if turn is None else contextlib.nullcontext(turn)
        with _InContext(block) as (context, turn):
            context.run(watch, turn)
            given = context.run(self._prepared, turn, input, config)
            chunks: Any = super().stream(given, config, **_durable(options))
            try:
                while (chunk := context.run(next, chunks, _END)) is not _END:
                    yield chunk
            finally:
                context.run(chunks.close)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> AsyncIterator[Any]:
        """As the graph has it, in a turn."""
        wanted = self._strategy(options)
        session = self._session(config)
        turn = self._turn_around(session)
        chunks: Any
        if session is None or _is_within(turn):
            chunks = super().astream(input, config, **options)
        else:
            block: Any = contextlib.nullcontext(turn)
            block = in_async_turn(wanted, session) if turn is None else block
            chunks = _in_a_task(
                lambda hand: self._run(hand, block, input, config, _durable(options))
            )
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def _run(
        self,
        hand: Hand,
        block: Any,
        given: Any,
        config: RunnableConfig | None,
        options: dict[str, Any],
    ) -> None:
        """One run in a task: ``hand`` gives away what it yields, within the turn's block."""
        async with block as turn:
            watch(turn)
            given = await self._aprepared(turn, given, config)
            chunks: Any = super().astream(given, config, **options)
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    await hand(chunk)

    def bulk_update_state(self, config: RunnableConfig, supersteps: Sequence[Any]) -> Any:
        """As the graph has it, in a turn."""
        session = self._session(config)
        if session is None or self._turn_around(session) is not None:
            return super().bulk_update_state(config, supersteps)
        with in_turn(self._wanted, session):
            return super().bulk_update_state(config, supersteps)

    async def abulk_update_state(self, config: RunnableConfig, supersteps: Sequence[Any]) -> Any:
        """As the graph has it, in a turn."""
        session = self._session(config)
        if session is None or self._turn_around(session) is not None:
            return await super().abulk_update_state(config, supersteps)
        async with in_async_turn(self._wanted, session):
            return await super().abulk_update_state(config, supersteps)

    def _strategy(self, options: dict[str, Any]) -> Wanted:
        """How this run takes its turn; its own strategy is taken out of the options."""
        strategy = options.pop("multitask_strategy", None)
        return self._wanted._replace(strategy=strategy).checked() if strategy else self._wanted

    def _session(self, config: RunnableConfig | None) -> str | None:
        thread = self._configured(config).get("thread_id")
        return None if thread is None else self._wanted.saver.session(thread)

    def _turn_around(self, session: str | None) -> Any:
        """The turn that a run belongs to, if it does not take its own."""
        if session is None:
            return None
        is_part = _TASK in ensure_config().get("configurable", {})
        return (turn_of if is_part else open_turn)(self._wanted.store, session)

    def _configured(self, config: RunnableConfig | None) -> dict[str, Any]:
        """What a run's config says of its thread: its own, the graph's, the one around it."""
        sources = (ensure_config(), self.config, config)
        given = [source.get("configurable", {}) for source in sources if source]
        return {name: value for one in given for name, value in one.items()}

    # The input

    def _prepared(self, turn: Any, given: Any, config: RunnableConfig | None) -> Any:
        """The input as the graph is to have it; its messages are durable then."""
        if not self._has_messages(given):
            return given
        state = self._wanted.saver.get_tuple(self._place(config))
        return self._made(turn, given, config, state)

    async def _aprepared(self, turn: Any, given: Any, config: RunnableConfig | None) -> Any:
        if not self._has_messages(given):
            return given
        state = await self._wanted.saver.aget_tuple(self._place(config))
        return await apart(turn, lambda: self._made(turn, given, config, state))

    def _made(
        self,
        turn: Any,
        given: Any,
        config: RunnableConfig | None,
        state: CheckpointTuple | None,
    ) -> Any:
        saver = self._wanted.saver
        key = saver.messages_key
        values = state.checkpoint["channel_values"] if state else {}
        # A run from an old checkpoint is told nothing that came after it.
        is_old = bool(self._configured(config).get("checkpoint_id"))
        news = [] if is_old else saver.news(turn.session, state)
        made = prepared(given, key, messages_in(values.get(key)), news, saver.adding)
        saver.say(turn, made.messages)
        return made.value

    def _has_messages(self, given: Any) -> bool:
        return said_in(given, self._wanted.saver.messages_key) is not None

    def _place(self, config: RunnableConfig | None) -> RunnableConfig:
        given = self._configured(config)
        where: dict[str, Any] = {"checkpoint_ns": "", "thread_id": given["thread_id"]}
        if given.get("checkpoint_id"):
            where["checkpoint_id"] = given["checkpoint_id"]
        return {"configurable": where}


class _InContext:
    """A block that is entered and left in a context of its own. Gives the context and its value."""

    def __init__(self, block: contextlib.AbstractContextManager[Any]) -> None:
        self._block = block
        self._context = contextvars.copy_context()

    def __enter__(self) -> tuple[contextvars.Context, Any]:
        return self._context, self._context.run(self._block.__enter__)

    def __exit__(self, *error: Any) -> bool | None:
        return self._context.run(self._block.__exit__, *error)


async def _in_a_task(run: Callable[[Hand], Coroutine[Any, Any, None]]) -> AsyncIterator[Any]:
    """What a task of its own hands out, which goes on a step for each that is asked for."""
    ready: asyncio.Queue[Any] = asyncio.Queue()
    asked = asyncio.Semaphore(0)

    async def hand(chunk: Any) -> None:
        ready.put_nowait(chunk)
        await asked.acquire()

    task = asyncio.create_task(run(hand))
    task.add_done_callback(lambda done: ready.put_nowait(_END))
    try:
        while (chunk := await ready.get()) is not _END:
            yield chunk
            asked.release()
        await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        # Whoever stopped asking does not want a warning about its end either.
        _ = task.cancelled() or task.exception()


def _is_within(turn: Any) -> bool:
    """Whether this is a graph inside of a graph whose run is that turn."""
    return turn is not None and getattr(watched.get(), "turn", None) is turn


def _durable(options: dict[str, Any]) -> dict[str, Any]:
    """A run whose input is durable before its first node runs, whatever was asked for."""
    kept = {name: value for name, value in options.items() if name != "checkpoint_during"}
    return {**kept, "durability": "async" if kept.get("durability") == "async" else "sync"}
