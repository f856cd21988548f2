"""Sessions in the memory of one process, for users' own tests. Same promises, no durability.

A claim is an object, and a lease holds its session while the table names that object: the files
protocol without the files. A process that dies takes its sessions with it, so no claim is ever
stale.
"""

from __future__ import annotations

import math
import os
import threading
import uuid
import weakref
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence

from ..clock import Clock, SystemClock, iso
from ..errors import TranscriptError
from ..session import SessionKey
from ..transcript.entries import header
from ..transcript.ids import KnownIds
from ..transcript.jsonl import Line, ReadAt, encode, find_entry, read_lines
from ..transcript.tail import Tail, read_tail
from . import (
    OVER_LIMIT_GRACE,
    STALE_AFTER,
    Holder,
    LockRecord,
    Lost,
    NoSession,
    SessionRecord,
    Standing,
    Superseded,
    TailMoved,
    TakeRequest,
    Wake,
    Whose,
)


class MemoryLease:
    trusted_until = math.inf

    def __init__(
        self, session: SessionKey, request: TakeRequest, owed: tuple[Superseded, ...], taken: float
    ) -> None:
        self.session = session
        self.request = request
        self.owed = owed
        self.taken = taken
        self.released = False
        self.tail = Tail()
        self.ids = KnownIds()

    @property
    def opening(self) -> str | None:
        return self.request.opening

    def close(self) -> None:
        """A holder's token has nothing to give back here."""


class NoLine:
    """One process has a queue already."""

    def close(self) -> None:
        pass


