"""A lease on a row: its fence, and how long this process may rely on it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

from ...session import SessionKey
from ...transcript.tail import Tail
from .. import Superseded


class PostgresLease:
    """``epoch`` is the session's as this lease's take has raised it: the fence. ``gateway`` says
    whose take that was, as in a database that loses commits another's may get the same epoch. Of
    both the turn's opening has its id, so that whoever supersedes the lease knows it.

    ``trusted_until`` is of this host's monotonic clock. Until then the database gives the session
    to nobody because the lease has run out. ``doubted``: a notification named the session, so that
    the next renewal asks. ``unwatch`` ends that, once there is such a watch. ``mutex`` serialises
    the calls on one lease.
    """

    def __init__(
        self,
        session: SessionKey,
        session_id: int,
        epoch: int,
        gateway: str,
        owed: tuple[Superseded, ...],
        max_hold: float | None,
    ) -> None:
        self.session = session
        self.session_id = session_id
        self.epoch = epoch
        self.gateway = gateway
        self.owed = owed
        self.max_hold = max_hold
        self.tail = Tail()
        self.trusted_until = 0.0
        self.renew_at = 0.0
        self.doubted = False
        self.unwatch: Callable[[], None] | None = None
        self.released = False
        self.mutex = threading.Lock()

    @property
    def opening(self) -> str:
        return opening_id(self.gateway, self.epoch)

    def doubt(self) -> None:
        self.doubted = True

    def watched(self, unwatch: Callable[[], None]) -> None:
        """The lease hears of its session from now on."""
        self.unwatch = unwatch
        if self.released:
            # By another thread, which did not see the watch.
            self.over()

    def lost(self) -> None:
        """The session is another's. Until its turn is over, every look asks for it again."""
        self.over()
        self.doubted = True

    def over(self) -> None:
        """Nobody need hear of the session for this lease any more."""
        unwatch, self.unwatch = self.unwatch, None
        if unwatch is not None:
            unwatch()


def opening_id(gateway: str, epoch: int) -> str:
    return hashlib.blake2b(f"{gateway} {epoch}".encode(), digest_size=8).hexdigest()


class LeaseTime:
    """How long a lease lasts without a renewal, and what this side makes of it. Seconds.

    The database counts from when it has the message, this side from before it was sent, and less:
    clocks run at different speeds, and the holder has to be told before the session is another's.
    ``patience``: how long a renewal waits for its answer. When it is begun as late as a look can be
    (a third of the time, and a second), what is left is enough for one that hangs and another.
    """

    def __init__(self, seconds: float) -> None:
        if seconds <= 0:
            raise ValueError(f"a lease of {seconds} s would be over when it begins")
        self.seconds = seconds
        self.margin = min(1.0, seconds / 5)
        self.patience = seconds / 5

    def extend(self, lease: PostgresLease, started: float) -> None:
        """The database has extended the lease, by a message that was begun at ``started``."""
        lease.trusted_until = started + self.seconds - self.margin
        lease.renew_at = started + self.seconds / 3
