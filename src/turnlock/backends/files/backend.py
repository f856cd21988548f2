"""The files backend: `Backend` on claims, flocks and renames."""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import stat
import threading
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import NamedTuple

from ...clock import Clock, SystemClock, iso
from ...errors import LockPathError, StoreError, TranscriptError
from ...session import SessionKey, is_part
from ...transcript.entries import header
from ...transcript.jsonl import Line, ReadAt, decode, encode, read_lines
from ...transcript.tail import Tail, ends_unanswered, read_tail
from .. import (
    OVER_LIMIT_GRACE,
    STALE_AFTER,
    Holder,
    LockRecord,
    Lost,
    SessionRecord,
    Superseded,
    TailMoved,
    TakeRequest,
)
from .birth import Newborn, Nursery, make_directories, temporary_name
from .claim import Scribe
from .fileops import FileOps, Handle, write_all
from .guard import GUARD_TIMEOUT, Guard
from .inspect import FileId, Inspector, Judged, file_id
from .judgement import State
from .layout import LOCK_SUFFIX, TRANSCRIPT_SUFFIX, Layout, Place, is_transcript, list_names
from .lease import FileLease
from .platform import Platform, native

# A claim that is unreadable may be one that a foreign writer is just making.
_BIRTH_PATIENCE = 0.5
_BIRTH_PAUSE = 0.02
# How often a take starts again because the lock changed hands under it; far above what races give.
_TAKE_ATTEMPTS_MAX = 1000
# The event of a holder's death can come a moment before the kernel drops its flock.
_AFTER_EVENT_TRIES = 24
_AFTER_EVENT_PAUSE = 50e-6
# Transcripts kept open between turns of this process: a busy session is not opened anew.
_IDLE_MAX = 8
_TRANSCRIPT_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
# The turn of another program's claim, which names none. It is owed a marker all the same.
_FOREIGN = "foreign-pid-"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})
_DURABILITIES = ("fsync", "none")


class Idle(NamedTuple):
    """A transcript that no lease uses, and what its end was when the last one was released."""

    handle: Handle
    fingerprint: tuple[int, int, int, int]
    tail: Tail


