"""Races and other faults that are planted, to see that the simulation finds each."""

from __future__ import annotations

from typing import NamedTuple

from .package import Edit
from .runs import run


class Mutant(NamedTuple):
    name: str
    edits: tuple[Edit, ...]


def _mutant(name: str, module: str, old: str, new: str) -> Mutant:
    return Mutant(name, (Edit(f"turnlock.{module}", old, new),))


MUTANTS = (
    _mutant(
        "turns: a waiter that was cancelled leaves a ghost in the queue",
        "turns.queue",
        """            if ticket in queue:
                queue.remove(ticket)
""",
        """            if ticket is queue[0]:
                queue.remove(ticket)
""",
    ),
    _mutant(
        "turns: a grant that is told twice is taken twice",
        "turns.aio",
        """        if not self._may_begin():
            return
        core: TurnCore""",
        """        core: TurnCore""",
    ),
    _mutant(
        "turns: a released lease is let go of in the queue only when nobody waits",
        "turns.turn",
        """            if self.lease.state is State.RELEASED:
                queues.leave""",
        """            if not queues.turn_ids(self.lease.ticket.identity)[1:]:
                queues.leave""",
    ),
    _mutant(
        "turns: an append that comes while its turn ends is acknowledged and not written",
        "turns.writer",
        """        if self._closed:
            raise Ended
""",
        """        pass
""",
    ),
    _mutant(
        "memory: the fence is checked before the lock is taken, not in one step with the write",
        "backends.memory",
        """        with self._lock:
            if self._claims.get(lease.session) is not lease:
                raise Lost
            transcript = self._transcripts[lease.session]
""",
        """        if self._claims.get(lease.session) is not lease:
            raise Lost
        with self._lock:
            transcript = self._transcripts[lease.session]
            lease.tail = self._tail(lease)
""",
    ),
    _mutant(
        "files: the fence is checked before the guard is taken",
        "backends.files.backend",
        """        with self._transcripts.guard(place, transcript):
            self._claims.check(lease)
            found =""",
        """        self._claims.check(lease)
        with self._transcripts.guard(place, transcript):
            found =""",
    ),
    _mutant(
        "files: a superseder does not look again under the guard what the path names",
        "backends.files.claims",
        """        if named_file(self._files, place.lock) != wanted:
            return False
        newborn.rename_over""",
        """        newborn.rename_over""",
    ),
    _mutant(
        "files: release unlinks the path, whatever it names",
        "backends.files.claims",
        """        if not self.is_held(lease):
            return False
        try:
            self._files.unlink""",
        """        try:
            self._files.unlink""",
    ),
    _mutant(
        "files: acknowledged before it is durable",
        "backends.files.backend",
        """            if self._durable:
                self._make_durable(lease, lease.transcript)
""",
        "",
    ),
    _mutant(
        "files: the transcript's name is not made durable",
        "backends.files.backend",
        """                self._transcripts.make_name_durable(place)
""",
        """                pass
""",
    ),
    _mutant(
        "turns: the task's cancellation by a revocation is not taken back",
        "turns.aio",
        "            only_us = task.uncancel() <= self._cancelling\n",
        "            only_us = task.cancelling() - 1 <= self._cancelling\n",
    ),
    _mutant(
        "turns: the session is handed over before the marker is written",
        "turns.revoking",
        """    if ours is not None:
        settle_and_release(
""",
        """    if ours is not None:
        lease.backend.release(ours)
        queues.leave(lease.ticket)
        settle_and_release(
""",
    ),
    _mutant(
        "turns: a revocation does not wake the next in the queue",
        "turns.revoking",
        "            queues.leave(lease.ticket)\n",
        "            pass\n",
    ),
    _mutant(
        "watchdog: it forgets the earliest deadline when a later one is near",
        "turns.watchdog",
        "        for due in overdue(leases, now):\n            self._revoke(due)\n",
        "        for due in overdue(leases, now)[1:]:\n            self._revoke(due)\n",
    ),
    _mutant(
        "turns: two appends that come first at the same time make two writers",
        "turns.turn",
        '        writer = self._made.get("writer") or'
        ' self._made.setdefault("writer", self._make_writer())\n',
        """        if "writer" not in self._made:
            self._made["writer"] = self._make_writer()
        writer = self._made["writer"]
""",
    ),
    _mutant(
        "turns: the writer's appends are not one after the other",
        "turns.writer",
        """        prepared = [checked_entry(entry, self._label) for entry in entries]
        with self._mutex:
""",
        """        prepared = [checked_entry(entry, self._label) for entry in entries]
        with threading.Lock():
""",
    ),
    _mutant(
        "turns: the state of a lease is seen before what goes with it",
        "turns.lease",
        """            if reason:
                self.reason = reason
            if state is State.REVOKING:
                self.handed_over = threading.Event()
            self.state = state
""",
        """            self.state = state
            if reason:
                self.reason = reason
            if state is State.REVOKING:
                self.handed_over = threading.Event()
""",
    ),
    _mutant(
        "files: a claim is judged dead although its flock is held",
        "backends.files.judgement",
        """    if evidence.flock_held:
        return Verdict(State.LIVE""",
        """    if evidence.flock_held and not (evidence.age or 0) > 0.2:
        return Verdict(State.LIVE""",
    ),
    _mutant(
        "files: what the predecessor owes by the claim is dropped",
        "backends.files.claims",
        "        owed = (*before, turn)\n",
        "        owed = (turn,)\n",
    ),
)


def find(mutant: Mutant, seeds: int) -> tuple[int, str] | None:
    """The first seed that finds it, and what it finds; None when no seed does.

    A seed that fails without the fault as well has not found it.
    """
    for result in run(range(seeds), mutant.edits):
        if result.violations and _passes(result.seed):
            return result.seed, str(result.violations[0])
    return None


def _passes(seed: int) -> bool:
    return not any(result.violations for result in run([seed]))
