"""Having the error markers written that turns owe when nobody holds their session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backends import Backend, Holder, Lost, TakeRequest
from ..backends.files import FilesBackend, OneFile
from ..errors import TurnlockError
from ..session import SessionKey
from ..transcript.tail import Tail, TurnSeen
from ..turns.revoking import COMMAND_PATIENCE, REVOKER_MAX_HOLD, Markers, settle_and_release
from .examination import NOT_TRIED, Examination

# The transcript may have a name that is no key; the layout of one file answers every key with it.
_ANY_KEY = SessionKey("doctor", "doctor")


def settle(
    examination: Examination, path: str, unfinished: Sequence[TurnSeen], size: int
) -> str | None:
    """Take the session for a moment, as whoever holds it writes first what is owed.

    ``unfinished`` are the turns without terminal entry in the first ``size`` bytes. Returns why one
    of them has none still, None when all have. It does not wait, and takes the session without a
    turn: should this process die meanwhile, it owes nothing itself.
    """
    if examination.disk_hangs:
        return NOT_TRIED
    backend: Backend[Any] = FilesBackend(
        OneFile(path),
        clock=examination.clock,
        files=examination.files,
        platform=examination.platform,
    )
    try:
        held = backend.take(_ANY_KEY, TakeRequest(None, REVOKER_MAX_HOLD, header=False))
    except TurnlockError as error:
        return str(error)
    except Lost:
        return "somebody took the session meanwhile"
    if isinstance(held, Holder):
        held.close()
        return "somebody holds the session now"
    moved = held.tail.size != size
    if not moved:
        held.tail = owing(held.tail, unfinished)
    settlement = settle_and_release(
        examination.runtime, backend, held, path, patience=COMMAND_PATIENCE
    )
    examination.disk_hangs = settlement.is_unfinished
    if moved:
        return "somebody wrote it meanwhile; look again"
    if settlement.markers is Markers.WRITTEN:
        # Whether it is still the holder by then is nobody's trouble; a lock that it leaves is.
        return settlement.why or None
    return settlement.why or "it is still owed"


def owing(tail: Tail, unfinished: Sequence[TurnSeen]) -> Tail:
    """The end of a transcript in which more turns are unfinished than its end shows."""
    newest = tail.open_turn
    earlier = [
        turn._replace(turn_id=turn.turn_id or "unknown")
        for turn in unfinished
        if newest is None or turn.epoch != newest.epoch
    ]
    return tail._replace(earlier=tuple(earlier))
