"""Taking a transcript away, by its holder.

It is done under the guard, with the claim checked, as every write is: of a holder that was
superseded nothing is taken away, and none that was superseded writes to what is gone, as its file
is not the one at the path. Whoever reads it goes on with the file that is open. The next turn of
the session begins a new transcript. Who dies right after it leaves a claim that owes nothing.
"""

from __future__ import annotations

from ...errors import TranscriptError
from .claims import Claims
from .fileops import FileOps
from .lease import FileLease
from .transcripts import Transcripts, file_of, size_of


def remove(
    files: FileOps, transcripts: Transcripts, claims: Claims, lease: FileLease, size: int
) -> None:
    """Raises `Lost`, and `TranscriptError` for one that was changed; OSError as it comes."""
    place, transcript = lease.place, lease.transcript
    assert transcript is not None
    with transcripts.guard(place, transcript):
        claims.check(lease)
        found = transcripts.fingerprint(place.transcript)
        if found is None or file_of(found) != lease.transcript_id or size_of(found) != size:
            raise TranscriptError(place.transcript, "another program changed it meanwhile")
        files.unlink(place.transcript)
    transcripts.forget_name(place)
