"""A saver whose checkpoints are entries of the session's transcript.

A checkpoint's channels are stored when they change. A channel that is a list of messages is stored
as the ids of their entries, so a conversation takes the room of its messages, and not of its
messages times its steps.

Each write is one append: checked against the fence and durable, on files and in PostgreSQL alike.
"""

from __future__ import annotations

import functools
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)

from ...transcript.entries import Entry
from ...turns.aio import on_worker
from .copying import copies
from .index import Index, Record
from .messages import entry_id, is_history
from .saving import Configured, Said, TurnSaver, apart, native_entry, place

# `list` is a method of savers.
Records = list[Record]
Found = list[tuple[Index, Record]]
Entries = list[Entry]


class TurnlockSaver(TurnSaver):
    """Checkpoints in the sessions of a store: one thread is one session.

    ::

        graph = builder.compile(checkpointer=TurnlockSaver(store))

    ``agent``: the first part of the sessions' keys. ``messages_key``: the channel whose messages
    are what was said, and are entries that every reader of transcripts knows. ``serde``: what
    makes bytes of values, LangGraph's own by default; it trusts what it reads, so a transcript is
    to be as safe from strangers as a database of checkpoints.

    A write within a turn is of that turn, and raises `LeaseRevoked` once the session was taken from
    it, also when it comes from a thread or task that outlived the turn. Outside of any turn it is a
    turn of its own and raises what `Store.turn` does. Reading needs no turn. The other errors are
    those of `AsyncTurn.append`; a value of more than 48 MB is a `TranscriptError`.

    Nothing is erased: what is deleted or pruned is there no more for LangGraph, but stays in the
    transcript, which only grows. To erase a thread, delete its session's file.
    """

    # Reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that the config names, or the thread's last one; None if there is none."""
        return self._get(self.bind(config))

    def _get(self, where: Configured) -> CheckpointTuple | None:
        index = self._index(self.session(where.thread))
        with index.lock:
            space = index.checkpoints.get(where.ns, {})
            named = reversed(space.values()) if where.id is None else [space.get(where.id)]
            record = next((one for one in named if one is not None and _is_whole(one)), None)
            return None if record is None else self._tuple(index, record)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, last written first. Nothing is locked while they are gone through."""
        for index, record in self._chosen(config, filter, before, limit):
            with index.lock:
                found = self._tuple(index, record)
            yield found

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        where = self.bind(config)
        return await on_worker(lambda: self._get(where))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        chosen = await on_worker(lambda: self._chosen(config, filter, before, limit))
        for index, record in chosen:
            with index.lock:
                found = self._tuple(index, record)
            yield found

    def _chosen(
        self,
        config: RunnableConfig | None,
        wanted: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Found:
        given = config["configurable"] if config else {}
        is_one = "thread_id" in given
        sessions = [self.session(given["thread_id"])] if is_one else self._sessions()
        found: Found = []
        for session in sessions:
            index = self._index(session)
            with index.lock:
                for record in index.listed(given.get("checkpoint_ns")):
                    if limit is not None and len(found) >= limit:
                        return found
                    if self._is_wanted(index, record, given.get("checkpoint_id"), wanted, before):
                        found.append((index, record))
        return found

    def _is_wanted(
        self,
        index: Index,
        record: Record,
        identity: str | None,
        wanted: dict[str, Any] | None,
        before: RunnableConfig | None,
    ) -> bool:
        if not _is_whole(record) or (identity and record.id != identity):
            return False
        if before is not None and not _is_before(index, record, before):
            return False
        if not wanted:
            return True
        metadata = self._load(record.data["metadata"])
        return all(metadata.get(name) == value for name, value in wanted.items())

    def _tuple(self, index: Index, record: Record) -> CheckpointTuple:
        checkpoint = self._load(record.data["checkpoint"])
        thread = record.data["thread"]
        checkpoint["channel_values"] = {
            channel: self._value(index, blob)
            for channel, version in checkpoint["channel_versions"].items()
            if (blob := index.blobs.get((record.ns, channel, version))) and _is_set(blob)
        }
        return CheckpointTuple(
            place(thread, record.ns, record.id),
            checkpoint,
            self._load(record.data["metadata"]),
            place(thread, record.ns, record.parent) if record.parent else None,
            [
                (write.task, write.channel, self._load(write.value))
                for write in index.writes_of(record.ns, record.id)
                if write.value is not None
            ],
        )

    def _value(self, index: Index, blob: Entry) -> Any:
        if "messages" in blob:
            return [self._native(index, identity) for identity in blob["messages"]]
        return self._load(blob["value"])

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Append a checkpoint to the thread's session; durable when this returns."""
        where = Configured(config)
        with self._turn(self.session(where.thread), where.turn) as turn:
            turn._core.append(self._checkpoint(config, checkpoint, metadata, new_versions))
        return place(where.thread, where.ns, checkpoint["id"])

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Append what a task wrote; durable when this returns."""
        where = Configured(config)
        with self._turn(self.session(where.thread), where.turn) as turn:
            turn._core.append(self._writes(where, writes, task_id, task_path))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        where = Configured(config)
        async with self._aturn(self.session(where.thread), where.turn) as turn:
            await apart(
                turn,
                lambda: turn._core.append(
                    self._checkpoint(config, checkpoint, metadata, new_versions)
                ),
            )
        return place(where.thread, where.ns, checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        where = Configured(config)
        async with self._aturn(self.session(where.thread), where.turn) as turn:
            await apart(
                turn,
                lambda: turn._core.append(self._writes(where, writes, task_id, task_path)),
            )

    def get_next_version(self, current: Any, channel: None) -> str:
        """The next version of a channel: greater, and another one on each branch."""
        number = 0 if current is None else int(str(current).partition(".")[0])
        return f"{number + 1:032}.{random.random():016}"

    def _checkpoint(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Entries:
        where = Configured(config)
        index = self._index(self.session(where.thread))
        with index.lock:
            body = {name: value for name, value in checkpoint.items() if name != "channel_values"}
            said, record = self._record(index, where, checkpoint, metadata)
            natives: dict[str, Entry] = {entry["id"]: entry for entry in said.new}
            values = checkpoint["channel_values"]
            blobs = [
                {"channel": channel, "version": version}
                | (self._blob(index, said, natives, values[channel]) if channel in values else {})
                for channel, version in new_versions.items()
            ]
            record["data"] |= {
                "metadata": self._dump(get_checkpoint_metadata(config, metadata)),
                "checkpoint": self._dump(body),
                "blobs": blobs,
            }
            return [*natives.values(), record]

    def _blob(self, index: Index, said: Said, natives: dict[str, Entry], value: Any) -> Entry:
        if not is_history(value):
            return {"value": self._dump(value)}
        ids = [said.ids.get(id(one)) or index.standing(entry_id(one)) for one in value]
        pairs = zip(value, ids, strict=True)
        return {"messages": [self._native_id(index, natives, *pair) for pair in pairs]}

    def _native_id(
        self, index: Index, natives: dict[str, Entry], message: BaseMessage, identity: str | None
    ) -> str:
        """The id of the entry that has the message's native form; one is made if none has.

        ``identity``: that of the message's own entry, which has it unless the message was changed.
        """
        typed = self._dump(message)
        if identity is not None:
            made = natives.get(identity)
            if typed == (made["langgraph"]["native"] if made else index.natives.get(identity)):
                return identity
        alone = native_entry(typed)
        if alone["id"] not in index.natives:
            natives[alone["id"]] = alone
        found: str = alone["id"]
        return found

    def _writes(
        self, where: Configured, writes: Sequence[tuple[str, Any]], task: str, path: str
    ) -> Entries:
        index = self._index(self.session(where.thread))
        with index.lock:
            return self._wrote(index, where, writes, task, path, self._dump)

    # Removing and copying

    def delete_thread(self, thread_id: str) -> None:
        """Forget all checkpoints and writes of a thread."""
        session = self.session(thread_id)
        if self._index(session).first is not None:
            with self._turn(session) as turn:
                self._remove_thread(turn)

    async def adelete_thread(self, thread_id: str) -> None:
        session = self.session(thread_id)
        index = await on_worker(lambda: self._index(session))
        if index.first is not None:
            async with self._aturn(session) as turn:
                await apart(turn, lambda: self._remove_thread(turn))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Forget the checkpoints, with their writes, that these runs made, in all threads."""
        for session, gone in self._of_runs(run_ids):
            with self._turn(session) as turn:
                self._remove(turn, gone)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        for session, gone in await on_worker(lambda: self._of_runs(run_ids)):
            async with self._aturn(session) as turn:
                await apart(turn, functools.partial(self._remove, turn, gone))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy what a thread has and is not deleted. No turn on the source is taken."""
        entries = copies(self._index(self.session(source_thread_id)), target_thread_id)
        if entries:
            with self._turn(self.session(target_thread_id)) as turn:
                turn._core.append(entries)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        source = self.session(source_thread_id)
        entries = await on_worker(lambda: copies(self._index(source), target_thread_id))
        if entries:
            async with self._aturn(self.session(target_thread_id)) as turn:
                await apart(turn, lambda: turn._core.append(entries))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """``keep_latest``: list only the last checkpoint of each namespace; ``delete``: forget all.

        What is not listed is found by its id still, as the last one may be made of it.
        """
        for thread_id in thread_ids:
            if _is_deletion(strategy):
                self.delete_thread(thread_id)
            elif old := self._old(thread_id):
                with self._turn(self.session(thread_id)) as turn:
                    self._remove(turn, old, hidden=True)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        for thread_id in thread_ids:
            if _is_deletion(strategy):
                await self.adelete_thread(thread_id)
            elif old := await on_worker(functools.partial(self._old, thread_id)):
                async with self._aturn(self.session(thread_id)) as turn:
                    await apart(turn, functools.partial(self._remove, turn, old, hidden=True))

    def _remove_thread(self, turn: Any) -> None:
        first = self._index(turn.session).first
        turn._core.append([self._removed(first, thread=True)])

    def _remove(self, turn: Any, records: Records, *, hidden: bool = False) -> None:
        which = [[record.ns, record.id] for record in records]
        turn._core.append([self._removed(None, checkpoints=which, hidden=hidden)])

    def _of_runs(self, run_ids: Sequence[str]) -> Sequence[tuple[str, Records]]:
        wanted, found = set(run_ids), []
        for session in self._sessions() if wanted else []:
            index = self._index(session)
            with index.lock:
                records = [r for space in index.checkpoints.values() for r in space.values()]
            gone = [one for one in records if self._run_of(one) in wanted]
            if gone:
                found.append((session, gone))
        return found

    def _run_of(self, record: Record) -> Any:
        return self._load(record.data["metadata"]).get("run_id")

    def _old(self, thread_id: str) -> Records:
        index = self._index(self.session(thread_id))
        with index.lock:
            return [
                record
                for ns in index.checkpoints
                for record in index.listed(ns)
                if record != index.latest(ns)
            ]


def _is_whole(record: Record) -> bool:
    """Whether the checkpoint is here; a saver that wraps another one has only named it."""
    return "checkpoint" in record.data


def _is_set(blob: Entry) -> bool:
    return "value" in blob or "messages" in blob


def _is_before(index: Index, record: Record, before: RunnableConfig) -> bool:
    given = before["configurable"]
    identity = str(given.get("checkpoint_id") or "")
    found = index.checkpoints.get(given.get("checkpoint_ns", ""), {}).get(identity)
    if found is not None:
        return record.place < found.place
    return not identity or record.id < identity


def _is_deletion(strategy: str) -> bool:
    if strategy not in ("keep_latest", "delete"):
        raise ValueError(f"a strategy is 'keep_latest' or 'delete', not {strategy!r:.100}")
    return strategy == "delete"
