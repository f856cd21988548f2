"""What both savers have in common: threads as sessions, writes in a turn, messages as entries.

A write belongs to the turn that its task or thread runs in. Outside of one it is a turn of its own.
What a turn leaves behind (a thread that nobody waits for any more) is late, and refused: it must
not become a turn of its own behind the back of those that came after.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from ...errors import LeaseRevoked
from ...session import session_key
from ...store import Store
from ...transcript.entries import Entry
from ...turns.aio import learn_outcome, on_worker
from ...turns.face import TurnFace
from ...turns.scope import turn_left, turn_on
from .index import CHECKPOINT, NATIVE, REMOVED, VERSION, WRITES, Index, Typed
from .messages import (
    Adding,
    entry_id,
    form_of,
    messages_in,
    new_id,
    next_id,
    of_entry,
    to_entry,
)

T = TypeVar("T")
# Sessions whose state is kept in memory; another one is read again from its transcript.
_INDEXES_MAX = 64
# What LangGraph's own keys in a run's config begin with; those it shows to nobody.
_OF_A_RUN = "__pregel_"
# Where a run's config names its turn.
_TURN = f"{_OF_A_RUN}turnlock_turn"


def open_turn(store: Store, session: str, bound: Any = None) -> Any:
    """The open turn on a session that this task or thread runs in, or None.

    ``bound``: the turn that a run is known to be of (`TurnSaver.bind`), which may be over by now.
    """
    identity = store.identity(session)
    if (around := turn_on(identity)) is not None:
        return around
    return bound if bound is not None and bound.identity == identity else None


def turn_of(store: Store, session: str, bound: Any = None) -> Any:
    """As `open_turn`, for what is part of a run.

    Raises `LeaseRevoked` when this task or thread was started in a turn that is over.
    """
    identity = store.identity(session)
    turn = open_turn(store, session, bound)
    if turn is not None:
        return turn
    left = turn_left(identity)
    if left is not None:
        raise LeaseRevoked(session, turn_id=left, held=0.0, reason="released")
    return None


async def apart(turn: TurnFace, job: Callable[[], T]) -> T:
    """Run a turn's file work on a worker; its outcome is learned before a cancellation goes on."""
    return await learn_outcome(on_worker(job), lambda: turn.revoked)


class Configured:
    """What a config says of a checkpoint: its thread, namespace and id."""

    def __init__(self, config: RunnableConfig) -> None:
        given = config["configurable"]
        self.thread = str(given["thread_id"])
        self.ns: str = given.get("checkpoint_ns", "")
        self.id: str | None = given.get("checkpoint_id") or None
        self.turn: Any = given.get(_TURN)


class Said(NamedTuple):
    """Messages as entries: ``new`` ones to be appended; ``ids`` by the identity of the object."""

    new: list[Entry]
    ids: dict[int, str]


