"""A line that survives power loss: alone, and when sixteen sessions write at once."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import turnlock

from ..at_once import Worker, rate_at_once
from ..contenders import a_path
from ..measure import Bench, in_rounds, result_of
from ..results import Column, Kind, Result, Row, Spread
from ..subjects.ours import TEXT, TURN

_ALONE = "one session, an append"
_AT_ONCE = "16 sessions, appends in all"
_SESSIONS = 16
_LINE = b"x" * 299 + b"\n"


class BareFile:
    """Where one session's lines go, as all that follow."""

    def __init__(self, path: str, number: int) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(f"{path}-{number}.lines", flags, 0o600)

    def once(self) -> None:
        os.write(self._fd, _LINE)
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class Sqlite:
    """A row in a table that all sessions share, committed in WAL mode with synchronous=FULL."""

    def __init__(self, path: str, number: int) -> None:
        self._session = number
        self._connection = sqlite3.connect(f"{path}.db", timeout=60, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS entry (session INTEGER, line BLOB)")

    def once(self) -> None:
        self._connection.execute("INSERT INTO entry VALUES (?, ?)", (self._session, _LINE))

    def close(self) -> None:
        self._connection.close()


class Transcript:
    """An append in a turn that is open already."""

    def __init__(self, path: str, number: int) -> None:
        self._block = turnlock.open_store(f"{path}.state").turn(f"main/{number}")
        self._turn = self._block.__enter__()

    def once(self) -> None:
        self._turn.append(turnlock.user(TEXT))

    def close(self) -> None:
        self._block.__exit__(None, None, None)


_SINKS: dict[str, tuple[Kind, Callable[[str, int], Worker]]] = {
    "write and fdatasync": (Kind.FLOOR, BareFile),
    "SQLite, WAL, synchronous=FULL": (Kind.PEER, Sqlite),
    "turnlock append": (Kind.OURS, Transcript),
}


class Append:
    name = "append"
    title = "Durable append"
    what = "A message that is on the disk when the call returns."
    how = (
        "Lines of about 300 bytes, each acknowledged only when it is durable: by one thread, and by"
        " sixteen threads at once that have a session each. The turn is open already; every append"
        " checks the fence."
    )
    floor = "*write* and *fdatasync* to a file for each session, without a lock or a format."
    reading = (
        "Nearly all of it is the disk. SQLite has one log, and its writers take turns at it; our"
        " sessions are files of their own, so they sync side by side. Two threads of one Python"
        " process share one GIL, which is what is left between the floor and us."
    )

    def run(self, bench: Bench) -> Result:
        path = a_path(bench.directory, TURN, name="append")
        number = bench.scale.appends
        alone = in_rounds(
            bench.scale.rounds,
            {label: partial(_alone, make, path, number) for label, (_, make) in _SINKS.items()},
        )
        at_once = in_rounds(
            bench.scale.rounds,
            {label: partial(_at_once, make, path, number) for label, (_, make) in _SINKS.items()},
        )
        rows = [
            Row(label, kind, {_ALONE: Spread.of(alone[label]), _AT_ONCE: Spread.of(at_once[label])})
            for label, (kind, _) in _SINKS.items()
        ]
        return result_of(self, [Column(_ALONE, "µs"), Column(_AT_ONCE, "a second", False)], rows)


def _alone(make: Callable[[str, int], Worker], path: str, number: int) -> list[float]:
    with ExitStack() as stack:
        sink = make(path, 0)
        stack.callback(sink.close)
        sink.once()
        return [1e6 * _seconds(sink.once) for _ in range(number)]


def _at_once(make: Callable[[str, int], Worker], path: str, number: int) -> list[float]:
    return [rate_at_once([partial(make, path, one) for one in range(_SESSIONS)], number)]


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
