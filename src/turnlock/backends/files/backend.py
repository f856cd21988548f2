"""The files backend: `Backend` on claims, flocks and renames."""

from __future__ import annotations

import errno
import fcntl
import threading
from collections.abc import Collection, Hashable, Sequence

from ...clock import Clock, SystemClock
from ...errors import LockPathError, StoreError, TranscriptError
from ...session import SessionKey
from ...transcript.tail import Tail
from .. import (
    STALE_AFTER,
    Holder,
    LockRecord,
    Lost,
    Superseded,
    TailMoved,
    TakeRequest,
)
from .aside import move_aside, name_aside
from .birth import Newborn, Nursery, make_directories, temporary_name
from .claim import Scribe
from .fileops import FileOps, Handle, write_all
from .guard import GUARD_TIMEOUT
from .inspect import FileId, Inspector, Judged, file_id
from .judgement import State
from .layout import Layout, Place
from .lease import FileLease
from .line import Line, Standing
from .listing import Listing
from .platform import Platform, native
from .storage import Storage, storage_error
from .transcripts import Idle, Transcripts, file_of, size_of
from .waiting import Waiting, held, is_past_grace, vacant

# A claim that is unreadable may be one that a foreign writer is just making.
_BIRTH_PATIENCE = 0.5
_BIRTH_PAUSE = 0.02
# How often a take starts again because the lock changed hands under it; far above what races give.
_TAKE_ATTEMPTS_MAX = 1000
# The turn of another program's claim, which names none. It is owed a marker all the same.
_FOREIGN = "foreign-pid-"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})
_DURABILITIES = ("fsync", "none")


