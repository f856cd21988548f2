"""The modules that stand for the operating system in one process.

Every call enters through `Process.enter`, where it is counted, may be stopped at, killed at or
failed, and where another actor may come in between; then the kernel does it in one step. A name
that is not listed here is refused, so that nothing reaches the real system unnoticed.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import select
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .kernel import EventFd, Inotify, OpenFile, Pollable, Status, error
from .threads import Threading

if TYPE_CHECKING:
    from .kernel import Kernel
    from .process import Process
    from .scheduler import Scheduler

_FLOCK_BYTES = 32
_PURE = frozenset(
    ["PathLike", "fspath", "strerror", "major", "minor", "stat_result", "SEEK_SET"]
    + [name for name in dir(os) if name.startswith(("O_", "EFD_"))]
)
_PURE_PATH = frozenset(["basename", "dirname", "split", "join"])


class _NoProcess:
    """While the package is being imported."""

    def step(self) -> None:
        pass

    now = 0.0
    running = None


class System:
    """What one copy of the package runs on: the modules, and the process that it is now."""

    def __init__(self) -> None:
        self.errno = 0
        self.process: Any = SimpleNamespace(dead=False)
        self.scheduler: Any = _NoProcess()
        self._number = 0
        self.modules: dict[str, Any] = {
            "ctypes": SimpleNamespace(get_errno=lambda: self.errno, CDLL=self._library),
            "fcntl": _Fcntl(self),
            "os": _Os(self),
            "select": SimpleNamespace(poll=lambda: _Poll(self), POLLIN=select.POLLIN),
            "threading": Threading(self),
            "time": _Time(self),
        }

    def begin(self, process: Process) -> None:
        self.process = process
        self.scheduler = process.scheduler
        self._number = 0

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def open_text(self, path: str, *_: object, **__: object) -> io.StringIO:
        """The builtin ``open``: for /proc alone."""
        process = self.process
        process.enter("read", path)
        if path == "/proc/locks":
            return io.StringIO(process.world.locks_table())
        if path.startswith("/proc/") and path.endswith("/status"):
            return io.StringIO(process.world.status_of(int(path.split("/")[2])))
        raise error(errno.ENOENT, path)

    def _library(self, *_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(
            inotify_init1=self._inotify_init,
            inotify_add_watch=self._inotify_add,
            inotify_rm_watch=self._inotify_remove,
        )

    def _inotify_init(self, flags: int) -> int:
        process: Process = self.process
        process.enter("inotify_init")
        return process.new_descriptor(Inotify())

    def _inotify_add(self, number: int, path: bytes, mask: int) -> int:
        process: Process = self.process
        process.enter("inotify_add_watch")
        inotify = process.descriptors[number]
        watched = process.descriptors.get(int(path.rpartition(b"/")[2]))
        assert isinstance(inotify, Inotify)
        if not isinstance(watched, OpenFile):
            self.errno = errno.ENOENT
            return -1
        return inotify.add(watched.inode, mask)

    def _inotify_remove(self, number: int, watch: int) -> int:
        process: Process = self.process
        process.enter("inotify_rm_watch")
        inotify = process.descriptors[number]
        assert isinstance(inotify, Inotify)
        try:
            inotify.remove(watch)
        except OSError as problem:
            self.errno = problem.errno or 0
            return -1
        return 0


class _Time:
    """Times are the scheduler's. They are looked at often, so they are points of their own."""

    def __init__(self, system: System) -> None:
        self._system = system

    CLOCK_MONOTONIC = time.CLOCK_MONOTONIC

    def clock_gettime(self, clock: int) -> float:
        assert clock == self.CLOCK_MONOTONIC
        scheduler: Scheduler = self._system.scheduler
        scheduler.step()
        return scheduler.now

    def time(self) -> float:
        return 1_800_000_000.0 + float(self._system.scheduler.now)

    def sleep(self, duration: float) -> None:
        self._system.scheduler.block("a pause", duration)


