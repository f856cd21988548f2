"""Having the error marker written that a turn owes when nobody holds its session."""

from __future__ import annotations

from typing import Any

from ..backends import Backend, Holder, Lost, TakeRequest
from ..backends.files import FilesBackend, OneFile
from ..errors import TurnlockError
from ..session import SessionKey
from ..turns.revoking import REVOKER_MAX_HOLD, settle_and_release
from ..turns.runtime import Runtime
from .endings import read_transcript
from .examination import Examination, warnings_of_the_core

# The transcript may have a name that is no key; the layout of one file answers every key with it.
_ANY_KEY = SessionKey("doctor", "doctor")


def settle(examination: Examination, path: str, turn_id: str | None) -> str | None:
    """Take the session for a moment, as whoever holds it writes first what is owed.

    Returns why the turn has no terminal entry still, None when it has. It does not wait, and takes
    the session without a turn: should this process die meanwhile, it owes nothing itself.
    """
    backend: Backend[Any] = FilesBackend(
        OneFile(path),
        clock=examination.clock,
        files=examination.files,
        platform=examination.platform,
    )
    with warnings_of_the_core() as said:
        try:
            held = backend.take(_ANY_KEY, TakeRequest(None, REVOKER_MAX_HOLD, header=False))
        except TurnlockError as error:
            return str(error)
        except Lost:
            return "somebody took the session meanwhile"
        if isinstance(held, Holder):
            held.close()
            return "somebody holds the session now"
        settle_and_release(Runtime(clock=examination.clock), backend, held, path)
    unfinished = read_transcript(examination.files, path).tail.open_turn
    if unfinished is not None and unfinished.turn_id == turn_id:
        return "; ".join(said) or "it is still owed"
    return None
