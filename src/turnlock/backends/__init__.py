"""The contract of a storage backend: who may write a session, and what was written.

A backend knows claims, fences and durability; it knows nothing of waiting in line, limits, or what
an entry means. The layer above (``turns``) queues the threads and tasks of a process, so that one
at a time comes here for a session, and writes what a superseded turn owes.

The promises that every backend keeps, and that ``tests/conformance`` holds each to:

* `Backend.take` gives a lease to at most one taker, or says who holds it. It does not wait.
* `Backend.append` writes all its lines or raises, and checks the fence in the same step: nothing
  of a lease that was superseded reaches the transcript. When it returns, the lines are durable.
* `Backend.supersede` puts a claim of ours in place of another's in one step. From then on the old
  lease is fenced; the new one names it in `BackendLease.owed`.
* `Backend.release` gives back what the lease still has, and touches nothing that it has not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol, TypeVar

from ..session import SessionKey
from ..transcript.jsonl import Line
from ..transcript.tail import Tail

# A waiter lets the holder's own watchdog come first (seconds past the hold limit).
OVER_LIMIT_GRACE = 2.0
STALE_AFTER = 1800.0


class Whose(Enum):
    """Stands for a turn's id where any holder is meant; None is one that names no turn."""

    ANYONES = auto()


class TakeRequest(NamedTuple):
    """Who asks for a session.

    ``turn_id`` is None for a lock without turns, and for whoever takes it only to clean up.
    ``header``: whether a transcript that is made gets its header. ``make``: whether one is made
    where there is none; else that is `NoSession`. ``opening``: the id that the opening of this turn
    is to have, for one whose ``turn_id`` another may have had before.
    """

    turn_id: str | None
    max_hold: float | None
    header: bool = True
    make: bool = True
    opening: str | None = None


class Superseded(NamedTuple):
    """A turn whose claim was taken: it owes its terminal entry unless the transcript has one.

    ``turn_id`` is None for a holder without turns, which owes nothing. ``opening`` is the id of the
    turn's opening, if it has one; None where no other turn had that ``turn_id``.
    """

    turn_id: str | None
    pid: int | None
    reason: str
    held: float | None
    opening: str | None = None


class Holder(NamedTuple):
    """Who holds a session, as far as its claim says. Seconds; None where it is unknown.

    ``token`` is the backend's own, for waiting; `close` gives it back. Nothing is known of a
    holder that does not hold yet: a waiter that comes first. ``doubt``: why nobody here can tell
    whether it lives, if so, and ``releasable``: whether an operator may take the session from it.
    """

    pid: int | None
    turn_id: str | None
    age: float | None
    limit: float | None
    token: Any
    doubt: str = ""
    releasable: bool = True

    def close(self) -> None:
        self.token.close()


class Wake(threading.Event):
    """What ends a wait. ``interrupt`` is called as well, for who sleeps in another call."""

    interrupt: Callable[[], None] | None = None

    def set(self) -> None:
        super().set()
        interrupt = self.interrupt
        if interrupt is not None:
            interrupt()


class Standing(Protocol):
    """A waiter's place in line. Who came first tries first; it says nothing of who holds."""

    def close(self) -> None: ...


class BackendLease(Protocol):
    """The backend's part of a lease.

    ``tail`` is the transcript's end as it is, as long as nobody else writes. ``owed`` are the turns
    that this lease superseded, oldest first. ``trusted_until``: the time of the monotonic clock
    from which the lease may have run out by itself; infinite where leases do not. ``opening``: the
    id for the opening of its turn; None for any.
    """

    tail: Tail
    owed: tuple[Superseded, ...]

    @property
    def opening(self) -> str | None: ...

    @property
    def trusted_until(self) -> float: ...


class Lost(Exception):
    """The fence: the claim is not this lease's any more. Nothing was written."""


class NoSession(Exception):
    """There is no transcript, and who asked for the session wanted none to be made."""


class Freed(Exception):
    """The holder is fenced, and its session free: no claim could be written that would take it.

    So nothing says that a marker is owed. The storage's error is in ``__cause__``.
    """


class TailMoved(Exception):
    """The transcript is not what the lease knew; ``lease.tail`` is new. Nothing was written."""


class LockRecord(NamedTuple):
    """A lock as doctor, start-up clean-up and ``store.locks()`` report it."""

    path: str
    session: str | None
    pid: int | None
    pid_status: str
    turn_id: str | None
    age_seconds: float | None
    max_hold_seconds: float | None
    stale: bool
    reasons: tuple[str, ...]
    removed: bool = False


class SessionRecord(NamedTuple):
    """A session as ``store.sessions()`` reports it. ``modified`` is ISO 8601 in UTC."""

    session: str
    path: str
    size: int
    modified: str


L = TypeVar("L", bound=BackendLease)


