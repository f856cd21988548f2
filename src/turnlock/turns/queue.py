"""The FIFO of a process: threads and tasks in one queue per session, the head alone may hold.

A queue exists while somebody is in it, so ten thousand sessions leave nothing behind. A ticket
that is given up, granted or not, is left; leaving the head's place grants the next one. Nothing
in here blocks or waits: a grant calls ``on_grant`` of the ticket, which wakes a thread or a task.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Hashable


class Ticket:
    """A place in the queue."""

    __slots__ = ("granted", "identity", "on_grant", "owner", "turn_id")

    def __init__(
        self, identity: Hashable, owner: object, turn_id: str, on_grant: Callable[[], None]
    ) -> None:
        self.identity = identity
        self.owner = owner
        self.turn_id = turn_id
        self.on_grant = on_grant
        self.granted = False


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
            if ticket.identity in self._queues:
                return False
            self._queues[ticket.identity] = deque((ticket,))
            ticket.granted = True
            return True

    def enter(self, ticket: Ticket) -> Ticket | None:
        """Join the queue. Returns the head if it has the same owner, and then does not join."""
        with self._lock:
            queue = self._queues.get(ticket.identity)
            if queue is None:
                self._queues[ticket.identity] = deque((ticket,))
                ticket.granted = True
                return None
            if queue[0].owner == ticket.owner:
                return queue[0]
            queue.append(ticket)
            return None

    def leave(self, ticket: Ticket) -> None:
        """Give the place up; a second call does nothing."""
        with self._lock:
            queue = self._queues.get(ticket.identity)
            if queue is None or ticket not in queue:
                return
            # What is to be woken holds the lease, and the lease its ticket: a cycle, and with it
            # open descriptors, until the collector runs.
            ticket.on_grant = _nothing
            was_head = queue[0] is ticket
            queue.remove(ticket)
            if not queue:
                del self._queues[ticket.identity]
                return
            successor = queue[0] if was_head else None
            if successor is not None:
                successor.granted = True
        if successor is not None:
            successor.on_grant()

    def give_up(self, ticket: Ticket) -> bool:
        """Leave unless the ticket was granted; whether it left."""
        with self._lock:
            queue = self._queues.get(ticket.identity)
            if ticket.granted or queue is None or ticket not in queue:
                return False
            queue.remove(ticket)
            return True

    def head(self, identity: Hashable) -> Ticket | None:
        """Who holds, or is about to."""
        with self._lock:
            queue = self._queues.get(identity)
            return queue[0] if queue else None

    def waiting(self, identity: Hashable) -> int:
        """How many wait behind the head."""
        with self._lock:
            return max(0, len(self._queues.get(identity, ())) - 1)


def _nothing() -> None:
    pass


queues = Queues()
