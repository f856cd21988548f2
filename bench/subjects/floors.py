"""The floors: system calls that such a thing needs, and nothing around them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections import defaultdict
from typing import ClassVar

from ..results import Kind
from . import Subject

# As long as one of our claims.
_PAYLOAD = b"x" * 400
_LINE = b"x" * 299 + b"\n"


class BareFlock:
    """A blocking flock on a file that stays open: it names nobody and limits nobody."""

    def __init__(self, path: str) -> None:
        self._path = f"{path}.flock"
        # By thread: two that share an open file share its flock.
        self._open = threading.local()

    def take(self) -> None:
        if not hasattr(self._open, "fd"):
            self._open.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._open.fd, fcntl.LOCK_EX)

    def release(self) -> None:
        fcntl.flock(self._open.fd, fcntl.LOCK_UN)


class BareClaim:
    """A claim that is born whole, named and removed. For one contender: it does not wait.

    ``syncs``: how often a line is written and made durable meanwhile.
    """

    def __init__(self, path: str, *, syncs: int = 0) -> None:
        self._directory = os.path.dirname(path)
        self._path = f"{path}.bare"
        self._proc = os.open("/proc/self/fd", os.O_RDONLY)
        self._syncs = syncs
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._lines = os.open(f"{path}.lines", flags, 0o600) if syncs else -1

    def take(self) -> None:
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        fd = self._fd = os.open(self._directory, flags, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, _PAYLOAD)
        os.link(str(fd), self._path, src_dir_fd=self._proc)

    def release(self) -> None:
        for _ in range(self._syncs):
            os.write(self._lines, _LINE)
            os.fdatasync(self._lines)
        os.unlink(self._path)
        os.close(self._fd)


class ThreadingLock:
    """One for a path: it is not the path that excludes."""

    _locks: ClassVar[defaultdict[str, threading.Lock]] = defaultdict(threading.Lock)

    def __init__(self, path: str) -> None:
        self._lock = self._locks[path]

    def take(self) -> None:
        self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


class AsyncioLock:
    _locks: ClassVar[defaultdict[str, asyncio.Lock]] = defaultdict(asyncio.Lock)

    def __init__(self, path: str) -> None:
        self._lock = self._locks[path]

    async def take(self) -> None:
        await self._lock.acquire()

    async def release(self) -> None:
        self._lock.release()


FLOCK = Subject("flock", "flock, blocking", Kind.FLOOR, make=BareFlock)
CLAIM = Subject("claim", "system calls of a claim", Kind.FLOOR, make=BareClaim)
SYNCED_CLAIM = Subject(
    "synced-claim",
    "the same, two lines synced",
    Kind.FLOOR,
    make=lambda path: BareClaim(path, syncs=2),
)
THREADING_LOCK = Subject("threading-lock", "threading.Lock", Kind.FLOOR, make=ThreadingLock)
ASYNCIO_LOCK = Subject("asyncio-lock", "asyncio.Lock", Kind.FLOOR, make_async=AsyncioLock)
FLOORS = (FLOCK, CLAIM, SYNCED_CLAIM, THREADING_LOCK, ASYNCIO_LOCK)
