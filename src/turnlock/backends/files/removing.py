"""Taking a transcript away, by its holder.

It is done under the guard, with the claim checked, as every write is: of a holder that was
superseded nothing is taken away, and none that was superseded writes to what is gone, as its file
is not the one at the path. Whoever reads it goes on with the file that is open. The next turn of
the session begins a new transcript. Who dies right after it leaves a claim that owes nothing.

That it has no name is made durable last. Where that fails it is gone all the same: a power cut may
bring it back, as it was, unless a new one was begun, which makes its own name durable.
"""

from __future__ import annotations

import logging

from ...errors import TranscriptError
from .claims import Claims
from .fileops import FileOps
from .lease import FileLease
from .transcripts import Transcripts, file_of, size_of

logger = logging.getLogger("turnlock")


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
    try:
        transcripts.forget_name(place)
    except OSError as error:
        logger.warning(
            "session taken away, but a power cut may bring it back: path=%s: %s",
            place.transcript,
            error.strerror,
        )
