"""What a measure is, and how much of it there is to be."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from .contenders import missing
from .results import Column, Kind, Result, Row, Spread
from .subjects import Subject


class Scale(NamedTuple):
    """How often and how long. Times in seconds.

    ``rounds`` of ``cycles`` each; ``hand_offs`` and ``kills`` of each lock; ``contenders`` want one
    lock for ``contend``; ``waiters`` for ``wait``; ``revocations``; ``appends`` a round and a
    session; ``sessions`` to look through; ``turns`` through the gateway, beside ``hung`` calls.
    ``patience``: how long a waiter has before it counts as never freed.
    """

    rounds: int
    cycles: int
    hand_offs: int
    kills: int
    patience: float
    contenders: int
    contend: float
    waiters: int
    wait: float
    revocations: int
    appends: int
    sessions: tuple[int, ...]
    turns: int
    hung: int


FULL = Scale(10, 60, 40, 12, 15.0, 8, 3.0, 50, 3.0, 20, 40, (1_000, 10_000, 100_000), 100, 1_000)
QUICK = Scale(2, 20, 6, 2, 1.0, 8, 0.5, 50, 0.5, 4, 10, (1_000,), 20, 100)
TINY = Scale(1, 2, 1, 1, 1.0, 2, 0.05, 2, 0.05, 1, 2, (10,), 2, 3)


class Bench(NamedTuple):
    """One run: its scale, a directory on the file system that is measured, and the subjects.

    ``peers`` is false for a run that leaves other libraries alone.
    """

    scale: Scale
    directory: str
    peers: bool = True

    def say(self, text: str) -> None:
        print(f"    {text}", file=sys.stderr, flush=True)

    def those_here(self, subjects: Iterable[Subject]) -> tuple[list[Subject], list[str]]:
        """The subjects that can be measured here, and why the others cannot."""
        here: list[Subject] = []
        notes: list[str] = []
        for subject in subjects:
            if subject.kind is Kind.PEER and not self.peers:
                continue
            why = missing(subject)
            if why is None:
                here.append(subject)
            else:
                notes.append(why)
                self.say(f"left out: {why}")
        return here, notes


@contextmanager
def a_directory(inside: str | None = None) -> Iterator[str]:
    """A directory for one run."""
    with tempfile.TemporaryDirectory(prefix="turnlock-bench-", dir=inside) as made:
        # A database's server may run as another user, and has its files in there.
        os.chmod(made, 0o711)
        yield made


class Measure(Protocol):
    """One figure of the page. The texts are Markdown, and have no numbers that were measured."""

    name: str
    title: str
    what: str
    how: str
    floor: str
    reading: str

    def run(self, bench: Bench) -> Result: ...


def row_of(subject: Subject, cells: Mapping[str, Iterable[float]]) -> Row:
    return Row(
        subject.label,
        subject.kind,
        {title: Spread.of(values) for title, values in cells.items()},
        subject.names_holder,
        subject.freed_at_death,
    )


def result_of(
    measure: Measure,
    columns: Iterable[Column],
    rows: Iterable[Row],
    notes: Iterable[str] = (),
) -> Result:
    return Result(measure.name, tuple(columns), tuple(rows), tuple(notes))


def in_rounds(
    rounds: int, jobs: Mapping[str, Callable[[], Iterable[float]]]
) -> dict[str, list[float]]:
    """Run every job once a round, there and back again; what each gave, in all."""
    given: dict[str, list[float]] = {label: [] for label in jobs}
    order = list(jobs)
    for _ in range(rounds):
        for label in order:
            given[label] += jobs[label]()
        order.reverse()
    return given
