"""Looking at a lock file: what lies there, who it names, and the verdict on it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from ...clock import Clock
from ...errors import LockPathError, StoreError
from .. import LockRecord
from .claim import CLAIM_BYTES_MAX, Claim, parse_claim
from .fileops import FileOps, Handle
from .judgement import Evidence, Here, State, Verdict, judge
from .layout import Place
from .process import ClaimVersion, PidStatus, Processes
from .storage import Storage

FileId = tuple[int, int]

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def file_id(status: os.stat_result) -> FileId:
    return status.st_dev, status.st_ino


def named_file(files: FileOps, path: str) -> FileId | None:
    """What a path names now; None when it names nothing."""
    try:
        status = files.stat_path(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


class Judged(NamedTuple):
    """A lock file that was looked at. The handle pins its inode; close it when done."""

    place: Place
    handle: Handle
    id: FileId
    claim: Claim
    verdict: Verdict
    age: float | None

    @property
    def pid(self) -> int | None:
        return self.claim.pid

    @property
    def turn_id(self) -> str | None:
        return self.claim.turn_id

    @property
    def limit(self) -> float | None:
        return self.claim.max_hold

    @property
    def is_unseen(self) -> bool:
        """A claim of ours whose flock is free, of a host and boot that cannot be asked."""
        return self.claim.is_ours and "other-host" in self.verdict.reasons

    def close(self) -> None:
        self.handle.close()


class Inspector:
    """Gathers the evidence for `judge`."""

    def __init__(self, files: FileOps, clock: Clock, processes: Processes) -> None:
        self._files = files
        self._clock = clock
        self._processes = processes
        self.here = Here(processes.host, processes.boot_id, processes.pid_namespace)

    def look(self, place: Place, *, to_take: bool, stale_after: float) -> Judged | None:
        """Judge what is at the lock path; None when nothing is.

        With ``to_take`` a stale verdict leaves the flock on the file with the handle, so that of
        all who find it stale one at a time goes on; without, the file is probed as lightly as
        possible. Raises `LockPathError` for what is no claim, and `StoreError` for what cannot be
        read.
        """
        handle = self._open(place.lock)
        if handle is None:
            return None
        try:
            with Storage("look at", place.lock):
                status = self._files.stat_handle(handle)
                if not stat.S_ISREG(status.st_mode):
                    raise LockPathError(place.lock, f"it is {_kind(status)}, not a regular file")
                held = self._probe(handle, exclusive=True) if to_take else None
                raw = self._read(place.lock, handle, status)
                if held is None:
                    held = self._probe(handle, exclusive=False)
                return self._judged(place, handle, status, raw, held, to_take, stale_after)
        except BaseException:
            # Whatever it is, the flock of this probe must not outlast it.
            handle.close()
            raise

    def prepare_sweep(self, paths: Iterable[str]) -> None:
        """Look once what would otherwise be looked up for each of these locks."""
        self._processes.look_elsewhere(
            _version(status) for path in paths if (status := self._status(path)) is not None
        )

    def record(self, place: Place, *, stale_after: float) -> LockRecord | None:
        """The lock as a record for people, also when it cannot be judged; None if there is none."""
        try:
            judged = self.look(place, to_take=False, stale_after=stale_after)
        except LockPathError as error:
            return _unjudged(place, "unreadable-object", error)
        except StoreError as error:
            return _unjudged(place, "read-error", error)
        if judged is None:
            return None
        judged.close()
        return record_of(judged)

    def is_free(self, handle: Handle) -> bool:
        """Whether nobody holds the flock on a claim: its holder has died."""
        if self._probe(handle, exclusive=True):
            return False
        self._files.flock(handle, fcntl.LOCK_UN)
        return True

    def _judged(
        self,
        place: Place,
        handle: Handle,
        status: os.stat_result,
        raw: bytes,
        held: bool,
        to_take: bool,
        stale_after: float,
    ) -> Judged:
        claim = parse_claim(raw)
        age = self._age(claim, status)
        is_ours = claim is not None and claim.is_ours
        counts = held if is_ours or not to_take else None
        verdict = judge(claim, self._evidence(claim, status, age, counts), stale_after=stale_after)
        if to_take and not held and verdict.state is not State.STALE:
            self._files.flock(handle, fcntl.LOCK_UN)
        return Judged(place, handle, file_id(status), claim or Claim(), verdict, age)

    def _evidence(
        self, claim: Claim | None, status: os.stat_result, age: float | None, held: bool | None
    ) -> Evidence:
        process = None
        elsewhere = False
        if claim is not None and not claim.is_ours and claim.pid is not None:
            process = self._processes.look_up(claim.pid)
            elsewhere = not process.alive and self._processes.is_pid_elsewhere(
                claim.pid, _version(status)
            )
        file_age = max(0.0, self._clock.wall() - status.st_mtime)
        return Evidence(self.here, held, age, file_age, process, elsewhere)

    def _age(self, claim: Claim | None, status: os.stat_result) -> float | None:
        if claim is None:
            return max(0.0, self._clock.wall() - status.st_mtime)
        if claim.monotonic is not None and claim.boot_id == self.here.boot_id:
            return max(0.0, self._clock.monotonic() - claim.monotonic)
        if claim.created is None:
            return max(0.0, self._clock.wall() - status.st_mtime)
        age = self._clock.wall() - claim.created
        # A clock that was wrong wrote a time to come; the file's own time is the better guess.
        return age if age >= 0 else max(0.0, self._clock.wall() - status.st_mtime)

    def _status(self, path: str) -> os.stat_result | None:
        try:
            return self._files.stat_path(path)
        except OSError:
            return None

    def _open(self, path: str) -> Handle | None:
        try:
            return self._files.open_quietly(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                kind = "a symbolic link" if error.errno == errno.ELOOP else "a socket or a device"
                raise LockPathError(path, f"it is {kind}, not a regular file") from None
            if isinstance(error, PermissionError):
                raise LockPathError(path, "it cannot be read: permission denied") from error
            raise StoreError(path, "open", error.strerror or str(error)) from error

    def _read(self, path: str, handle: Handle, status: os.stat_result) -> bytes:
        if status.st_size > CLAIM_BYTES_MAX:
            return b""
        try:
            return self._files.read_at(handle, 0, CLAIM_BYTES_MAX)
        except OSError as error:
            raise StoreError(path, "read", error.strerror or str(error)) from error

    def _probe(self, handle: Handle, *, exclusive: bool) -> bool:
        """Whether somebody holds the flock. An exclusive probe that finds it free keeps it."""
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            self._files.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        if not exclusive:
            self._files.flock(handle, fcntl.LOCK_UN)
        return False


def _version(status: os.stat_result) -> ClaimVersion:
    return status.st_dev, status.st_ino, status.st_ctime_ns


def record_of(judged: Judged) -> LockRecord:
    """What was judged, as a record for people."""
    claim = judged.claim
    return LockRecord(
        path=judged.place.lock,
        session=_session(judged.place),
        pid=claim.pid,
        pid_status=judged.verdict.pid_status.value,
        turn_id=claim.turn_id,
        age_seconds=judged.age,
        max_hold_seconds=claim.max_hold,
        stale=judged.verdict.state is State.STALE,
        reasons=judged.verdict.reasons,
    )


def _session(place: Place) -> str | None:
    return place.label if place.label != place.transcript else None


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")


def _unjudged(place: Place, reason: str, error: LockPathError | StoreError) -> LockRecord:
    return LockRecord(
        path=place.lock,
        session=_session(place),
        pid=None,
        pid_status=PidStatus.UNKNOWN.value,
        turn_id=None,
        age_seconds=None,
        max_hold_seconds=None,
        stale=False,
        reasons=(reason, error.why),
    )
