"""Who serves a state directory, as the kernel and its files have it.

A gateway holds ``flock(LOCK_EX)`` on the state directory itself for as long as it lives. There is
no lock file to remove by hand, to leave behind, or to judge by its age: by whatever name the
directory goes it is one inode, the kernel drops the lock when the process ends, whichever way, and
it does so across containers that share the directory but no pid namespace.

``gateway.lock`` only says who it is, as a claim does: pid, start time, host, boot, pid namespace,
and ``stage``. Nobody is believed for what stands there: where the kernel names the process that
took the lock, a file that names another is a predecessor's, or somebody's invention.

=========  =====================================================================================
the lock   what the files say
=========  =====================================================================================
held       who holds it, when the kernel agrees or cannot tell
free       nothing: who wrote them is gone. But ``gateway.json`` without ``v`` is of a program that
           takes no such lock, and judged by its process
=========  =====================================================================================
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from ..backends.files import native
from ..backends.files.claim import Claim, parse_claim
from ..backends.files.fileops import FileOps, Handle
from ..backends.files.guard import flock_holder, flock_keepers
from ..backends.files.process import namespace_pids
from ..clock import parse_iso
from .condition import LOCK_FILE, PRESENCE_FILE, Stage

_BYTES_MAX = 64 * 1024
_URL_MAX = 256


class Written(NamedTuple):
    """What a file says of a gateway; ``claim`` without a pid when it says nothing."""

    claim: Claim
    url: str
    stage: Stage | None
    started: float | None

    @property
    def is_nobodys(self) -> bool:
        return self.claim.pid is None

    @property
    def is_of_a_lock(self) -> bool:
        """Whether who wrote it also took the lock."""
        return self.claim.is_ours


NOTHING = Written(Claim(), "", None, None)


class Owner(NamedTuple):
    """Who holds the lock of a state directory.

    ``pid`` by the numbers of this pid namespace where ``is_here``, else as it calls itself; None
    when it cannot be told. ``claims_as``: the pid that its claims name. ``heir``: a process that
    has the lock of one that is gone, as it was forked from it.
    """

    pid: int | None
    claims_as: int | None
    written: Written
    is_here: bool
    heir: int | None = None


def owner_of(root: str) -> Owner | None:
    """Who holds the lock of this directory; None when nobody does, or there is no directory."""
    files = FileOps()
    try:
        handle = files.open_directory(root)
    except OSError:
        return None
    try:
        if not _is_held(files, handle):
            return None
        status = files.stat_handle(handle)
    finally:
        handle.close()
    written = read_written(f"{root}/{LOCK_FILE}")
    if written.is_nobodys:
        written = read_written(f"{root}/{PRESENCE_FILE}")
    return _owner(written, status)


def read_written(path: str) -> Written:
    """What a ``gateway.json`` or ``gateway.lock`` says; ``NOTHING`` when it cannot be read."""
    raw = small_file(path)
    claim = parse_claim(raw)
    if claim is None:
        return NOTHING
    fields = json.loads(raw)
    url, stage = fields.get("url"), fields.get("stage")
    return Written(
        claim,
        url if isinstance(url, str) and len(url) <= _URL_MAX else "",
        next((one for one in Stage if one.value == stage), None),
        parse_iso(fields.get("started")),
    )


def small_file(path: str) -> bytes:
    """The content of a regular file, without a trace in its access time; empty when there is none.

    At most 64 KiB of it.
    """
    files = FileOps()
    try:
        handle = files.open_quietly(path)
    except OSError:
        return b""
    try:
        regular = stat.S_ISREG(files.stat_handle(handle).st_mode)
        return files.read_at(handle, 0, _BYTES_MAX) if regular else b""
    except OSError:
        return b""
    finally:
        handle.close()


def remove_left(root: str, names: Iterable[str]) -> bool:
    """Remove files of a gateway that is gone, under the directory's lock; whether they are gone.

    Somebody else may have removed some of them.
    """
    files = FileOps()
    try:
        handle = files.open_directory(root)
    except OSError:
        return False
    try:
        files.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                files.unlink(f"{root}/{name}")
    except OSError:
        # A gateway starts just now, and the files are its own; or they cannot be removed.
        return False
    finally:
        handle.close()
    return True


def _is_held(files: FileOps, handle: Handle) -> bool:
    """Asked with a shared lock for a moment, which a gateway that starts waits out."""
    try:
        files.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _owner(written: Written, status: os.stat_result) -> Owner:
    kernel = flock_holder(status)
    if kernel is not None and not _is_of(written.claim, kernel):
        written = NOTHING
    claim = written.claim
    pid = kernel or claim.pid
    is_here = kernel is not None or (pid is not None and _is_numbered_here(claim))
    if pid is None or not is_here or _lives(pid, claim):
        return Owner(pid, claim.pid or pid, written, is_here)
    heir = next(iter(flock_keepers(status)), None)
    return Owner(pid if heir else None, claim.pid, written, heir is not None, heir)


def _is_of(claim: Claim, pid: int) -> bool:
    """Whether this process may have written the claim: under another number in its container."""
    if _is_numbered_here(claim):
        return claim.pid == pid
    return claim.pid in namespace_pids(pid)


def _is_numbered_here(claim: Claim) -> bool:
    processes = native().processes
    return (claim.boot_id or processes.boot_id, claim.pid_namespace or processes.pid_namespace) == (
        processes.boot_id,
        processes.pid_namespace,
    )


def _lives(pid: int, claim: Claim) -> bool:
    facts = native().processes.look_up(pid)
    known = facts.start_time is not None and claim.start_time is not None
    return facts.alive and (not known or facts.start_time == claim.start_time)
