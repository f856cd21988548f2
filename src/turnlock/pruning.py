"""Sessions that nobody has used for long are taken away, copied into an archive before that.

A session is taken first, as by a turn, so that nobody has it meanwhile; one that somebody has is
left alone. Only then it is asked once more how long ago it was written. The copy is durable, and
nothing of the session was left out, before anything is taken away; and what is taken away is the
transcript as it was copied, or nothing: its size is checked in the same step. Who dies on the way
leaves the session, or the copy alone.

A session that was taken away is as one that never was: its next turn begins a new transcript.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple

from .backends import Backend, Lost, NoSession, SessionRecord, TailMoved
from .clock import iso
from .copying import HeldSession, Result, copy_held
from .errors import SessionBusy
from .limits import check_age
from .session import SessionKey
from .transcript.tail import Tail


class Fate(Enum):
    """What became of a session."""

    GONE = "gone"
    USED = "used"  # it was written meanwhile, or is not there
    BUSY = "busy"  # somebody holds it, here or in the archive, or writes it there
    UNFINISHED = "unfinished"  # its last turn has no terminal entry yet: doctor --fix, or a turn
    DIFFERS = "differs"  # another session of that name is in the archive
    LEFT_OUT = "left-out"  # it has lines, or bytes behind the last one, that no archive would get


class Pruned(NamedTuple):
    """``modified`` and ``size`` are those of the transcript when it was found."""

    session: str
    modified: str
    size: int
    fate: Fate


def idle_sessions(backend: Backend[Any], idle: float) -> Iterator[SessionRecord]:
    """Those that were last written ``idle`` seconds ago or earlier, by the storage's clock.

    Raises `LimitsError` for what is no number of seconds.
    """
    check_age("idle", idle)
    before = iso(backend.now() - idle)
    return (record for record in backend.sessions() if record.modified <= before)


def prune_session(
    backend: Backend[Any], session: SessionKey, *, idle: float, archive: Backend[Any] | None
) -> Pruned:
    """Take one away, if it is idle.

    Raises `StoreError` and the like; then it is still there, unless to give it back failed.
    """
    check_age("idle", idle)
    record = backend.record(session)
    if record is None:
        return Pruned(str(session), "", 0, Fate.USED)

    def said(fate: Fate) -> Pruned:
        return Pruned(record.session, record.modified, record.size, fate)

    if not _is_idle(backend, record, idle):
        return said(Fate.USED)
    try:
        with HeldSession(backend, session, make=False) as held:
            if held.owes:
                return said(Fate.UNFINISHED)
            # The lease keeps others from it from here on; what they wrote before that counts.
            now = backend.record(session)
            if now is None or not _is_idle(backend, now, idle):
                return said(Fate.USED)
            if archive is not None and (kept := _archived(backend, archive, session, held)):
                return said(kept)
            held.keep()
            backend.remove(held.lease, now.size)
            return said(Fate.GONE)
    except NoSession:
        return said(Fate.USED)
    except (SessionBusy, Lost, TailMoved):
        return said(Fate.BUSY)


def _is_idle(backend: Backend[Any], record: SessionRecord, idle: float) -> bool:
    return record.modified <= iso(backend.now() - idle)


def _archived(
    backend: Backend[Any], archive: Backend[Any], session: SessionKey, held: HeldSession
) -> Fate | None:
    """Copy it whole; why it stays, if that could not be done."""
    if _ends_in_no_line(backend, session, held.lease.tail):
        return Fate.LEFT_OUT
    with HeldSession(archive, session, make=True) as theirs:
        copied = copy_held(backend, archive, session, held, theirs)
    if copied.result is Result.DIFFERS:
        return Fate.DIFFERS
    return Fate.LEFT_OUT if copied.left_out else None


def _ends_in_no_line(backend: Backend[Any], session: SessionKey, tail: Tail) -> bool:
    """Whether bytes without a newline are there that are more than an entry."""
    if tail.fragment is None:
        return False
    line = next(backend.read(session, start=tail.fragment), None)
    return line is None or line.size != tail.size - tail.fragment
