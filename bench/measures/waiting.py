"""What it costs to wait."""

from __future__ import annotations

from contextlib import ExitStack

from ..contenders import Contender, a_path
from ..measure import Bench, result_of, row_of
from ..results import Column, Result
from ..subjects import Subject
from ..subjects.floors import FLOCK
from ..subjects.ours import ASYNC_TURN, LOCK, TURN
from ..subjects.peers import ASYNC_PEERS, PEERS

_ROUNDS_MAX = 3


class Waiting:
    name = "waiting"
    title = "CPU of waiters"
    what = "What a process uses that has many waiters, each for a lock of its own."
    how = (
        "One process holds the locks; in another a thread (for async locks a task) waits for each."
        " When all sleep, the CPU time of the waiting process is read, and again after a while. All"
        " kinds wait at the same time, as CPU time does not depend on who else runs."
    )
    floor = "Threads that are blocked in *flock*: the kernel does not run them."
    reading = (
        "A poll is paid for by every waiter for as long as it waits. Ours are woken by the kernel,"
        " and look by themselves only now and then."
    )

    def run(self, bench: Bench) -> Result:
        scale = bench.scale
        title = f"{scale.waiters} waiters"
        subjects, notes = bench.those_here((FLOCK, LOCK, TURN, ASYNC_TURN, *PEERS, *ASYNC_PEERS))
        used: dict[str, list[float]] = {subject.name: [] for subject in subjects}
        for number in range(min(scale.rounds, _ROUNDS_MAX)):
            for name, seconds in _once(bench, subjects, number).items():
                used[name].append(1e3 * seconds / scale.wait)
        rows = [row_of(subject, {title: used[subject.name]}) for subject in subjects]
        return result_of(self, [Column(title, "ms of CPU a second")], rows, notes)


def _once(bench: Bench, subjects: list[Subject], number: int) -> dict[str, float]:
    scale = bench.scale
    with ExitStack() as stack:

        def contender(subject: Subject) -> Contender:
            path = a_path(bench.directory, subject, name=f"wait-{number}")
            return stack.enter_context(Contender(subject, path))

        holders = [contender(subject) for subject in subjects]
        for holder in holders:
            holder.ask("hold", scale.waiters)
        waiting = {subject.name: contender(subject) for subject in subjects}
        for one in waiting.values():
            one.order("wait", scale.waiters, scale.wait)
        return {name: one.answer() for name, one in waiting.items()}
