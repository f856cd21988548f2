"""Removing one stale lock: what start-up clean-up and ``doctor --fix`` do."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from .backends import Backend, LockRecord, TakeRequest
from .errors import TurnlockError, seconds, why_of
from .events import LockReclaimed
from .turns.revoking import (
    MARKER_TIMEOUT,
    REVOKER_MAX_HOLD,
    Markers,
    Settlement,
    settle_and_release,
)
from .turns.runtime import Runtime

logger = logging.getLogger("turnlock")


class Cleaned(NamedTuple):
    """``record`` as it is now. ``why``: what went wrong, also where it was removed; or empty.

    ``is_unfinished``: the disk is slow or hangs, and it may be removed yet.
    """

    record: LockRecord
    why: str = ""
    is_unfinished: bool = False


def clean_lock(
    runtime: Runtime,
    backend: Backend[Any],
    record: LockRecord,
    stale_after: float,
    patience: float = MARKER_TIMEOUT,
) -> Cleaned:
    """Take over a stale lock, write what it owes, release it. Reports; raises nothing.

    Returns after ``patience`` seconds when the disk hangs. What is removed later is reported then.
    """
    try:
        return _clean(runtime, backend, record, stale_after, patience)
    except Exception as error:
        # The outermost frame for one session: a bug that it meets must not stop a sweep over all.
        logger.exception("stale lock left in place: path=%s: %r", record.path, error)
        return Cleaned(record, repr(error))


def _clean(
    runtime: Runtime,
    backend: Backend[Any],
    record: LockRecord,
    stale_after: float,
    patience: float,
) -> Cleaned:
    request = TakeRequest(None, REVOKER_MAX_HOLD, header=False)
    try:
        held = backend.reclaim(record, request, stale_after=stale_after)
    except TurnlockError as error:
        logger.warning("stale lock left in place: path=%s: %s", record.path, error)
        return Cleaned(record, why_of(error))
    if held is None:
        return Cleaned(record)
    gone: list[bool] = []

    def look_again(settlement: Settlement) -> None:
        # A marker that cannot be written now leaves a dead claim of ours, which stands for it.
        if settlement.released and _is_gone(backend, record):
            _report(runtime, record)
            gone.append(True)

    label = record.session or record.path
    settlement = settle_and_release(
        runtime, backend, held, label, patience=patience, then=look_again
    )
    why = settlement.why
    if settlement.markers is Markers.OWED:
        why = f"its error marker could not be written: {why}"
    if settlement.is_unfinished or not gone:
        return Cleaned(record, why, settlement.is_unfinished)
    return Cleaned(record._replace(removed=True), why)


def _report(runtime: Runtime, record: LockRecord) -> None:
    reason = record.reasons[0] if record.reasons else "stale"
    runtime.events.emit(
        LockReclaimed(record.session or record.path, record.pid, record.turn_id, reason)
    )
    logger.warning(
        "removed stale lock: path=%s session=%s pid=%s age=%s reasons=%s",
        record.path,
        record.session,
        record.pid,
        "unknown" if record.age_seconds is None else seconds(record.age_seconds),
        ",".join(record.reasons),
    )


def _is_gone(backend: Backend[Any], record: LockRecord) -> bool:
    """Whether it is known to be gone."""
    try:
        return backend.is_gone(record)
    except TurnlockError as error:
        logger.warning("stale lock taken, and not looked at again: path=%s: %s", record.path, error)
        return False
