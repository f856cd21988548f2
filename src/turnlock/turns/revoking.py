"""Revocation: fence, marker, hand over, and the proof that it worked.

1. The lease goes to REVOKING: from here nothing more of it is written by this process.
2. The backend puts a claim of ours in place of the holder's: the fence is up, for every process.
3. The holder is told: its task is cancelled, its callbacks called.
4. The marker is written, under our own lease. If it cannot be, it is owed, and the session is
   handed over all the same.
5. Our lease is released and the queue goes on.
6. Verified: the old lease must have nothing any more. Then it is counted and logged, with where
   the holder hangs.

A fence that cannot be put up (a stopped process in the guard, a full table of files) is tried
again; the holder is told at once, since this process refuses its writes anyhow. Of one that hangs,
on a frozen disk, it is told at the watchdog's second tick. Whatever else fails on the way, a lease
that was moved to REVOKING is fenced in the end, and its queue goes on.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..backends import Freed, Lost, TakeRequest
from ..clock import SystemClock
from ..errors import LockPathError, StoreError, TranscriptError, seconds, why_of
from ..events import LockReclaimed, RevocationFailed, TurnRevoked
from ..transcript.entries import Failure
from .lease import Lease, State
from .queue import queues
from .watchdog import TICK
from .workers import submit_or_run, workers
from .writer import ERRORS, Writer

if TYPE_CHECKING:
    from ..backends import Backend, BackendLease
    from ..session import SessionKey
    from .runtime import Runtime

logger = logging.getLogger("turnlock")

# The revoker's own hold limit, should it die or hang on a disk between fence and release: then a
# waiter supersedes it, and takes the marker over that it owed.
REVOKER_MAX_HOLD = 2.0
# How long the queue waits for the marker.
MARKER_TIMEOUT = 1.0
# How long a command does, which nobody queues behind: a slow disk is no reason to call it owed.
COMMAND_PATIENCE = 30.0
# A little more, for those who wait for the revoker.
HAND_OVER_TIMEOUT = 1.5
_FRAMES_LOGGED = 12
# How far back the marker of a turn is looked for that somebody else superseded.
_TURNS_SEARCHED = 16
_STORAGE_ERRORS = (StoreError, LockPathError, TranscriptError)


class Markers(enum.Enum):
    """What became of the error markers that a lease was taken to write."""

    NONE = "none"
    WRITTEN = "written"
    OWED = "owed"
    # Somebody else took the lease first, and owes them now.
    LOST = "lost"
    # Nobody waited for the end of it.
    UNFINISHED = "unfinished"


class Settlement(NamedTuple):
    """``released``: whether the lock is free. ``why``: what went wrong, without the path."""

    markers: Markers
    released: bool
    why: str = ""

    @property
    def is_unfinished(self) -> bool:
        return self.markers is Markers.UNFINISHED


def revoke(runtime: Runtime, lease: Lease, reason: str, *, deadline: float | None = None) -> bool:
    """Take a lease of this process from its holder; whether this call did it."""
    if not lease.move(State.REVOKING, reason=reason):
        return False
    carry_out(runtime, lease, deadline=deadline)
    return True


def was_revoked(runtime: Runtime, lease: Lease) -> bool:
    """Whether somebody else took the lease from its holder; waits a moment for it to be through."""
    over = lease.handed_over
    return over is not None and runtime.clock.wait(over, HAND_OVER_TIMEOUT)


def revoke_all(runtime: Runtime, reason: str, patience: float | None = None) -> bool:
    """Take every lease of a store from its holder, each in a worker of its own.

    One that somebody else is revoking already is waited for, a moment. Whether all have returned
    within ``patience`` seconds; None waits for them.
    """
    returned = [_revoke_apart(runtime, lease, reason) for lease in runtime.leases()]
    deadline = None if patience is None else SystemClock.monotonic() + patience
    return all(
        one.wait(None if deadline is None else max(0.0, deadline - SystemClock.monotonic()))
        for one in returned
    )


def _revoke_apart(runtime: Runtime, lease: Lease, reason: str) -> threading.Event:
    returned = threading.Event()

    def job() -> None:
        try:
            revoke(runtime, lease, reason) or was_revoked(runtime, lease)
        finally:
            returned.set()

    submit_or_run(job)
    return returned


def carry_out(runtime: Runtime, lease: Lease, *, deadline: float | None = None) -> None:
    """Revoke a lease that was moved to REVOKING."""
    _fence(runtime, lease, _stack(lease), deadline)


def retire_lost(runtime: Runtime, lease: Lease) -> None:
    """End a lease that has lost its claim already: another process took it, or a person did."""
    # Read before the lease is moved: from then on its holder may be told the reason.
    reason = reason_in_transcript(lease.backend, lease.session, lease.turn_id, lease.held.opening)
    if not lease.move(State.REVOKING, reason=reason or "superseded"):
        return
    _hand_over(runtime, lease, _stack(lease), None)


def ended_as_lost(runtime: Runtime, lease: Lease) -> bool:
    """End a lease of a holder at work if its claim is gone; whether it was."""
    # The state last: a holder that gave its claim back is at work no more.
    if not _is_fenced(lease) or lease.state is not State.HELD:
        return False
    retire_lost(runtime, lease)
    return True


def _stack(lease: Lease) -> tuple[str, ...]:
    """Where the holder hangs. It is for the log, and no revocation fails for it."""
    try:
        return tuple(lease.frames()[-_FRAMES_LOGGED:])
    except Exception as error:  # noqa: BLE001 - the holder runs on while its stack is read
        logger.warning("session %s: its holder's stack cannot be read: %r", lease.label, error)
        return ()


def _fence(runtime: Runtime, lease: Lease, stack: tuple[str, ...], deadline: float | None) -> None:
    reason = lease.reason
    request = TakeRequest(None, REVOKER_MAX_HOLD, header=False)
    ours: BackendLease | None = None
    is_fenced = False
    try:
        ours = lease.backend.supersede(lease.session, request, lease=lease.held, reason=reason)
        is_fenced = True
    except Freed as freed:
        is_fenced = True
        runtime.marker_owed(lease.label, lease.turn_id, freed)
    except Exception as error:  # noqa: BLE001 - no memory, a bug: nobody else would try again
        _say_unfenced(runtime, lease, error)
    finally:
        if not is_fenced:
            _try_again(runtime, lease, stack, deadline)
    if is_fenced:
        _hand_over(runtime, lease, stack, deadline, ours)


def _say_unfenced(runtime: Runtime, lease: Lease, error: Exception) -> None:
    text = runtime.redacted(str(error) or type(error).__name__)
    runtime.events.emit(RevocationFailed(lease.label, lease.turn_id, lease.reason, text))
    tell_unfenced(runtime, lease, text)


def tell_unfenced(runtime: Runtime, lease: Lease, why: str) -> None:
    """Tell a holder whose fence is not up yet; from here on it writes nothing all the same."""
    if lease.state is not State.REVOKING:
        return
    logger.error("session %s: turn %s cannot be fenced yet: %s", lease.label, lease.turn_id, why)
    lease.revoked_at = runtime.clock.monotonic()
    lease.tell_holder()


def _try_again(
    runtime: Runtime, lease: Lease, stack: tuple[str, ...], deadline: float | None
) -> None:
    try:
        workers.submit(lambda: _fence_again(runtime, lease, stack, deadline))
    except RuntimeError:
        # There is no thread for it, but the watchdog has one.
        runtime.watchdog.put_off(lambda: _fence(runtime, lease, stack, deadline))


def _fence_again(
    runtime: Runtime, lease: Lease, stack: tuple[str, ...], deadline: float | None
) -> None:
    runtime.clock.sleep(TICK)
    _fence(runtime, lease, stack, deadline)


def _hand_over(
    runtime: Runtime,
    lease: Lease,
    stack: tuple[str, ...],
    deadline: float | None,
    ours: BackendLease | None = None,
) -> None:
    """What follows the fence: tell, mark, release, go on, verify, report."""
    now = runtime.clock.monotonic()
    lease.revoked_at = lease.revoked_at or now
    try:
        try:
            _tell_and_mark(runtime, lease, stack, now, ours)
        finally:
            queues.leave(lease.ticket)
        _report(runtime, lease, stack, now, deadline)
    finally:
        if lease.handed_over is not None:
            lease.handed_over.set()


def _tell_and_mark(
    runtime: Runtime, lease: Lease, stack: tuple[str, ...], now: float, ours: BackendLease | None
) -> None:
    lease.move(State.REVOKED)
    runtime.now_zombie(lease, stack)
    lease.tell_holder()
    if ours is not None:
        settle_and_release(
            runtime, lease.backend, ours, lease.label, details=_failure(lease, now - lease.taken)
        )


def _report(
    runtime: Runtime, lease: Lease, stack: tuple[str, ...], now: float, deadline: float | None
) -> None:
    verified = _is_fenced(lease)
    late = 0.0 if deadline is None else now - deadline
    held = now - lease.taken
    runtime.events.emit(
        TurnRevoked(lease.label, lease.turn_id, lease.reason, held, lease.phase, late, stack)
    )
    logger.warning(
        "revoked turn %s: session=%s held=%.3fs reason=%s phase=%s late=%.1fms fenced=%s at:\n%s",
        lease.turn_id,
        lease.label,
        held,
        lease.reason,
        lease.phase or "-",
        late * 1000,
        verified,
        "\n".join(f"    {frame}" for frame in stack) or "    (no stack)",
    )


def settle_and_release(
    runtime: Runtime,
    backend: Backend[BackendLease],
    held: BackendLease,
    label: str,
    *,
    details: Failure | None = None,
    patience: float = MARKER_TIMEOUT,
    then: Callable[[Settlement], object] | None = None,
) -> Settlement:
    """Write what was owed to a lease that was taken for nothing else, and release it.

    What cannot be written stays owed by a dead claim. Returns after ``patience`` seconds when the
    disk hangs; the job goes on without its caller, and calls ``then`` at its end in either case.
    """
    done = threading.Event()
    ended: list[Settlement] = []

    def job() -> None:
        try:
            settlement = _settle_and_release(runtime, backend, held, label, details)
            if then is not None:
                then(settlement)
            ended.append(settlement)
        finally:
            done.set()

    submit_or_run(job)
    runtime.clock.wait(done, patience)
    if ended:
        return ended[0]
    why = f"it takes longer than {seconds(patience)}: the disk is slow, or hangs"
    logger.error("session %s: its marker is not written yet: %s", label, why)
    return Settlement(Markers.UNFINISHED, released=False, why=why)


def _settle_and_release(
    runtime: Runtime,
    backend: Backend[BackendLease],
    held: BackendLease,
    label: str,
    details: Failure | None,
) -> Settlement:
    marked: list[Failure] = []

    def on_marked(failure: Failure) -> None:
        marked.append(failure)
        runtime.marked(label, failure)

    writer = Writer(
        backend,
        held,
        runtime.clock,
        label=label,
        turn_id=None,
        on_marked=on_marked,
        details={details.turn_id: details} if details else None,
    )
    give_back: Callable[[BackendLease], object] = backend.release
    markers, why = Markers.NONE, ""
    try:
        writer.settle()
        markers = Markers.WRITTEN if marked else Markers.NONE
    except Lost:
        markers, why = Markers.LOST, "somebody else took it before its marker was written"
        logger.warning("session %s: %s", label, why)
    except _STORAGE_ERRORS as error:
        markers, why = Markers.OWED, runtime.redacted(why_of(error))
        owed = next((turn.turn_id for turn in held.owed if turn.turn_id), None)
        runtime.marker_owed(label, details.turn_id if details else owed or "", error)
        # Of a turn that wrote nothing, our claim is the only record: it stays, for the next taker.
        give_back = backend.leave_owing if owed else backend.release
    except BaseException:
        # No memory, a bug: our claim must not stay, as that of a holder who lives.
        backend.leave_owing(held)
        raise
    try:
        released = give_back(held) is True
    except _STORAGE_ERRORS as error:
        logger.error("session %s: the lock could not be released: %s", label, error)
        return Settlement(markers, released=False, why=why or why_of(error))
    return Settlement(markers, released, why)


def report_reclaimed(runtime: Runtime, held: BackendLease, label: str) -> None:
    """Count and log what a take found dead."""
    for turn in held.owed:
        runtime.events.emit(LockReclaimed(label, turn.pid, turn.turn_id, turn.reason))
        logger.warning(
            "took over session %s: pid=%s turn=%s reason=%s",
            label,
            turn.pid,
            turn.turn_id,
            turn.reason,
        )


def _failure(lease: Lease, held: float) -> Failure:
    return Failure(
        lease.turn_id,
        lease.reason,
        ERRORS.get(lease.reason, f"the turn was revoked: {lease.reason}"),
        held,
        lease.phase,
        lease.provider,
        lease.model,
        lease.api,
    )


def _is_fenced(lease: Lease) -> bool:
    try:
        return not lease.backend.holds(lease.held)
    except _STORAGE_ERRORS:
        return False


def reason_in_transcript(
    backend: Backend[Any], session: SessionKey, turn_id: str, opening: str | None
) -> str | None:
    """Why another process took the session from a turn, as the marker that it wrote says."""
    try:
        seen = backend.end(session, turns=_TURNS_SEARCHED).turn(turn_id, opening)
    except _STORAGE_ERRORS:
        return None
    return seen.reason if seen is not None else None