class _Poll:
    """``select.poll`` of what there is to read."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._polled: dict[int, Pollable] = {}

    def register(self, fd: int, events: int) -> None:
        assert events == select.POLLIN
        polled = self._system.process.descriptors[fd]
        assert isinstance(polled, Pollable)
        self._polled[fd] = polled

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """``timeout`` is in milliseconds."""
        process: Process = self._system.process
        process.enter("poll")
        if not self._ready() and timeout > 0:
            self._block(process.scheduler, timeout / 1000)
        return self._ready()

    def _ready(self) -> list[tuple[int, int]]:
        return [(fd, select.POLLIN) for fd, one in self._polled.items() if one.is_readable()]

    def _block(self, scheduler: Scheduler, timeout: float) -> None:
        actor = scheduler.running
        assert actor is not None

        def poller() -> None:
            scheduler.wake(actor)

        for one in self._polled.values():
            one.pollers.append(poller)
        try:
            scheduler.block("file events", timeout)
        finally:
            for one in self._polled.values():
                one.pollers.remove(poller)


class _Fcntl:
    LOCK_SH, LOCK_EX, LOCK_UN, LOCK_NB = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN, fcntl.LOCK_NB
    F_RDLCK, F_WRLCK, F_UNLCK = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
    F_OFD_GETLK, F_OFD_SETLK = 36, 37

    def __init__(self, system: System) -> None:
        self._system = system

    def flock(self, fd: int, operation: int) -> None:
        process: Process = self._system.process
        file = process.entered_file("flock", fd)
        process.kernel.flock(file, operation)

    def fcntl(self, fd: int, command: int, request: bytes) -> bytes:
        """The two commands on struct flock that the line of waiters uses."""
        process: Process = self._system.process
        file = process.entered_file("fcntl", fd)
        kind, whence, start, length = (
            int.from_bytes(request[at : at + size], "little")
            for at, size in ((0, 2), (2, 2), (8, 8), (16, 8))
        )
        if command == self.F_OFD_SETLK:
            assert (kind, length) == (self.F_RDLCK, 1)
            process.kernel.lock_byte(file, start)
            return request
        found = process.kernel.locked_byte(file, start, start + length)
        kind = self.F_UNLCK if found is None else self.F_RDLCK
        fields = ((kind, 2), (whence, 6), (start if found is None else found, 8), (length, 8))
        answer = b"".join(value.to_bytes(size, "little") for value, size in fields)
        return answer.ljust(_FLOCK_BYTES, b"\0")


class _Path:
    def __init__(self, system: System) -> None:
        self._system = system
        for name in _PURE_PATH:
            setattr(self, name, getattr(os.path, name))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"os.path.{name} is not simulated")

    def realpath(self, path: str) -> str:
        return os.path.normpath(path)

    abspath = realpath

    def exists(self, path: str) -> bool:
        return path in self._kernel.names

    lexists = exists

    def isdir(self, path: str) -> bool:
        inode = self._kernel.names.get(path)
        return inode is not None and inode.is_directory

    @property
    def _kernel(self) -> Kernel:
        self._system.process.enter("stat")
        kernel: Kernel = self._system.process.kernel
        return kernel


class _Os:
    def __init__(self, system: System) -> None:
        self._system = system
        self.path = _Path(system)
        for name in _PURE:
            setattr(self, name, getattr(os, name))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"os.{name} is not simulated")

    @property
    def _process(self) -> Process:
        process: Process = self._system.process
        return process

    def register_at_fork(self, **_: object) -> None:
        """No simulated process forks."""

    def getpid(self) -> int:
        return self._process.pid

    def geteuid(self) -> int:
        return 1000

    def urandom(self, size: int) -> bytes:
        return self._process.world.random_bytes(size)

    # Descriptors

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        process = self._process
        process.enter("open", path)
        if path == "/proc/self/fd":
            return process.new_descriptor(None)
        return process.new_descriptor(process.kernel.open(path, flags, mode, process.pid))

    def close(self, fd: int) -> None:
        # Called by destructors as well: nobody may come in between here.
        self._process.close(fd)

    def read(self, fd: int, length: int) -> bytes:
        process = self._process
        process.enter("read")
        inotify = process.descriptors[fd]
        assert isinstance(inotify, Inotify), "only inotify is read in order"
        return inotify.read()

    def eventfd(self, count: int, flags: int) -> int:
        process = self._process
        process.enter("eventfd")
        assert flags & os.EFD_NONBLOCK
        return process.new_descriptor(EventFd(count))

    def eventfd_write(self, fd: int, count: int) -> None:
        self._event("eventfd_write", fd).write(count)

    def eventfd_read(self, fd: int) -> int:
        return self._event("eventfd_read", fd).read()

    def _event(self, call: str, fd: int) -> EventFd:
        process = self._process
        process.enter(call)
        event = process.descriptors[fd]
        assert isinstance(event, EventFd)
        return event

    def sched_yield(self) -> None:
        self._process.scheduler.step()

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        process = self._process
        file = process.entered_file("pread", fd)
        return process.kernel.read_at(file, length, offset)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        process = self._process
        file = process.entered_file("write", fd)
        return process.kernel.write(file, bytes(data)[: process.bytes_written(len(data))])

    def fsync(self, fd: int) -> None:
        process = self._process
        file = process.entered_file("fsync", fd)
        process.use_disk()
        process.kernel.fsync(file)

    fdatasync = fsync

    def fstat(self, fd: int) -> Status:
        process = self._process
        return process.entered_file("fstat", fd).inode.status()

    def listdir(self, fd: int) -> list[str]:
        process = self._process
        return process.kernel.list(process.entered_file("listdir", fd).path)

    # Names

    def lstat(self, path: str) -> Status:
        process = self._process
        process.enter("lstat", path)
        return process.kernel.status(path)

    def mkdir(self, path: str, mode: int) -> None:
        process = self._process
        process.enter("mkdir", path)
        process.kernel.make_directory(path, mode)

    def link(
        self,
        source: str,
        path: str,
        *,
        src_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        process = self._process
        process.enter("link", path)
        if src_dir_fd is None:
            process.kernel.link(process.kernel.named(source), path)
        else:
            process.kernel.link(process.file(int(source)).inode, path)

    def rename(self, source: str, target: str) -> None:
        process = self._process
        process.enter("rename", target)
        process.kernel.rename(source, target)

    def unlink(self, path: str) -> None:
        process = self._process
        process.enter("unlink", path)
        process.kernel.unlink(path)
