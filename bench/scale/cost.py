"""What something costs a database's server: processor time, log, commits, rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import psutil
import psycopg

_WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"
_CHANGED = """
    SELECT tup_inserted, tup_updated, tup_deleted
    FROM pg_stat_database WHERE datname = current_database()
"""
# A process tells the statistics once a second at most, unless it is made to.
_TELL = "SELECT pg_stat_force_next_flush()"


class Cost(NamedTuple):
    """Of one operation, the mean of many. ``processor``: seconds, of all the server's processes."""

    processor: float
    wal_bytes: float


class Changed(NamedTuple):
    """Rows that one operation changes: the mean of many."""

    inserted: float
    updated: float
    deleted: float


class Meter:
    """Looks at a server from beside it."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        server = psutil.Process(self._connection.info.backend_pid).parent()
        assert server is not None
        self._server = server

    def cost(self, doings: Sequence[Callable[[], object]]) -> Cost:
        """Of one of them, when all are done one after the other."""
        before = self._read()
        for once in doings:
            once()
        after = self._read()
        return Cost(*((b - a) / len(doings) for a, b in zip(before, after, strict=True)))

    def changed(
        self, number: int, once: Callable[[], object], by: psycopg.Connection[Any]
    ) -> Changed:
        """By doing it so many times on that connection, which does nothing else."""
        before = self._changed(by)
        for _ in range(number):
            once()
        after = self._changed(by)
        return Changed(*((b - a) / number for a, b in zip(before, after, strict=True)))

    def execute(self, text: str) -> None:
        self._connection.execute(text.encode())

    def value(self, query: str) -> float:
        row = self._connection.execute(query.encode()).fetchone()
        assert row is not None
        return float(row[0])

    def memory(self) -> float:
        """Bytes that a process of a client has for itself alone; the mean."""
        clients = [one for one in self._server.children() if " 127.0.0.1" in _title(one)]
        clients = clients or [one for one in self._server.children() if "[local]" in _title(one)]
        return sum(one.memory_full_info().uss for one in clients) / len(clients)

    def close(self) -> None:
        self._connection.close()

    def _changed(self, by: psycopg.Connection[Any]) -> list[float]:
        by.execute(_TELL)
        row = self._connection.execute(_CHANGED).fetchone()
        assert row is not None
        return [float(value) for value in row]

    def _read(self) -> Cost:
        return Cost(self._processor(), self.value(_WAL))

    def _processor(self) -> float:
        used = 0
        for one in [self._server, *self._server.children()]:
            with contextlib.suppress(OSError), open(f"/proc/{one.pid}/schedstat") as file:
                used += int(file.read().split()[0])
        return used / 1e9


def _title(process: psutil.Process) -> str:
    return " ".join(process.cmdline())
