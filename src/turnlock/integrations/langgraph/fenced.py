"""A saver around any other one, that fences its writes by the turn.

The other saver's storage knows nothing of leases, so a write to it cannot be refused there. What
counts is decided in the transcript: a checkpoint, or a task's writes, is there once an entry of the
turn says so. A turn that lost its session cannot write that entry any more. What it may still have
left in the other storage, between a check and the write behind it, is never looked at.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)

from ...store import Store
from ...transcript.entries import Entry
from ...turns.aio import on_worker
from .copying import copies
from .index import Index
from .saving import Configured, TurnSaver, apart, place

# `list` is a method of savers.
Anything = list[Any]
Entries = list[Entry]
Tuples = list[CheckpointTuple]
# None for a checkpoint that no turn stands by.
Shown = list[CheckpointTuple | None]
# Checkpoints that are asked for at a time, so that no storage is locked while a caller goes on.
_PAGE = 32


class FencedSaver(TurnSaver):
    """Any checkpointer, whose writes are a turn's.

    ::

        graph = builder.compile(checkpointer=FencedSaver(SqliteSaver(connection), store))

    ``inner``: where the checkpoints are. Threads that it had before are gone on with. The rest is
    as `TurnlockSaver` has it: ``agent``, ``messages_key``, what a write outside of a turn is, and
    that a write of a turn which lost its session raises `LeaseRevoked`. A checkpoint is the
    thread's last one only once the transcript says so; one that a revoked turn left in ``inner`` is
    never seen through this saver. Whoever reads ``inner`` directly may see it.

    Two such savers on one ``inner`` need one store, or stores on one place. ``copy_thread``,
    ``delete_for_runs`` and ``prune`` are there if ``inner`` has them.
    """

    def __init__(
        self,
        inner: BaseCheckpointSaver[Any],
        store: Store,
        *,
        agent: str = "main",
        messages_key: str = "messages",
    ) -> None:
        super().__init__(store, agent=agent, messages_key=messages_key, serde=inner.serde)
        self.inner = inner

    @property
    def config_specs(self) -> Anything:
        return self.inner.config_specs

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self.inner.get_next_version(current, channel)

    def with_allowlist(self, extra_allowlist: Any) -> FencedSaver:
        """As the wrapped saver has it."""
        clone = FencedSaver(
            self.inner.with_allowlist(extra_allowlist),
            self.turnlock_store,
            agent=self.agent,
            messages_key=self.messages_key,
        )
        clone._indexes, clone._mutex = self._indexes, self._mutex
        clone.adding = self.adding
        return clone

    # Reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that the config names, or the thread's last one; None if there is none."""
        where = self.bind(config)
        index = self._index(self.session(where.thread))
        for candidate in _candidates(index, where, config):
            found = self.inner.get_tuple(candidate)
            if found is not None:
                return _seen(index, where.ns, found)
        return None

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        where = self.bind(config)
        index = await on_worker(lambda: self._index(self.session(where.thread)))
        for candidate in _candidates(index, where, config):
            found = await self.inner.aget_tuple(candidate)
            if found is not None:
                return _seen(index, where.ns, found)
        return None

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first, in the order of the wrapped saver."""
        pages = _Pages(config, before, limit)
        while pages.wanted:
            page = list(
                self.inner.list(config, filter=filter, before=pages.before, limit=pages.size)
            )
            yield from pages.chosen(page, self._all_shown(page))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        pages = _Pages(config, before, limit)
        while pages.wanted:
            found = self.inner.alist(config, filter=filter, before=pages.before, limit=pages.size)
            page = [one async for one in found]
            shown = await on_worker(functools.partial(self._all_shown, page))
            for one in pages.chosen(page, shown):
                yield one

    def _all_shown(self, page: Tuples) -> Shown:
        places = [Configured(found.config) for found in page]
        indexes = {where.thread: self._index(self.session(where.thread)) for where in places}
        return [
            _seen(indexes[where.thread], where.ns, found)
            for where, found in zip(places, page, strict=True)
        ]

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint; it counts, and is durable, when this returns."""
        where = Configured(config)
        with self._turn(self.session(where.thread), where.turn) as turn:
            index = self._checked(turn)
            last = None if where.ns in index.older else self.inner.get_tuple(_latest(where))
            made = self.inner.put(config, checkpoint, metadata, new_versions)
            turn._core.append(self._checkpoint(index, where, checkpoint, metadata, last))
        return made

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        where = Configured(config)
        async with self._aturn(self.session(where.thread), where.turn) as turn:
            index = await apart(turn, lambda: self._checked(turn))
            last = None if where.ns in index.older else await self.inner.aget_tuple(_latest(where))
            made = await self.inner.aput(config, checkpoint, metadata, new_versions)
            await apart(
                turn,
                lambda: turn._core.append(
                    self._checkpoint(index, where, checkpoint, metadata, last)
                ),
            )
        return made

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote; it counts, and is durable, when this returns."""
        where = Configured(config)
        with self._turn(self.session(where.thread), where.turn) as turn:
            turn._core.check()
            self.inner.put_writes(config, writes, task_id, task_path)
            turn._core.append(self._writes(where, writes, task_id, task_path))

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        where = Configured(config)
        async with self._aturn(self.session(where.thread), where.turn) as turn:
            await apart(turn, turn._core.check)
            await self.inner.aput_writes(config, writes, task_id, task_path)
            await apart(
                turn,
                lambda: turn._core.append(self._writes(where, writes, task_id, task_path)),
            )

    def _checked(self, turn: Any) -> Index:
        """The turn's index. Raises `LeaseRevoked` before anything is spent on a write."""
        turn._core.check()
        return self._index(turn.session)

    def _checkpoint(
        self,
        index: Index,
        where: Configured,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        last: CheckpointTuple | None,
    ) -> Entries:
        """``last``: what the wrapped saver had when the first turn came to it."""
        index.refresh()
        with index.lock:
            said, record = self._record(index, where, checkpoint, metadata)
            if where.ns not in index.older:
                record["data"]["older"] = None if last is None else last.checkpoint["id"]
            return [*said.new, record]

    def _writes(
        self, where: Configured, writes: Sequence[tuple[str, Any]], task: str, path: str
    ) -> Entries:
        index = self._index(self.session(where.thread))
        with index.lock:
            return self._wrote(index, where, writes, task, path, lambda value: None)

    # Removing and copying

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread in the wrapped saver, and forget it here."""
        with self._turn(self.session(thread_id)) as turn:
            turn._core.check()
            self.inner.delete_thread(thread_id)
            self._forget(turn)

    async def adelete_thread(self, thread_id: str) -> None:
        async with self._aturn(self.session(thread_id)) as turn:
            await apart(turn, turn._core.check)
            await self.inner.adelete_thread(thread_id)
            await apart(turn, lambda: self._forget(turn))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """In the wrapped saver, by no turn: no run that goes on should be among them."""
        self.inner.delete_for_runs(run_ids)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await self.inner.adelete_for_runs(run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        with self._turn(self.session(target_thread_id)) as turn:
            self.inner.copy_thread(source_thread_id, target_thread_id)
            self._copy(turn, source_thread_id, target_thread_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        async with self._aturn(self.session(target_thread_id)) as turn:
            await self.inner.acopy_thread(source_thread_id, target_thread_id)
            await apart(turn, lambda: self._copy(turn, source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        for thread_id in thread_ids:
            with self._turn(self.session(thread_id)):
                self.inner.prune([thread_id], strategy=strategy)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        for thread_id in thread_ids:
            async with self._aturn(self.session(thread_id)):
                await self.inner.aprune([thread_id], strategy=strategy)

    def _forget(self, turn: Any) -> None:
        first = self._index(turn.session).first
        if first is not None:
            turn._core.append([self._removed(first, thread=True)])

    def _copy(self, turn: Any, source: str, target: str) -> None:
        entries = copies(self._index(self.session(source)), target)
        if entries:
            turn._core.append(entries)


class _Pages:
    """Goes through a saver's list a page at a time, where its order allows that."""

    def __init__(
        self, config: RunnableConfig | None, before: RunnableConfig | None, limit: int | None
    ) -> None:
        given = config["configurable"] if config else {}
        self.before = before
        self.size = _PAGE if {"thread_id", "checkpoint_ns"} <= given.keys() else None
        self.wanted = True
        self._left = limit

    def chosen(self, page: Tuples, shown: Shown) -> Iterator[CheckpointTuple]:
        """What a caller gets of a page; ``shown`` has None for what is not to be seen."""
        self.wanted = self.size is not None and len(page) == self.size
        self.before = page[-1].config if page else self.before
        for one in shown:
            if one is None:
                continue
            if self._left is not None:
                if self._left <= 0:
                    self.wanted = False
                    return
                self._left -= 1
            yield one


