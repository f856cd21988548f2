"""A simulated kernel: one file system, its locks and its events, for many processes.

It has what the files backend stands on, as Linux has it: unnamed files, links, renames, flocks and
open file description locks that belong to open files, inotify, inode numbers that come back as soon
as they are free. It knows which bytes and which names were made durable, so that its power can be
cut. ``test_kernel.py`` holds it to the kernel underneath.

Paths are absolute and there are no symbolic links.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

_ATTRIB, _CLOSE_WRITE, _DELETE_SELF, _MOVE_SELF, _IGNORED = 0x4, 0x8, 0x400, 0x800, 0x8000
_ONESHOT = 0x8000_0000
_EVENT = struct.Struct("iIII")
_DEVICE = 0x802


class Status(NamedTuple):
    """What stat gives, as far as the code under test asks."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_mtime: float
    st_ctime: float
    st_mtime_ns: int
    st_ctime_ns: int


class Inode:
    """``durable_bytes``: so much of the content survives a power cut for sure."""

    def __init__(self, number: int, mode: int, wall: float) -> None:
        self.number = number
        self.mode = mode
        self.links = 0
        self.opened = 0
        self.is_unnamed = False
        self.data = bytearray()
        self.durable_bytes = 0
        self.changed = self.modified = wall
        self.flocks: dict[OpenFile, int] = {}
        self.byte_locks: list[tuple[OpenFile, int]] = []
        self.watches: list[tuple[Inotify, int]] = []

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def status(self) -> Status:
        return Status(
            self.mode,
            self.number,
            _DEVICE,
            self.links,
            0,
            0,
            len(self.data),
            self.modified,
            self.changed,
            int(self.modified * 1e9),
            int(self.changed * 1e9),
        )


