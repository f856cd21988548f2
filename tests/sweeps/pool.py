"""Work that is spread over processes, each of which forks its own actors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

from .actors import die_with_parent
from .calls import Point, points

T = TypeVar("T")
R = TypeVar("R")


class Work(NamedTuple):
    """How much of a sweep to do, and where.

    Of all points every ``stride``-th is taken, beginning where ``seed`` says; of what a sweep
    finds to go on from, every ``thin``-th. ``only``: a part of the stories' names; ``point``: this
    one of their points only.
    """

    at: Path
    seed: int = 0
    jobs: int = 2
    stride: int = 1
    thin: int = 1
    seconds: float = 300.0
    only: str = ""
    point: Point | None = None

    def chooses(self, name: str) -> bool:
        return self.only in name

    def shares(self, stories: Iterable[str]) -> list[Share]:
        """The points of these stories, divided among the processes."""
        modulus = self.jobs * self.stride
        return [
            Share(
                name,
                (self.seed + number) % modulus,
                modulus,
                self.point,
                self.at / f"{place}-{number}",
            )
            for place, name in enumerate(stories)
            for number in range(1 if self.point else self.jobs)
        ]


class Share(NamedTuple):
    """A part of the points of one story: those whose place leaves ``rest`` by ``modulus``."""

    story: str
    rest: int
    modulus: int
    only: Point | None
    at: Path

    def points(self) -> Iterator[Point]:
        """Without end, unless it is one."""
        if self.only is not None:
            return iter([self.only])
        return islice(points(), self.rest, None, self.modulus)


def spread(work: Work, do: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """In the order of the items. A process of the pool opens no store and starts no thread."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(work.jobs, spawn, initializer=die_with_parent) as pool:
        yield from pool.map(do, items)
