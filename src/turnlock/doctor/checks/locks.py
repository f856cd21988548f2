"""Locks: who holds each session, and the removal of the stale ones."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ...backends import LockRecord
from ...backends.files.aside import ASSUMED_LIMIT
from ...cleaning import clean_lock
from ...errors import seconds
from ...turns.revoking import COMMAND_PATIENCE
from ..claims import read_claim
from ..examination import NOT_TRIED, Examination
from ..findings import Finding, finding

# Reasons of records that could not be judged, with the text of the error after them.
_UNJUDGED = ("unreadable-object", "read-error")


def check_locks(examination: Examination) -> Iterator[Finding]:
    for seen in examination.store.locks():
        why = ""
        record: LockRecord | None = seen
        if seen.stale and examination.fix:
            record, why = _cleaned(examination, seen)
        if record is not None:
            examination.locks[record.path] = record
            yield from _findings(examination, record, why)


def _cleaned(examination: Examination, seen: LockRecord) -> tuple[LockRecord | None, str]:
    """The lock after it was cleaned up, None when there is none; and what went wrong."""
    if examination.disk_hangs:
        return seen, NOT_TRIED
    stale_after = examination.store.limits.stale_after
    cleaned = clean_lock(
        examination.runtime, examination.backend, seen, stale_after, COMMAND_PATIENCE
    )
    examination.disk_hangs = cleaned.is_unfinished
    if cleaned.record.removed or cleaned.why:
        return cleaned.record, cleaned.why
    # It was stale and is not any more: somebody took it in the meantime, or removed it.
    place = examination.layout.place_of_lock(seen.path)
    return examination.inspector.record(place, stale_after=stale_after), ""


def _findings(examination: Examination, record: LockRecord, why: str) -> Iterator[Finding]:
    if record.stale:
        yield _stale(examination, record, why)
    elif record.reasons[:1] and record.reasons[0] in _UNJUDGED:
        yield finding(
            "lock-object",
            record.path,
            record.reasons[-1],
            f"look at it: ls -ld {shlex.quote(record.path)}; no turn can begin until it is away",
        )
    elif "unreadable" in record.reasons:
        yield finding(
            "young-lock",
            record.path,
            "it cannot be read, but it is so young that its maker may still be writing it",
            f"look again in half a minute: {examination.command('doctor')}",
        )
    elif record.pid_status == "unknown":
        yield _unknown(examination, record)
    else:
        yield from _live(examination, record)


def _stale(examination: Examination, record: LockRecord, why: str) -> Finding:
    what = f"stale ({', '.join(record.reasons)}): its holder{_process(record)} is gone"
    if "unreadable" in record.reasons:
        what = "stale (unreadable): it names no holder and nobody is writing it"
    elif "too-old" in record.reasons:
        what = (
            f"stale (too-old): held{_age(record)} by{_process(record)}, which names no start time"
        )
    if record.removed:
        what = f"removed; it was {what}" + (f"; {why}" if why else "")
    elif examination.fix:
        what = f"{what}; it could not be removed: {why or 'somebody is at it'}"
    return finding(
        "stale-lock",
        record.path,
        what,
        "nothing is left to do" if record.removed else examination.command("doctor --fix"),
        fixed=record.removed,
    )


def _unknown(examination: Examination, record: LockRecord) -> Finding:
    path = shlex.quote(record.path)
    file = read_claim(examination.files, record.path)
    if file is not None and file.claim.is_ours and "other-host" in record.reasons:
        return finding(
            "unknown-holder",
            record.path,
            f"its holder{_process(record)} was of another host or container, or of this one before"
            " it started anew under another name, and cannot be asked (other-host); every turn"
            " waits for it",
            f"if that host or container is gone: {_release(examination, record)}",
        )
    if "flock-held" in record.reasons:
        return finding(
            "unknown-holder",
            record.path,
            "a process that lives holds it, and it does not say which (flock-held): another program"
            " wrote over it, or is making it",
            f"see who has it open: fuser -v {path}; it is free when that process lets go or ends",
        )
    return finding(
        "unknown-holder",
        record.path,
        f"nobody here can tell whether its holder{_process(record)} lives"
        f" ({', '.join(record.reasons)})",
        f"run turnlock doctor where it was made; or, if you know that nobody holds it: rm {path}",
    )


def _live(examination: Examination, record: LockRecord) -> Iterator[Finding]:
    file = read_claim(examination.files, record.path)
    if file is not None and file.claim.is_ours:
        examination.ours.append((file.path, file.mode))
    elif file is not None:
        yield _foreign(examination, record)
    if "over-limit" in record.reasons:
        limit = record.max_hold_seconds
        allowed = f" and may be held for {seconds(limit)}" if limit is not None else ""
        yield finding(
            "over-limit",
            record.path,
            f"held{_age(record)}{allowed} by{_turn(record)}{_process(record)}, which is alive",
            _release(examination, record),
        )


def _foreign(examination: Examination, record: LockRecord) -> Finding:
    message = (
        f"held by{_process(record)}, which is no holder of Turnlock's: Turnlock cannot fence a"
        " running OpenClaw, and a directory shared with one is not supported"
    )
    hint = f"see what it is: ps -fp {record.pid}; stop it before Turnlock uses this directory"
    if _is_past_default(record):
        message += (
            f"; it has been held{_age(record)}, longer than OpenClaw's default of"
            f" {seconds(ASSUMED_LIMIT)}"
        )
        hint = _release(examination, record)
    return finding("foreign-holder", record.path, message, hint)


def _is_past_default(record: LockRecord) -> bool:
    """Past what OpenClaw allows when its lock does not say: then ``release`` takes it as well."""
    unsaid = record.max_hold_seconds is None and record.age_seconds is not None
    return unsaid and (record.age_seconds or 0.0) > ASSUMED_LIMIT


def _release(examination: Examination, record: LockRecord) -> str:
    return examination.command(f"release {shlex.quote(examination.name_of(record))}")


def _process(record: LockRecord) -> str:
    return "" if record.pid is None else f" process {record.pid}"


def _turn(record: LockRecord) -> str:
    return "" if record.turn_id is None else f" turn {record.turn_id} of"


def _age(record: LockRecord) -> str:
    return "" if record.age_seconds is None else f" for {seconds(record.age_seconds)}"
