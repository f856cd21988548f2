"""Many sessions, one after the other: one that cannot be done stops no other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, TypeVar

from ..errors import LockPathError, StoreError, TranscriptError, TurnlockError
from ..printable import printable
from ..store import Store
from .terminal import counted, say

T = TypeVar("T")

# A storage that failed as a whole so many times in a row is gone: every session would wait for it.
_GIVE_UP_AFTER = 3


class Failed(NamedTuple):
    """A session that could not be done, and why."""

    session: str
    why: str


def each(
    sessions: Sequence[str], do: Callable[[str], T], *, stores: Collection[Store]
) -> list[T | Failed]:
    """What ``do`` says of each session, or why it raised.

    Ends early, behind a `Failed`, and says so on stderr, when one of the ``stores`` is gone.
    """
    done: list[T | Failed] = []
    locations = {store.location for store in stores}
    in_a_row = 0
    for session in sessions:
        try:
            done.append(do(session))
            in_a_row = 0
        except (LockPathError, StoreError, TranscriptError) as error:
            done.append(Failed(session, str(error)))
            in_a_row = in_a_row + 1 if _of_a_whole(error, locations) else 0
            if in_a_row == _GIVE_UP_AFTER and len(done) < len(sessions):
                left = counted(len(sessions) - len(done), "session")
                say(f"turnlock: given up, {left} not tried: {printable(error)}", to_stderr=True)
                break
    return done


def _of_a_whole(error: TurnlockError, locations: set[str]) -> bool:
    """Whether it is of a storage and not of one session: a database names nothing smaller."""
    return isinstance(error, StoreError) and error.path in locations
