"""Removing one stale lock: what start-up clean-up and ``doctor --fix`` do."""

from __future__ import annotations

import logging
from typing import Any

from .backends import Backend, LockRecord, TakeRequest
from .errors import TurnlockError, seconds
from .events import LockReclaimed
from .turns.revoking import REVOKER_MAX_HOLD, settle_and_release
from .turns.runtime import Runtime

logger = logging.getLogger("turnlock")


def clean_lock(
    runtime: Runtime, backend: Backend[Any], record: LockRecord, stale_after: float
) -> LockRecord:
    """Take over a stale lock, write what it owes, release it. Reports; raises nothing."""
    try:
        return _clean(runtime, backend, record, stale_after)
    except Exception as error:
        # The outermost frame for one session: a bug that it meets must not stop a sweep over all.
        logger.exception("stale lock left in place: path=%s: %r", record.path, error)
        return record


def _clean(
    runtime: Runtime, backend: Backend[Any], record: LockRecord, stale_after: float
) -> LockRecord:
    request = TakeRequest(None, REVOKER_MAX_HOLD, header=False)
    try:
        held = backend.reclaim(record, request, stale_after=stale_after)
    except TurnlockError as error:
        logger.warning("stale lock left in place: path=%s: %s", record.path, error)
        return record
    if held is None:
        return record
    settle_and_release(runtime, backend, held, record.session or record.path)
    if not _is_gone(backend, record):
        # Its marker cannot be written now; a dead claim of ours stands for it.
        return record
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
    return record._replace(removed=True)


def _is_gone(backend: Backend[Any], record: LockRecord) -> bool:
    """Whether it is known to be gone."""
    try:
        return backend.is_gone(record)
    except TurnlockError as error:
        logger.warning("stale lock taken, and not looked at again: path=%s: %s", record.path, error)
        return False
