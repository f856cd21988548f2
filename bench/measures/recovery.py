"""From the holder's SIGKILL to the next one."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack

from ..contenders import Contender, a_path
from ..measure import Bench, in_rounds, result_of, row_of
from ..results import Column, Result
from ..subjects import Subject
from ..subjects.floors import FLOCK
from ..subjects.ours import ASYNC_TURN, LOCK, TURN, WRITING_TURN
from ..subjects.peers import PEERS

_TITLE = "SIGKILL to the next holder"
_REST = (0.05, 0.1)
# One that takes longer waits for a time to pass: once is enough to know it.
_SLOW = 2.0


class Recovery:
    name = "recovery"
    title = "Recovery from SIGKILL"
    what = "How long a waiter waits for a holder that was killed."
    how = (
        "One process holds the lock, another waits. The holder is killed with SIGKILL; the waiter"
        " notes the time when it has the lock. In *turn, one append* the dead turn had written a"
        " message, so before the waiter has the session the turn's error marker is on the disk."
    )
    floor = "A blocking *flock*: the kernel drops it when the process has come to its end."
    reading = (
        "The kernel needs a while to take a process apart, and that is in every figure here. What"
        " is judged by age takes as long as the age that it was given."
    )

    def run(self, bench: Bench) -> Result:
        subjects, notes = bench.those_here((FLOCK, LOCK, TURN, WRITING_TURN, ASYNC_TURN, *PEERS))
        with ExitStack() as stack:
            victims = {
                subject.name: Victims(
                    stack, subject, a_path(bench.directory, subject), bench.scale.patience
                )
                for subject in subjects
            }
            late = in_rounds(
                bench.scale.kills, {name: one.kill_one for name, one in victims.items()}
            )
        rows = [row_of(s, {_TITLE: late[s.name]}) for s in subjects if late[s.name]]
        notes += [
            f"{subject.label}: not freed within {bench.scale.patience:g} s"
            for subject in subjects
            if not late[subject.name]
        ]
        return result_of(self, [Column(_TITLE, "ms")], rows, notes)


class Victims:
    """Holders of one lock, each of which waited for the death of the one before."""

    def __init__(self, stack: ExitStack, subject: Subject, path: str, patience: float) -> None:
        self._stack = stack
        self._subject = subject
        self._path = path
        self._patience = patience
        self._holder = self._start()
        self._holder.ask("take")
        self._done = False

    def kill_one(self) -> list[float]:
        """How late the next one had the lock, in ms; nothing when that is not worth a try."""
        if self._done:
            return []
        waiter = self._start()
        waiter.order("take")
        time.sleep(random.uniform(*_REST))
        killed = time.monotonic()
        self._holder.kill()
        taken = waiter.answer(within=self._patience)
        self._holder.close()
        self._holder = waiter
        self._done = taken is None or taken - killed > _SLOW
        return [] if taken is None else [1e3 * (taken - killed)]

    def _start(self) -> Contender:
        return self._stack.enter_context(Contender(self._subject, self._path))
