"""Moving the lock of another program aside: how an operator frees a session of OpenClaw.

OpenClaw asks nobody before it writes, so its holder cannot be fenced, and a claim of ours in the
place of its lock would promise what it cannot keep. What can be done is to take the lock file out
of the way, so that the next writer does not wait for it: it is renamed to a sibling that neither
program takes for a lock, never removed, so that it can be looked at, and put back.

Only the file that was judged. No system call renames a path on condition that it names a given
inode, and OpenClaw takes no guard of ours. So it is asked first what the path names, then renamed,
then asked again, of what was moved. Was that another file, because the holder let go and somebody
else took the lock in between, it is linked back to its name, which replaces nothing. For those
microseconds the path was free; should a third program have taken it just then, both files stay
where they are, and the error names them.

A lock of OpenClaw's 2026.2 names no limit. Then the limit is what that release allows a run when
nothing is configured: max(300 s, run timeout + 120 s) with a run timeout of 600 s.
"""

from __future__ import annotations

import os
from enum import Enum

from ...clock import iso
from ...errors import LockPathError
from .fileops import FileOps
from .inspect import FileId, Judged, file_id
from .judgement import State

ASSUMED_LIMIT = 720.0
_MARK = ".released-"


class Ruling(Enum):
    """Whether an operator may have the lock of another program moved aside."""

    GONE = "gone"  # its holder is: nobody can lose anything
    PAST_LIMIT = "past its limit"
    WITHIN_LIMIT = "within its limit"
    UNKNOWN = "unknown"  # whether anybody holds it


def limit_of(judged: Judged) -> float:
    """Seconds for which the holder of another program's lock may hold it."""
    return ASSUMED_LIMIT if judged.limit is None else judged.limit


def rule(judged: Judged) -> Ruling:
    """The ruling on a lock that is not ours. Pure."""
    state = judged.verdict.state
    if state is State.STALE:
        return Ruling.GONE
    if state is not State.LIVE or judged.age is None:
        return Ruling.UNKNOWN
    return Ruling.PAST_LIMIT if judged.age > limit_of(judged) else Ruling.WITHIN_LIMIT


def name_aside(lock: str, wall: float) -> str:
    """A free name beside the lock: ``<lock>.released-<time>``, at ``wall`` seconds since 1970."""
    name = f"{lock}{_MARK}{iso(wall).replace(':', '-')}"
    number = 1
    aside = name
    while os.path.lexists(aside):
        number += 1
        aside = f"{name}-{number}"
    return aside


def is_aside(name: str) -> bool:
    """Whether a file's name is one that `name_aside` gives."""
    return f".jsonl.lock{_MARK}" in name


def move_aside(files: FileOps, lock: str, wanted: FileId, aside: str) -> bool:
    """Rename ``lock`` to ``aside`` if it is the wanted file; whether it was.

    The caller keeps a descriptor of the wanted file open, or its number could come back. Raises
    OSError, and `LockPathError` when somebody took the path while another's lock was put back.
    """
    try:
        if file_id(files.stat_path(lock)) != wanted:
            return False
        files.rename(lock, aside)
    except FileNotFoundError:
        return False
    if file_id(files.stat_path(aside)) == wanted:
        return True
    try:
        files.link(aside, lock)
    except FileExistsError:
        raise LockPathError(
            lock,
            "it changed hands twice while it was released, and two programs may hold it now;"
            f" the lock of one of them is {aside!r}",
            "restart both; turnlock doctor lists who they are",
        ) from None
    files.unlink(aside)
    return False
