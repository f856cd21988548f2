"""Eight that want one lock all the time."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

from ..contenders import Contender, a_path
from ..measure import Bench, in_rounds, result_of, row_of
from ..results import Column, Result
from ..subjects import Subject
from ..subjects.floors import FLOCK
from ..subjects.ours import ASYNC_TURN, LOCK, TURN
from ..subjects.peers import PEERS

_HOLD = 0.005
# A process is told of the start that much before it.
_NOTICE = 0.1
_ROUNDS_MAX = 2
_RATIO = "most turns for one of the fewest"
_LONGEST = "longest wait"
_TURNS = "turns in all"


class Fairness:
    name = "fairness"
    title = "Fairness of eight contenders"
    what = "Whether everybody comes to their turn when a session is always wanted."
    how = (
        "Eight processes take the lock, hold it for 5 ms, release it and want it again at once."
        " Counted: the turns of the one that had most beside those of the one that had fewest (a"
        " count of none is taken for one), the longest that anybody waited, and the turns of all in"
        " a second."
    )
    floor = "A blocking *flock*: the kernel keeps its waiters in order."
    reading = (
        "Where whoever releases can take again before a waiter has looked, one process has nearly"
        " all turns: many of them, as nothing is ever handed over."
    )

    def run(self, bench: Bench) -> Result:
        subjects, notes = bench.those_here((FLOCK, LOCK, TURN, ASYNC_TURN, *PEERS))
        seconds = bench.scale.contend
        seen: dict[str, list[tuple[float, float, float]]] = {s.name: [] for s in subjects}

        def contend(subject: Subject) -> list[float]:
            seen[subject.name].append(
                _contend(bench.directory, subject, bench.scale.contenders, seconds)
            )
            return []

        in_rounds(
            min(bench.scale.rounds, _ROUNDS_MAX),
            {subject.name: partial(contend, subject) for subject in subjects},
        )
        rows = []
        for subject in subjects:
            ratios, longest, turns = zip(*seen[subject.name], strict=True)
            rows.append(row_of(subject, {_RATIO: ratios, _LONGEST: longest, _TURNS: turns}))
        columns = [
            Column(_RATIO, "times"),
            Column(_LONGEST, "ms"),
            Column(_TURNS, "a second", False),
        ]
        return result_of(self, columns, rows, notes)


def _contend(
    directory: str, subject: Subject, number: int, seconds: float
) -> tuple[float, float, float]:
    """(ratio, longest wait in ms, turns in a second)"""
    path = a_path(directory, subject, name="fair")
    with ExitStack() as stack:
        contenders = [stack.enter_context(Contender(subject, path)) for _ in range(number)]
        for one in contenders:
            one.await_start()
        start = time.monotonic() + _NOTICE
        for one in contenders:
            one.order("contend", start, start + seconds, _HOLD)
        answers = [one.answer() for one in contenders]
    turns = [turns for turns, _ in answers]
    return (
        max(turns) / max(1, min(turns)),
        1e3 * max(longest for _, longest in answers),
        sum(turns) / seconds,
    )