def _latest(where: Configured) -> RunnableConfig:
    return {"configurable": {"thread_id": where.thread, "checkpoint_ns": where.ns}}


def _candidates(
    index: Index, where: Configured, config: RunnableConfig
) -> Iterator[RunnableConfig]:
    """What to ask the wrapped saver for: the one that is named, or the last one that it has."""
    with index.lock:
        if where.id is not None or where.ns not in index.older:
            ids = None
        else:
            older = index.older[where.ns]
            ids = [*reversed(index.checkpoints.get(where.ns, {})), *([older] if older else [])]
    if ids is None:
        yield config
        return
    for identity in ids:
        yield place(where.thread, where.ns, identity)


def _seen(index: Index, ns: str, found: CheckpointTuple) -> CheckpointTuple | None:
    """A checkpoint with the writes that turns stand by; None when none stands by it."""
    identity = found.checkpoint["id"]
    with index.lock:
        if ns not in index.older:
            return found
        if identity not in index.checkpoints.get(ns, {}):
            older = index.older[ns]
            return found if older is not None and identity <= older else None
        known = {(one.task, one.channel) for one in index.writes_of(ns, identity)}
    writes = [one for one in found.pending_writes or [] if (one[0], one[1]) in known]
    return found._replace(pending_writes=writes)
