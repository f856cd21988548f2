"""From a claim to a lease: the transcript is there, and its end is known.

Read without the guard, then compared under it: reading may be slow, and nobody has to wait for it.
Under the guard, because a holder whose lock file was removed by hand may be in its last write.
"""

from __future__ import annotations

from enum import Enum

from ...errors import TranscriptError
from ...transcript.tail import End, Tail
from .. import TakeRequest
from .claims import Claims, owes_for_sure
from .fileops import FileOps, write_all
from .inspect import file_id, named_file
from .lease import FileLease
from .transcripts import Transcripts, file_of

# How far back the turn of a superseded claim is looked for. Its entries are durable, its removal is
# not: after a power cut a claim may be back that was removed some turns ago, and they are not owed
# anything.
_TURNS_SEARCHED = 16
# Who only appends beside us is caught up with in a few; this bounds who replaces the file at will.
_READINGS_MAX = 100


class Missing(Enum):
    """What becomes of a transcript that is not there."""

    MADE = "made"
    MADE_IF_OWED = "made if a marker has to be written"
    # It was there and was deleted: no marker of a turn that nobody wants any more revives it.
    LEFT = "left"


class Beginning:
    """How the leases of one backend begin. Raises OSError as it comes, and `Lost`."""

    def __init__(self, files: FileOps, transcripts: Transcripts, claims: Claims) -> None:
        self._files = files
        self._transcripts = transcripts
        self._claims = claims

    def begin(self, lease: FileLease, request: TakeRequest, missing: Missing) -> None:
        """Fill in the lease's transcript and tail.

        Raises `Lost` when the claim was gone before it had begun.
        """
        if not lease.owed and self._resume(lease):
            return
        is_owed = missing is Missing.MADE_IF_OWED and any(map(owes_for_sure, lease.owed))
        create = missing is Missing.MADE or is_owed
        lease.tail = Tail()
        if not any(self._read_end(lease, request, create=create) for _ in range(_READINGS_MAX)):
            raise TranscriptError(
                lease.place.transcript,
                f"another program wrote or replaced it {_READINGS_MAX} times while it was read",
                "stop that program, or try again",
            )
        if missing is Missing.LEFT and lease.transcript is None:
            lease.owed = ()
            return
        self._forgive_foreign(lease)

    def _resume(self, lease: FileLease) -> bool:
        """Go on with the transcript that this process had last, if nobody touched it since."""
        idle = self._transcripts.kept(lease.place.transcript)
        if idle is None:
            return False
        # The lease's before the guard is taken through it: who ends the lease drops the guard too.
        lease.transcript = idle.handle
        lease.transcript_id = file_of(idle.fingerprint)
        lease.tail = idle.tail
        # That the claim is still there need not be asked: the first append does, in its own step.
        with self._transcripts.guard(lease.place, idle.handle):
            fingerprint = self._transcripts.fingerprint(lease.place.transcript)
        if fingerprint != idle.fingerprint:
            return False
        lease.ids = idle.ids
        return True

    def _read_end(self, lease: FileLease, request: TakeRequest, *, create: bool) -> bool:
        place = lease.place
        header = request.header or any(map(owes_for_sure, lease.owed))
        if create:
            transcript = self._transcripts.open_or_make(place, with_header=header)
        elif (found := self._transcripts.open(place)) is not None:
            transcript = found
        else:
            return True
        status = self._transcripts.status(place, transcript)
        if lease.transcript_id != file_id(status):
            lease.tail = Tail()
        lease.transcript = transcript
        lease.transcript_id = file_id(status)
        turns = 1 + (_TURNS_SEARCHED + len(lease.owed) if lease.owed else 0)
        tail = self._transcripts.tail(transcript, status.st_size, turns=turns, known=lease.tail)
        lease.tail = tail
        with self._transcripts.guard(place, transcript):
            self._claims.check(lease)
            if named_file(self._files, place.transcript) != lease.transcript_id:
                return False
            if self._transcripts.size(transcript) != tail.size:
                return False
            if tail.size == 0 and header:
                line = self._transcripts.header_line()
                write_all(self._files, transcript, line)
                tail = tail._replace(size=len(line))
        lease.tail = tail
        return True

    def _forgive_foreign(self, lease: FileLease) -> None:
        """Drop what a foreign holder owes unless the transcript shows that it was cut off."""
        transcript = lease.transcript
        last = lease.owed[-1] if lease.owed else None
        if last is None or last.turn_id is None or owes_for_sure(last):
            return
        end = self._transcripts.end(transcript, lease.tail.size) if transcript else End()
        if end.unanswered:
            lease.tail = lease.tail._replace(calls=lease.tail.calls or end.calls)
        else:
            lease.owed = lease.owed[:-1]
