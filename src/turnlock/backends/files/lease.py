"""A lease on files: the open claim, the open transcript, and what is known of its end."""

from __future__ import annotations

import math
import threading

from ...transcript.ids import KnownIds
from ...transcript.tail import Tail
from .. import Superseded
from .fileops import Handle
from .inspect import FileId
from .layout import Place


class FileLease:
    """``transcript`` is None for a lease that only cleans up a lock without one.

    ``ids`` are those of the transcript, once they were asked for.

    Both descriptors stay open for as long as the object lives, released or revoked or not, so that
    the inode number of its claim cannot come back while somebody may still compare it.

    ``mutex`` serialises the calls on one lease. Whoever supersedes it never needs that: an append
    that hangs in fsync keeps the mutex for as long as it hangs.
    """

    __slots__ = (
        "__weakref__",
        "claim",
        "claim_id",
        "ids",
        "mutex",
        "opening",
        "owed",
        "place",
        "released",
        "spoiled",
        "tail",
        "transcript",
        "transcript_id",
        "turn_id",
    )

    trusted_until = math.inf

    def __init__(
        self,
        place: Place,
        turn_id: str | None,
        claim: Handle,
        claim_id: FileId,
        owed: tuple[Superseded, ...],
        opening: str | None,
    ) -> None:
        self.place = place
        self.turn_id = turn_id
        self.claim = claim
        self.claim_id = claim_id
        self.owed = owed
        self.opening = opening
        self.transcript: Handle | None = None
        self.transcript_id: FileId | None = None
        self.tail = Tail()
        self.ids: KnownIds | None = None
        self.mutex = threading.Lock()
        self.released = False
        self.spoiled = False
