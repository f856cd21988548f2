"""What the turns of one store share: clock, watchdog, events, zombies, secrets."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..clock import Clock, SystemClock
from ..errors import StoreError, TurnlockError
from ..events import (
    ClockGap,
    Events,
    LockReclaimed,
    MarkerOwed,
    RevocationFailed,
    TurnMarked,
    TurnReleased,
    TurnRevoked,
    TurnStarted,
    ZombieEnded,
)
from ..redaction import redact
from ..session import SessionKey
from ..transcript.entries import Failure
from .lease import Lease, State
from .queue import Ticket
from .revoking import carry_out, retire_lost, revoke, tell_unfenced
from .verifying import Verifying
from .watchdog import Overdue, Watchdog, overdue
from .workers import submit_or_run

logger = logging.getLogger("turnlock")

# By their ids. (A set of weak references cannot be listed while another thread opens a store.)
_runtimes: weakref.WeakValueDictionary[int, Runtime] = weakref.WeakValueDictionary()
# Sessions that one warning names.
_NAMED_MAX = 3


class Zombie(NamedTuple):
    """A revoked holder that still runs. ``since``: seconds since the fence went up."""

    session: str
    turn_id: str
    reason: str
    held: float
    since: float
    stack: tuple[str, ...]


class LeaseRecord(NamedTuple):
    """A session that a turn holds, with what no lock file says of it. Seconds.

    ``phase``: what the turn is at, empty until it has said so. ``progress_age``: since its last
    progress, or since it took the session. ``max_stall`` is None when there is no stall limit.
    """

    session: str
    turn_id: str
    phase: str
    held: float
    max_hold: float
    max_stall: float | None
    progress_age: float


class Statistics(NamedTuple):
    """Counters since the store was opened; ``held`` and ``zombies`` are of this moment."""

    held: int
    zombies: int
    started: int
    released: int
    revoked: int
    revoked_by_reason: dict[str, int]
    revocations_failed: int
    reclaimed: int
    markers: int
    markers_owed: int
    zombies_ended: int
    clock_gaps: int


class Runtime:
    def __init__(self, *, clock: Clock | None = None, secrets: Iterable[str] = ()) -> None:
        self.clock = clock or SystemClock()
        self.events = Events()
        self.secrets = tuple(secrets)
        self.watchdog = Watchdog(
            self.clock,
            leases=self.leases,
            revoke=self._revoke_soon,
            verify=self._verify_soon,
            on_gap=self._on_gap,
        )
        # Single dictionary operations are atomic; the lock is for moving from one to the other.
        self._lock = threading.Lock()
        self._held: dict[int, Lease] = {}
        self._zombies: dict[int, tuple[Lease, tuple[str, ...]]] = {}
        self._verifying = Verifying(self._verify)
        self.is_closed = False
        self._waiting: dict[int, Callable[[], object]] = {}
        _runtimes[id(self)] = self

    @staticmethod
    def all() -> list[Runtime]:
        """Every runtime of this process."""
        return [one for ref in _runtimes.valuerefs() if (one := ref()) is not None]

    # Waiters

    def close(self) -> None:
        """From here on no lease begins, and who waits for one is told."""
        self.is_closed = True
        for tell in list(self._waiting.values()):
            tell()

    def check_open(self, session: SessionKey) -> None:
        """Raises `StoreError` once the store is closed."""
        if self.is_closed:
            raise closed_error(str(session))

    @contextmanager
    def waiting(self, session: SessionKey, tell: Callable[[], object]) -> Iterator[None]:
        """While one waits for a session; ``tell`` is called when the store is closed meanwhile.

        Raises `StoreError` when it was closed before or is afterwards, whatever came of the wait.
        """
        self._waiting[id(tell)] = tell
        try:
            self.check_open(session)
            yield
            self.check_open(session)
        finally:
            self._waiting.pop(id(tell), None)

    # Leases

    def started(self, lease: Lease, waited: float) -> None:
        self._held[id(lease)] = lease
        # Not before: either this sees that the store was closed, or who closes it sees the lease.
        self.check_open(lease.session)
        self.watchdog.watch(lease)
        if self.events.tally(TurnStarted):
            self.events.emit(TurnStarted(lease.label, lease.turn_id, waited))

    def ended(self, lease: Lease, *, failed: bool) -> None:
        """The holder has released its lease."""
        self._held.pop(id(lease), None)
        if self.events.tally(TurnReleased):
            held = self.clock.monotonic() - lease.taken
            self.events.emit(TurnReleased(lease.label, lease.turn_id, held, failed))

    def left(self, lease: Lease) -> None:
        """The holder of a revoked lease has come to its end: it is no zombie any more."""
        with self._lock:
            zombie = self._zombies.pop(id(lease), None)
            self._held.pop(id(lease), None)
        if zombie is not None:
            lasted = self.clock.monotonic() - lease.revoked_at
            self.events.emit(ZombieEnded(lease.label, lease.turn_id, lasted))

    def forget(self, ticket: Ticket) -> None:
        """Drop the lease of a take that was undone, if it had come so far."""
        for lease in self.leases():
            if lease.ticket is ticket:
                self._held.pop(id(lease), None)

    def leases(self) -> list[Lease]:
        return list(self._held.values())

    def lease_records(self) -> list[LeaseRecord]:
        now = self.clock.monotonic()
        return [
            LeaseRecord(
                lease.label,
                lease.turn_id,
                lease.phase,
                now - lease.taken,
                lease.max_hold,
                lease.max_stall,
                now - lease.progressed,
            )
            for lease in self.leases()
        ]

    def now_zombie(self, lease: Lease, stack: tuple[str, ...]) -> None:
        # Here too: in a worker with a loop for each job nobody may ever ask for them.
        self._drop_orphans()
        with self._lock:
            # A holder that left in the meantime is none.
            if self._held.pop(id(lease), None) is not None:
                self._zombies[id(lease)] = (lease, stack)

    def _drop_orphans(self) -> None:
        """Whose loop was closed runs no more, and will never come to its end."""
        with self._lock:
            zombies = [lease for lease, _ in self._zombies.values()]
        for lease in zombies:
            if lease.is_orphan():
                self.left(lease)

    def zombies(self) -> list[Zombie]:
        self._drop_orphans()
        now = self.clock.monotonic()
        with self._lock:
            zombies = list(self._zombies.values())
        return [
            Zombie(
                lease.label,
                lease.turn_id,
                lease.reason,
                lease.revoked_at - lease.taken,
                now - lease.revoked_at,
                stack,
            )
            for lease, stack in zombies
        ]

    def statistics(self) -> Statistics:
        count = self.events.count
        self._drop_orphans()
        with self._lock:
            held, zombies = len(self._held), len(self._zombies)
        return Statistics(
            held=held,
            zombies=zombies,
            started=count(TurnStarted),
            released=count(TurnReleased),
            revoked=count(TurnRevoked),
            revoked_by_reason=self.events.revocations_by_reason(),
            revocations_failed=count(RevocationFailed),
            reclaimed=count(LockReclaimed),
            markers=count(TurnMarked),
            markers_owed=count(MarkerOwed),
            zombies_ended=count(ZombieEnded),
            clock_gaps=count(ClockGap),
        )

    # The watchdog's work

    def check_leases(self) -> list[str]:
        """Run the rule now and revoke what is overdue; the turn ids."""
        due = overdue(self.leases(), self.clock.monotonic())
        for one in due:
            revoke(self, one.lease, one.reason, deadline=one.deadline)
        return [one.lease.turn_id for one in due]

    def _revoke_soon(self, due: Overdue) -> None:
        # Moved here and not by the worker, or the lease would be found overdue once more.
        if due.lease.move(State.REVOKING, reason=due.reason):
            submit_or_run(lambda: carry_out(self, due.lease, deadline=due.deadline))

    def _verify_soon(self, leases: list[Lease]) -> None:
        for lease in leases:
            if lease.state is State.REVOKING and not lease.revoked_at:
                self._tell_unfenced(lease)
        self._verifying.soon(leases)

    def _tell_unfenced(self, lease: Lease) -> None:
        """Its fence hangs, as on a frozen disk, if it was not up a tick ago either."""
        if lease.fence_hangs:
            submit_or_run(lambda: tell_unfenced(self, lease, "it hangs"))
        lease.fence_hangs = True

    def _verify(self, leases: list[Lease]) -> None:
        """Of one backend, in one question."""
        asked = [lease for lease in leases if not self._is_over(lease)]
        if not asked:
            return
        try:
            lost = asked[0].backend.renew([lease.held for lease in asked])
        except TurnlockError as error:
            _say_unverified(asked, error)
            return
        for lease in asked:
            if lease.held in lost:
                self._retire(lease)

    def _retire(self, lease: Lease) -> None:
        try:
            retire_lost(self, lease)
        except TurnlockError as error:
            _say_unverified([lease], error)

    def _is_over(self, lease: Lease) -> bool:
        """Whether it need not be asked for: it ends, or nobody is left who could end it."""
        if lease.is_orphan():
            revoke(self, lease, "cancelled")
            self.left(lease)
            return True
        return lease.state is not State.HELD

    def _on_gap(self, gap: float) -> None:
        self.events.emit(ClockGap(gap))
        logger.warning("the process stood still for %.1f s; its turns are given that time", gap)

    # Markers

    def redacted(self, text: str) -> str:
        return redact(text, self.secrets)

    def marked(self, label: str, failure: Failure) -> None:
        self.events.emit(TurnMarked(label, failure.turn_id, failure.reason))

    def marker_owed(self, label: str, turn_id: str, error: BaseException) -> None:
        text = self.redacted(str(error))
        self.events.emit(MarkerOwed(label, turn_id, text))
        logger.warning("session %s: the error marker of turn %s is owed: %s", label, turn_id, text)

    def forget_in_child(self) -> None:
        leases = list(self._held.values()) + [lease for lease, _ in self._zombies.values()]
        self._lock = threading.Lock()
        self._verifying.reset()
        self._waiting = {}
        self.watchdog.reset()
        self.events.reset()
        self._held = {}
        self._zombies = {}
        for lease in leases:
            # Not `move`: its lock may have been held by a thread that does not exist here.
            lease.state = State.FORKED
            lease.backend.abandon(lease.held)


def closed_error(what: str) -> StoreError:
    """Of a session, or of all, by the store's location."""
    return StoreError(what, "take", "the store was closed", "open another: turnlock.open_store()")


def _say_unverified(leases: list[Lease], error: TurnlockError) -> None:
    labels = ", ".join(lease.label for lease in leases[:_NAMED_MAX])
    labels += f" and {len(leases) - _NAMED_MAX} more" if len(leases) > _NAMED_MAX else ""
    logger.warning("session %s: its lease cannot be verified: %s", labels, error)


def _forget_in_child() -> None:
    for runtime in Runtime.all():
        runtime.forget_in_child()


os.register_at_fork(after_in_child=_forget_in_child)