class TurnSaver(BaseCheckpointSaver[Any]):
    """A saver whose threads are sessions of a store. See `TurnlockSaver` and `FencedSaver`."""

    def __init__(
        self,
        store: Store,
        *,
        agent: str = "main",
        messages_key: str = "messages",
        serde: SerializerProtocol | None = None,
    ) -> None:
        super().__init__(serde=serde)
        session_key(agent, "any")
        self.turnlock_store = store
        self.agent = agent
        self.messages_key = messages_key
        # How the channel of a graph with turns adds messages; a saver alone does not know.
        self.adding: Adding | None = None
        self._indexes: dict[str, Index] = {}
        self._mutex = threading.Lock()

    def session(self, thread_id: object) -> str:
        """The session of a thread: ``<agent>/<thread id>``, with what is no name encoded."""
        return session_key(self.agent, str(thread_id))

    # The state

    def _index(self, session: str) -> Index:
        """The session's index, with all that its transcript has by now."""
        with self._mutex:
            index = self._indexes.pop(session, None) or Index(self.turnlock_store, session)
            self._indexes[session] = index
            while len(self._indexes) > _INDEXES_MAX:
                del self._indexes[next(iter(self._indexes))]
        return index.refresh()

    def _sessions(self) -> list[str]:
        sessions = (record.session for record in self.turnlock_store.sessions())
        return [session for session in sessions if session.startswith(f"{self.agent}/")]

    def news(self, session: str, state: CheckpointTuple | None) -> list[BaseMessage]:
        """What the transcript has and a state has not: said by others, or in a turn that was cut.

        ``state``: what the thread's next run goes on from.
        """
        index = self._index(session)
        with index.lock:
            found = [
                self._native(index, one) if one in index.natives else of_entry(entry)
                for one, entry in index.news(state.checkpoint["id"] if state else None)
            ]
        return [message for message in found if message is not None]

    # Writing

    def bind(self, config: RunnableConfig) -> Configured:
        """Note in the config of a run that begins which turn it is of.

        Some of its writes come from threads of LangGraph's that have no context. A config of a
        caller's own stays as it is.
        """
        where, given = Configured(config), config["configurable"]
        if any(name.startswith(_OF_A_RUN) for name in given):
            turn = turn_of(self.turnlock_store, self.session(where.thread))
            if turn is not None:
                given[_TURN] = turn
        return where

    @contextlib.contextmanager
    def _turn(self, session: str, bound: Any = None) -> Iterator[Any]:
        turn = turn_of(self.turnlock_store, session, bound)
        if turn is not None:
            yield turn
        else:
            with self.turnlock_store.turn(session) as own:
                yield own

    @contextlib.asynccontextmanager
    async def _aturn(self, session: str, bound: Any = None) -> AsyncIterator[Any]:
        turn = turn_of(self.turnlock_store, session, bound)
        if turn is not None:
            yield turn
        else:
            async with self.turnlock_store.turn(session) as own:
                yield own

    def say(self, turn: TurnFace, messages: Sequence[BaseMessage]) -> None:
        """Make messages durable that are to be said to a graph. Blocks on storage."""
        index = self._index(turn.session)
        said = self._said(index, messages)
        if said.new:
            turn._core.append(said.new)

    def roll_back(self, turn: TurnFace, turn_ids: Sequence[str]) -> None:
        """Go on from before these turns, newest last. Blocks on storage."""
        for turn_id in reversed(turn_ids):
            index = self._index(turn.session)
            epoch = index.epochs.get(turn_id)
            if epoch is not None:
                turn._core.append([self._removed(index.base(epoch), epoch=epoch)])

    def _removed(self, parent: str | None, **what: Any) -> Entry:
        entry = custom(REMOVED, what)
        # The conversation goes on from there: what was said since is on a branch of its own.
        return entry if parent is None else {**entry, "parentId": parent}

    def _said(
        self, index: Index, messages: Sequence[BaseMessage], *, by_form: bool = False
    ) -> Said:
        made: dict[str, Entry] = {}
        ids: dict[int, str] = {}
        known = _standing(index, messages, by_form=by_form)
        for message, found in zip(messages, known, strict=True):
            identity = new_id() if by_form else self._entry_id(message)
            if found is None and identity is not None:
                if identity not in made and (entry := self._entry(index, message, identity)):
                    made[identity] = entry
                found = made[identity]["id"] if identity in made else None
            if found is not None:
                ids[id(message)] = found
        return Said(list(made.values()), ids)

    def _entry_id(self, message: BaseMessage) -> str | None:
        identity = entry_id(message)
        return new_id() if identity is None and self.adding is Adding.APPENDS else identity

    def _entry(self, index: Index, message: BaseMessage, identity: str) -> Entry | None:
        """The entry of a message that none stands for."""
        ours: Entry = {"native": self._dump(message)}
        if (last := index.last_of(identity)) is not None:
            ours["for"], identity = identity, next_id(last)
        entry = to_entry(message, identity)
        return entry and {**entry, "langgraph": ours}

    def _record(
        self,
        index: Index,
        where: Configured,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
    ) -> tuple[Said, Entry]:
        """A checkpoint's entry, and the messages in it as entries."""
        # Ids that come and go are none.
        by_form = self.adding is Adding.FORMATS
        said = self._said(index, self._history(where, checkpoint), by_form=by_form)
        fresh = {entry["id"] for entry in said.new}
        data = {
            "thread": where.thread,
            "ns": where.ns,
            "id": checkpoint["id"],
            "parent": where.id,
            # For people; the whole of it is in the value beside it.
            "source": metadata.get("source"),
            "step": metadata.get("step"),
            "took": [one for one in said.ids.values() if one in fresh or index.is_untaken(one)],
        }
        return said, custom(CHECKPOINT, data)

    def _history(self, where: Configured, checkpoint: Checkpoint) -> list[BaseMessage]:
        if where.ns:
            # What a graph inside of the graph thinks is not what was said.
            return []
        return messages_in(checkpoint["channel_values"].get(self.messages_key))

    def _wrote(
        self,
        index: Index,
        where: Configured,
        writes: Sequence[tuple[str, Any]],
        task: str,
        path: str,
        dump: Callable[[Any], Typed | None],
    ) -> list[Entry]:
        """The entries of a task's writes: first the messages in them that are new."""
        said: list[BaseMessage] = []
        if not where.ns and self.adding is not Adding.FORMATS:
            said = [
                one
                for channel, value in writes
                if channel == self.messages_key
                for one in messages_in(value)
                # Which one it is of those that say the same, its checkpoint will say.
                if one.id
            ]
        data = {
            "thread": where.thread,
            "ns": where.ns,
            "id": where.id,
            "task": task,
            "path": path,
            "writes": [
                [WRITES_IDX_MAP.get(channel, place), channel, dump(value)]
                for place, (channel, value) in enumerate(writes)
            ],
        }
        return [*self._said(index, said).new, custom(WRITES, data)]

    # Values

    def _dump(self, value: Any) -> Typed:
        kind, raw = self.serde.dumps_typed(value)
        return [kind, base64.b64encode(raw).decode()]

    def _load(self, typed: Typed) -> Any:
        kind, text = typed
        return self.serde.loads_typed((kind, base64.b64decode(text)))

    def _native(self, index: Index, identity: str) -> Any:
        return self._load(index.natives[identity])


def _standing(index: Index, messages: Sequence[BaseMessage], *, by_form: bool) -> list[str | None]:
    """The entry that stands for each message: by its id or, without one, by what it says."""
    found = [None if by_form else index.standing(entry_id(one)) for one in messages]
    if not by_form and all(one.id for one in messages):
        return found
    said: Counter[str] = Counter()
    for place, message in enumerate(messages):
        form = form_of(to_entry(message, "") or {})
        alike = index.alike(form)
        if (by_form or not message.id) and said[form] < len(alike):
            found[place] = alike[said[form]]
        said[form] += 1
    return found


def native_entry(typed: Typed) -> Entry:
    """The entry of a native form alone, under an id that follows from it."""
    digest = hashlib.sha256("\0".join(typed).encode()).hexdigest()[:32]
    return {"id": f"lgn-{digest}", **custom(NATIVE, {"native": typed})}


def place(thread: str, ns: str, identity: str) -> RunnableConfig:
    """The config that names a checkpoint."""
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": identity}}


def custom(kind: str, data: Entry) -> Entry:
    """An entry of ours."""
    return {"type": "custom", "customType": kind, "data": {"v": VERSION, **data}}
