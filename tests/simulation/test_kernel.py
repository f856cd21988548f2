"""The simulated kernel answers as the kernel underneath does."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from turnlock.backends.files import waker

from .kernel import Kernel
from .package import Pool, pool_of
from .plan import draw
from .world import World

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it simulates Linux")

_NAMES = ("a", "b", "d", "d/a", "d/b", "missing/a", "a/b")
_FLOCK = struct.Struct("hhqqi4x")
_FAR = 1 << 62
_BYTES = (_FAR, _FAR + 1)


class _Side:
    """One of the two systems, with descriptors by number of opening and paths below a root."""

    def __init__(self, root: str, os_module: Any, fcntl_module: Any, inotify: Any) -> None:
        self.root = root
        self.os = os_module
        self.fcntl = fcntl_module
        self.open: dict[int, int] = {}
        self.inotify = inotify
        self._proc = os_module.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def do(self, operation: str, slot: int, name: str, other: str, value: int) -> object:
        method: Callable[[int, str, str, int], object] = getattr(self, operation)
        try:
            return method(slot, name, other, value)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        except KeyError:
            return "no such slot"

    def create(self, slot: int, name: str, _: str, __: int) -> str:
        self.keep(slot, self.os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        return "opened"

    def unnamed(self, slot: int, name: str, _: str, __: int) -> str:
        directory = os.path.dirname(self.path(name))
        self.keep(slot, self.os.open(directory, os.O_RDWR | os.O_TMPFILE, 0o600))
        return "opened"

    def to_read(self, slot: int, name: str, _: str, __: int) -> str:
        self.keep(slot, self.os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW))
        return "opened"

    def to_append(self, slot: int, name: str, _: str, __: int) -> str:
        self.keep(slot, self.os.open(self.path(name), os.O_RDWR | os.O_APPEND))
        return "opened"

    def close(self, slot: int, _: str, __: str, ___: int) -> None:
        self.os.close(self.open.pop(slot))

    def write(self, slot: int, _: str, __: str, value: int) -> object:
        # Only files that are opened to append are written twice, as in the code under test.
        return self.os.write(self.open[slot], b"x" * value)

    def pread(self, slot: int, _: str, __: str, value: int) -> object:
        return self.os.pread(self.open[slot], 100, value)

    def fstat(self, slot: int, _: str, __: str, ___: int) -> object:
        return self.facts(self.os.fstat(self.open[slot]))

    def lstat(self, _: int, name: str, __: str, ___: int) -> object:
        status = self.os.lstat(self.path(name))
        same = [
            slot
            for slot, fd in sorted(self.open.items())
            if self.os.fstat(fd).st_ino == status.st_ino
        ]
        return self.facts(status), same

    def link(self, _: int, name: str, other: str, __: int) -> None:
        if not self.is_directory(name):
            self.os.link(self.path(name), self.path(other), follow_symlinks=False)

    def link_unnamed(self, slot: int, name: str, _: str, __: int) -> None:
        self.os.link(str(self.open[slot]), self.path(name), src_dir_fd=self._proc)

    def rename(self, _: int, name: str, other: str, __: int) -> None:
        if not (self.is_directory(name) or self.is_directory(other)):
            self.os.rename(self.path(name), self.path(other))

    def unlink(self, _: int, name: str, __: str, ___: int) -> None:
        self.os.unlink(self.path(name))

    def mkdir(self, _: int, name: str, __: str, ___: int) -> None:
        self.os.mkdir(self.path("d" if name != "missing/a" else name), 0o700)

    def listdir(self, _: int, __: str, ___: str, ____: int) -> object:
        fd = self.os.open(self.path("d"), os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(self.os.listdir(fd))
        finally:
            self.os.close(fd)

    def flock(self, slot: int, _: str, __: str, value: int) -> None:
        kinds = (fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_UN)
        self.fcntl.flock(self.open[slot], kinds[value % 3])

    def lock_byte(self, slot: int, _: str, __: str, ___: int) -> None:
        # One byte for each open file: the kernel makes one lock of neighbours.
        request = _FLOCK.pack(fcntl.F_RDLCK, 0, _BYTES[slot % 2], 1, 0)
        self.fcntl.fcntl(self.open[slot], 37, request)

    def locked_byte(self, slot: int, _: str, __: str, value: int) -> object:
        # One byte: of several, the kernel says which it likes.
        request = _FLOCK.pack(fcntl.F_WRLCK, 0, _BYTES[value % 2], 1, 0)
        kind, _whence, start, _length, _pid = _FLOCK.unpack(
            self.fcntl.fcntl(self.open[slot], 36, request)
        )
        return None if kind == fcntl.F_UNLCK else start

    def watch(self, slot: int, _: str, __: str, ___: int) -> object:
        # A directory's watch tells of the files in it, too. Nobody watches one.
        fd = self.open[slot]
        return None if self.os.fstat(fd).st_mode & 0o040000 else self.inotify.add(fd)

    def unwatch(self, _: int, __: str, ___: str, value: int) -> None:
        self.inotify.remove(1 + value)

    def events(self, _: int, __: str, ___: str, ____: int) -> object:
        return self.inotify.read(0)

    def interrupt(self, _: int, __: str, ___: str, ____: int) -> None:
        self.inotify.interrupt()

    def keep(self, slot: int, fd: int) -> None:
        before = self.open.pop(slot, None)
        if before is not None:
            self.os.close(before)
        self.open[slot] = fd

    def is_directory(self, name: str) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.os.lstat(self.path(name)).st_mode & 0o040000)
        return False

    def facts(self, status: Any) -> object:
        is_directory = bool(status.st_mode & 0o040000)
        # The size and the links of a directory are its file system's own affair.
        return "directory" if is_directory else (status.st_size, status.st_nlink)

    def end(self) -> None:
        for fd in (*self.open.values(), self._proc):
            self.os.close(fd)
        self.inotify.close()


_OPERATIONS = (
    *("create", "create", "unnamed", "to_read", "to_append", "to_append", "close", "write"),
    *("pread", "fstat", "lstat", "lstat", "link", "link_unnamed", "rename", "unlink", "mkdir"),
    *("listdir", "flock", "flock", "flock", "lock_byte", "locked_byte"),
    *("watch", "watch", "watch", "unwatch", "events", "interrupt"),
)


@pytest.fixture(scope="module")
def pool() -> Pool:
    return pool_of(())


@pytest.mark.parametrize("seed", range(30))
def test_any_sequence_of_calls_has_the_same_answers(seed: int, pool: Pool, tmp_path: Path) -> None:
    world = World(draw(0), pool)
    process = world._new_process()
    modules = process.copy.system.modules
    simulated_waker = process.copy.load("turnlock.backends.files.waker")
    sides = (
        _Side("/state", modules["os"], modules["fcntl"], simulated_waker._Inotify()),
        _Side(str(tmp_path), os, fcntl, waker._Inotify()),
    )
    random = Random(seed)
    told = []
    try:
        for _ in range(150):
            call = (
                random.choice(_OPERATIONS),
                random.randrange(5),
                random.choice(_NAMES),
                random.choice(_NAMES),
                random.randrange(4),
            )
            simulated, real = (side.do(*call) for side in sides)
            told.append(f"{call}: {simulated!r}")
            assert simulated == real, "\n".join([*told[-12:], f"really: {real!r}"])
    finally:
        for side in sides:
            side.end()


class TestPower:
    def test_what_was_not_synced_may_be_lost_and_what_was_is_not(self) -> None:
        lost = set()
        for seed in range(40):
            kernel = Kernel(lambda: 0.0)
            file = kernel.open("/state/f", os.O_RDWR | os.O_CREAT, 0o600, 1)
            kernel.write(file, b"synced")
            kernel.fsync(file)
            kernel.fsync(kernel.open("/state", os.O_RDONLY, 0, 1))
            kernel.write(file, b"unsynced")
            kernel.open("/state/g", os.O_RDWR | os.O_CREAT, 0o600, 1)
            kernel.cut_power(Random(seed))
            assert kernel.names["/state/f"].data.startswith(b"synced")
            lost.add(("/state/g" in kernel.names, len(kernel.names["/state/f"].data)))
        assert {there for there, _ in lost} == {True, False}
        assert len({size for _, size in lost}) > 3

    def test_a_name_is_not_durable_by_its_files_sync_but_by_its_directorys(self) -> None:
        kernel = Kernel(lambda: 0.0)
        file = kernel.open("/state/f", os.O_RDWR | os.O_CREAT, 0o600, 1)
        kernel.fsync(file)
        assert any(_cut(kernel_with_file(), seed) for seed in range(20))
        assert not all(_cut(kernel_with_file(), seed) for seed in range(20))


def kernel_with_file() -> Kernel:
    kernel = Kernel(lambda: 0.0)
    kernel.fsync(kernel.open("/state/f", os.O_RDWR | os.O_CREAT, 0o600, 1))
    return kernel


def _cut(kernel: Kernel, seed: int) -> bool:
    kernel.cut_power(Random(seed))
    return "/state/f" in kernel.names
