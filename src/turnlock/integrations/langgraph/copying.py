"""A thread's checkpoints, writes and messages as entries for another session."""

from __future__ import annotations

from collections.abc import Iterator

from ...transcript.entries import Entry
from .index import CHECKPOINT, WRITES, Index, Record
from .saving import custom, native_entry


def copies(index: Index, thread: str) -> list[Entry]:
    """The entries that make another session's thread what this one is; none for one without.

    Of messages those that its checkpoints have, and those that none has yet: what was deleted stays
    behind.
    """
    with index.lock:
        records = sorted(
            (one for space in index.checkpoints.values() for one in space.values()),
            key=lambda one: one.place,
        )
        if not records:
            return []
        wanted = {one for record in records for one in _messages(record)}
        return [
            *(
                _bare(entry)
                for one, entry in index.messages.items()
                if one in wanted or index.is_untaken(one)
            ),
            *(
                native_entry(typed)
                for one, typed in index.natives.items()
                if one in wanted and one not in index.messages
            ),
            *(custom(CHECKPOINT, one.data | {"thread": thread}) for one in records),
            *(entry for one in records for entry in _writes(index, one, thread)),
        ]


def _messages(record: Record) -> Iterator[str]:
    """The entries of the messages that a checkpoint has: all, or those that it was the first of."""
    yield from record.data["took"]
    for blob in record.data.get("blobs", ()):
        yield from blob.get("messages", ())


def _bare(entry: Entry) -> Entry:
    return {name: entry[name] for name in ("type", "id", "message", "langgraph") if name in entry}


def _writes(index: Index, record: Record, thread: str) -> Iterator[Entry]:
    for write in index.writes_of(record.ns, record.id):
        data = {
            "thread": thread,
            "ns": record.ns,
            "id": record.id,
            "task": write.task,
            "path": write.path,
            "writes": [[write.place, write.channel, write.value]],
        }
        yield custom(WRITES, data)
