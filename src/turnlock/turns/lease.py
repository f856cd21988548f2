"""The lease: what a holder has, and the states that it goes through.

::

    HELD ──────────► ENDING ─────────► RELEASED
      │                │
      └──► REVOKING ◄──┘   the fence is being put up; nothing is written from here on
              │
              ▼
           REVOKED         the fence is up: final, whatever the holder still does

    any ──► FORKED         this is a child process; the lease is its parent's

A lease never goes back: a torn-down holder cannot hold again, it has to take a new lease. A move
that the table does not allow is refused and changes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from enum import Enum
from typing import Any

from ..backends import Backend, BackendLease
from ..errors import LeaseRevoked
from ..session import SessionKey
from .queue import Ticket

logger = logging.getLogger("turnlock")


class State(Enum):
    # The default hashes the name, in Python; leases look states up on every step.
    __hash__ = object.__hash__

    HELD = "held"
    ENDING = "ending"
    REVOKING = "revoking"
    REVOKED = "revoked"
    RELEASED = "released"
    FORKED = "forked"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.HELD: frozenset({State.ENDING, State.REVOKING, State.FORKED}),
    State.ENDING: frozenset({State.RELEASED, State.REVOKING, State.FORKED}),
    State.REVOKING: frozenset({State.REVOKED, State.FORKED}),
    State.REVOKED: frozenset({State.FORKED}),
    State.RELEASED: frozenset({State.FORKED}),
    State.FORKED: frozenset(),
}

WRITABLE = frozenset({State.HELD, State.ENDING})


class Call:
    """One model call or stream: due when it has made no progress by ``deadline``.

    ``end`` ends it, whatever it waits for: called from any thread when the lease is lost or given
    back while the call is open. What it raises is logged, and changes nothing.
    """

    __slots__ = ("deadline", "end", "what")

    def __init__(self, what: str, deadline: float, end: Callable[[], object] | None = None) -> None:
        self.what = what
        self.deadline = deadline
        self.end = end


class Lease:
    """A held session. All times are of the monotonic clock, in seconds.

    ``frames`` gives the holder's stack, oldest call first; ``on_revoked`` are called once, when the
    fence is up; ``is_orphan`` says whether the holder can never come to its end.
    """

    def __init__(
        self,
        session: SessionKey,
        turn_id: str,
        backend: Backend[Any],
        held: BackendLease,
        ticket: Ticket,
        *,
        taken: float,
        max_hold: float,
        max_stall: float | None,
        frames: Callable[[], list[str]],
        is_turn: bool,
    ) -> None:
        self.session = session
        self.turn_id = turn_id
        self.backend = backend
        self.held = held
        self.ticket = ticket
        self.taken = taken
        self.max_hold = max_hold
        self.max_stall = max_stall
        self.frames = frames
        self.is_turn = is_turn
        self.progressed = taken
        self.phase = ""
        self.calls: dict[int, Call] = {}
        self.state = State.HELD
        self.reason = ""
        self.revoked_at = 0.0
        self.fence_hangs = False
        self.given_back = 0.0
        self.on_revoked: list[Callable[[], object]] = []
        self.is_orphan: Callable[[], bool] = _never
        self.handed_over: threading.Event | None = None
        self.provider: str | None = None
        self.model: str | None = None
        self.api: str | None = None
        self._lock = threading.Lock()

    @property
    def label(self) -> str:
        return str(self.session)

    @property
    def is_revoked(self) -> bool:
        return self.state in (State.REVOKING, State.REVOKED)

    @property
    def is_over_for_holder(self) -> bool:
        """Whether the holder's block has nothing left to end."""
        return self.state not in WRITABLE

    def move(self, state: State, *, reason: str = "") -> bool:
        """Go to a state if the table allows it; whether it did."""
        with self._lock:
            if state not in TRANSITIONS[self.state]:
                return False
            # The state last: who sees it, without the lock, may ask for what goes with it.
            if reason:
                self.reason = reason
            if state is State.REVOKING:
                self.handed_over = threading.Event()
            self.state = state
            return True

    def check_writable(self, now: float) -> None:
        """Raises `LeaseRevoked` unless the holder may write."""
        if self.state not in WRITABLE:
            raise self.revoked_error(now)

    def revoked_error(self, now: float) -> LeaseRevoked:
        reason = "forked" if self.state is State.FORKED else self.reason or "released"
        end = self.revoked_at or now
        return LeaseRevoked(
            self.label, turn_id=self.turn_id, held=max(0.0, end - self.taken), reason=reason
        )

    def tell_holder(self) -> None:
        """Call back, once. The holder may queue for the session again from here on.

        Its calls first: a task that is woken closes its client, and a socket that is closed wakes
        no thread.
        """
        self.ticket.owner = None
        self.end_calls()
        with self._lock:
            callbacks, self.on_revoked = self.on_revoked, []
        for callback in callbacks:
            self._call(callback)

    def end_calls(self) -> None:
        """End the calls that are still open, each once: their turn is over."""
        for identity in list(self.calls):
            call = self.calls.pop(identity, None)
            if call is not None and call.end is not None:
                self._call(call.end)

    def _call(self, callback: Callable[[], object]) -> None:
        """Call what is not ours. Whatever it raises, the lease has to go on to its end."""
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - it would keep the session from all others
            logger.warning(
                "session %s: what the end of turn %s was to end raised %r",
                self.label,
                self.turn_id,
                error,
            )


def _never() -> bool:
    return False
