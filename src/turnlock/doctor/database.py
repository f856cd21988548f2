"""Doctor on a database: its leases, and what else an operator should know of it.

Without ``fix`` nothing is changed. With it leases that ran out are reclaimed, and turns that nobody
ended get their error markers, each as a gateway would do it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..backends import LockRecord
from ..backends.postgres import INDEXES, VERSION, Health, PostgresBackend
from ..clock import Clock, SystemClock
from ..errors import LeaseRevoked, SessionBusy, seconds
from ..store import Store
from ..turns.revoking import COMMAND_PATIENCE
from .findings import Finding, Report, finding, report

# Seconds. Entries bear the time of their host; a few seconds confuse nobody.
_CLOCK_OFF = 5.0
_TRANSACTION_OLD = 300.0
# Versions of rows that nobody can see any more: so many, and so many times those that count.
_DEAD_ROWS = 10_000
_DEAD_SHARE = 5


def examine_database(
    backend: PostgresBackend, store: Store, *, fix: bool, deep: bool, clock: Clock | None = None
) -> Report:
    """Look at the database of a store. ``deep``: at the end of every transcript as well.

    Raises `StoreError` when the database cannot be looked at.
    """
    locks = store.clean_stale(patience=COMMAND_PATIENCE) if fix else store.locks()
    found = [one for lock in locks for one in _of_lock(lock)]
    found += _of_health(backend.health(), store.location, (clock or SystemClock()).wall())
    if deep:
        found += _of_transcripts(backend, store, {lock.session for lock in locks}, fix=fix)
    return report(store.location, locks, found)


def facts_of(backend: PostgresBackend, clock: Clock | None = None) -> dict[str, Any]:
    """What is worth knowing of a database in order: the versions of its tables and of this
    program's, and by how many seconds this host's clock is ahead of the database's.
    """
    health = backend.health()
    return {
        "schema_version": health.version,
        "program_version": VERSION,
        "clock_seconds_ahead": round((clock or SystemClock()).wall() - health.now, 3),
    }


def _of_lock(lock: LockRecord) -> Iterator[Finding]:
    if lock.stale:
        message = "its lease has run out: its gateway is gone, or cannot reach the database"
        hint = "a gateway reclaims it, or: turnlock doctor --fix --store URL"
        yield finding("stale-lock", lock.path, message, hint, fixed=lock.removed)
    elif "over-limit" in lock.reasons:
        age = seconds(lock.age_seconds or 0.0)
        yield finding(
            "over-limit",
            lock.path,
            f"its turn has held it for {age}, longer than its limit",
            f"turnlock release {lock.session} --store URL",
        )


def _of_health(health: Health, where: str, wall: float) -> Iterator[Finding]:
    off = wall - health.now
    if abs(off) > _CLOCK_OFF:
        which = "ahead of" if off > 0 else "behind"
        yield finding(
            "database-clock",
            where,
            f"the clock of this host is {seconds(abs(off))} {which} the database's",
            "set both by NTP; leases are judged by the database's, entries bear their host's time",
        )
    if health.indexes < INDEXES:
        yield finding(
            "database-indexes",
            where,
            f"{INDEXES - health.indexes} of {INDEXES} indexes are missing or not valid",
            "REINDEX SCHEMA turnlock; or restore what was dropped",
        )
    dead, live = health.dead_rows or 0, health.live_rows or 0
    if dead > _DEAD_ROWS and dead > live * _DEAD_SHARE:
        yield finding(
            "database-bloat",
            where,
            f"{dead} dead versions of rows lie beside {live} sessions: takes and appends get slow",
            "VACUUM turnlock.session; look for old transactions and at autovacuum",
        )
    oldest = health.oldest_transaction
    if oldest is not None and oldest > _TRANSACTION_OLD:
        yield finding(
            "database-old-transaction",
            where,
            f"a transaction has been open for {seconds(oldest)}: dead versions of rows stay",
            "look for it in pg_stat_activity (xact_start), and end it",
        )
    if not health.is_durable:
        yield finding(
            "database-not-durable",
            where,
            "fsync or full_page_writes is off: a power loss may cost what was acknowledged",
            "set both to on in postgresql.conf",
        )


def _of_transcripts(
    backend: PostgresBackend, store: Store, held: set[str | None], *, fix: bool
) -> Iterator[Finding]:
    for session in backend.torn():
        yield finding(
            "database-torn",
            f"postgresql:{session}",
            "the size of its transcript is not where its last line ends: rows were changed by hand",
            "restore it from a backup: until then no append to it succeeds",
        )
    for record in store.sessions():
        if record.session not in held and store.status(record.session, turns=1).end.owes:
            yield finding(
                "unfinished-turn",
                record.path,
                "its last turn has no terminal entry, and nobody holds it",
                "the next turn marks it, or: turnlock doctor --deep --fix --store URL",
                fixed=fix and _settled(store, record.session),
            )


def _settled(store: Store, session: str) -> bool:
    """Take the session for a moment: whoever takes it writes what is owed."""
    try:
        with store.turn(session, wait=0):
            pass
    except (SessionBusy, LeaseRevoked):
        return False
    return not store.status(session, turns=1).end.owes