class OpenFile:
    """An open file description. flocks and byte locks are its own."""

    def __init__(self, inode: Inode, path: str, flags: int, pid: int) -> None:
        self.inode = inode
        self.path = path
        self.flags = flags
        self.pid = pid

    @property
    def writes(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    @property
    def reads(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_WRONLY


class Pollable:
    """What can be polled. ``pollers`` are called when there is something to read."""

    def __init__(self) -> None:
        self.pollers: list[Callable[[], None]] = []

    def is_readable(self) -> bool:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def tell_pollers(self) -> None:
        for poller in list(self.pollers):
            poller()


class EventFd(Pollable):
    """A counter that does not block."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def is_readable(self) -> bool:
        return self._count > 0

    def write(self, count: int) -> None:
        self._count += count
        self.tell_pollers()

    def read(self) -> int:
        count, self._count = self._count, 0
        if not count:
            raise error(errno.EAGAIN)
        return count


class Inotify(Pollable):
    """Of the masks it knows ``IN_ONESHOT``; whoever watches is told of all that there is."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[bytes] = []
        self.watched: dict[int, Inode] = {}
        self._once: set[int] = set()
        self._last = 0

    def is_readable(self) -> bool:
        return bool(self._events)

    def read(self) -> bytes:
        events, self._events = self._events, []
        if not events:
            raise error(errno.EAGAIN)
        return b"".join(events)

    def happened(self, number: int, mask: int) -> None:
        self.post(number, mask)
        if number in self._once:
            self.remove(number)

    def post(self, number: int, mask: int) -> None:
        event = _EVENT.pack(number, mask, 0, 0)
        # As the kernel does: an event that is like the last one that waits is dropped.
        if not self._events or self._events[-1] != event:
            self._events.append(event)
        self.tell_pollers()

    def add(self, inode: Inode, mask: int) -> int:
        number = next((number for one, number in inode.watches if one is self), 0)
        if not number:
            self._last = number = self._last + 1
            inode.watches.append((self, number))
            self.watched[number] = inode
        self._once.discard(number)
        if mask & _ONESHOT:
            self._once.add(number)
        return number

    def remove(self, number: int) -> None:
        inode = self.watched.pop(number, None)
        if inode is None:
            raise error(errno.EINVAL)
        inode.watches.remove((self, number))
        self.post(number, _IGNORED)

    def close(self) -> None:
        for number, inode in self.watched.items():
            inode.watches.remove((self, number))
        self.watched.clear()


def error(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path)


class Kernel:
    """Every operation is atomic; who calls it when is the scheduler's affair."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.boot = "boot-1"
        self._wall = wall
        self._free: list[int] = []
        self._last = 0
        self.names: dict[str, Inode] = {}
        self._durable: dict[str, Inode] = {}
        self._changed: dict[str, dict[str, None]] = {}
        for path in ("/", "/state"):
            self._name(path, self._new(stat.S_IFDIR | 0o700))
        self._durable = dict(self.names)

    # Files

    def open(self, path: str, flags: int, mode: int, pid: int) -> OpenFile:
        inode = self.names.get(path)
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            if inode is None:
                raise error(errno.ENOENT, path)
            if not inode.is_directory:
                raise error(errno.ENOTDIR, path)
            inode = self._new(stat.S_IFREG | mode & 0o777)
            inode.is_unnamed = True
        elif inode is None:
            if not flags & os.O_CREAT:
                raise error(self._why_missing(path), path)
            self._parent(path)
            inode = self._new(stat.S_IFREG | mode & 0o777)
            self._name(path, inode)
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise error(errno.EEXIST, path)
        elif flags & os.O_DIRECTORY and not inode.is_directory:
            raise error(errno.ENOTDIR, path)
        elif inode.is_directory and flags & os.O_ACCMODE != os.O_RDONLY:
            raise error(errno.EISDIR, path)
        inode.opened += 1
        return OpenFile(inode, path, flags, pid)

    def close(self, file: OpenFile) -> None:
        """``closed`` and then ``unlocked``, in one step."""
        self.closed(file)
        self.unlocked(file)

    def closed(self, file: OpenFile) -> None:
        """What watchers see of a close; the kernel drops its locks a moment later."""
        if file.writes and not file.inode.is_directory:
            self._tell(file.inode, _CLOSE_WRITE)

    def unlocked(self, file: OpenFile) -> None:
        inode = file.inode
        inode.flocks.pop(file, None)
        inode.byte_locks = [lock for lock in inode.byte_locks if lock[0] is not file]
        inode.opened -= 1
        self._drop_unused(inode)

    def write(self, file: OpenFile, data: bytes) -> int:
        if not file.writes:
            raise error(errno.EBADF)
        file.inode.data += data
        file.inode.modified = self._wall()
        return len(data)

    def read_at(self, file: OpenFile, length: int, offset: int) -> bytes:
        if not file.reads:
            raise error(errno.EBADF)
        if file.inode.is_directory:
            raise error(errno.EISDIR)
        return bytes(file.inode.data[offset : offset + length])

    def status(self, path: str) -> Status:
        inode = self.names.get(path)
        if inode is None:
            raise error(self._why_missing(path), path)
        return inode.status()

    # Names

    def make_directory(self, path: str, mode: int) -> None:
        if path in self.names:
            raise error(errno.EEXIST, path)
        self._parent(path)
        self._name(path, self._new(stat.S_IFDIR | mode))

    def link(self, inode: Inode, path: str) -> None:
        if path in self.names:
            raise error(errno.EEXIST, path)
        self._parent(path)
        if inode.is_directory:
            raise error(errno.EPERM, path)
        if inode.links == 0 and not inode.is_unnamed:
            # It had a name, and lost it: there is no way back.
            raise error(errno.ENOENT, path)
        inode.is_unnamed = False
        self._name(path, inode)
        self._tell(inode, _ATTRIB)

    def named(self, path: str) -> Inode:
        inode = self.names.get(path)
        if inode is None:
            raise error(self._why_missing(path), path)
        return inode

    def rename(self, source: str, target: str) -> None:
        self._parent(source)
        self._parent(target)
        inode = self.named(source)
        replaced = self.names.get(target)
        if replaced is inode:
            return
        if replaced is not None and replaced.is_directory:
            raise error(errno.EISDIR, target)
        if replaced is not None:
            self._unname(target)
        self._unname(source, is_rename=True)
        self._name(target, inode)
        self._tell(inode, _MOVE_SELF)

    def unlink(self, path: str) -> None:
        if self.named(path).is_directory:
            raise error(errno.EISDIR, path)
        self._unname(path)

    def list(self, path: str) -> list[str]:
        start = "/" if path == "/" else f"{path}/"
        names = (name[len(start) :] for name in self.names if name.startswith(start))
        return [name for name in names if name and "/" not in name]

    # Locks

    def flock(self, file: OpenFile, operation: int) -> None:
        flocks = file.inode.flocks
        kind = operation & ~fcntl.LOCK_NB
        if kind == fcntl.LOCK_UN:
            flocks.pop(file, None)
            return
        assert operation & fcntl.LOCK_NB, "a flock that waits: nobody is to do that"
        for other, theirs in flocks.items():
            if other is not file and fcntl.LOCK_EX in (kind, theirs):
                # A lock that is to be converted is dropped first, and stays dropped.
                flocks.pop(file, None)
                raise error(errno.EWOULDBLOCK)
        flocks[file] = kind

    def lock_byte(self, file: OpenFile, offset: int) -> None:
        file.inode.byte_locks.append((file, offset))

    def locked_byte(self, file: OpenFile, start: int, stop: int) -> int | None:
        for other, offset in file.inode.byte_locks:
            if other is not file and start <= offset < stop:
                return offset
        return None

    def flock_holders(self) -> dict[int, int]:
        """Inode number to pid, of every exclusive flock on a file with a name."""
        return {
            inode.number: file.pid
            for inode in self.names.values()
            for file, kind in inode.flocks.items()
            if kind == fcntl.LOCK_EX
        }

    def locked_bytes(self) -> Iterator[tuple[int, int]]:
        """Inode number and offset, of every locked byte of a file with a name."""
        for inode in self.names.values():
            for _, offset in inode.byte_locks:
                yield inode.number, offset

    # Durability

    def fsync(self, file: OpenFile) -> None:
        file.inode.durable_bytes = len(file.inode.data)
        if file.inode.is_directory:
            for path in self._changed.pop(file.path, {}):
                self._settle(path, self.names.get(path))

    def cut_power(self, random: Random) -> None:
        """What was not made durable is lost, or not: each name and each tail by itself."""
        for changed in self._changed.values():
            for path in changed:
                if random.random() < 0.5:
                    self._settle(path, self.names.get(path))
        self._changed.clear()
        for inode in dict.fromkeys(self._durable.values()):
            inode.flocks.clear()
            inode.byte_locks.clear()
            inode.watches.clear()
            inode.opened = 0
            unsure = len(inode.data) - inode.durable_bytes
            kept = inode.durable_bytes + int(random.random() * (unsure + 1))
            zeros = int(random.random() * 40) if unsure and random.random() < 0.2 else 0
            inode.data[kept:] = bytes(min(zeros, len(inode.data) - kept))
            inode.links = sum(1 for other in self._durable.values() if other is inode)
        self.names = dict(self._durable)
        self.boot = "boot-2"

    # Inside

    def _settle(self, path: str, inode: Inode | None) -> None:
        if inode is None:
            self._durable.pop(path, None)
        else:
            self._durable[path] = inode

    def _new(self, mode: int) -> Inode:
        if self._free:
            number = self._free.pop()
        else:
            self._last += 1
            number = self._last
        return Inode(number, mode, self._wall())

    def _name(self, path: str, inode: Inode) -> None:
        self.names[path] = inode
        inode.links += 1
        inode.changed = self._wall()
        self._changed.setdefault(os.path.dirname(path), {})[path] = None

    def _unname(self, path: str, *, is_rename: bool = False) -> None:
        inode = self.names.pop(path)
        inode.links -= 1
        inode.changed = self._wall()
        self._changed.setdefault(os.path.dirname(path), {})[path] = None
        if not is_rename:
            self._tell(inode, _ATTRIB)
            self._drop_unused(inode)

    def _drop_unused(self, inode: Inode) -> None:
        if inode.links or inode.opened:
            return
        for inotify, number in inode.watches:
            inotify.post(number, _DELETE_SELF)
            inotify.post(number, _IGNORED)
            inotify.watched.pop(number, None)
        inode.watches = []
        self._free.append(inode.number)

    def _tell(self, inode: Inode, mask: int) -> None:
        for inotify, number in list(inode.watches):
            inotify.happened(number, mask)

    def _parent(self, path: str) -> None:
        parent = self.names.get(os.path.dirname(path))
        if parent is None:
            raise error(self._why_missing(path), path)
        if not parent.is_directory:
            raise error(errno.ENOTDIR, path)

    def _why_missing(self, path: str) -> int:
        """ENOENT, or ENOTDIR when something above is a file."""
        above = os.path.dirname(path)
        while above != "/":
            inode = self.names.get(above)
            if inode is not None:
                return errno.ENOENT if inode.is_directory else errno.ENOTDIR
            above = os.path.dirname(above)
        return errno.ENOENT
