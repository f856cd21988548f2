"""One run of a runner is one turn.

A session service sees how a run begins: the runner asks it for the session. Nothing tells it how a
run ends, as plugins hear nothing of a run that is cancelled, and `after_run` is not called after
every other one. So `Runner.run_async` is wrapped, for runners whose session service is ours and for
nobody else.

The run gets a task of its own, which holds the turn, and hands its events to whoever asks for them,
one at a time: it goes no further than it is asked to. So it does not matter which task asks, and a
revocation ends the run, not its caller: who asks for the next event gets `LeaseRevoked`.

Who asks no more ends the run. Between two events that is a good end, as ADK has it: the last event
was wanted and came. But who leaves after a piece of an answer has cut the answer off, which is not
stored: the turn is a failed one, with a marker. So it is with a tool call of the turn that has no
result yet, and gets one that says that the call was cut off; a model would be confused for ever by
a call without one. Who is cancelled while it waits for an event has cancelled the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from contextvars import ContextVar
from typing import Any, NamedTuple

from google.adk.events.event import Event

from ...turns.calling import OpenCall

Events = AsyncGenerator[Event, None]

current_run: ContextVar[Run | None] = ContextVar("turnlock_google_adk_run", default=None)


class Caller(NamedTuple):
    """Who asks a model. Each run of an agent that is a tool is an invocation of its own."""

    agent: str
    invocation: str


class _Call(NamedTuple):
    by: Caller
    open: OpenCall


class Calls:
    """The model calls of a run that are under way: one at a time in each task."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Task[Any] | None, _Call] = {}

    def begin(self, turn: Any, by: Caller) -> None:
        self.close_here()
        self._open[asyncio.current_task()] = _Call(by, turn.begin_call(_nothing))

    def progressed(self) -> None:
        if (call := self._open.get(asyncio.current_task())) is not None:
            call.open.progressed()

    def close_here(self) -> None:
        """Close the call of this task, if it has one."""
        self._close([asyncio.current_task()])

    def close_of(self, event: Event) -> None:
        """Close the calls of an event's author: what it said has become that event."""
        by = Caller(event.author, event.invocation_id)
        self._close([task for task, call in self._open.items() if call.by == by])

    def close(self) -> None:
        self._close(list(self._open))

    def _close(self, tasks: list[asyncio.Task[Any] | None]) -> None:
        for task in tasks:
            if (call := self._open.pop(task, None)) is not None:
                call.open.close()


class Run:
    """A run of an agent. ``turn`` is its turn once it has one, also when that is over."""

    def __init__(self, key: str, agent: str, block: AbstractAsyncContextManager[Any]) -> None:
        self.key = key
        self.agent = agent
        self.turn: Any = None
        self.calls = Calls()
        self._block = block
        self._open_calls: set[str | None] = set()
        self._asked: asyncio.Queue[asyncio.Future[Event]] = asyncio.Queue()

    def appended(self, event: Event) -> None:
        """Keep in mind which tool calls of the turn have no result."""
        waited_for = event.long_running_tool_ids or set()
        calls = {call.id for call in event.get_function_calls()}
        self._open_calls |= calls - waited_for
        self._open_calls -= {result.id for result in event.get_function_responses()}

    async def events(self, source: Events) -> Events:
        """The events of a run, which goes on for as long as somebody asks for more."""
        driving = asyncio.create_task(self._drive(source))
        why: tuple[Any, ...] = ()
        try:
            while True:
                wanted = asyncio.get_running_loop().create_future()
                self._asked.put_nowait(wanted)
                await asyncio.wait({wanted, driving}, return_when=asyncio.FIRST_COMPLETED)
                if not wanted.done():
                    break
                yield wanted.result()
            await driving
        except asyncio.CancelledError as cancelled:
            why = cancelled.args
            raise
        finally:
            # With the same message: ADK tells by it who leaves early from who cancels.
            driving.cancel(*why)
            await asyncio.wait({driving})
            if not driving.cancelled():
                # Or it would be logged as an error that nobody retrieved.
                driving.exception()

    async def _drive(self, source: Events) -> None:
        gone: asyncio.CancelledError | None = None
        async with self._block as turn:
            self.turn = turn
            current_run.set(self)
            try:
                async with aclosing(source) as events:
                    gone = await self._hand_out(events)
            finally:
                self.calls.close()
        if gone is not None:
            raise gone

    async def _hand_out(self, events: AsyncIterator[Event]) -> asyncio.CancelledError | None:
        """Give events to whoever asks; the cancellation of a run that may end there, if any."""
        wanted = await self._asked.get()
        async for event in events:
            wanted.set_result(event)
            try:
                wanted = await self._asked.get()
            except asyncio.CancelledError as gone:
                if self._open_calls or event.partial:
                    raise
                return gone
        return None


def _nothing() -> None:
    """A revocation cancels the run's task, and with it whatever the call waits for."""
