"""The peers: lock files of other libraries, as their documentation shows them.

``names_holder``: whoever finds the lock taken can tell by whom. ``freed_at_death``: a holder that
was killed is replaced without waiting for a time to pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from ..results import Kind
from . import Subject


class FileLockOf:
    """One of the kinds of filelock, by its class's name."""

    def __init__(self, kind: str, path: str) -> None:
        import filelock

        self._lock: Any = getattr(filelock, kind)(f"{path}.{kind}")

    def take(self) -> None:
        self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


class AsyncFileLockOf:
    def __init__(self, kind: str, path: str) -> None:
        import filelock

        self._lock: Any = getattr(filelock, kind)(f"{path}.{kind}")

    async def take(self) -> None:
        await self._lock.acquire()

    async def release(self) -> None:
        await self._lock.release()


class PortalockerLock:
    def __init__(self, path: str) -> None:
        import portalocker

        self._make: Callable[[], Any] = partial(
            portalocker.Lock, f"{path}.portalocker", timeout=3600
        )

    def take(self) -> None:
        # Not to be used by two threads at once, its documentation says: one object for each take.
        lock = self._make()
        lock.acquire()
        self._lock = lock

    def release(self) -> None:
        self._lock.release()


class PortalockerPidFileLock(PortalockerLock):
    def __init__(self, path: str) -> None:
        import portalocker

        self._make = partial(
            portalocker.PidFileLock, f"{path}.pid", timeout=3600, fail_when_locked=False
        )


class FastenersLock:
    def __init__(self, path: str) -> None:
        import fasteners

        self._lock: Any = fasteners.InterProcessLock(f"{path}.fasteners")

    def take(self) -> None:
        self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


class ToozLock:
    """The file driver: a coordinator of the directory, and a lock of it."""

    def __init__(self, path: str) -> None:
        directory, name = os.path.split(path)
        self._lock = _coordinator(f"{directory}/tooz").get_lock(name.encode())

    def take(self) -> None:
        self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


@cache
def _coordinator(directory: str) -> Any:
    """One for a process, as two of one process do not keep each other out."""
    from tooz import coordination

    coordinator: Any = coordination.get_coordinator(
        f"file://{directory}", str(os.getpid()).encode()
    )
    coordinator.start()
    return coordinator


def _filelock(kind: str, *, names_holder: bool, freed_at_death: bool) -> Subject:
    is_async = kind.startswith("Async")
    return Subject(
        kind.lower(),
        f"filelock {kind}",
        Kind.PEER,
        make=None if is_async else lambda path: FileLockOf(kind, path),
        make_async=(lambda path: AsyncFileLockOf(kind, path)) if is_async else None,
        module="filelock",
        package="filelock",
        names_holder=names_holder,
        freed_at_death=freed_at_death,
    )


FILE_LOCK = _filelock("FileLock", names_holder=False, freed_at_death=True)
SOFT_FILE_LOCK = _filelock("SoftFileLock", names_holder=True, freed_at_death=True)
STRICT_SOFT_FILE_LOCK = _filelock("StrictSoftFileLock", names_holder=True, freed_at_death=False)
SOFT_FILE_LEASE = _filelock("SoftFileLease", names_holder=True, freed_at_death=True)
ASYNC_FILE_LOCK = _filelock("AsyncFileLock", names_holder=False, freed_at_death=True)
ASYNC_SOFT_FILE_LOCK = _filelock("AsyncSoftFileLock", names_holder=True, freed_at_death=True)

_PORTALOCKER = Subject(
    "", "", Kind.PEER, module="portalocker", package="portalocker", freed_at_death=True
)
PORTALOCKER = _PORTALOCKER._replace(
    name="portalocker", label="portalocker Lock", make=PortalockerLock
)
PID_FILE_LOCK = _PORTALOCKER._replace(
    name="pidfilelock",
    label="portalocker PidFileLock",
    make=PortalockerPidFileLock,
    names_holder=True,
)
FASTENERS = Subject(
    "fasteners",
    "fasteners InterProcessLock",
    Kind.PEER,
    make=FastenersLock,
    module="fasteners",
    package="fasteners",
    freed_at_death=True,
    excludes_threads=False,
)
TOOZ = Subject(
    "tooz",
    "tooz, file driver",
    Kind.PEER,
    make=ToozLock,
    module="tooz",
    package="tooz",
    freed_at_death=True,
)
PROPER_LOCKFILE = Subject(
    "proper-lockfile", "proper-lockfile (Node)", Kind.PEER, package="proper-lockfile"
)

ASYNC_PEERS = (ASYNC_FILE_LOCK, ASYNC_SOFT_FILE_LOCK)
PEERS = (
    FILE_LOCK,
    SOFT_FILE_LOCK,
    STRICT_SOFT_FILE_LOCK,
    SOFT_FILE_LEASE,
    PORTALOCKER,
    PID_FILE_LOCK,
    FASTENERS,
    TOOZ,
    PROPER_LOCKFILE,
)