class Backend(Protocol[L]):
    """Where sessions live. Every method may block on storage and may be called from any thread.

    All of them raise `StoreError` when the storage fails, `LockPathError` when what lies at the
    lock path is no claim, `TranscriptError` when the transcript is no file that can be written.
    """

    @property
    def leases_expire(self) -> bool:
        """Whether a lease that is not renewed runs out by itself."""
        ...

    @property
    def is_text_only(self) -> bool:
        """Whether only lines of text can be stored: UTF-8 without NULs."""
        ...

    def identity(self, session: SessionKey) -> Hashable:
        """What a process queues by: equal for two stores of one place. Touches no storage."""
        ...

    def take(
        self, session: SessionKey, request: TakeRequest, *, standing: Any = None
    ) -> L | Holder:
        """Take the session if it is free or its claim is stale; else say who holds it.

        ``standing`` is what `line_up` gave, for a caller that waits. Who stands further
        behind, and who released a moment ago, is told of a `Holder` that names nobody.
        Raises `Lost` when the session was taken from the lease before it had begun: then the
        turn is over, as its marker may have been written. Raises `NoSession` only if it was asked
        not to make one.
        """
        ...

    def line_up(self, session: SessionKey) -> Standing:
        """A place in the line of the waiters of all processes, until it is closed."""
        ...

    def wait(
        self,
        session: SessionKey,
        holder: Holder,
        standing: Any,
        timeout: float,
        wake: Wake,
    ) -> None:
        """Block until it is worth taking again: release, death, time-out, or ``wake`` set."""
        ...

    def supersede(
        self,
        session: SessionKey,
        request: TakeRequest,
        *,
        lease: L | None,
        reason: str,
        turn_id: str | Whose | None = Whose.ANYONES,
    ) -> L | None:
        """Take the session from a live holder.

        From ``lease`` only, when given (None if its claim was gone already); else from whoever
        holds it now (None if nobody does, or not as the turn ``turn_id``). Raises `Freed`, of
        ``lease`` only.
        """
        ...

    def holds(self, lease: L) -> bool:
        """Whether the lease still has the session."""
        ...

    def renew(self, leases: Sequence[L]) -> list[L]:
        """Extend those that would run out; the leases that have their sessions no more.

        May answer by what is known here. Asked about once a second by the watchdog, for turns that
        are within their limits and for no other: that is the progress which a lease is renewed on.
        Raises `StoreError` when some could not be asked for.
        """
        ...

    def append(self, lease: L, lines: Sequence[bytes], after: Tail) -> None:
        """Write the lines, each with its newline, as one; check the fence in the same step.

        ``after`` is what the transcript's end is then; the backend fills in its size.
        Raises `Lost` or `TailMoved` when nothing was written. After any other error the lease has
        to end: what is on the disk is unknown.
        """
        ...

    def known_ids(self, lease: L, ids: Collection[str]) -> set[str]:
        """Those of the ids that entries of the transcript have already."""
        ...

    def header_id(self, lease: L) -> str | None:
        """The ``id`` in the transcript's header, if it can be read."""
        ...

    def remove(self, lease: L, size: int) -> None:
        """Take the transcript of a session away, in one step, if it still has ``size`` bytes.

        After it the lease can only be released; the session's next taker begins a new transcript.
        Raises `Lost`, and `TranscriptError` when another program changed it: then it is as it was.
        """
        ...

    def now(self) -> float:
        """The time, in seconds since the epoch, of the clock that says when sessions changed."""
        ...

    def release(self, lease: L) -> bool:
        """Give the session back. Does nothing for a lease that has it no more.

        False when somebody else had taken it from this lease; True also for a second release.
        """
        ...

    def is_gone(self, record: LockRecord) -> bool:
        """Whether nothing is at the lock's path any more."""
        ...

    def leave_owing(self, lease: L) -> None:
        """Give the session back with its claim left behind, dead: the next taker pays."""
        ...

    def abandon(self, lease: L) -> None:
        """Drop what this process keeps of a lease that belongs to its parent (after a fork)."""
        ...

    def read(self, session: SessionKey, *, start: int = 0) -> Iterator[Line]:
        """Every complete line, header and damaged ones too; nothing when there is no session.

        From ``start`` on, the offset of a line. If none begins there (the transcript is another
        by now), the first line that is given is damaged.
        """
        ...

    def find(self, session: SessionKey, identity: str) -> int | None:
        """The offset of the first entry with this id; None when no entry has it."""
        ...

    def end(self, session: SessionKey, *, turns: int) -> Tail:
        """The end of the transcript as a reader sees it, back to its last ``turns`` turns."""
        ...

    def sessions(self, *, after: SessionKey | None = None) -> Iterator[SessionRecord]:
        """Every session in a fixed order; those behind ``after`` only, which need not exist."""
        ...

    def record(self, session: SessionKey) -> SessionRecord | None:
        """One session; None when it has no transcript."""
        ...

    def locks(
        self, *, stale_after: float = STALE_AFTER, session: SessionKey | None = None
    ) -> Iterator[LockRecord]:
        """Every lock, or one session's, with the verdict. Changes nothing, down to access times."""
        ...

    def expired(self) -> Iterator[LockRecord]:
        """The locks whose leases ran out; none where leases do not."""
        ...

    def in_line(self, sessions: Iterable[SessionKey]) -> dict[SessionKey, int]:
        """How many stand in line for each: one of each process. What cannot be told is 0."""
        ...

    def close(self) -> None:
        """Give back what is open for no lease, such as connections. A later call opens it again."""
        ...

    def reclaim(
        self, record: LockRecord, request: TakeRequest, *, stale_after: float = STALE_AFTER
    ) -> L | None:
        """Take over a lock that `locks` called stale, if it still is; None if it is not."""
        ...


def give_back(backend: Backend[L], lease: L) -> bool:
    """End a lease that has written nothing, and may have taken over what others owe.

    Of a turn that wrote nothing, the claim that names it is the only record: then that stays.
    False when somebody else had taken the session from this lease.
    """
    if not any(turn.turn_id for turn in lease.owed):
        return backend.release(lease)
    try:
        return backend.holds(lease)
    finally:
        backend.leave_owing(lease)
