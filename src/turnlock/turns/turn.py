"""What a turn can do, however it is called: what `Turn` and `AsyncTurn` have in common.

Everything in here may block on storage. The thread's face calls it as it is, the task's face on a
worker.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..backends import Lost, give_back
from ..errors import LeaseRevoked, LockPathError, StoreError, TranscriptError
from ..events import TurnProgress
from ..transcript.entries import Entry, Failure, end
from ..transcript.history import Message, messages
from ..transcript.jsonl import entries_of
from .lease import Call, Lease, State
from .queue import queues
from .revoking import HAND_OVER_TIMEOUT, report_reclaimed, retire_lost
from .runtime import Runtime
from .writer import ERRORS, Ended, Writer

logger = logging.getLogger("turnlock")

_STORAGE_ERRORS = (StoreError, LockPathError, TranscriptError)
_WHAT_MAX = 200


class TurnCore:
    """One turn's lease and writer, and how the turn ends."""

    def __init__(self, runtime: Runtime, lease: Lease) -> None:
        self.runtime = runtime
        self.lease = lease
        # None for a turn that came to its end and had written nothing.
        self._made: dict[str, Writer | None] = {}

    @property
    def _writer(self) -> Writer:
        """Made at the first need: a lock without turns, and a turn that only reads, write nothing.

        There is one, also for two appends that are a turn's first at the same time, in two threads.
        (`functools.cached_property` has no lock since Python 3.12.) Raises `Ended`.
        """
        writer = self._made.get("writer") or self._made.setdefault("writer", self._make_writer())
        if writer is None:
            raise Ended
        return writer

    def _make_writer(self) -> Writer:
        lease, runtime = self.lease, self.runtime
        return Writer(
            lease.backend,
            lease.held,
            runtime.clock,
            label=lease.label,
            turn_id=lease.turn_id,
            on_marked=lambda failure: runtime.marked(lease.label, failure),
        )

    def settle(self) -> None:
        """Write what predecessors owe, before the turn begins. A full disk does not stop it."""
        held = self.lease.held
        unfinished = held.tail.open_turn
        if not held.owed and not held.tail.owes:
            return
        try:
            self._writer.settle()
        except Lost:
            # Somebody took the session in this very moment; the turn's first act will say so.
            pass
        except _STORAGE_ERRORS as error:
            owed = [turn.turn_id for turn in held.tail.earlier]
            owed += [unfinished.turn_id] if unfinished is not None else []
            owed += [turn.turn_id for turn in held.owed]
            self.runtime.marker_owed(self.lease.label, next(filter(None, owed), "unknown"), error)
        report_reclaimed(self.runtime, held, self.lease.label)

    def append(self, entries: Iterable[Mapping[str, Any]]) -> list[str]:
        self._check_writable()
        try:
            ids = self._writer.append(entries)
        except Lost:
            raise self._lost() from None
        except Ended:
            raise self.revoked_error() from None
        self.progress("append")
        return ids

    def entries(self) -> Iterator[Entry]:
        return entries_of(self.lease.backend.read(self.lease.session), self.lease.label)

    def messages(self) -> list[Message]:
        return messages(self.entries())

    def check(self) -> None:
        """Raises `LeaseRevoked` unless the turn still holds its session."""
        self._check_writable()
        if not self.lease.backend.holds(self.lease.held):
            raise self._lost()

    def check_revoked(self) -> None:
        """As `check`, but only what this process knows; no storage is asked."""
        self._check_writable()

    def open(self) -> int:
        """Make the opening durable; the turn's epoch."""
        self._check_writable()
        try:
            self._writer.open()
        except Lost:
            raise self._lost() from None
        except Ended:
            raise self.revoked_error() from None
        return self._writer.epoch

    @property
    def epoch(self) -> int:
        try:
            return self._writer.epoch
        except Ended:
            raise self.revoked_error() from None

    def progress(self, what: str) -> None:
        if what:
            check_text("what", what)
        self.lease.progressed = self.runtime.clock.monotonic()
        if what:
            self._enter(what[:_WHAT_MAX])

    def _enter(self, phase: str) -> None:
        lease = self.lease
        if phase != lease.phase:
            lease.phase = phase
            self.runtime.events.emit(TurnProgress(lease.label, lease.turn_id, phase))

    # Calls under watch

    def begin_call(
        self, what: str, limit: float | None, end: Callable[[], object] | None = None
    ) -> Call:
        check_text("what", what)
        now = self.runtime.clock.monotonic()
        self._enter(what)
        call = Call(what, _deadline(now, limit), end)
        self.lease.calls[id(call)] = call
        self.runtime.watchdog.expect(call.deadline)
        return call

    def call_progressed(self, call: Call, limit: float | None) -> None:
        now = self.runtime.clock.monotonic()
        self.lease.progressed = now
        call.deadline = _deadline(now, limit)
        self.runtime.watchdog.expect(call.deadline)

    def until_over(self, end: Callable[[], object]) -> Call:
        """A call without limits: all that it wants is to be ended with the turn."""
        call = Call("", math.inf, end)
        self.lease.calls[id(call)] = call
        return call

    def end_call(self, call: Call) -> None:
        self.lease.calls.pop(id(call), None)

    # The end

    def succeed(self) -> None:
        """The terminal entry, if the turn wrote anything; then release."""
        lease = self.lease
        if not lease.move(State.ENDING):
            self.leave()
            raise self.revoked_error()
        terminated = released = False
        try:
            terminated = self._terminate()
        except Lost:
            raise self._lost() from None
        except _STORAGE_ERRORS as problem:
            self.runtime.marker_owed(lease.label, lease.turn_id, problem)
            raise
        finally:
            released = self._release(failed=False, ended=terminated)
        if not (terminated or released):
            # The revoker was quicker. Of a turn that wrote nothing, it has the word.
            raise self.revoked_error()

    def _terminate(self) -> bool:
        """Write the terminal entry, if the turn wrote anything; whether it did."""
        # In one step: a first append of another thread is before this, or finds the turn ended.
        writer = self._made.setdefault("writer", None)
        return writer is not None and writer.terminate(end(self.lease.turn_id, self._held()))

    def discard(self) -> None:
        """End a turn that nobody wants any more, before its block began."""
        try:
            self.succeed()
        except (LeaseRevoked, *_STORAGE_ERRORS) as error:
            logger.warning("session %s: a turn that was given up: %s", self.lease.label, error)

    def fail(self, reason: str, error: str) -> None:
        """The error marker; then release. A marker that cannot be written is owed."""
        lease = self.lease
        if not lease.is_turn:
            # A lock without turns writes nothing, whatever its block raised.
            self.discard()
            return
        if not lease.move(State.ENDING):
            self.leave()
            return
        failure = Failure(
            lease.turn_id,
            reason,
            self.runtime.redacted(error) or ERRORS.get(reason, reason),
            self._held(),
            lease.phase,
            lease.provider,
            lease.model,
            lease.api,
        )
        try:
            self._writer.fail(failure)
            self.runtime.marked(lease.label, failure)
        except Lost:
            self._lost()
        except _STORAGE_ERRORS as problem:
            self.runtime.marker_owed(lease.label, lease.turn_id, problem)
        finally:
            self._release(failed=True, ended=True)

    def abandon(self) -> None:
        """End what an exception from outside (of a signal's handler) cut short in the middle.

        Every step of the end may be done twice, so this does again what is not known to be done.
        """
        if self.lease.state is State.HELD:
            self.fail("cancelled", ERRORS["cancelled"])
        elif self.lease.state in (State.ENDING, State.RELEASED):
            self._release(failed=True, ended=True)
        else:
            self.runtime.left(self.lease)

    def leave(self) -> None:
        """The holder of a revoked lease has come to its end.

        Waits, for a moment at most, until the revoker is through: whoever catches the block's
        `LeaseRevoked` finds the marker in the transcript and the revocation in the statistics.
        """
        self.runtime.left(self.lease)
        if self.lease.handed_over is not None:
            self.runtime.clock.wait(self.lease.handed_over, HAND_OVER_TIMEOUT)
        # Also where the revoker hangs on a disk: this holder has left, and may queue again.
        self.lease.ticket.owner = None

    def revoked_error(self) -> LeaseRevoked:
        """The error of a revoked block.

        Raise it without naming it: a name in a frame that its traceback holds would keep the turn,
        and its descriptors, until the collector runs.
        """
        return self.lease.revoked_error(self.runtime.clock.monotonic())

    def _check_writable(self) -> None:
        self.lease.check_writable(self.runtime.clock.monotonic())

    def _held(self) -> float:
        return self.runtime.clock.monotonic() - self.lease.taken

    def _lost(self) -> LeaseRevoked:
        retire_lost(self.runtime, self.lease)
        return self.revoked_error()

    def _release(self, *, failed: bool, ended: bool) -> bool:
        """Give the session back; False when it was taken before that.

        Then it waits as `leave` does: a holder that goes on at once must find its place in the
        queue given up. ``ended``: nobody can have taken from the turn what it still needed.
        """
        had_it, released = True, False
        # Still ENDING while it may hang on a disk: so long the watchdog can take the session.
        try:
            had_it = self._give_back()
        finally:
            if not (had_it or ended):
                retire_lost(self.runtime, self.lease)
            released = self.lease.move(State.RELEASED)
            if released:
                # What would call back into the turn also keeps it, and its descriptors, alive.
                self.lease.on_revoked.clear()
                self.lease.end_calls()
                self.runtime.ended(self.lease, failed=failed)
            else:
                self.leave()
            if self.lease.state is State.RELEASED:
                queues.leave(self.lease.ticket)
        return released

    def _give_back(self) -> bool:
        """Whether the session was still there to be given back."""
        backend, held = self.lease.backend, self.lease.held
        writer = self._made.get("writer")
        if writer is None or writer.owes_alone:
            return give_back(backend, held)
        return backend.release(held)


def check_text(name: str, value: object) -> None:
    """Raises TypeError unless it is text: it would show only when a marker is written of it."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is text, not {value!r:.100}: give str() of it")


def _deadline(now: float, limit: float | None) -> float:
    return math.inf if limit is None else now + limit
