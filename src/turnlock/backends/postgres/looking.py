"""Looking at sessions in a database, without taking anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ...clock import iso
from ...session import SessionKey, parse_key
from ...transcript.jsonl import Line, read_lines
from ...transcript.tail import Tail, read_tail
from .. import STALE_AFTER, LockRecord, SessionRecord
from .database import Database, Row
from .migrating import check_version
from .rows import Rows

PREFIX = "postgresql:"
_PAGE = 1000
# The primary keys, the sessions' names, and three that are made to look by.
INDEXES = 8
# As good as so many: a look at every session may take minutes.
_ALL_BYTES = 1 << 30


class Health(NamedTuple):
    """Of a database, now. ``now``: seconds since the epoch, by its clock. ``version``: of its
    tables. ``indexes``: valid ones.

    Dead and live versions of rows are those of the sessions, as the server counts them. The oldest
    transaction, in seconds, is None where there is none, or none that the role may see.
    """

    now: float
    version: int
    indexes: int
    dead_rows: int | None
    live_rows: int | None
    oldest_transaction: float | None
    is_durable: bool


class Looking:
    """What `PostgresBackend` shows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_checked = False

    def read(self, session: SessionKey, *, start: int = 0) -> Iterator[Line]:
        self._check()
        return read_lines(Rows(self._database, session), start)

    def find(self, session: SessionKey, identity: str) -> int | None:
        self._check()
        rows = self._database.run(
            "read", "find", again=True, agent=session.agent, name=session.name, id=identity
        )
        return rows[0].byte_offset if rows else None

    def end(self, session: SessionKey, *, turns: int) -> Tail:
        record = self.record(session)
        if record is None:
            return Tail()
        return read_tail(Rows(self._database, session), record.size, turns=turns)

    def sessions(self, *, after: SessionKey | None = None) -> Iterator[SessionRecord]:
        self._check()
        behind = after or SessionKey("", "")
        while page := self._page(behind):
            yield from map(_session_record, page)
            behind = SessionKey(page[-1].agent, page[-1].name)

    def _page(self, behind: SessionKey) -> list[Row]:
        return self._database.run(
            "list", "sessions", again=True, agent=behind.agent, name=behind.name, most=_PAGE
        )

    def record(self, session: SessionKey) -> SessionRecord | None:
        self._check()
        rows = self._database.run(
            "look", "session", again=True, agent=session.agent, name=session.name
        )
        return _session_record(rows[0]) if rows else None

    def locks(
        self, *, stale_after: float = STALE_AFTER, session: SessionKey | None = None
    ) -> Iterator[LockRecord]:
        return map(_lock_record, self._locks(session, expired=False))

    def expired(self) -> Iterator[LockRecord]:
        # The database picks them: of thousands that are held, few or none cross the wire.
        return map(_lock_record, self._locks(None, expired=True))

    def claims(self) -> dict[str, dict[str, Any]]:
        """What a claim says beside the lock's record, by the path of that.

        ``epoch``: of the row, by which the holder is fenced; ``gateway``: the id of the store that
        took it; ``host``; ``lease_seconds_left``: until its lease runs out, if nobody renews it.
        """
        return {
            _path(row): {
                "epoch": row.epoch,
                "gateway": row.gateway,
                "host": row.host,
                "lease_seconds_left": row.lease_left,
            }
            for row in self._locks(None, expired=False)
        }

    def _locks(self, session: SessionKey | None, *, expired: bool) -> list[Row]:
        self._check()
        return self._database.run(
            "list",
            "locks",
            again=True,
            agent=None if session is None else session.agent,
            name=None if session is None else session.name,
            expired=expired,
        )

    def now(self) -> float:
        (row,) = self._database.run("look", "now", again=True)
        return float(row.now)

    def health(self) -> Health:
        """What an operator should know of the database."""
        self._check()
        (row,) = self._database.run("look", "health", again=True)
        return Health(*row)

    def torn(self) -> list[SessionKey]:
        """Sessions whose rows do not make a transcript. Looks at every session."""
        self._check()
        rows = self._database.run("look", "torn", again=True, bulk=_ALL_BYTES)
        return [SessionKey(row.agent, row.name) for row in rows]

    def is_gone(self, record: LockRecord) -> bool:
        return next(self.locks(session=parse_key(record.session)), None) is None

    def _check(self) -> None:
        if not self._is_checked:
            check_version(self._database)
            self._is_checked = True


def _path(row: Row) -> str:
    return f"{PREFIX}{SessionKey(row.agent, row.name)}"


def _session_record(row: Row) -> SessionRecord:
    key = SessionKey(row.agent, row.name)
    return SessionRecord(str(key), _path(row), row.size, iso(row.modified))


def _lock_record(row: Row) -> LockRecord:
    key = SessionKey(row.agent, row.name)
    over = row.max_hold is not None and row.age > row.max_hold
    reasons = (("lease-expired",) if row.expired else ()) + (("over-limit",) if over else ())
    return LockRecord(
        path=_path(row),
        session=str(key),
        pid=row.pid,
        # Of a lease that was not renewed nobody knows whether its holder died or cannot be reached.
        pid_status="unknown" if row.expired else "alive",
        turn_id=row.turn_id,
        age_seconds=row.age,
        max_hold_seconds=row.max_hold,
        stale=row.expired,
        reasons=reasons,
    )
