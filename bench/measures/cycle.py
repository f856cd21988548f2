"""Take and release, with nobody else about."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from ..contenders import Contender, a_path
from ..measure import Bench, in_rounds, result_of, row_of
from ..results import Column, Result
from ..subjects.floors import CLAIM, FLOCK, SYNCED_CLAIM
from ..subjects.ours import OURS
from ..subjects.peers import ASYNC_PEERS, PEERS

_TITLE = "take and release"


class Cycle:
    name = "cycle"
    title = "Take and release, uncontended"
    what = "What a lock costs when nobody else wants it: the price of every turn."
    how = (
        "A process for each lock takes and releases it again and again, a block of cycles a round."
        " A turn with one append writes its message and its terminal entry, each made durable."
    )
    floor = (
        "*flock* locks a file that stays open: it names no holder. *System calls of a claim* make a"
        " file unnamed, flock it, write who holds it, link it to its name and unlink it, without"
        " any check. *The same, two lines synced* adds two durable writes, as a turn with one"
        " append has."
    )
    reading = (
        "Compare with those that name their holder: a lock file without a word in it is cheaper,"
        " and tells whoever finds it nothing. Beside a model call all of these are nothing; they"
        " matter for tools that lock for every small write. An async turn pays for its storage"
        " work being done by another thread, so that a slow disk never stops the event loop."
    )

    def run(self, bench: Bench) -> Result:
        subjects, notes = bench.those_here(
            (FLOCK, CLAIM, SYNCED_CLAIM, *OURS, *PEERS, *ASYNC_PEERS)
        )
        scale = bench.scale
        with ExitStack() as stack:
            contenders = {
                subject.name: stack.enter_context(
                    Contender(subject, a_path(bench.directory, subject))
                )
                for subject in subjects
            }

            def cycles(contender: Contender) -> list[float]:
                return [1e6 * took for took in contender.ask("cycles", scale.cycles)]

            for contender in contenders.values():
                contender.ask("cycles", 2)
            took = in_rounds(
                scale.rounds,
                {name: partial(cycles, one) for name, one in contenders.items()},
            )
        rows = [row_of(subject, {_TITLE: took[subject.name]}) for subject in subjects]
        return result_of(self, [Column(_TITLE, "µs")], rows, notes)