class FilesBackend:
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
        self.layout = layout
        self._clock = clock or SystemClock()
        self._files = files or FileOps()
        self._platform = platform or native()
        self._durable = durability == "fsync"
        self._guard_timeout = guard_timeout
        self._nursery = Nursery(self._files, unnamed=self._platform.unnamed_files)
        self._inspector = Inspector(self._files, self._clock, self._platform.processes)
        self._scribe = Scribe(self._platform.processes)
        self._idle: dict[str, Idle] = {}

    def identity(self, session: SessionKey) -> Hashable:
        return self.layout.place(session).lock

    # Taking

    def take(
        self, session: SessionKey, request: TakeRequest, *, waited: bool = False
    ) -> FileLease | Holder:
        place = self.layout.place(session)
        try:
            # Most locks are free: trying is cheaper than looking first.
            lease = None if waited else self._claim_free(place, request)
            if lease is not None:
                lease = self._begun(lease, request)
            return lease or self._take_contended(place, request)
        except OSError as error:
            raise _storage_error("take", place.lock, error) from error

    def _take_contended(self, place: Place, request: TakeRequest) -> FileLease | Holder:
        patience = self._clock.monotonic() + _BIRTH_PATIENCE
        for _ in range(_TAKE_ATTEMPTS_MAX):
            found = self._take_once(place, request, patience)
            if found is not None:
                return found
        raise StoreError(place.lock, "take", f"it changed hands {_TAKE_ATTEMPTS_MAX} times")

    def _take_once(
        self, place: Place, request: TakeRequest, patience: float
    ) -> FileLease | Holder | None:
        judged = self._inspector.look(place, to_take=True, stale_after=STALE_AFTER)
        if judged is None:
            lease = self._claim_free(place, request)
        elif judged.verdict.state is State.STALE:
            lease = self._supersede(place, request, judged, "interrupted")
        elif _is_past_grace(judged):
            lease = self._supersede(place, request, judged, "hold-limit")
        elif judged.verdict.state is State.YOUNG:
            judged.close()
            self._wait_for_birth(place, patience)
            return None
        else:
            claim = judged.claim
            return Holder(claim.pid, claim.turn_id, judged.age, claim.max_hold, judged)
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
        with _Storage("supersede", place.lock):
            judged = self._inspector.look(place, to_take=True, stale_after=STALE_AFTER)
            if judged is None:
                return None
            if lease is not None and judged.id != lease.claim_id:
                judged.close()
                return None
            if judged.verdict.state in (State.UNKNOWN, State.YOUNG):
                judged.close()
                raise LockPathError(place.lock, _why_unknown(judged))
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
        self._unlink_under(self._open_to_guard(lease.place), lease)

    def reclaim(
        self, record: LockRecord, request: TakeRequest, *, stale_after: float = STALE_AFTER
    ) -> FileLease | None:
        place = self.layout.place_of_lock(record.path)
        with _Storage("reclaim", place.lock):
            judged = self._inspector.look(place, to_take=True, stale_after=stale_after)
            if judged is None:
                return None
            if judged.verdict.state is not State.STALE:
                judged.close()
                return None
            taken = self._supersede(place, request, judged, "interrupted")
            return taken and self._begun(taken, request, cleaning=True)

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
            transcript = self._open_transcript(place, create=fence)
            if transcript is None:
                renamed = self._rename_if_named(place, newborn, judged.id)
            else:
                with self._guard(place, transcript):
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
        idle = self._idle.pop(lease.place.transcript, None)
        if idle is None:
            return False
        with self._guard(lease.place, idle.handle):
            self._check_claim(lease)
            if self._fingerprint(lease.place.transcript) != idle.fingerprint:
                return False
        lease.transcript = idle.handle
        lease.transcript_id = idle.fingerprint[:2]
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
        transcript = self._open_transcript(place, create=create, header=header)
        if transcript is None:
            return True
        status = self._regular(place, transcript)
        lease.transcript = transcript
        lease.transcript_id = file_id(status)
        tail = self._tail(lease, status.st_size)
        with self._guard(place, transcript):
            self._check_claim(lease)
            if self._named(place.transcript) != lease.transcript_id:
                return False
            if self._files.stat_handle(transcript).st_size != tail.size:
                return False
            if tail.size == 0 and header:
                line = self._header_line()
                write_all(self._files, transcript, line)
                tail = tail._replace(size=len(line))
        lease.tail = tail
        return True

    def _regular(self, place: Place, transcript: Handle) -> os.stat_result:
        status = self._files.stat_handle(transcript)
        if not stat.S_ISREG(status.st_mode):
            transcript.close()
            raise TranscriptError(place.transcript, "it is not a regular file")
        return status

    def _forgive_foreign(self, lease: FileLease) -> None:
        """Drop what a foreign holder owes unless the transcript shows that it was cut off."""
        transcript = lease.transcript
        last = lease.owed[-1] if lease.owed else None
        if last is None or last.turn_id is None or _owes_for_sure(last):
            return
        if transcript is None or not ends_unanswered(self._reader(transcript), lease.tail.size):
            lease.owed = lease.owed[:-1]

    def _tail(self, lease: FileLease, size: int) -> Tail:
        assert lease.transcript is not None
        if size == 0:
            return Tail()
        return read_tail(self._reader(lease.transcript), size, turns=1 + len(lease.owed))

    def _open_transcript(
        self, place: Place, *, create: bool, header: bool = False
    ) -> Handle | None:
        path = place.transcript
        while True:
            try:
                return self._files.open(path, _TRANSCRIPT_FLAGS)
            except FileNotFoundError:
                if not create:
                    return None
                self._make_transcript(place, header=header)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                    raise TranscriptError(path, "it is not a regular file") from None
                if error.errno in (errno.EACCES, errno.EPERM):
                    raise TranscriptError(path, "it cannot be opened: permission denied") from None
                raise

    def _make_transcript(self, place: Place, *, header: bool) -> None:
        content = self._header_line() if header else b""
        newborn = self._nursery.make(place.directory, place.transcript, content, flocked=False)
        try:
            if self._durable:
                self._files.fsync(newborn.handle)
            newborn.link(place.transcript)
        finally:
            newborn.discard()
        if self._durable:
            directory = self._files.open(place.directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._files.fsync(directory)
            finally:
                directory.close()

    def _header_line(self) -> bytes:
        identity = os.urandom(16).hex()
        dashed = "-".join(
            (identity[:8], identity[8:12], identity[12:16], identity[16:20], identity[20:])
        )
        return encode(header(dashed, cwd=self.layout.root, wall=self._clock.wall()))

    # The lease at work

    def holds(self, lease: FileLease) -> bool:
        return not lease.released and self._named(lease.place.lock) == lease.claim_id

    def append(self, lease: FileLease, lines: Sequence[bytes], after: Tail) -> None:
        place = lease.place
        with lease.mutex, _Storage("append", place.transcript):
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
        with self._guard(place, transcript):
            self._check_claim(lease)
            if self._named(place.transcript) != lease.transcript_id:
                raise TranscriptError(
                    place.transcript, "it was removed or replaced while a turn was writing it"
                )
            size = self._files.stat_handle(transcript).st_size
            moved = size != lease.tail.size
            if not moved:
                if lease.tail.fragment is not None:
                    data = b"\n" + data
                write_all(self._files, transcript, data)
                lease.tail = after._replace(size=size + len(data), fragment=None)
        if moved:
            lease.tail = self._tail(lease, size)
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
        if transcript is None or lease.tail.size == 0:
            return set()
        with _Storage("read", lease.place.transcript):
            size = self._files.stat_handle(transcript).st_size
            with mmap.mmap(transcript.fd, size, access=mmap.ACCESS_READ) as content:
                return {wanted for wanted in ids if _has_entry(content, wanted)}

    def header_id(self, lease: FileLease) -> str | None:
        if lease.transcript is None:
            return None
        with _Storage("read", lease.place.transcript):
            first = self._files.read_at(lease.transcript, 0, 4096)
        entry = decode(first.partition(b"\n")[0])
        identity = entry.get("id") if entry and entry.get("type") == "session" else None
        return identity if isinstance(identity, str) else None

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
                    raise _storage_error("release", lease.place.lock, error) from error
                raise

    def _unlink_claim(self, lease: FileLease) -> None:
        """Free the lock path if it still names this lease's claim.

        The claim stays open until the lease object is gone: were its inode number free, somebody
        who still has this lease to revoke could mistake a successor's claim for it.
        """
        place = lease.place
        transcript = lease.transcript
        if transcript is None:
            self._unlink_under(self._open_to_guard(place), lease)
            return
        with self._guard(place, transcript):
            fingerprint = self._fingerprint(place.transcript)
            same = fingerprint is not None and fingerprint[:2] == lease.transcript_id
            if same:
                self._unlink_if_named(lease)
        if not same:
            self._unlink_under(self._open_to_guard(place), lease)
        elif fingerprint is not None and fingerprint[2] == lease.tail.size:
            self._keep(place.transcript, Idle(transcript, fingerprint, lease.tail))
        lease.released = True

    def _unlink_under(self, transcript: Handle | None, lease: FileLease) -> None:
        if transcript is None:
            self._unlink_if_named(lease)
        else:
            with self._guard(lease.place, transcript):
                self._unlink_if_named(lease)
        lease.released = True

    def _keep(self, path: str, idle: Idle) -> None:
        """Keep a transcript open for the next turn of this process."""
        self._idle[path] = idle
        if len(self._idle) > _IDLE_MAX:
            self._idle.pop(next(iter(self._idle)), None)

    def _fingerprint(self, path: str) -> tuple[int, int, int, int] | None:
        try:
            status = self._files.stat_path(path)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def _open_to_guard(self, place: Place) -> Handle | None:
        """The transcript, or None where nobody can write one: then there is nothing to guard."""
        try:
            return self._open_transcript(place, create=False)
        except TranscriptError:
            return None

    def _unlink_if_named(self, lease: FileLease) -> None:
        if self._named(lease.place.lock) == lease.claim_id:
            self._files.unlink(lease.place.lock)

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

    def _guard(self, place: Place, transcript: Handle) -> Guard:
        return Guard(self._files, self._clock, transcript, place.transcript, self._guard_timeout)

    # Waiting

    def wait(
        self, session: SessionKey, holder: Holder, timeout: float, wake: threading.Event
    ) -> None:
        judged: Judged = holder.token
        watch = self._platform.waker.watch(judged.handle, wake)
        try:
            # After the watch began, or what happened in between would be slept through.
            if self._changed_hands(judged):
                return
            if _is_ours_and_live(judged) and judged.limit is not None and judged.age is not None:
                timeout = min(timeout, max(0.0, judged.limit + OVER_LIMIT_GRACE - judged.age))
            if self._clock.wait(wake, min(timeout, watch.interval)):
                for _ in range(_AFTER_EVENT_TRIES):
                    if self._changed_hands(judged):
                        return
                    self._clock.sleep(_AFTER_EVENT_PAUSE)
        finally:
            watch.close()

    def _changed_hands(self, judged: Judged) -> bool:
        if self._named(judged.place.lock) != judged.id:
            return True
        return _is_ours_and_live(judged) and self._inspector.is_free(judged.handle)

    # Reading and listing

    def read(self, session: SessionKey) -> Iterator[Line]:
        path = self.layout.place(session).transcript
        handle = self._open_to_read(path)
        if handle is None:
            return
        try:
            yield from read_lines(self._reader(handle))
        except OSError as error:
            raise TranscriptError(path, f"it cannot be read: {error.strerror}") from error
        finally:
            handle.close()

    def end(self, session: SessionKey, *, turns: int) -> Tail:
        path = self.layout.place(session).transcript
        handle = self._open_to_read(path)
        if handle is None:
            return Tail()
        with _Storage("read", path):
            size = self._files.stat_handle(handle).st_size
            return read_tail(self._reader(handle), size, turns=turns)

    def _open_to_read(self, path: str) -> Handle | None:
        try:
            handle = self._files.open_quietly(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TranscriptError(path, f"it cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(self._files.stat_handle(handle).st_mode):
            raise TranscriptError(path, "it is not a regular file")
        return handle

    def _reader(self, handle: Handle) -> ReadAt:
        return lambda offset, length: self._files.read_at(handle, offset, length)

    def sessions(self) -> Iterator[SessionRecord]:
        for agent, directory in self.layout.directories(self._files):
            with _Storage("list", directory):
                names = list_names(self._files, directory)
            for base in filter(is_transcript, names):
                name = base[: -len(TRANSCRIPT_SUFFIX)]
                path = f"{directory}/{base}"
                status = self._status(path)
                if status is None or not stat.S_ISREG(status.st_mode):
                    continue
                if agent is not None and is_part(name):
                    modified = iso(status.st_mtime)
                    yield SessionRecord(f"{agent}/{name}", path, status.st_size, modified)

    def locks(self, *, stale_after: float = STALE_AFTER) -> Iterator[LockRecord]:
        for _, directory in self.layout.directories(self._files):
            with _Storage("list", directory):
                names = list_names(self._files, directory)
            for base in names:
                if base.endswith(LOCK_SUFFIX):
                    place = self.layout.place_of_lock(f"{directory}/{base}")
                    record = self._inspector.record(place, stale_after=stale_after)
                    if record is not None:
                        yield record

    def _status(self, path: str) -> os.stat_result | None:
        try:
            return self._files.stat_path(path)
        except FileNotFoundError:
            return None


class _Storage:
    """Turns the operating system's errors into ours, once."""

    __slots__ = ("_operation", "_path")

    def __init__(self, operation: str, path: str) -> None:
        self._operation = operation
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise _storage_error(self._operation, self._path, error) from error


def _storage_error(operation: str, path: str, error: OSError) -> StoreError:
    if isinstance(error, FileNotFoundError):
        return StoreError(path, operation, "its directory is gone")
    return StoreError(path, operation, error.strerror or str(error))


def _is_ours_and_live(judged: Judged) -> bool:
    return judged.claim.is_ours and judged.verdict.state is State.LIVE


def _foreign_turn(judged: Judged) -> str | None:
    pid = judged.claim.pid
    return None if pid is None else f"{_FOREIGN}{pid}"


def _owes_for_sure(turn: Superseded) -> bool:
    """A turn of ours owes its marker; a foreign one only if the transcript shows it cut off."""
    return turn.turn_id is not None and not turn.turn_id.startswith(_FOREIGN)


def _is_past_grace(judged: Judged) -> bool:
    if not judged.claim.is_ours or not judged.verdict.over_limit:
        return False
    assert judged.age is not None
    assert judged.limit is not None
    return judged.age > judged.limit + OVER_LIMIT_GRACE


def _why_unknown(judged: Judged) -> str:
    return f"nobody here can tell whether its holder lives ({', '.join(judged.verdict.reasons)})"


def _has_entry(content: mmap.mmap, wanted: str) -> bool:
    needle = json.dumps(wanted).encode()
    found = content.find(needle)
    while found >= 0:
        start = content.rfind(b"\n", 0, found) + 1
        stop = content.find(b"\n", found)
        entry = decode(content[start : stop if stop >= 0 else len(content)])
        # A fragment without newline is no entry: it was never acknowledged.
        if stop >= 0 and entry is not None and entry.get("id") == wanted:
            return True
        found = content.find(needle, found + 1)
    return False
