"""One run on a session: what it reads, what it has written, and the model call it waits in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic_ai.messages import (
    AgentStreamEvent,
    ModelMessage,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
)

from ...store import Store
from ...transcript.entries import Entry
from ...turns.aio import AsyncTurn, on_worker
from ...turns.calling import OpenCall
from ...turns.frames import task_frames
from ..transport import CallLimits
from .healing import healed
from .messages import entries_of, messages_of, stamp, stamp_of


class _Owed(NamedTuple):
    """A message of the run, or what was added to one, on its way into the transcript."""

    message: ModelMessage
    # How many parts of the message are written then.
    parts: int
    entries: list[Entry]


class Run:
    """``identity``: the run's id, which each message of the run has."""

    def __init__(self, turn: AsyncTurn, identity: str | None, limits: CallLimits) -> None:
        self.turn = turn
        self._identity = identity
        self._limits = limits
        self._said_before: Sequence[ModelMessage] = ()
        self._messages: Sequence[ModelMessage] = ()
        # How many parts of each message are written, by the message's entry.
        self._parts: dict[str, int] = {}
        # With the ids that it has for good: a write of which nothing was learned is made once more.
        self._owed: list[_Owed] = []
        self._call: OpenCall | None = None

    async def read(self, store: Store) -> None:
        """Read what was said in the session until now."""
        entries = await on_worker(lambda: list(store.read(self.turn.session)))
        self._said_before = messages_of(entries)

    def history(self, *, leave_open: bool) -> list[ModelMessage]:
        """What was said before, as a provider accepts it; see `healed`."""
        return healed(self._said_before, leave_open=leave_open)

    def follow(self, messages: Sequence[ModelMessage]) -> None:
        """The framework's own list, which it goes on to append to."""
        self._messages = messages

    async def save(self, messages: Sequence[ModelMessage] | None = None) -> None:
        """Write what the run has said since the last time. Durable when it returns."""
        said = self._messages if messages is None else messages
        self._owed = [one for one in self._owed if not self._is_written(one)]
        owed = self._owed = [*self._owed, *filter(None, map(self._unsaved, said))]
        if owed:
            await self.turn._run(lambda: self._write(owed))

    def _write(self, owed: Sequence[_Owed]) -> None:
        """On a worker, stamps and all: a run that is cancelled meanwhile does not come back."""
        self.turn._core.append(entry for one in owed for entry in one.entries)
        for message, parts, entries in owed:
            identity = stamp_of(message) or entries[0]["id"]
            self._parts[identity] = max(parts, self._parts.get(identity, 0))
            stamp(message, identity)

    def _is_written(self, owed: _Owed) -> bool:
        identity = stamp_of(owed.message)
        return identity is not None and self._parts.get(identity, -1) >= owed.parts

    async def save_reply(self, reply: ModelResponse) -> None:
        """Write a reply that the framework has yet to add to its messages.

        After what hooks have added to them since the call began: it came before the reply.
        """
        reply.run_id = reply.run_id or self._identity
        await self.save([*self._messages, reply])

    def _unsaved(self, message: ModelMessage) -> _Owed | None:
        """The message, or what was added to it since; None when there is nothing to write."""
        if message.run_id != self._identity:
            return None
        count, taken = len(message.parts), self._taken(message)
        if taken is None:
            return _Owed(message, count, entries_of(message))
        if isinstance(message, ModelResponse) or count <= taken:
            return None
        rest = replace(message, parts=list(message.parts)[taken:], metadata=None)
        return _Owed(message, count, entries_of(rest))

    def _taken(self, message: ModelMessage) -> int | None:
        """How many of its parts are written or on their way; None of a new message."""
        for owed in reversed(self._owed):
            if owed.message is message:
                return owed.parts
        identity = stamp_of(message)
        return None if identity is None else self._parts.get(identity, len(message.parts))

    # The model's calls

    @contextmanager
    def calling(self, end: Callable[[], object]) -> Iterator[None]:
        """A model call, under the limits. ``end``: see `AsyncTurn.begin_call`."""
        self.be_here()
        first, idle, whole = self._limits
        self._call = self.turn.begin_call(end, first=first, idle=idle, whole=whole)
        try:
            yield
        finally:
            self.end_call()
        self.turn.progress("model")

    def end_call(self) -> None:
        """The model has said all that it has to say. A second call does nothing."""
        call, self._call = self._call, None
        if call is not None:
            call.close()

    def heard(self, event: AgentStreamEvent) -> None:
        """What a stream brings: only content is progress."""
        if self._call is not None and _has_content(event):
            self._call.progressed()

    def be_here(self) -> None:
        """Should the turn be revoked, this task's stack is the one to report."""
        task = asyncio.current_task()
        self.turn._core.lease.frames = task_frames(task, threading.get_ident())


def _has_content(event: AgentStreamEvent) -> bool:
    match event:
        case PartStartEvent(part=part):
            found: Any = part
        case PartDeltaEvent(delta=delta):
            found = delta
        case _:
            return False
    return any(getattr(found, name, None) for name in _CONTENT)


_CONTENT = (
    "content",
    "content_delta",
    "signature_delta",
    "tool_name",
    "tool_name_delta",
    "args_delta",
)
