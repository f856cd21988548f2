"""The files backend: `Backend` on claims, flocks and renames."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Collection, Hashable, Sequence

from ...clock import Clock, SystemClock
from ...errors import LockPathError, StoreError, TranscriptError
from ...session import SessionKey
from ...transcript.ids import KnownIds
from ...transcript.jsonl import ReadAt
from ...transcript.tail import Tail
from .. import (
    STALE_AFTER,
    Freed,
    Holder,
    LockRecord,
    Lost,
    NoSession,
    TailMoved,
    TakeRequest,
    Wake,
    Whose,
    give_back,
)
from .beginning import Beginning, Missing
from .birth import Nursery
from .claim import Scribe
from .claims import Claims
from .fileops import FileOps, Handle, write_all
from .guard import GUARD_TIMEOUT
from .inspect import Inspector, Judged, named_file
from .judgement import State
from .layout import Layout, Place
from .lease import FileLease
from .line import Line, Standing
from .listing import Listing
from .platform import Platform, native
from .removing import remove
from .replacing import Replacement
from .storage import Storage, storage_error
from .transcripts import Idle, Transcripts, file_of, size_of
from .waiting import Waiting, held, is_past_grace, vacant

# A claim that is unreadable may be one that a foreign writer is just making: a take looks again for
# so long, and then says that the session is held.
_BIRTH_PATIENCE = 0.5
_BIRTH_PAUSE = 0.02
# How often a take starts again because the lock changed hands under it; far above what races give.
_TAKE_ATTEMPTS_MAX = 1000
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})
_DURABILITIES = ("fsync", "none")


class FilesBackend(Listing):
    """Sessions as files. See the package's docstring for the protocol.

    ``durability``: ``fsync`` (default: what is acknowledged survives power loss) or ``none`` (it
    survives the death of the process, not of the machine). ``guard_timeout`` in seconds.
    ``revokes_unseen``: `supersede` also takes a claim of another host's and another boot's whose
    flock is free, on an operator's word that its holder is gone; nothing else ever does.
    Raises `StoreError` where the system has no flock (Windows).
    """

    leases_expire = False
    is_text_only = False

    def __init__(
        self,
        layout: Layout,
        *,
        clock: Clock | None = None,
        files: FileOps | None = None,
        platform: Platform | None = None,
        durability: str = "fsync",
        guard_timeout: float = GUARD_TIMEOUT,
        revokes_unseen: bool = False,
    ) -> None:
        if durability not in _DURABILITIES:
            raise ValueError(f"durability is {durability!r}; it is one of {_DURABILITIES}")
        files = files or FileOps()
        self._clock = clock or SystemClock()
        self._platform = platform or native()
        super().__init__(layout, files, Inspector(files, self._clock, self._platform.processes))
        self._durable = durability == "fsync"
        self._revokes_unseen = revokes_unseen
        self._nursery = nursery = Nursery(files, unnamed=self._platform.unnamed_files)
        self._line = Line(files, self._clock)
        self._waiting = Waiting(files, self._clock, self._platform.waker, self._inspector)
        self._transcripts = Transcripts(
            files,
            self._clock,
            nursery,
            root=layout.root,
            durable=self._durable,
            guard_timeout=guard_timeout,
        )
        scribe = Scribe(self._platform.processes)
        self._claims = Claims(files, self._clock, nursery, scribe, self._transcripts)
        self._beginning = Beginning(files, self._transcripts, self._claims)

    def move_aside(self, judged: Judged) -> str | None:
        """See `Claims.move_aside`."""
        return self._claims.move_aside(judged)

    def identity(self, session: SessionKey) -> Hashable:
        return self.layout.place(session).lock

    def close(self) -> None:
        """What is kept open is bounded, and serves the next store of this process as well."""

    # Taking

    def take(
        self, session: SessionKey, request: TakeRequest, *, standing: Standing | None = None
    ) -> FileLease | Holder:
        place = self.layout.place(session)
        lease: FileLease | None = None
        try:
            if standing is None:
                if self._line.has_to_give_way(place):
                    return vacant(place)
                # Most locks are free: trying is cheaper than looking first.
                lease = self._claims.put(place, request)
                if lease is not None:
                    return self._begun(lease, request)
            return self._take_contended(place, request, standing)
        except OSError as error:
            raise storage_error("take", place.lock, error) from error
        except BaseException:
            # A signal's handler may raise as well; nobody else knows of the claim yet.
            if lease is not None:
                self.release(lease)
            raise

    def _take_contended(
        self, place: Place, request: TakeRequest, standing: Standing | None
    ) -> FileLease | Holder:
        patience = self._clock.monotonic() + _BIRTH_PATIENCE
        for _ in range(_TAKE_ATTEMPTS_MAX):
            found = self._take_once(place, request, patience, standing)
            if found is not None:
                return found
        raise StoreError(place.lock, "take", f"it changed hands {_TAKE_ATTEMPTS_MAX} times")

    def _take_once(
        self, place: Place, request: TakeRequest, patience: float, standing: Standing | None
    ) -> FileLease | Holder | None:
        # Who stands further behind probes lightly, or whoever comes first would be refused.
        may_try = standing is None or standing.may_try()
        judged = None
        if standing is None or named_file(self._files, place.lock) is not None:
            judged = self._inspector.look(place, to_take=may_try, stale_after=STALE_AFTER)
        reason = None if judged is None else _reason_to_supersede(judged)
        if (judged is None or reason is not None) and not may_try:
            return vacant(place, judged)
        if judged is None:
            prepared = standing.prepared() if standing is not None else None
            lease = self._claims.put(place, request, prepared=prepared)
        elif reason is not None:
            lease = self._claims.supersede(place, request, judged, reason)
        elif judged.verdict.state is State.YOUNG and self._clock.monotonic() < patience:
            judged.close()
            self._clock.sleep(_BIRTH_PAUSE)
            return None
        else:
            if standing is not None:
                standing.sees_holder()
            return held(judged)
        if lease is None:
            return None
        if standing is not None:
            standing.took()
        return self._begun(lease, request)

    # Superseding

    def supersede(
        self,
        session: SessionKey,
        request: TakeRequest,
        *,
        lease: FileLease | None,
        reason: str,
        turn_id: str | Whose | None = Whose.ANYONES,
    ) -> FileLease | None:
        place = self.layout.place(session)
        with Storage("supersede", place.lock):
            judged = self._inspector.look(place, to_take=True, stale_after=STALE_AFTER)
            if judged is None:
                return None
            another = lease is not None and judged.id != lease.claim_id
            if another or turn_id not in (judged.claim.turn_id, Whose.ANYONES):
                judged.close()
                return None
            if lease is None and not (self._revokes_unseen and judged.is_unseen):
                # The inode of a lease of this process needs no verdict: it is its own.
                _require_revocable(judged)
            if judged.verdict.state is State.STALE:
                reason = "interrupted"
            try:
                taken = self._claims.supersede(place, request, judged, reason, lease=lease)
            except OSError as error:
                if lease is None or error.errno not in _NO_ROOM:
                    raise
                self._claims.remove_guarded(lease)
                raise Freed(f"no claim can be written: {error.strerror}") from error
            # A lease that had its transcript open: one that is gone was deleted.
            had_one = lease is not None and lease.transcript is not None
            missing = Missing.LEFT if had_one else Missing.MADE
            return taken and self._begun_unless_lost(taken, request, missing)

    def reclaim(
        self, record: LockRecord, request: TakeRequest, *, stale_after: float = STALE_AFTER
    ) -> FileLease | None:
        place = self.layout.place_of_lock(record.path)
        with Storage("reclaim", place.lock):
            judged = self._inspector.look(place, to_take=True, stale_after=stale_after)
            if judged is None:
                return None
            if judged.verdict.state is not State.STALE:
                judged.close()
                return None
            taken = self._claims.supersede(place, request, judged, "interrupted")
            return taken and self._begun_unless_lost(taken, request, Missing.MADE_IF_OWED)

    def _begun_unless_lost(
        self, lease: FileLease, request: TakeRequest, missing: Missing
    ) -> FileLease | None:
        try:
            return self._begun(lease, request, missing)
        except Lost:
            return None

    def _begun(
        self, lease: FileLease, request: TakeRequest, missing: Missing | None = None
    ) -> FileLease:
        """Open the transcript and read its end. Raises `Lost` when the claim was gone before.

        ``missing`` is what was asked for, unless given.

        Not tried again in silence: whoever superseded it has written the turn's error marker.
        """
        asked = Missing.MADE if request.make else Missing.MADE_IF_OWED
        try:
            self._beginning.begin(lease, request, missing or asked)
            if lease.transcript is None and not request.make:
                raise NoSession
        except Lost:
            raise
        except BaseException:
            # As above: a claim that is put and not given back holds the session until its limit.
            give_back(self, lease)
            raise
        return lease

    # The lease at work

    def holds(self, lease: FileLease) -> bool:
        with Storage("look", lease.place.lock):
            return not lease.released and self._claims.is_held(lease)

    def renew(self, leases: Sequence[FileLease]) -> list[FileLease]:
        return [lease for lease in leases if not self.holds(lease)]

    def append(self, lease: FileLease, lines: Sequence[bytes], after: Tail) -> None:
        place = lease.place
        with lease.mutex, Storage("append", place.transcript):
            if lease.spoiled:
                raise StoreError(place.transcript, "append", "an fsync failed: the lease has ended")
            if lease.released or lease.transcript is None:
                raise Lost
            if lease.tail.epoch == 0:
                self._transcripts.make_name_durable(place)
            try:
                self._write(lease, lease.transcript, b"".join(lines), after)
            except OSError:
                # What of it is in the file is unknown; the next append looks first.
                lease.tail = lease.tail._replace(size=-1)
                raise
            if self._durable:
                self._make_durable(lease, lease.transcript)

    def _write(self, lease: FileLease, transcript: Handle, data: bytes, after: Tail) -> None:
        place = lease.place
        with self._transcripts.guard(place, transcript):
            self._claims.check(lease)
            found = self._transcripts.fingerprint(place.transcript)
            if found is None or file_of(found) != lease.transcript_id:
                raise TranscriptError(
                    place.transcript, "it was removed or replaced while a turn was writing it"
                )
            size = size_of(found)
            moved = size != lease.tail.size
            if not moved:
                if lease.tail.fragment is not None:
                    data = b"\n" + data
                write_all(self._files, transcript, data)
                lease.tail = after._replace(size=size + len(data), fragment=None)
        if moved:
            lease.ids = None
            turns = 1 + len(lease.owed)
            lease.tail = self._transcripts.tail(transcript, size, turns=turns, known=lease.tail)
            raise TailMoved

    def _make_durable(self, lease: FileLease, transcript: Handle) -> None:
        try:
            self._files.fdatasync(transcript)
        except OSError:
            # The kernel may have dropped the pages and called them clean: a second fsync would
            # succeed and prove nothing. Whoever comes next reads what is really there.
            lease.spoiled = True
            lease.tail = lease.tail._replace(size=-1)
            self._unlink_claim(lease)
            raise

    def known_ids(self, lease: FileLease, ids: Collection[str]) -> set[str]:
        transcript = lease.transcript
        if transcript is None:
            return set()
        with Storage("read", lease.place.transcript):
            if lease.ids is None or self._transcripts.size(transcript) < lease.ids.read_to:
                lease.ids = KnownIds()
            return lease.ids.among(self._transcripts.reader(transcript), ids)

    def header_id(self, lease: FileLease) -> str | None:
        if lease.transcript is None:
            return None
        with Storage("read", lease.place.transcript):
            return self._transcripts.header_id(lease.transcript)

    def content(self, lease: FileLease) -> tuple[ReadAt, int]:
        """The lease's transcript: how to read it, and its size now."""
        assert lease.transcript is not None
        return self._transcripts.reader(lease.transcript), self._transcripts.size(lease.transcript)

    def header_line(self) -> bytes:
        """A header for a transcript that has none."""
        return self._transcripts.header_line()

    def replacement(self, lease: FileLease) -> Replacement:
        """A new file for the place of the lease's transcript; see ``replacing``."""
        return Replacement(
            self._files,
            self._clock,
            self._nursery,
            self._transcripts,
            self._claims,
            lease,
            durable=self._durable,
        )

    def remove(self, lease: FileLease, size: int) -> None:
        with lease.mutex, Storage("remove", lease.place.transcript):
            if lease.released or lease.transcript is None:
                raise Lost
            remove(self._files, self._transcripts, self._claims, lease, size)

    def now(self) -> float:
        return self._clock.wall()

    def release(self, lease: FileLease) -> bool:
        with lease.mutex, Storage("release", lease.place.lock):
            return lease.released or self._free(lease)

    def _free(self, lease: FileLease) -> bool:
        try:
            return self._unlink_claim(lease)
        except BaseException as error:
            is_free = lease.released
            # What cannot be removed is at least dead: the next taker reclaims it.
            lease.released = True
            self._files.flock(lease.claim, fcntl.LOCK_UN)
            if lease.transcript is not None:
                self._files.flock(lease.transcript, fcntl.LOCK_UN)
            if is_free and isinstance(error, OSError):
                # Only the guard was not dropped at once.
                return True
            raise

    def _unlink_claim(self, lease: FileLease) -> bool:
        """Free the lock path if it still names this lease's claim; whether it did.

        The claim stays open until the lease object is gone: were its inode number free, somebody
        who still has this lease to revoke could mistake a successor's claim for it.
        """
        place = lease.place
        transcript = lease.transcript
        if transcript is None:
            return self._claims.remove_guarded(lease)
        with self._transcripts.guard(place, transcript):
            fingerprint = self._transcripts.fingerprint(place.transcript)
            same = fingerprint is not None and file_of(fingerprint) == lease.transcript_id
            removed = same and self._claims.remove(lease)
        if not same:
            removed = self._claims.remove_guarded(lease)
        elif removed and fingerprint is not None and size_of(fingerprint) == lease.tail.size:
            ids = lease.ids if lease.ids is not None and lease.ids.are_few else None
            lease.ids = None
            self._transcripts.keep(place.transcript, Idle(transcript, fingerprint, lease.tail, ids))
        lease.released = True
        # Last, as the session lies idle until a waiter has it.
        self._line.give_way(place, transcript)
        return removed

    def is_gone(self, record: LockRecord) -> bool:
        with Storage("look", record.path):
            return named_file(self._files, record.path) is None

    def leave_owing(self, lease: FileLease) -> None:
        with lease.mutex, Storage("release", lease.place.lock):
            lease.released = True
            self._files.flock(lease.claim, fcntl.LOCK_UN)

    def abandon(self, lease: FileLease) -> None:
        lease.released = True

    # Waiting

    def line_up(self, session: SessionKey) -> Standing:
        return self._line.join(self.layout.place(session))

    def wait(
        self,
        session: SessionKey,
        holder: Holder,
        standing: Standing,
        timeout: float,
        wake: Wake,
    ) -> None:
        with Storage("wait", self.layout.place(session).lock):
            standing.prepare(self._claims.prepare)
            self._waiting.wait(holder.token, standing, timeout, wake)


def _reason_to_supersede(judged: Judged) -> str | None:
    """Why a waiter may take the session from this claim; None when it may not."""
    if judged.verdict.state is State.STALE:
        return "interrupted"
    return "hold-limit" if is_past_grace(judged) else None


def _require_revocable(judged: Judged) -> None:
    """Raises `LockPathError`, and closes the lock, unless the session may be taken by force."""
    path = judged.place.lock
    if judged.verdict.state in (State.UNKNOWN, State.YOUNG):
        judged.close()
        raise LockPathError(path, _why_unknown(judged))
    # A live foreign holder only past its limit: nothing stops it from writing on.
    is_foreign = judged.verdict.state is State.LIVE and not judged.claim.is_ours
    if is_foreign and not judged.verdict.over_limit:
        judged.close()
        raise LockPathError(
            path,
            f"a live program that is not Turnlock holds it (process {judged.pid}), within"
            " its limit, and cannot be fenced",
            "end that program, or wait for its limit",
        )


def _why_unknown(judged: Judged) -> str:
    return f"nobody here can tell whether its holder lives ({', '.join(judged.verdict.reasons)})"