class FilesBackend(Listing):
    """Sessions as files. See the package's docstring for the protocol.

    ``durability``: ``fsync`` (default: what is acknowledged survives power loss) or ``none`` (it
    survives the death of the process, not of the machine). ``guard_timeout`` in seconds.
    Raises `StoreError` where the system has no flock (Windows).
    """

    def __init__(
        self,
        layout: Layout,
        *,
        clock: Clock | None = None,
        files: FileOps | None = None,
        platform: Platform | None = None,
        durability: str = "fsync",
        guard_timeout: float = GUARD_TIMEOUT,
    ) -> None:
        if durability not in _DURABILITIES:
            raise ValueError(f"durability is {durability!r}; it is one of {_DURABILITIES}")
        files = files or FileOps()
        self._clock = clock or SystemClock()
        self._platform = platform or native()
        super().__init__(layout, files, Inspector(files, self._clock, self._platform.processes))
        self._durable = durability == "fsync"
        self._nursery = Nursery(files, unnamed=self._platform.unnamed_files)
        self._scribe = Scribe(self._platform.processes)
        self._line = Line(files, self._clock)
        self._waiting = Waiting(files, self._clock, self._platform.waker, self._inspector)
        self._transcripts = Transcripts(
            files,
            self._clock,
            self._nursery,
            root=layout.root,
            durable=self._durable,
            guard_timeout=guard_timeout,
        )

    def identity(self, session: SessionKey) -> Hashable:
        return self.layout.place(session).lock

    # Taking

    def take(
        self, session: SessionKey, request: TakeRequest, *, standing: Standing | None = None
    ) -> FileLease | Holder:
        place = self.layout.place(session)
        try:
            if standing is None:
                if self._line.has_to_give_way(place):
                    return vacant(place)
                # Most locks are free: trying is cheaper than looking first.
                lease = self._claim_free(place, request)
                if lease is not None and self._begun(lease, request) is not None:
                    return lease
            return self._take_contended(place, request, standing)
        except OSError as error:
            raise storage_error("take", place.lock, error) from error

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
        judged = self._inspector.look(place, to_take=may_try, stale_after=STALE_AFTER)
        reason = None if judged is None else _reason_to_supersede(judged)
        if (judged is None or reason is not None) and not may_try:
            return vacant(place, judged)
        if judged is None:
            lease = self._claim_free(place, request)
        elif reason is not None:
            lease = self._supersede(place, request, judged, reason)
        elif judged.verdict.state is State.YOUNG:
            judged.close()
            self._wait_for_birth(place, patience)
            return None
        else:
            if standing is not None:
                standing.sees_holder()
            return held(judged)
        if lease is not None and standing is not None:
            standing.took()
        return lease and self._begun(lease, request)

    def _wait_for_birth(self, place: Place, patience: float) -> None:
        if self._clock.monotonic() >= patience:
            raise LockPathError(
                place.lock,
                "it is no claim that can be read",
                "it counts as stale 30 s after its last change; then anyone who needs it takes it",
            )
        self._clock.sleep(_BIRTH_PAUSE)

    def _claim_free(self, place: Place, request: TakeRequest) -> FileLease | None:
        try:
            newborn = self._new_claim(place, request, ())
        except FileNotFoundError:
            make_directories(self._files, place.directory)
            newborn = self._new_claim(place, request, ())
        try:
            linked = newborn.link(place.lock)
        except BaseException:
            newborn.discard()
            raise
        if not linked:
            newborn.discard()
            return None
        return self._lease(place, newborn, ())

    def _new_claim(self, place: Place, request: TakeRequest, owed: Sequence[Superseded]) -> Newborn:
        content = self._scribe.write(
            turn_id=request.turn_id,
            session=place.label,
            max_hold=request.max_hold,
            wall=self._clock.wall(),
            monotonic=self._clock.monotonic(),
            owed=owed,
        )
        return self._nursery.make(place.directory, place.lock, content, flocked=True)

    def _lease(self, place: Place, newborn: Newborn, owed: tuple[Superseded, ...]) -> FileLease:
        claim_id = file_id(self._files.stat_handle(newborn.handle))
        return FileLease(place, newborn.handle, claim_id, owed)

    # Superseding

    def supersede(
        self,
        session: SessionKey,
        request: TakeRequest,
        *,
        lease: FileLease | None,
        reason: str,
    ) -> FileLease | None:
        place = self.layout.place(session)
        with Storage("supersede", place.lock):
            judged = self._inspector.look(place, to_take=True, stale_after=STALE_AFTER)
            if judged is None:
                return None
            if lease is not None and judged.id != lease.claim_id:
                judged.close()
                return None
            if judged.verdict.state in (State.UNKNOWN, State.YOUNG):
                judged.close()
                raise LockPathError(place.lock, _why_unknown(judged))
            if lease is None and not _may_be_revoked(judged):
                judged.close()
                raise LockPathError(
                    place.lock,
                    f"a live program that is not Turnlock holds it (process {judged.pid}), within"
                    " its limit, and cannot be fenced",
                    "end that program, or wait for its limit",
                )
            if judged.verdict.state is State.STALE:
                reason = "interrupted"
            try:
                taken = self._supersede(place, request, judged, reason)
            except OSError as error:
                if lease is None or error.errno not in _NO_ROOM:
                    raise
                self._free_on_behalf(lease)
                return None
            return taken and self._begun(taken, request)

    def _free_on_behalf(self, lease: FileLease) -> None:
        """Fence a lease of this process where there is no room for a claim: free its lock path.

        Not through the lease's own descriptor: a call that hangs may be using it.
        """
        self._unlink_under(self._transcripts.open_to_guard(lease.place), lease)

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
            taken = self._supersede(place, request, judged, "interrupted")
            return taken and self._begun(taken, request, cleaning=True)

    def move_aside(self, judged: Judged) -> str | None:
        """Rename the lock of another program to a name that is no lock's; the new path.

        None when the path does not name the judged file any more. See ``aside`` for what this can
        do, and what not. Raises `StoreError`, `LockPathError`.
        """
        place = judged.place
        with Storage("move aside", place.lock):
            aside = name_aside(place.lock, self._clock.wall())
            transcript = self._transcripts.open_to_guard(place)
            if transcript is None:
                moved = move_aside(self._files, place.lock, judged.id, aside)
            else:
                with self._transcripts.guard(place, transcript):
                    moved = move_aside(self._files, place.lock, judged.id, aside)
                transcript.close()
        return aside if moved else None

    def _supersede(
        self, place: Place, request: TakeRequest, judged: Judged, reason: str
    ) -> FileLease | None:
        """Rename a claim of ours over the judged one, if the path still names that one."""
        claim = judged.claim
        turn_id = claim.turn_id if claim.is_ours else _foreign_turn(judged)
        owed = (*claim.owed, Superseded(turn_id, claim.pid, reason, judged.age))
        fence = judged.verdict.state is State.LIVE and claim.is_ours
        newborn: Newborn | None = None
        try:
            newborn = self._new_claim(place, request, owed)
            newborn.name(temporary_name(place.lock))
            transcript = self._transcripts.open(place)
            if transcript is None and fence:
                transcript = self._transcripts.open_or_make(place, with_header=False)
            if transcript is None:
                renamed = self._rename_if_named(place, newborn, judged.id)
            else:
                with self._transcripts.guard(place, transcript):
                    renamed = self._rename_if_named(place, newborn, judged.id)
                transcript.close()
            if not renamed:
                newborn.discard()
                return None
            return self._lease(place, newborn, owed)
        except BaseException:
            if newborn is not None:
                newborn.discard()
            raise
        finally:
            # The flock on a judged file lasts until here; a copy in a child must not prolong it.
            self._files.flock(judged.handle, fcntl.LOCK_UN)
            judged.close()

    def _rename_if_named(self, place: Place, newborn: Newborn, wanted: FileId) -> bool:
        if self._named(place.lock) != wanted:
            return False
        newborn.rename_over(place.lock)
        return True

    # Beginning: the transcript's end

    def _begun(
        self, lease: FileLease, request: TakeRequest, *, cleaning: bool = False
    ) -> FileLease | None:
        """Open the transcript and read its end; None when the claim was gone before that."""
        try:
            if lease.owed or not self._resume(lease):
                self._begin(lease, request, cleaning=cleaning)
        except Lost:
            return None
        except BaseException:
            self.release(lease)
            raise
        return lease

    def _resume(self, lease: FileLease) -> bool:
        """Go on with the transcript that this process had last, if nobody touched it since."""
        idle = self._transcripts.kept(lease.place.transcript)
        if idle is None:
            return False
        # That the claim is still there need not be asked: the first append does, in its own step.
        with self._transcripts.guard(lease.place, idle.handle):
            if self._transcripts.fingerprint(lease.place.transcript) != idle.fingerprint:
                return False
        lease.transcript = idle.handle
        lease.transcript_id = file_of(idle.fingerprint)
        lease.tail = idle.tail
        return True

    def _begin(self, lease: FileLease, request: TakeRequest, *, cleaning: bool) -> None:
        create = not cleaning or any(map(_owes_for_sure, lease.owed))
        while not self._read_end(lease, request, create=create):
            pass
        self._forgive_foreign(lease)

    def _read_end(self, lease: FileLease, request: TakeRequest, *, create: bool) -> bool:
        place = lease.place
        header = request.header or any(map(_owes_for_sure, lease.owed))
        if create:
            transcript = self._transcripts.open_or_make(place, with_header=header)
        elif (found := self._transcripts.open(place)) is not None:
            transcript = found
        else:
            return True
        status = self._transcripts.status(place, transcript)
        lease.transcript = transcript
        lease.transcript_id = file_id(status)
        tail = self._tail(lease, transcript, status.st_size)
        with self._transcripts.guard(place, transcript):
            self._check_claim(lease)
            if self._named(place.transcript) != lease.transcript_id:
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
        if last is None or last.turn_id is None or _owes_for_sure(last):
            return
        if transcript is None or not self._transcripts.ends_unanswered(transcript, lease.tail.size):
            lease.owed = lease.owed[:-1]

    def _tail(self, lease: FileLease, transcript: Handle, size: int) -> Tail:
        return self._transcripts.tail(transcript, size, turns=1 + len(lease.owed))

    # The lease at work

    def holds(self, lease: FileLease) -> bool:
        return not lease.released and self._named(lease.place.lock) == lease.claim_id

    def append(self, lease: FileLease, lines: Sequence[bytes], after: Tail) -> None:
        place = lease.place
        with lease.mutex, Storage("append", place.transcript):
            if lease.spoiled:
                raise StoreError(place.transcript, "append", "an fsync failed: the lease has ended")
            if lease.released or lease.transcript is None:
                raise Lost
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
            self._check_claim(lease)
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
            lease.tail = self._tail(lease, transcript, size)
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
        if lease.transcript is None:
            return set()
        with Storage("read", lease.place.transcript):
            return self._transcripts.known_ids(lease.transcript, ids)

    def header_id(self, lease: FileLease) -> str | None:
        if lease.transcript is None:
            return None
        with Storage("read", lease.place.transcript):
            return self._transcripts.header_id(lease.transcript)

    def release(self, lease: FileLease) -> None:
        with lease.mutex:
            if lease.released:
                return
            try:
                self._unlink_claim(lease)
            except BaseException as error:
                # What cannot be removed is at least dead: the next taker reclaims it.
                lease.released = True
                self._files.flock(lease.claim, fcntl.LOCK_UN)
                if isinstance(error, OSError):
                    raise storage_error("release", lease.place.lock, error) from error
                raise

    def _unlink_claim(self, lease: FileLease) -> None:
        """Free the lock path if it still names this lease's claim.

        The claim stays open until the lease object is gone: were its inode number free, somebody
        who still has this lease to revoke could mistake a successor's claim for it.
        """
        place = lease.place
        transcript = lease.transcript
        if transcript is None:
            self._unlink_under(self._transcripts.open_to_guard(place), lease)
            return
        self._line.give_way(place, transcript)
        with self._transcripts.guard(place, transcript):
            fingerprint = self._transcripts.fingerprint(place.transcript)
            same = fingerprint is not None and file_of(fingerprint) == lease.transcript_id
            if same:
                self._unlink_if_named(lease)
        if not same:
            self._unlink_under(self._transcripts.open_to_guard(place), lease)
        elif fingerprint is not None and size_of(fingerprint) == lease.tail.size:
            self._transcripts.keep(place.transcript, Idle(transcript, fingerprint, lease.tail))
        lease.released = True

    def _unlink_under(self, transcript: Handle | None, lease: FileLease) -> None:
        if transcript is None:
            self._unlink_if_named(lease)
        else:
            with self._transcripts.guard(lease.place, transcript):
                self._unlink_if_named(lease)
        lease.released = True

    def _unlink_if_named(self, lease: FileLease) -> None:
        if self._named(lease.place.lock) == lease.claim_id:
            try:
                self._files.unlink(lease.place.lock)
            except FileNotFoundError:
                # Somebody removed it by hand in this very moment, which is what was wanted.
                pass

    def is_gone(self, record: LockRecord) -> bool:
        with Storage("look", record.path):
            return self._named(record.path) is None

    def leave_owing(self, lease: FileLease) -> None:
        with lease.mutex, Storage("release", lease.place.lock):
            lease.released = True
            self._files.flock(lease.claim, fcntl.LOCK_UN)

    def abandon(self, lease: FileLease) -> None:
        lease.released = True

    def _check_claim(self, lease: FileLease) -> None:
        if self._named(lease.place.lock) != lease.claim_id:
            raise Lost

    def _named(self, path: str) -> FileId | None:
        try:
            status = self._files.stat_path(path)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    # Waiting

    def line_up(self, session: SessionKey) -> Standing:
        return self._line.join(self.layout.place(session))

    def wait(
        self,
        session: SessionKey,
        holder: Holder,
        standing: Standing,
        timeout: float,
        wake: threading.Event,
    ) -> None:
        self._waiting.wait(holder.token, standing, timeout, wake)


def _reason_to_supersede(judged: Judged) -> str | None:
    """Why a waiter may take the session from this claim; None when it may not."""
    if judged.verdict.state is State.STALE:
        return "interrupted"
    return "hold-limit" if is_past_grace(judged) else None


def _may_be_revoked(judged: Judged) -> bool:
    """A live foreign holder only past its limit: nothing stops it from writing on."""
    is_foreign = judged.verdict.state is State.LIVE and not judged.claim.is_ours
    return not is_foreign or judged.verdict.over_limit


def _foreign_turn(judged: Judged) -> str | None:
    pid = judged.claim.pid
    return None if pid is None else f"{_FOREIGN}{pid}"


def _owes_for_sure(turn: Superseded) -> bool:
    """A turn of ours owes its marker; a foreign one only if the transcript shows it cut off."""
    return turn.turn_id is not None and not turn.turn_id.startswith(_FOREIGN)


def _why_unknown(judged: Judged) -> str:
    return f"nobody here can tell whether its holder lives ({', '.join(judged.verdict.reasons)})"
