"""What a turn costs in PostgreSQL, beside the same messages sent by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Protocol

from tests.postgres.server import programs

import turnlock

from ..at_once import Worker, rate_at_once
from ..contenders import a_path
from ..database import BareTurns, database, recorded, unmeasured
from ..measure import Bench, in_rounds, result_of
from ..results import Column, Kind, Result, Row, Spread
from ..subjects.ours import TEXT
from ..subjects.postgres import POSTGRES_TURN

_STEPS = ("take", "append", "release")
_AT_ONCE = "8 sessions, turns in all"
_SESSIONS = 8
_BARE = "SQL of the same messages"
_OURS = "turnlock turn, PostgreSQL"
_FILES = "turnlock turn, files"


class Turns(Worker, Protocol):
    """Turns of one session, step by step."""

    def take(self) -> None: ...
    def append(self) -> None: ...
    def release(self) -> None: ...


class StoreTurns:
    """Turns of a store, each with one append."""

    def __init__(self, place: str, numbers: count[int]) -> None:
        self._store = turnlock.open_store(place)
        self._key = f"main/turns-{next(numbers)}"

    def take(self) -> None:
        self._block = self._store.turn(self._key)
        self._turn = self._block.__enter__()

    def append(self) -> None:
        self._turn.append(turnlock.user(TEXT))

    def release(self) -> None:
        self._block.__exit__(None, None, None)

    def once(self) -> None:
        self.take()
        self.append()
        self.release()

    def close(self) -> None:
        self._store.close()


class PostgresTurn:
    name = "postgres-turn"
    title = "A turn in PostgreSQL"
    what = "What a turn pays for its sessions being in a database, step by step."
    how = (
        "A server of this run alone, on this machine, that waits for its disk at every commit. By"
        " one thread, on one session: a take; an append of one message, with the turn's opening; a"
        " release, with the terminal entry before it. Then by eight threads of one process that"
        " have a session and a store each: whole turns in a second."
    )
    floor = (
        "The messages of a turn, recorded and sent again: the same text with the same time-outs in"
        " front, by a bare connection of the same client library. It knows beforehand what to"
        " write."
    )
    reading = (
        "A take, an append, a terminal entry and a release are a commit each; between the floor and"
        " us are the entries' making, the transcript's end, the pool, and the watchdog. *Files* is"
        " the same turn in a state directory: what one host saves that needs no others."
    )

    def run(self, bench: Bench) -> Result:
        if programs() is None:
            return unmeasured(self.name)
        place = a_path(bench.directory, POSTGRES_TURN, name="state")
        with database(bench.directory) as url:
            messages = recorded(url)
            numbers = count()
            makes: dict[str, Callable[[], Turns]] = {
                _BARE: partial(BareTurns, url, messages),
                _OURS: partial(StoreTurns, url, numbers),
                _FILES: partial(StoreTurns, place, numbers),
            }
            cells = _alone(bench, makes)
            at_once = in_rounds(
                bench.scale.rounds,
                {
                    label: partial(_at_once, make, bench.scale.appends)
                    for label, make in makes.items()
                },
            )
        kinds = {_BARE: Kind.FLOOR}
        rows = [
            Row(
                label,
                kinds.get(label, Kind.OURS),
                cells[label] | {_AT_ONCE: Spread.of(at_once[label])},
            )
            for label in makes
        ]
        columns = [*(Column(step, "µs") for step in _STEPS), Column(_AT_ONCE, "a second", False)]
        return result_of(self, columns, rows)


def _alone(bench: Bench, makes: dict[str, Callable[[], Turns]]) -> dict[str, dict[str, Spread]]:
    """By label and step, in µs."""
    took: dict[str, dict[str, list[float]]] = {
        label: {step: [] for step in _STEPS} for label in makes
    }

    def some(label: str, turns: Turns) -> list[float]:
        for _ in range(bench.scale.appends):
            for step in _STEPS:
                took[label][step].append(1e6 * _seconds(getattr(turns, step)))
        return []

    with ExitStack() as stack:
        jobs = {}
        for label, make in makes.items():
            turns = make()
            stack.callback(turns.close)
            turns.once()
            jobs[label] = partial(some, label, turns)
        in_rounds(bench.scale.rounds, jobs)
    return {
        label: {step: Spread.of(values) for step, values in steps.items()}
        for label, steps in took.items()
    }


def _at_once(make: Callable[[], Turns], number: int) -> list[float]:
    return [rate_at_once([make] * _SESSIONS, number)]


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
