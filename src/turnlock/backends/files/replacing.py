"""Putting a healed copy in the place of a transcript.

A transcript is never rewritten in place, and never cut: a repairer that was stopped before its
truncate and then superseded would cut off what its successor had acknowledged. A copy has no such
moment, if the path changes from one file to the other in one step, and only while nobody can be
writing either.

*Nobody writes the old file.* Every writer checks its claim under the guard of the file that it
writes, and the only claim that is good is the healer's. A zombie that still has the old file open
takes that guard, finds itself fenced, and writes nothing, before the change as after it. One that
was stopped inside the guard keeps it, and then the healer does not get it: `GuardTimeout`, and
nothing was changed.

*The step.* Under the guard of the old file it is asked whether the lock path still names the
healer's claim, whether the transcript's path still names the old file, and whether its size is
still that of what was copied; then the copy is renamed over the path. So whoever supersedes the
healer does so before the rename, which then does not happen, or after it.

*The guard changes hands with the path.* It belongs to a file and not to the path, so whoever waits
for the old file's guard gets it when nobody needs it any more. Everybody who has a guard therefore
asks next whether the path still names the guarded file, and begins again if not; an append or a
release of an old lease has lost its claim anyhow. The copy is born guarded (it is flocked before it
has a name), so that nobody has the new guard before the old one has done its work.

*Nothing is ever missing.* The copy is durable before it has the name; the original gets its second
name before it loses the first. Readers find one of the two, whole; one that is reading the original
goes on with it. Who is killed leaves: nothing; or a temporary file, which is clean-up's; or a
second name of the transcript, which the next healing uses again; or the healed transcript.
"""

from __future__ import annotations

import fcntl
import os
import re

from ...clock import Clock, iso
from ...errors import TranscriptError
from .birth import Newborn, Nursery, temporary_name
from .claims import Claims
from .fileops import FileOps, Handle, write_all
from .inspect import FileId, file_id, named_file
from .layout import list_names
from .lease import FileLease
from .transcripts import Transcripts, file_of, size_of

_SUFFIX = ".bak"
_ORIGINAL = re.compile(r"(.+\.jsonl)\.\d{4}-\d\d-\d\dT[\d.-]+Z(-\d+)?\.bak", re.ASCII)
_BUFFER_BYTES = 1024 * 1024


def is_original(name: str) -> bool:
    """Whether a file's name is one under which the original of a healed transcript is kept."""
    return _ORIGINAL.fullmatch(name) is not None


def transcript_of(name: str) -> str:
    """The name of the transcript that is the healed copy of an original with that name."""
    found = _ORIGINAL.fullmatch(name)
    return found[1] if found is not None else name


class Replacement:
    """A new file, written by the holder of a lease, for the place of its transcript.

    Raises OSError as it comes. Used once, by one thread: `write`, then `put`, or `discard`.
    """

    def __init__(
        self,
        files: FileOps,
        clock: Clock,
        nursery: Nursery,
        transcripts: Transcripts,
        claims: Claims,
        lease: FileLease,
        *,
        durable: bool,
    ) -> None:
        self._files = files
        self._clock = clock
        self._transcripts = transcripts
        self._claims = claims
        self._lease = lease
        self._durable = durable
        place = lease.place
        self._newborn: Newborn = nursery.make(place.directory, place.transcript, b"", flocked=True)
        self._buffer: list[bytes] = []
        self._buffered = 0

    def write(self, line: bytes) -> None:
        self._buffer.append(line)
        self._buffered += len(line)
        if self._buffered >= _BUFFER_BYTES:
            self._flush()

    def put(self, size: int) -> str:
        """Put it in the place of the transcript, which had ``size`` bytes when it was read.

        The path under which the original is kept. Raises `Lost` when the lease was superseded,
        and `TranscriptError` when another program wrote or replaced the transcript meanwhile; the
        transcript is then as it was. An OSError may come after the step as well: then the copy is
        in its place, but a power cut may bring the original back. After it the lease can only be
        released.
        """
        self._flush()
        if self._durable:
            self._files.fsync(self._newborn.handle)
        lease, place = self._lease, self._lease.place
        transcript = lease.transcript
        assert transcript is not None
        self._newborn.name(temporary_name(place.transcript))
        kept = self._keep(transcript)
        with lease.mutex, self._transcripts.guard(place, transcript):
            self._claims.check(lease)
            found = self._transcripts.fingerprint(place.transcript)
            if found is None or file_of(found) != lease.transcript_id or size_of(found) != size:
                raise TranscriptError(place.transcript, "another program changed it meanwhile")
            self._newborn.rename_over(place.transcript)
        self._files.flock(self._newborn.handle, fcntl.LOCK_UN)
        self._newborn.handle.close()
        self._sync_directory()
        return kept

    def discard(self) -> None:
        self._newborn.discard()

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        if data:
            write_all(self._files, self._newborn.handle, data)

    def _keep(self, transcript: Handle) -> str:
        """Give the original its second name, or find the one that a killed healing gave it."""
        place = self._lease.place
        original = file_id(self._files.stat_handle(transcript))
        kept = self._kept(original)
        if kept is None:
            kept = self._free_name()
            self._files.link(place.transcript, kept)
            if named_file(self._files, kept) != original:
                self._files.unlink(kept)
                raise TranscriptError(place.transcript, "another program replaced it meanwhile")
        self._sync_directory()
        return kept

    def _kept(self, original: FileId) -> str | None:
        place = self._lease.place
        own = os.path.basename(place.transcript)
        for name in list_names(self._files, place.directory):
            path = f"{place.directory}/{name}"
            is_own = is_original(name) and transcript_of(name) == own
            if is_own and named_file(self._files, path) == original:
                return path
        return None

    def _free_name(self) -> str:
        name = f"{self._lease.place.transcript}.{iso(self._clock.wall()).replace(':', '-')}"
        number = 1
        free = f"{name}{_SUFFIX}"
        while os.path.lexists(free):
            number += 1
            free = f"{name}-{number}{_SUFFIX}"
        return free

    def _sync_directory(self) -> None:
        if not self._durable:
            return
        directory = self._files.open(self._lease.place.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._files.fsync(directory)
        finally:
            directory.close()
