"""The guard: the mutex around check-and-write. See the theory in the package's docstring."""

from __future__ import annotations

import fcntl
import os

from ...clock import Clock
from ...errors import GuardTimeout
from .fileops import FileOps, Handle

GUARD_TIMEOUT = 1.0
# Who has the guard drops it within microseconds, if only it runs: a sleep is longer than that.
_YIELDS = 32
_PAUSE_FIRST = 20e-6
_PAUSE_MOST = 1e-3
_LOOKS = 3
_TRY = fcntl.LOCK_EX | fcntl.LOCK_NB


class Guard:
    """``with Guard(...)`` holds the guard of one transcript through one descriptor of it.

    Raises `GuardTimeout` after ``timeout`` seconds. Two threads that share a descriptor are not
    kept apart: whoever owns the descriptor serialises them. A descriptor that has the guard already
    gets it again: what a signal's handler cut short before the guard was dropped can be repeated.
    """

    __slots__ = ("_clock", "_files", "_handle", "_path", "_timeout")

    def __init__(
        self, files: FileOps, clock: Clock, handle: Handle, path: str, timeout: float
    ) -> None:
        self._files = files
        self._clock = clock
        self._handle = handle
        self._path = path
        self._timeout = timeout

    def __enter__(self) -> None:
        try:
            self._take()
        except BaseException:
            # A signal's handler may raise in here as well, and then nobody else would drop it.
            self._files.flock(self._handle, fcntl.LOCK_UN)
            raise

    def __exit__(self, *exc: object) -> None:
        # Never by closing: a duplicate of the descriptor in a child would keep the flock.
        self._files.flock(self._handle, fcntl.LOCK_UN)

    def _take(self) -> None:
        try:
            self._files.flock(self._handle, _TRY)
        except BlockingIOError:
            self._wait()

    def _try(self) -> bool:
        try:
            self._files.flock(self._handle, _TRY)
        except BlockingIOError:
            return False
        return True

    def _wait(self) -> None:
        for _ in range(_YIELDS):
            os.sched_yield()
            if self._try():
                return
        started = self._clock.monotonic()
        pause = _PAUSE_FIRST
        while not self._try():
            waited = self._clock.monotonic() - started
            if waited >= self._timeout:
                pid = flock_holder(os.fstat(self._handle.fd))
                state = None if pid is None else process_state(pid)
                raise GuardTimeout(self._path, pid=pid, state=state, waited=waited)
            self._clock.sleep(pause)
            pause = min(pause * 2, _PAUSE_MOST)


def flock_holder(file: os.stat_result) -> int | None:
    """The pid that holds a flock on the file, from /proc/locks; None when it cannot be told."""
    wanted = _name_in_tables(file)
    # Locks come and go while the table is read, and then a row of it may be passed over.
    found = (_holder_in_table(wanted) for _ in range(_LOOKS))
    return next((pid for pid in found if pid is not None), None)


def _holder_in_table(wanted: str) -> int | None:
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as table:
            rows = [line.split() for line in table]
    except OSError:
        return None
    for row in rows:
        # "7: FLOCK  ADVISORY  WRITE 1234 08:02:5678 0 EOF"; waiters have "->" in field 2.
        if len(row) >= 6 and row[1] == "FLOCK" and row[5] == wanted and row[4].isdecimal():
            return int(row[4]) or None
    return None


def flock_keepers(file: os.stat_result) -> list[int]:
    """The pids that have a flock on the file through some descriptor, an inherited one too.

    Only of processes that this one may look into.
    """
    wanted = _name_in_tables(file)
    return [
        int(name)
        for name in _names("/proc")
        if name.isdecimal()
        and any(
            _has_flock(f"/proc/{name}/fdinfo/{fd}", wanted) for fd in _names(f"/proc/{name}/fd")
        )
    ]


def _has_flock(path: str, wanted: str) -> bool:
    # "lock:\t1: FLOCK  ADVISORY  WRITE 1234 08:02:5678 0 EOF"
    try:
        with open(path, encoding="ascii", errors="replace") as facts:
            return any(line.startswith("lock:") and wanted in line.split() for line in facts)
    except OSError:
        return False


def _names(path: str) -> list[str]:
    # A process that ends meanwhile has no descriptors, and another user's are hidden.
    try:
        return os.listdir(path)
    except OSError:
        return []


def _name_in_tables(file: os.stat_result) -> str:
    return f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"


def process_state(pid: int) -> str | None:
    """One letter and a word, as /proc/PID/status gives it: ``T (stopped)``."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
            for line in status:
                if line.startswith("State:"):
                    return line.partition(":")[2].strip()
    except OSError:
        return None
    return None
