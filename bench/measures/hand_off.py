"""From the release to the waiter that has the lock."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from functools import partial

from ..contenders import Contender, a_path
from ..measure import Bench, in_rounds, result_of, row_of
from ..results import Column, Result
from ..subjects import Subject
from ..subjects.floors import ASYNCIO_LOCK, FLOCK, THREADING_LOCK
from ..subjects.ours import ASYNC_TURN, LOCK, TURN
from ..subjects.peers import ASYNC_PEERS, PEERS

_PROCESSES = "between processes"
_INSIDE = "between threads or tasks"
# What waits has come to rest, and whoever polls is met at any moment of its pause.
_REST = (0.05, 0.1)
_SWAPS = 4


class HandOff:
    name = "hand-off"
    title = "Hand-off to a waiter"
    what = "How long a session lies idle between a release and the waiter that has it then."
    how = (
        "One holds the lock while another waits for it, long enough to be asleep. The holder notes"
        " the time and releases; the waiter notes the time when it has the lock. Between two"
        " processes, which change roles every time, and between two threads (for async locks: two"
        " tasks) of one process."
    )
    floor = (
        "Between processes a blocking *flock*, which the kernel hands over; inside a process"
        " *threading.Lock* and *asyncio.Lock*."
    )
    reading = (
        "A lock that polls costs half its pause on average, and all of it at the worst; one that is"
        " woken costs what it does after the wake-up. A blocked flock is the quickest, but a thread"
        " cannot give it up at a limit."
    )

    def run(self, bench: Bench) -> Result:
        subjects, notes = bench.those_here(
            (FLOCK, THREADING_LOCK, ASYNCIO_LOCK, LOCK, TURN, ASYNC_TURN, *PEERS, *ASYNC_PEERS)
        )
        between = self._between_processes(bench, subjects)
        inside = self._inside(bench, subjects)
        rows = []
        for subject in subjects:
            late = {_PROCESSES: between.get(subject.name), _INSIDE: inside.get(subject.name)}
            rows.append(row_of(subject, {title: v for title, v in late.items() if v}))
        notes += [
            f"{subject.label}: two threads of a process hold it at once, so there is no hand-off"
            for subject in subjects
            if not subject.excludes_threads
        ]
        return result_of(self, [Column(_PROCESSES, "ms"), Column(_INSIDE, "ms")], rows, notes)

    def _between_processes(self, bench: Bench, subjects: list[Subject]) -> dict[str, list[float]]:
        with ExitStack() as stack:

            def pair(subject: Subject) -> Pair:
                path = a_path(bench.directory, subject)
                return Pair(*(stack.enter_context(Contender(subject, path)) for _ in range(2)))

            pairs = {
                subject.name: pair(subject)
                for subject in subjects
                if subject not in (THREADING_LOCK, ASYNCIO_LOCK)
            }
            for one in pairs.values():
                one.hand_over()
            return in_rounds(
                bench.scale.hand_offs, {name: one.hand_over for name, one in pairs.items()}
            )

    def _inside(self, bench: Bench, subjects: list[Subject]) -> dict[str, list[float]]:
        with ExitStack() as stack:
            contenders = {
                subject.name: stack.enter_context(
                    Contender(subject, a_path(bench.directory, subject, name="inside"))
                )
                for subject in subjects
                if subject.excludes_threads and subject.is_python
            }

            def swaps(contender: Contender) -> list[float]:
                return [1e3 * late for late in contender.ask("swap", _SWAPS)]

            return in_rounds(
                max(1, bench.scale.hand_offs // _SWAPS),
                {name: partial(swaps, one) for name, one in contenders.items()},
            )


class Pair:
    """Two contenders for one lock that change roles. ``is_lock``: for less, nobody holds it."""

    def __init__(self, holder: Contender, waiter: Contender, *, is_lock: bool = True) -> None:
        self._holder = holder
        self._waiter = waiter
        self._is_lock = is_lock

    def hand_over(self) -> list[float]:
        """How late the waiter had the lock, in ms."""
        holder, waiter = self._holder, self._waiter
        if self._is_lock:
            holder.ask("take")
        waiter.order("take")
        time.sleep(random.uniform(*_REST))
        holder.order("release")
        taken = waiter.answer()
        released = holder.answer()
        if self._is_lock:
            waiter.ask("release")
        self._holder, self._waiter = waiter, holder
        return [1e3 * (taken - released)]