class MemoryBackend:
    """What ``open_store("memory:")`` opens. Each instance has sessions of its own."""

    leases_expire = False
    is_text_only = False

    def __init__(self, *, clock: Clock | None = None, pid: int) -> None:
        self._clock = clock or SystemClock()
        self._pid = pid
        self._lock = threading.Lock()
        _backends.add(self)
        self._claims: dict[SessionKey, MemoryLease] = {}
        self._transcripts: dict[SessionKey, bytearray] = {}
        self._modified: dict[SessionKey, float] = {}
        self._waiting: dict[SessionKey, set[Wake]] = {}

    def identity(self, session: SessionKey) -> Hashable:
        return id(self), session

    def close(self) -> None:
        """Nothing is open."""

    def take(
        self, session: SessionKey, request: TakeRequest, *, standing: object = None
    ) -> MemoryLease | Holder:
        with self._lock:
            held = self._claims.get(session)
            if held is None:
                if session not in self._transcripts and not request.make:
                    raise NoSession
                return self._claim(session, request, ())
            age = self._clock.monotonic() - held.taken
            limit = held.request.max_hold
            # From that very moment on: it is until then that a waiter sleeps.
            if limit is not None and age >= limit + OVER_LIMIT_GRACE:
                return self._take_from(held, request, "hold-limit")
            return Holder(self._pid, held.request.turn_id, age, limit, held)

    def line_up(self, session: SessionKey) -> Standing:
        return NoLine()

    def wait(
        self,
        session: SessionKey,
        holder: Holder,
        standing: object,
        timeout: float,
        wake: Wake,
    ) -> None:
        with self._lock:
            if self._claims.get(session) is not holder.token:
                return
            self._waiting.setdefault(session, set()).add(wake)
        try:
            if holder.limit is not None and holder.age is not None:
                timeout = min(timeout, max(0.0, holder.limit + OVER_LIMIT_GRACE - holder.age))
            self._clock.wait(wake, timeout)
        finally:
            with self._lock:
                waiting = self._waiting[session]
                waiting.discard(wake)
                if not waiting:
                    del self._waiting[session]

    def supersede(
        self,
        session: SessionKey,
        request: TakeRequest,
        *,
        lease: MemoryLease | None,
        reason: str,
        turn_id: str | Whose | None = Whose.ANYONES,
    ) -> MemoryLease | None:
        with self._lock:
            held = self._claims.get(session)
            if held is None or (lease is not None and held is not lease):
                return None
            if turn_id not in (held.request.turn_id, Whose.ANYONES):
                return None
            return self._take_from(held, request, reason)

    def reclaim(
        self, record: LockRecord, request: TakeRequest, *, stale_after: float = STALE_AFTER
    ) -> MemoryLease | None:
        return None

    def holds(self, lease: MemoryLease) -> bool:
        with self._lock:
            return self._claims.get(lease.session) is lease

    def remove(self, lease: MemoryLease, size: int) -> None:
        with self._lock:
            if self._claims.get(lease.session) is not lease:
                raise Lost
            if len(self._transcripts[lease.session]) != size:
                raise TranscriptError(str(lease.session), "another program changed it meanwhile")
            del self._transcripts[lease.session], self._modified[lease.session]

    def now(self) -> float:
        return self._clock.wall()

    def renew(self, leases: Sequence[MemoryLease]) -> list[MemoryLease]:
        return [lease for lease in leases if not self.holds(lease)]

    def append(self, lease: MemoryLease, lines: Sequence[bytes], after: Tail) -> None:
        with self._lock:
            if self._claims.get(lease.session) is not lease:
                raise Lost
            transcript = self._transcripts[lease.session]
            if len(transcript) != lease.tail.size:
                lease.tail = self._tail(lease)
                raise TailMoved
            transcript += b"".join(lines)
            lease.tail = after._replace(size=len(transcript))
            self._modified[lease.session] = self._clock.wall()

    def known_ids(self, lease: MemoryLease, ids: Collection[str]) -> set[str]:
        with self._lock:
            transcript = self._transcripts.get(lease.session, bytearray())
        # Read as it is: a copy of all of it would cost as much as the session is long.
        return lease.ids.among(_reader(transcript), ids)

    def header_id(self, lease: MemoryLease) -> str | None:
        first = next(self.read(lease.session), None)
        identity = first.entry.get("id") if first and first.entry else None
        return identity if isinstance(identity, str) else None

    def release(self, lease: MemoryLease) -> bool:
        with self._lock:
            if self._claims.get(lease.session) is not lease:
                return lease.released
            del self._claims[lease.session]
            lease.released = True
            self._wake(lease.session)
            return True

    def is_gone(self, record: LockRecord) -> bool:
        return all(record.path != other.path for other in self.locks())

    def leave_owing(self, lease: MemoryLease) -> None:
        self.release(lease)

    def abandon(self, lease: MemoryLease) -> None:
        # In a child, where the lock may be held by a thread that does not exist.
        self._claims.pop(lease.session, None)

    def read(self, session: SessionKey, *, start: int = 0) -> Iterator[Line]:
        return read_lines(_reader(self._content(session)), start)

    def find(self, session: SessionKey, identity: str) -> int | None:
        return find_entry(_reader(self._content(session)), identity)

    def end(self, session: SessionKey, *, turns: int) -> Tail:
        content = self._content(session)
        return read_tail(_reader(content), len(content), turns=turns)

    def _content(self, session: SessionKey) -> bytes:
        with self._lock:
            return bytes(self._transcripts.get(session, b""))

    def sessions(self, *, after: SessionKey | None = None) -> Iterator[SessionRecord]:
        with self._lock:
            names = sorted(one for one in self._transcripts if after is None or one > after)
        return (record for one in names if (record := self.record(one)) is not None)

    def record(self, session: SessionKey) -> SessionRecord | None:
        with self._lock:
            content = self._transcripts.get(session)
            if content is None:
                return None
            modified = iso(self._modified[session])
            return SessionRecord(str(session), f"memory:{session}", len(content), modified)

    def locks(
        self, *, stale_after: float = STALE_AFTER, session: SessionKey | None = None
    ) -> Iterator[LockRecord]:
        with self._lock:
            records = [
                self._record(lease)
                for held, lease in sorted(self._claims.items())
                if session in (None, held)
            ]
        return iter(records)

    def expired(self) -> Iterator[LockRecord]:
        return iter(())

    def in_line(self, sessions: Iterable[SessionKey]) -> dict[SessionKey, int]:
        return dict.fromkeys(sessions, 0)

    def _record(self, lease: MemoryLease) -> LockRecord:
        age = self._clock.monotonic() - lease.taken
        limit = lease.request.max_hold
        over = limit is not None and age > limit
        return LockRecord(
            path=f"memory:{lease.session}",
            session=str(lease.session),
            pid=self._pid,
            pid_status="alive",
            turn_id=lease.request.turn_id,
            age_seconds=age,
            max_hold_seconds=limit,
            stale=False,
            reasons=("over-limit",) if over else (),
        )

    def _take_from(self, held: MemoryLease, request: TakeRequest, reason: str) -> MemoryLease:
        age = self._clock.monotonic() - held.taken
        request_of = held.request
        turn = Superseded(request_of.turn_id, self._pid, reason, age, request_of.opening)
        owed = (*held.owed, turn)
        lease = self._claim(held.session, request, owed)
        self._wake(held.session)
        return lease

    def _claim(
        self, session: SessionKey, request: TakeRequest, owed: tuple[Superseded, ...]
    ) -> MemoryLease:
        if session not in self._transcripts:
            first = header(str(uuid.uuid4()), cwd="memory:", wall=self._clock.wall())
            self._transcripts[session] = bytearray(encode(first) if request.header else b"")
            self._modified[session] = self._clock.wall()
        lease = MemoryLease(session, request, owed, self._clock.monotonic())
        lease.tail = self._tail(lease)
        self._claims[session] = lease
        return lease

    def _tail(self, lease: MemoryLease) -> Tail:
        content = bytes(self._transcripts[lease.session])
        return read_tail(_reader(content), len(content), turns=1 + len(lease.owed))

    def _wake(self, session: SessionKey) -> None:
        for wake in self._waiting.get(session, ()):
            wake.set()


def _reset_locks_in_child() -> None:
    for backend in list(_backends):
        backend._lock = threading.Lock()


_backends: weakref.WeakSet[MemoryBackend] = weakref.WeakSet()
os.register_at_fork(after_in_child=_reset_locks_in_child)


def _reader(content: bytes | bytearray) -> ReadAt:
    return lambda offset, length: bytes(content[offset : offset + length])
