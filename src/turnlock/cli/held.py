"""The lock of one session as ``release`` finds it, and who may do what with it.

====================================  ==========================================================
lock                                  release
====================================  ==========================================================
ours, at any age                      supersedes it: the holder is fenced
another program's, its holder gone    in a directory of ours supersedes it, as clean-up does;
                                      in OpenClaw's moves it aside, and touches nothing else
another program's, past its limit     moves it aside: a live holder cannot be fenced
another program's, within its limit   refuses
ours, of another host and boot, its   supersedes it on the operator's word: the question says
flock free: nobody here can tell      what follows if its holder lives after all
any other of which nobody can tell    refuses
====================================  ==========================================================
"""

from __future__ import annotations

import os
from enum import Enum

from ..backends import STALE_AFTER, LockRecord
from ..backends.files import FilesBackend, native
from ..backends.files.aside import Ruling, limit_of, rule
from ..backends.files.fileops import FileOps
from ..backends.files.inspect import Inspector, Judged, record_of
from ..backends.files.judgement import UNREADABLE_GRACE, State
from ..backends.files.line import count_in_line
from ..clock import SystemClock
from ..doctor.openclaw import is_openclaw
from ..errors import LockPathError, TurnlockError, seconds
from .naming import Target

_YOUNG = "it cannot be read, but is so young that its maker may still be writing it"
_WHEN_OLDER = f"ask again when it is {seconds(UNREADABLE_GRACE)} old: then it is whole, or stale"


class Way(Enum):
    """How a lock is released."""

    SUPERSEDE = "supersede"
    MOVE_ASIDE = "move aside"


class HolderWithinLimit(TurnlockError):
    """Another program holds the session and may still hold it; it could not be fenced.

    Attributes: ``session``, ``path`` of the lock, ``pid``, ``age`` and ``limit`` in seconds;
    ``assumed``: whether the limit is not the lock's own word but what its program's default is.
    """

    def __init__(
        self, session: str, *, path: str, pid: int | None, age: float, limit: float, assumed: bool
    ) -> None:
        self.session = session
        self.path = path
        self.pid = pid
        self.age = age
        self.limit = limit
        self.assumed = assumed
        self.hint = f"wait {seconds(limit - age)} more, or end its holder: kill {pid}"
        bound = "OpenClaw's default of" if assumed else "its limit of"
        super().__init__(
            f"session {session!r} was not released: process {pid}, which is no holder of"
            f" Turnlock's and cannot be fenced, has held it for {seconds(age)}, and {bound}"
            f" {seconds(limit)} has not passed; {self.hint}"
        )


class Held:
    """A lock that was looked at. Its inode stays pinned until it is closed: no other can be it."""

    def __init__(self, target: Target, judged: Judged) -> None:
        self.target = target
        self.judged = judged
        self.record: LockRecord = record_of(judged)

    @property
    def is_ours(self) -> bool:
        return self.judged.claim.is_ours

    @property
    def limit(self) -> float | None:
        """Seconds; of another program's lock what it may be held for, whether it says so or not."""
        return self.judged.limit if self.is_ours else limit_of(self.judged)

    @property
    def is_over_limit(self) -> bool:
        age, limit = self.judged.age, self.limit
        return age is not None and limit is not None and age > limit

    def way(self) -> Way:
        """By the table above. Raises `HolderWithinLimit`, `LockPathError`."""
        if self.judged.is_unseen:
            return Way.SUPERSEDE
        if self.judged.verdict.state is State.YOUNG:
            raise LockPathError(self.record.path, _YOUNG, _WHEN_OLDER)
        if self.judged.verdict.state is State.UNKNOWN:
            raise LockPathError(self.record.path, self._why_unknown())
        if self.is_ours:
            return Way.SUPERSEDE
        ruling = rule(self.judged)
        if ruling is Ruling.WITHIN_LIMIT:
            raise self._within_limit()
        if ruling is Ruling.GONE and not self._is_openclaw():
            return Way.SUPERSEDE
        return Way.MOVE_ASIDE

    def is_same(self, other: Held | None) -> bool:
        if other is None or other.judged.id != self.judged.id:
            return False
        # A program that writes its lock anew in place has taken it anew.
        return other.judged.claim == self.judged.claim

    def move_aside(self) -> str | None:
        """The path where the lock is now; None when it had changed hands."""
        return FilesBackend(self.target.layout).move_aside(self.judged)

    def close(self) -> None:
        self.judged.close()

    def _is_openclaw(self) -> bool:
        return self.target.root is None or is_openclaw(self.target.root)

    def _why_unknown(self) -> str:
        reasons = ", ".join(self.record.reasons)
        return f"nobody here can tell whether its holder lives ({reasons})"

    def _within_limit(self) -> HolderWithinLimit:
        judged = self.judged
        return HolderWithinLimit(
            self.target.name,
            path=self.record.path,
            pid=judged.pid,
            age=judged.age or 0.0,
            limit=limit_of(judged),
            assumed=judged.limit is None,
        )


def look_at(target: Target) -> Held | None:
    """The session's lock; None when nobody holds it. Raises `LockPathError`, `StoreError`."""
    inspector = Inspector(FileOps(), SystemClock(), native().processes)
    judged = inspector.look(target.place, to_take=False, stale_after=STALE_AFTER)
    return Held(target, judged) if judged is not None else None


def waiting_for(held: Held) -> dict[str, int]:
    """``waiters``, as far as the kernel tells: the first of each process that waits."""
    if not held.is_ours:
        return {}
    path = held.target.place.transcript
    counted = count_in_line([path])
    return {"waiters": counted[path]} if path in counted else {}


def program_of(held: Held) -> str | None:
    """What the holder runs: by its claim, else by its process; None when it cannot be seen."""
    claim = held.judged.claim
    if claim.is_ours or claim.pid is None or held.record.pid_status != "alive":
        return claim.program
    import psutil

    try:
        process = psutil.Process(claim.pid)
        words = [os.path.basename(word) for word in process.cmdline()[:2] if word]
        interpreted = len(words) > 1 and words[0].startswith(("node", "bun", "deno", "python"))
        return words[int(interpreted)] if words else process.name()
    except psutil.Error:
        return None
