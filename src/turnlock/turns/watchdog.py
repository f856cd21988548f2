"""The watchdog: when a lease is over its limit, and the thread that acts on it.

The rule is a pure function of the leases and a time, `overdue`; the thread only sleeps until the
earliest deadline and asks it. It is a thread, because a timer on the event loop never fires when
that loop is what hangs. It touches no disk: each revocation is done by a worker of its own, and so
are the verifications (see `verifying`), so that one frozen disk delays no other.

A lease is overdue when it was held for longer than its hold limit, when it made no progress for
longer than its stall limit, or when a call under `watch` gave nothing by its deadline. Renewal is
not progress and bytes are not progress: only what the turn reports is.

Where leases run out by themselves, a lease is renewed as long as it is not overdue, with the
verification; and it is overdue when it could not be renewed for so long that it may run out. Then
its holder stops before the session is another's.

The watchdog has a clock of its own to mind. When it wakes much later than it asked to, the host
slept or the process was stopped, and in that time no holder could make progress either. Such a gap
is given back to every lease: all of it that is known, and, once in a lease's life, also what lay
between the last look and the time to wake. After that one time only the lateness itself, or a
machine that is always late would never see a deadline pass.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ..clock import Clock
from ..errors import StoreError
from .lease import WRITABLE, Lease
from .workers import submit_or_run

logger = logging.getLogger("turnlock")

# At least this often the thread looks, and has every lease verified against its backend.
TICK = 1.0
# Waking later than this is no scheduling noise: the process did not run.
GAP = 0.25
# How long the thread goes on ticking without a lease, so that short turns need not wake it.
_LINGER_TICKS = 10


class Overdue(NamedTuple):
    lease: Lease
    reason: str
    deadline: float


def deadline_of(lease: Lease) -> tuple[float, str]:
    """The earliest moment at which the lease is overdue, and for what reason."""
    earliest = (lease.taken + lease.max_hold + lease.given_back, "hold-limit")
    if lease.max_stall is not None:
        earliest = min(earliest, (lease.progressed + lease.max_stall, "stall-limit"))
    for call in list(lease.calls.values()):
        earliest = min(earliest, (call.deadline, "model-limit"))
    return min(earliest, (lease.held.trusted_until, "interrupted"))


def overdue(leases: Iterable[Lease], now: float) -> list[Overdue]:
    """The rule: which leases are over a limit at that time."""
    due = []
    for lease in leases:
        deadline, reason = deadline_of(lease)
        if deadline <= now and lease.state in WRITABLE:
            due.append(Overdue(lease, reason, deadline))
    return due


def give_back(lease: Lease, *, gap: float, slept: float) -> None:
    """Take a gap in the watchdog's own clock out of what counts against the lease."""
    if lease.given_back == 0.0:
        gap += slept
    lease.given_back += gap
    lease.progressed += gap
    for call in list(lease.calls.values()):
        call.deadline += gap


@contextmanager
def _going_on() -> Iterator[None]:
    """No memory, no thread, a log that is gone: whatever it is, the next look may do better."""
    try:
        yield
    except Exception:
        # What writes the log may be what failed.
        with suppress(Exception):
            logger.exception("the watchdog's look failed; it goes on")


class Watchdog:
    """``leases`` gives all that are held. ``revoke`` and ``verify`` must return at once.

    ``on_gap`` is told of every gap.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        leases: Callable[[], list[Lease]],
        revoke: Callable[[Overdue], None],
        verify: Callable[[list[Lease]], None],
        on_gap: Callable[[float], None],
    ) -> None:
        self._clock = clock
        self._leases = leases
        self._revoke = revoke
        self._verify = verify
        self._on_gap = on_gap
        self.reset()

    def reset(self) -> None:
        """As new; for a child process, which has no thread of its parent."""
        self._lock = threading.Lock()
        self._nudge = threading.Event()
        self._wakes_at = -math.inf
        self._started = False
        self._linger = _LINGER_TICKS
        self._put_off: list[Callable[[], object]] = []

    def watch(self, lease: Lease) -> None:
        """Called for every new lease, once it is among ``leases``."""
        self.start()
        self.expect(deadline_of(lease)[0])

    def start(self) -> None:
        """Start the thread, unless it runs: before there is anything to watch, not after.

        Raises `StoreError` when the system gives no thread: a lease that nobody watches is none.
        """
        if self._started:
            return
        with self._lock:
            if not self._started:
                self._linger = _LINGER_TICKS
                self._start()
                self._started = True

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name="turnlock-watchdog", daemon=True).start()
        except RuntimeError as error:
            # At the interpreter's end there are no new threads (from Python 3.12 on), and nobody
            # else in this process to wait; those of other processes pass the limit by themselves.
            if threading.main_thread().is_alive():
                why = f"its watchdog has no thread: {error}"
                raise StoreError("watchdog", "start", why, "raise the limit of threads") from error

    def put_off(self, job: Callable[[], object]) -> None:
        """Run a job at the next tick that no thread could be had for now."""
        self._put_off.append(job)
        self.start()

    def rest(self) -> None:
        """End the thread as soon as there is nothing to watch; the next lease starts another."""
        self._linger = -1
        self._nudge.set()

    def expect(self, deadline: float) -> None:
        """A deadline may be earlier than the thread means to wake."""
        if deadline < self._wakes_at:
            self._nudge.set()

    def _run(self) -> None:
        idle = 0
        verified = self._clock.monotonic()
        while True:
            looked = self._clock.monotonic()
            verify = looked - verified >= TICK
            verified = looked if verify else verified
            with _going_on():
                idle = 0 if self._look(looked, verify=verify) else idle + 1
                if idle > self._linger and self._ends():
                    return
            with _going_on():
                self._sleep(looked, verified + TICK)

    def _ends(self) -> bool:
        """Whether the thread may go: a process may open many stores, and close none."""
        with self._lock:
            # First this, then the look: a lease that comes in between finds no thread, or is seen.
            self._started = False
            ends = False
            try:
                ends = not (self._leases() or self._put_off)
            finally:
                self._started = not ends
            return ends

    def _look(self, now: float, *, verify: bool) -> bool:
        """Revoke what is overdue; whether there is anything to come back for.

        In a frame of its own: what the thread still named while it sleeps would not be freed.
        """
        leases = self._leases()
        for due in overdue(leases, now):
            self._revoke(due)
        if leases and verify:
            self._verify(leases)
        if self._put_off and verify:
            self._run_put_off()
        return bool(leases or self._put_off)

    def _run_put_off(self) -> None:
        put_off, self._put_off = self._put_off, []
        for job in put_off:
            submit_or_run(job)

    def _sleep(self, looked: float, verify_at: float) -> None:
        self._nudge.clear()
        # Announced before the deadlines are read: a lease that comes later sees it, and nudges.
        # Only if it is due before the next tick: thousands that get on would leave no rest.
        self._wakes_at = verify_at
        earliest = min((deadline_of(lease)[0] for lease in self._writable()), default=None)
        # A deadline in between puts no verification off: a lease may be renewed by it in time.
        self._wakes_at = wakes_at = min(verify_at, earliest or math.inf)
        if self._clock.wait(self._nudge, max(0.0, wakes_at - self._clock.monotonic())):
            return
        late = self._clock.monotonic() - wakes_at
        if late > GAP:
            for lease in self._writable():
                give_back(lease, gap=late, slept=max(0.0, wakes_at - looked))
            self._on_gap(late)

    def _writable(self) -> list[Lease]:
        return [lease for lease in self._leases() if lease.state in WRITABLE]
