"""What a session's transcript says of its graph: checkpoints, writes, messages.

::

    message               one message; beside the common form its native one (``langgraph``), and
                          the entry that it is said again for, when that one was removed
    langgraph:native      the native form of a message that is no entry of its own in that form
    langgraph:checkpoint  one checkpoint; with all of it, or only that it is one
    langgraph:writes      what one task wrote, likewise
    langgraph:removed     from here on there is no thread, or these checkpoints, or that turn

All of them are entries of turns, so the fence holds for each. The transcript only grows, so what
was read once is kept, and only what came since is read. A transcript that is another by now (a
healed copy, a new one of the same name) is noticed, and read from its beginning.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from ...store import Store
from ...transcript.entries import OPENING, Entry, custom_type, epoch_of, message_of, turn_id_of
from ...transcript.jsonl import Line
from .messages import form_of

logger = logging.getLogger("turnlock")

NATIVE = "langgraph:native"
CHECKPOINT = "langgraph:checkpoint"
WRITES = "langgraph:writes"
REMOVED = "langgraph:removed"
VERSION = 1

# A value as its serializer gave it: the kind, and the bytes in base64.
Typed = list[str]


class Record(NamedTuple):
    """One checkpoint. ``place``: its rank in time; ``data`` as it stands in the entry."""

    ns: str
    id: str
    parent: str | None
    epoch: int
    place: int
    data: Entry


class Write(NamedTuple):
    """One write of a task. ``value`` is None where it is kept elsewhere."""

    task: str
    path: str
    place: int
    channel: str
    value: Typed | None
    epoch: int


class Removal(NamedTuple):
    """What is removed: a whole thread, checkpoints by (namespace, id), or a turn by its epoch."""

    thread: bool = False
    checkpoints: frozenset[tuple[str, str]] = frozenset()
    epoch: int | None = None
    hidden: bool = False


class Index:
    """The state of one session's graph. `refresh` before you look; `lock` while you do."""

    def __init__(self, store: Store, session: str) -> None:
        self.lock = threading.RLock()
        self._store = store
        self._session = session
        self._forget()

    def _forget(self) -> None:
        self._offset = 0
        self._last: str | None = None
        self._count = 0
        self.thread: str | None = None
        self.first: str | None = None
        self.checkpoints: dict[str, dict[str, Record]] = {}
        # For each namespace the last checkpoint that a wrapped saver had before the first turn.
        self.older: dict[str, str | None] = {}
        # Checkpoints that are there, but are not listed any more.
        self.hidden: set[tuple[str, str]] = set()
        self.blobs: dict[tuple[str, str, Any], Entry] = {}
        self.writes: dict[tuple[str, str], dict[tuple[str, int], Write]] = {}
        self.natives: dict[str, Typed] = {}
        self.messages: dict[str, Entry] = {}
        # Messages that were removed, and by their id the entry that each was said again in.
        self._gone: set[str] = set()
        self._again: dict[str, str] = {}
        self._alike: dict[str, list[str]] = {}
        # Of messages that are in no checkpoint yet the epoch; of others the first that has them.
        self._untaken: dict[str, int] = {}
        self._taken: dict[str, Record] = {}
        self.epochs: dict[str, int] = {}
        self._bases: dict[int, str] = {}

    def refresh(self) -> Index:
        """Read what came since the last time. Raises what reading a store does."""
        with self.lock:
            for line in self._new_lines():
                entry = line.entry
                if entry is None or not isinstance(identity := entry.get("id"), str):
                    continue
                if entry.get("type") != "session":
                    self._take(entry, identity)
                self._offset, self._last = line.offset, identity
        return self

    def _new_lines(self) -> Iterable[Line]:
        lines = self._store.read_lines(self._session, start=self._offset)
        first = next(lines, None)
        if self._last is not None:
            if first is not None and (first.entry or {}).get("id") == self._last:
                return lines
            self._forget()
            return self._store.read_lines(self._session)
        return () if first is None else chain([first], lines)

    # Looking

    def latest(self, ns: str) -> Record | None:
        """The checkpoint that was written last.

        LangGraph goes by the ids, which are times of the hosts' clocks; the transcript knows.
        """
        found = self.checkpoints.get(ns)
        return next(reversed(found.values()), None) if found else None

    def listed(self, ns: str | None) -> list[Record]:
        """The checkpoints of a namespace, or of all, last written first."""
        spaces = self.checkpoints.values() if ns is None else [self.checkpoints.get(ns, {})]
        records = [record for space in spaces for record in space.values()]
        shown = [one for one in records if (one.ns, one.id) not in self.hidden]
        return sorted(shown, key=lambda one: one.place, reverse=True)

    def writes_of(self, ns: str, identity: str) -> list[Write]:
        """In the order in which the tasks of a step are applied."""
        found = self.writes.get((ns, identity), {}).values()
        return sorted(found, key=lambda one: (one.path, one.task, one.place))

    def news(self, known: str | None) -> Iterator[tuple[str, Entry]]:
        """Messages that no checkpoint has, oldest first, with those that a later one took.

        ``known``: the checkpoint that the graph is to go on from. It is not the last one when a
        wrapped saver has not got that: it lost it, or is another process's own.
        """
        last, record = self.latest(""), self.checkpoints.get("", {}).get(known or "")
        since = record.place if record else 0
        later: set[str] = set()
        if last is not None and last is not record:
            later = {
                one for one, by in self._taken.items() if by.place > since and self._is_there(by)
            }
        wanted = self._untaken.keys() | later
        return ((one, entry) for one, entry in self.messages.items() if one in wanted)

    def _is_there(self, record: Record) -> bool:
        return record.id in self.checkpoints.get(record.ns, {})

    def is_untaken(self, identity: str) -> bool:
        return identity in self._untaken

    def standing(self, identity: str | None) -> str | None:
        """The entry of a message, by the id that follows from its own; None if none stands."""
        found = self.last_of(identity or "")
        return None if found in self._gone else found

    def last_of(self, identity: str) -> str | None:
        """The last entry of a message, also one that was removed."""
        found = self._again.get(identity, identity)
        return found if found in self.messages else None

    def alike(self, form: str) -> list[str]:
        """The entries that stand and have a form (`form_of`), oldest first."""
        return [one for one in self._alike.get(form, ()) if one not in self._gone]

    def base(self, epoch: int) -> str | None:
        """The entry that the conversation goes on from when a turn is rolled back.

        It is the turn's opening: what the turn said comes after it.
        """
        return self._bases.get(epoch)

    # Reading

    def _take(self, entry: Entry, identity: str) -> None:
        epoch = epoch_of(entry) or 0
        self.first = self.first or identity
        if entry.get("type") == "message":
            self._take_message(entry, identity, epoch)
            return
        kind = custom_type(entry) or ""
        if kind == OPENING:
            self.epochs[turn_id_of(entry) or ""] = epoch
            self._bases[epoch] = identity
            return
        take = _TAKE.get(kind)
        if take is None:
            return
        try:
            take(self, entry["data"], epoch, entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # Somebody else's, or a later version's: what is known of the rest still holds.
            logger.warning("session %s: entry %s is skipped: %r", self._session, identity, error)

    def _take_message(self, entry: Entry, identity: str, epoch: int) -> None:
        if identity in self.messages or not message_of(entry):
            return
        self.messages[identity] = entry
        self._untaken[identity] = epoch
        self._alike.setdefault(form_of(entry), []).append(identity)
        ours = entry.get("langgraph")
        if isinstance(ours, dict) and _is_typed(ours.get("native")):
            self.natives[identity] = ours["native"]
            if isinstance(ours.get("for"), str):
                self._again[ours["for"]] = identity

    def _take_native(self, data: Entry, epoch: int, entry: Entry) -> None:
        if _is_typed(data["native"]):
            self.natives[entry["id"]] = data["native"]

    def _take_checkpoint(self, data: Entry, epoch: int, entry: Entry) -> None:
        ns, identity = str(data["ns"]), str(data["id"])
        self._count += 1
        record = Record(ns, identity, data["parent"], epoch, self._count, data)
        self.thread = data["thread"]
        self.older.setdefault(ns, data.get("older"))
        space = self.checkpoints.setdefault(ns, {})
        space.pop(identity, None)
        space[identity] = record
        for blob in data.get("blobs", ()):
            self.blobs[ns, blob["channel"], blob["version"]] = blob
        for one in data["took"]:
            if self._untaken.pop(one, None) is not None:
                self._taken[one] = record

    def _take_writes(self, data: Entry, epoch: int, entry: Entry) -> None:
        found = self.writes.setdefault((data["ns"], data["id"]), {})
        for place, channel, value in data["writes"]:
            write = Write(data["task"], data["path"], place, channel, value, epoch)
            # A task's writes are kept as they came first; what has no place of its own, as last.
            if place < 0 or (write.task, place) not in found:
                found[write.task, place] = write

    def _take_removed(self, data: Entry, epoch: int, entry: Entry) -> None:
        removal = Removal(
            data.get("thread") is True,
            frozenset((ns, one) for ns, one in data.get("checkpoints", ())),
            data.get("epoch"),
            data.get("hidden") is True,
        )
        if removal.hidden:
            self.hidden |= removal.checkpoints
        elif removal.epoch is not None:
            # Who undoes this turn as well goes back to before both.
            self._bases[epoch] = self._bases.get(removal.epoch) or entry["id"]
            self._roll_back(removal.epoch)
        else:
            gone = removal.checkpoints
            self._drop(lambda one: removal.thread or (one.ns, one.id) in gone)
            if removal.thread:
                self._gone |= self.messages.keys()
                self._untaken.clear()
                self._taken.clear()

    def _roll_back(self, epoch: int) -> None:
        self._drop(lambda record: record.epoch == epoch)
        for found in self.writes.values():
            for place in [place for place, write in found.items() if write.epoch == epoch]:
                del found[place]
        self._gone |= {one for one, said in self.messages.items() if epoch_of(said) == epoch}
        self._untaken = {one: of for one, of in self._untaken.items() if of != epoch}
        for one in [one for one, by in self._taken.items() if by.epoch == epoch]:
            entry = self.messages[one]
            if epoch_of(entry) != epoch:
                self._untaken[one] = epoch_of(entry) or 0
            del self._taken[one]

    def _drop(self, is_gone: Callable[[Record], bool]) -> None:
        for ns, space in self.checkpoints.items():
            for identity in [one for one, record in space.items() if is_gone(record)]:
                del space[identity]
                self.writes.pop((ns, identity), None)


_TAKE: dict[str, Callable[[Index, Entry, int, Entry], None]] = {
    NATIVE: Index._take_native,
    CHECKPOINT: Index._take_checkpoint,
    WRITES: Index._take_writes,
    REMOVED: Index._take_removed,
}


def _is_typed(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(x, str) for x in value)
