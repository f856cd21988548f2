"""The FIFO of a process: threads and tasks in one queue per session, the head alone may hold.

A queue exists while somebody is in it, so ten thousand sessions leave nothing behind. A ticket
that is given up, granted or not, is left; leaving the head's place grants the next one. Nothing
in here blocks or waits: a grant calls ``on_grant`` of the ticket, which wakes a thread or a task.
That says True when nobody is there any more to take it; then the next one is granted.

A signal's handler may raise anywhere in here, on the main thread. So every call may be repeated,
and `leave` sets right what another call left half done: an empty queue is none, and a head that was
not woken is woken, twice if need be.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple


class Awaited(NamedTuple):
    """Who holds. ``taken`` is of the monotonic clock; None where it is unknown."""

    pid: int | None
    turn_id: str | None
    taken: float | None
    limit: float | None


class Ticket:
    """A place in the queue.

    ``awaits`` says, where the head itself waits for the session, for whom and since when he has it.
    """

    __slots__ = ("awaits", "granted", "identity", "on_grant", "owner", "turn_id", "woken")

    def __init__(
        self, identity: Hashable, owner: object, turn_id: str, on_grant: Callable[[], object]
    ) -> None:
        self.identity = identity
        self.owner = owner
        self.turn_id = turn_id
        self.on_grant = on_grant
        self.granted = False
        self.woken = False
        self.awaits: Awaited | None = None


class Queues:
    """All queues of a process."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[Hashable, deque[Ticket]] = {}

    def enter_if_free(self, ticket: Ticket) -> bool:
        """Join a queue in which nobody is, at its head; whether there was none."""
        with self._lock:
            return self._join_at_head(ticket)

    def enter(self, ticket: Ticket) -> Ticket | None:
        """Join the queue. Returns the head if it has the same owner, and then does not join."""
        with self._lock:
            if self._join_at_head(ticket):
                return None
            queue = self._queues[ticket.identity]
            if queue[0].owner == ticket.owner:
                return queue[0]
            queue.append(ticket)
            return None

    def leave(self, ticket: Ticket) -> None:
        """Give the place up; a second call does nothing."""
        left: Ticket | None = ticket
        # Not by a call for each: a closed loop may have more waiters than the stack has room for.
        while left is not None:
            head = self._head_without(left)
            left = head if head is not None and _declines(head) else None

    def _head_without(self, ticket: Ticket) -> Ticket | None:
        """Who is granted, once the ticket is not there; None when nobody is."""
        with self._lock:
            # What is to be woken holds the lease, and the lease its ticket: a cycle, and with it
            # open descriptors, until the collector runs.
            ticket.on_grant = _nothing
            queue = self._queues.get(ticket.identity)
            if queue is None:
                return None
            if ticket in queue:
                queue.remove(ticket)
            if not queue:
                del self._queues[ticket.identity]
                return None
            head = queue[0]
            head.granted = True
            return head

    def give_up(self, ticket: Ticket) -> bool:
        """Leave unless the ticket was granted; whether it left."""
        with self._lock:
            queue = self._queues.get(ticket.identity)
            if ticket.granted or queue is None or ticket not in queue:
                return False
            queue.remove(ticket)
            return True

    def _join_at_head(self, ticket: Ticket) -> bool:
        if self._queues.get(ticket.identity):
            return False
        ticket.granted = ticket.woken = True
        self._queues[ticket.identity] = deque((ticket,))
        return True

    def head(self, identity: Hashable) -> Ticket | None:
        """Who holds, or is about to."""
        with self._lock:
            queue = self._queues.get(identity)
            return queue[0] if queue else None

    def turn_ids(self, identity: Hashable) -> list[str]:
        """The turns in the queue, the head first."""
        with self._lock:
            return [ticket.turn_id for ticket in self._queues.get(identity, ())]


def _declines(head: Ticket) -> bool:
    """Wake who was granted, unless that is done; whether nobody is there."""
    if head.woken:
        return False
    if head.on_grant() is True:
        return True
    head.woken = True
    return False


def _nothing() -> None:
    pass


queues = Queues()
