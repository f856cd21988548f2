"""Taking a session: first the queue of this process, then the lock.

The two stages are the same for threads and tasks; they differ only in how they wait for the first.
The second blocks on storage, so a task runs it on a worker and can give it up through `Attempt`.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from ..backends import Backend, BackendLease, Holder, Lost, Standing, TakeRequest, Wake, give_back
from ..errors import AlreadyHeld, LeaseRevoked, LimitsError, SessionBusy
from ..events import TurnQueued
from ..limits import check_limit, check_wait
from ..session import SessionKey
from ..transcript.entries import new_id
from .lease import Lease
from .queue import Awaited, Ticket, queues
from .revoking import reason_in_transcript, settle_and_release
from .runtime import Runtime

_FOREVER = 3600.0
# What a claim gives back as it was, and a marker has room for.
_TURN_ID_MAX = 100


class Wanted(NamedTuple):
    """A turn that is to be: checked, not yet queued. ``wait`` is infinite for ever."""

    session: SessionKey
    turn_id: str
    wait: float
    max_hold: float
    max_stall: float | None
    is_turn: bool = True
    opening: str | None = None

    def renewed(self) -> Wanted:
        """The same, under a name of its own."""
        return Wanted(
            self.session, new_turn_id(), self.wait, self.max_hold, self.max_stall, self.is_turn
        )

    def tried(self) -> Wanted:
        """The same, for a try of its own: the one before may have left its marker."""
        return self if self.opening is None else self._replace(opening=new_id())

    def request(self) -> TakeRequest:
        turn_id = self.turn_id if self.is_turn else None
        return TakeRequest(turn_id, self.max_hold, self.is_turn, opening=self.opening)


def wanted(
    session: SessionKey,
    *,
    wait: float | None,
    max_hold: float,
    max_stall: float | None = None,
    turn_id: str | None = None,
    is_turn: bool = True,
) -> Wanted:
    """Check what a caller asks for. Raises `LimitsError`."""
    if turn_id is not None and not (isinstance(turn_id, str) and 0 < len(turn_id) <= _TURN_ID_MAX):
        raise LimitsError("turn_id", turn_id, f"it is text of 1 to {_TURN_ID_MAX} characters")
    hold = check_limit("max_hold", max_hold)
    assert hold is not None
    return Wanted(
        session,
        turn_id or new_turn_id(),
        math.inf if wait is None else check_wait("wait", wait),
        hold,
        check_limit("max_stall", max_stall, optional=True),
        is_turn,
        # A name that was given may be that of a turn before, which is told apart by this.
        None if turn_id is None else new_id(),
    )


def new_turn_id() -> str:
    return os.urandom(16).hex()


class Attempt:
    """One attempt to take a session that is at the head of its queue. May be given up."""

    def __init__(
        self,
        runtime: Runtime,
        backend: Backend[Any],
        want: Wanted,
        *,
        started: float,
        ticket: Ticket | None = None,
    ) -> None:
        self._ticket = ticket
        self._runtime = runtime
        self._backend = backend
        self._want = want
        self._started = started
        # Made when there is something to wait for: most attempts succeed at once.
        self._wake: Wake | None = None
        self._given_up = False

    def give_up(self) -> None:
        self._given_up = True
        if self._wake is not None:
            self._wake.set()

    def run(self, found: BackendLease | Holder | None = None) -> BackendLease | None:
        """Block until the lock is there. None when given up; raises `SessionBusy` at the limit,
        and `StoreError` when the store is closed meanwhile.

        ``found`` is what a first take gave, if there was one.
        """
        want = self._want
        standing: Standing | None = None
        awaited: Holder | None = None
        try:
            while True:
                if found is None:
                    found = take(self._backend, want, standing)
                # Not before: the session may lie idle until it is taken.
                if awaited is not None:
                    awaited.close()
                    awaited = None
                if not isinstance(found, Holder):
                    return self._found(found)
                awaited, found = found, None
                self._say_awaited(awaited)
                left = want.wait - self.waited()
                if left <= 0:
                    raise self._busy(awaited)
                # Before the flag is read, so that giving up is seen there or wakes the wait.
                wake = self._wake = Wake()
                if self._given_up:
                    return None
                if standing is None:
                    self._runtime.watchdog.start()
                    standing = self._backend.line_up(want.session)
                timeout = min(left, _FOREVER)
                with self._runtime.waiting(want.session, wake.set):
                    self._backend.wait(want.session, awaited, standing, timeout, wake)
        finally:
            if awaited is not None:
                awaited.close()
            # Not before the session is taken: it is then that the next in line comes first.
            if standing is not None:
                standing.close()

    def _say_awaited(self, holder: Holder) -> None:
        """To those behind in the queue, whose errors name who holds."""
        if self._ticket is None:
            return
        age = holder.age
        taken = None if age is None else self._runtime.clock.monotonic() - age
        self._ticket.awaits = Awaited(holder.pid, holder.turn_id, taken, holder.limit)

    def waited(self) -> float:
        return self._runtime.clock.monotonic() - self._started

    def _found(self, held: BackendLease) -> BackendLease | None:
        if self._given_up:
            self._give_back(held)
            return None
        return held

    def _give_back(self, held: BackendLease) -> None:
        if held.owed:
            settle_and_release(self._runtime, self._backend, held, str(self._want.session))
        else:
            self._backend.release(held)

    def _busy(self, holder: Holder) -> SessionBusy:
        return SessionBusy(
            str(self._want.session),
            holder_pid=holder.pid,
            holder_turn=holder.turn_id,
            age=holder.age,
            limit=holder.limit,
            waited=self.waited(),
            doubt=holder.doubt,
            releasable=holder.releasable,
        )


def take(
    backend: Backend[Any], want: Wanted, standing: Standing | None = None
) -> BackendLease | Holder:
    """As `Backend.take`. Raises `LeaseRevoked` where that raises `Lost`."""
    try:
        taken: BackendLease | Holder = backend.take(want.session, want.request(), standing=standing)
    except Lost:
        reason = reason_in_transcript(backend, want.session, want.turn_id, want.opening)
        raise LeaseRevoked(
            str(want.session), turn_id=want.turn_id, held=0.0, reason=reason or "superseded"
        ) from None
    return taken


def enter_queue(runtime: Runtime, want: Wanted, ticket: Ticket) -> None:
    """Take a place in the queue of this process. Raises `AlreadyHeld`.

    Whoever calls this leaves the queue when anything else is raised.
    """
    mine = queues.enter(ticket)
    if mine is not None:
        raise AlreadyHeld(str(want.session), mine.turn_id)
    if not ticket.granted:
        runtime.events.emit(TurnQueued(str(want.session), want.turn_id))


def busy_here(runtime: Runtime, want: Wanted, ticket: Ticket, started: float) -> SessionBusy:
    """The error for a waiter that never became the head: that one holds, or waits for who does."""
    now = runtime.clock.monotonic()
    holder = _holder_of(queues.head(ticket.identity))
    return SessionBusy(
        str(want.session),
        holder_pid=holder.pid,
        holder_turn=holder.turn_id,
        age=None if holder.taken is None else now - holder.taken,
        limit=holder.limit,
        waited=now - started,
    )


def _holder_of(head: Ticket | None) -> Awaited:
    """Who holds where this is the head of the queue; that one itself, if it is just taking."""
    if head is None:
        return Awaited(os.getpid(), None, None, None)
    lease = next(
        (held for one in Runtime.all() for held in one.leases() if held.ticket is head), None
    )
    if lease is not None:
        return Awaited(os.getpid(), lease.turn_id, lease.taken, lease.max_hold)
    return head.awaits or Awaited(os.getpid(), head.turn_id, None, None)


def held_here() -> set[Hashable]:
    """The sessions that this process holds, by their identities, whichever stores opened them."""
    return {lease.ticket.identity for one in Runtime.all() for lease in one.leases()}


def take_blocking(
    runtime: Runtime, backend: Backend[Any], want: Wanted, frames: Callable[[], list[str]]
) -> Lease:
    """Take a session for the calling thread. Raises `SessionBusy`, `AlreadyHeld` …"""
    started = runtime.clock.monotonic()
    runtime.watchdog.start()
    # Not its number: that of a thread which ended is the next one's.
    owner = ("thread", threading.current_thread())
    ticket = Ticket(backend.identity(want.session), owner, want.turn_id, _not_waiting)
    held: BackendLease | Holder | None = None
    try:
        if not queues.enter_if_free(ticket):
            _wait_in_queue(runtime, want, ticket, started)
        held = take(backend, want)
        if isinstance(held, Holder):
            attempt = Attempt(runtime, backend, want, started=started, ticket=ticket)
            held = attempt.run(held)
        assert held is not None
        return begin(runtime, backend, want, ticket, held, started, frames)
    except BaseException:
        undo(runtime, backend, ticket, held)
        raise


def undo(
    runtime: Runtime, backend: Backend[Any], ticket: Ticket, held: BackendLease | Holder | None
) -> None:
    """Give back what a take had of a session when something came in between, as Ctrl-C does."""
    runtime.forget(ticket)
    try:
        if held is not None and not isinstance(held, Holder):
            give_back(backend, held)
    finally:
        queues.leave(ticket)


def _wait_in_queue(runtime: Runtime, want: Wanted, ticket: Ticket, started: float) -> None:
    granted = threading.Event()
    ticket.on_grant = granted.set
    enter_queue(runtime, want, ticket)
    if ticket.granted:
        return
    with runtime.waiting(want.session, granted.set):
        in_time = _granted_in_time(runtime, granted, ticket, want.wait)
    if not in_time:
        raise busy_here(runtime, want, ticket, started)


def begin(
    runtime: Runtime,
    backend: Backend[Any],
    want: Wanted,
    ticket: Ticket,
    held: BackendLease,
    started: float,
    frames: Callable[[], list[str]],
) -> Lease:
    now = runtime.clock.monotonic()
    lease = Lease(
        want.session,
        want.turn_id,
        backend,
        held,
        ticket,
        taken=now,
        max_hold=want.max_hold,
        max_stall=want.max_stall,
        frames=frames,
        is_turn=want.is_turn,
    )
    runtime.started(lease, now - started)
    return lease


def _not_waiting() -> None:
    """A ticket that is at the head from the start is never granted."""


def _granted_in_time(
    runtime: Runtime, granted: threading.Event, ticket: Ticket, wait: float
) -> bool:
    timeout = None if math.isinf(wait) else wait
    return runtime.clock.wait(granted, timeout) or not queues.give_up(ticket)
