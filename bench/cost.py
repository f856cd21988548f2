"""What something costs a database's server: processor time, log, commits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import psutil
import psycopg


class Cost(NamedTuple):
    """Of one operation, the mean of many. ``processor``: seconds, of all the server's processes."""

    processor: float
    wal_bytes: float
    commits: float
    rows: float


class Meter:
    """Looks at a server from beside it. ``pid``: its first process, the parent of all others."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        pid = psutil.Process(self._connection.info.backend_pid).parent()
        assert pid is not None
        self._server = pid

    def cost(self, number: int, once: Callable[[], object]) -> Cost:
        """Of doing it so many times, one after the other."""
        before = self._read()
        for _ in range(number):
            once()
        after = self._read()
        return Cost(*((b - a) / number for a, b in zip(before, after, strict=True)))

    def execute(self, text: str) -> None:
        self._connection.execute(text.encode())

    def value(self, query: str) -> float:
        row = self._connection.execute(query.encode()).fetchone()
        assert row is not None
        return float(row[0])

    def memory(self) -> float:
        """Bytes that each process of a client has for itself alone, the mean."""
        clients = [one for one in self._server.children() if "turnlock" in " ".join(one.cmdline())]
        sizes = [psutil.Process(one.pid).memory_full_info().uss for one in clients]
        return sum(sizes) / len(sizes)

    def close(self) -> None:
        self._connection.close()

    def _read(self) -> Cost:
        # What a process counts it tells when it is idle, once a second at most, unless made to.
        row = self._connection.execute(
            "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, xact_commit,"
            " tup_inserted + tup_updated + tup_deleted FROM pg_stat_database"
            " WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
        wal, commits, rows = row
        return Cost(self._processor(), float(wal), float(commits), float(rows))

    def _processor(self) -> float:
        used = 0
        for one in [self._server, *self._server.children()]:
            with contextlib.suppress(OSError), open(f"/proc/{one.pid}/schedstat") as file:
                used += int(file.read().split()[0])
        return used / 1e9
