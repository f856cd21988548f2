"""File operations, as something that is passed in, and descriptors that do not survive a fork.

Every system call on a claim, a transcript or a directory goes through `FileOps`, so that a test
can fail the n-th one, stop at it, or record them all.

A child of a bare fork shares the open file descriptions of its parent, and with them the flocks:
were it to outlive the parent, a dead holder would look alive. So a child closes every `Handle` at
once, and never unlocks: its LOCK_UN would drop the parent's lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import weakref

_MAY_NOT = frozenset({errno.EPERM, errno.EINVAL})
NOT_A_FILE = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.ENOTDIR, errno.EISDIR})


class Handle:
    """An open descriptor. Closed when it is garbage, at the latest; -1 once it is closed."""

    __slots__ = ("__weakref__", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # Without one when there was no memory for it, or Ctrl-C came first.
        if hasattr(self, "fd"):
            self.close()


_open_handles: weakref.WeakSet[Handle] = weakref.WeakSet()
# Held over open-and-register and over every fork, so that a child finds all of them.
_fork_lock = threading.Lock()


def _close_in_child() -> None:
    for handle in list(_open_handles):
        handle.close()
    _fork_lock.release()


os.register_at_fork(
    before=_fork_lock.acquire,
    after_in_parent=_fork_lock.release,
    after_in_child=_close_in_child,
)


# Linux has locks of an open file description since 3.15; -1 makes the call fail elsewhere.
_OFD_GETLK = getattr(fcntl, "F_OFD_GETLK", -1)
_OFD_SETLK = getattr(fcntl, "F_OFD_SETLK", -1)
# struct flock of Linux with 64-bit offsets: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")


_SEEK_DATA: int | None = getattr(os, "SEEK_DATA", None)


def _is_hole(handle: Handle, offset: int) -> bool:
    """Whether there is no data from there on. A file system that does not know says no."""
    assert _SEEK_DATA is not None
    try:
        os.lseek(handle.fd, offset, _SEEK_DATA)
    except OSError as error:
        return error.errno == errno.ENXIO
    return False


def _byte_lock(kind: int, start: int, length: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)


class FileOps:
    """The operating system's file operations. All raise OSError as they find it."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> Handle:
        with _fork_lock:
            handle = Handle(os.open(path, flags | os.O_CLOEXEC, mode))
            _open_handles.add(handle)
        return handle

    def open_quietly(self, path: str) -> Handle:
        """Open a file for reading without changing its access time, where that is allowed."""
        return self._without_atime(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)

    def open_directory(self, path: str) -> Handle:
        """Open a directory for listing without changing its access time, where allowed."""
        return self._without_atime(path, os.O_RDONLY | os.O_DIRECTORY)

    def _without_atime(self, path: str, flags: int) -> Handle:
        try:
            return self.open(path, flags | getattr(os, "O_NOATIME", 0))
        except PermissionError:
            return self.open(path, flags)

    def close(self, handle: Handle) -> None:
        handle.close()

    def read_at(self, handle: Handle, offset: int, length: int) -> bytes:
        return os.pread(handle.fd, length, offset)

    def data_end(self, handle: Handle, size: int) -> int:
        """Behind which byte the file is one hole up to ``size``; ``size`` when there is none."""
        if _SEEK_DATA is None or not _is_hole(handle, size - 1):
            return size
        data, hole = -1, size - 1
        while hole - data > 1:
            middle = (data + hole) // 2
            data, hole = (data, middle) if _is_hole(handle, middle) else (middle, hole)
        return hole

    def write(self, handle: Handle, data: bytes | memoryview) -> int:
        return os.write(handle.fd, data)

    def stat_handle(self, handle: Handle) -> os.stat_result:
        return os.fstat(handle.fd)

    # Of the path itself; a symbolic link is not followed.
    stat_path = staticmethod(os.lstat)

    def link(self, source: str, path: str) -> None:
        os.link(source, path, follow_symlinks=False)

    def link_unnamed(self, handle: Handle, path: str, proc: Handle) -> None:
        """Give an unnamed file its name. ``proc`` is a handle of /proc/self/fd."""
        # Only with a directory descriptor does CPython call linkat with AT_SYMLINK_FOLLOW.
        os.link(str(handle.fd), path, src_dir_fd=proc.fd)

    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)

    def flock(self, handle: Handle, operation: int) -> None:
        fcntl.flock(handle.fd, operation)

    def lock_byte(self, handle: Handle, offset: int) -> None:
        """A shared lock of the open file on one byte. OSError where the system has none."""
        fcntl.fcntl(handle.fd, _OFD_SETLK, _byte_lock(fcntl.F_RDLCK, offset, 1))

    def locked_byte(self, handle: Handle, start: int, stop: int) -> int | None:
        """A byte of the range that another open file has locked; None when there is none."""
        asked = _byte_lock(fcntl.F_WRLCK, start, stop - start)
        kind, _, found, _, _ = _FLOCK.unpack(fcntl.fcntl(handle.fd, _OFD_GETLK, asked))
        return None if kind == fcntl.F_UNLCK else found

    def fsync(self, handle: Handle) -> None:
        os.fsync(handle.fd)

    def fdatasync(self, handle: Handle) -> None:
        # macOS has no fdatasync.
        getattr(os, "fdatasync", os.fsync)(handle.fd)

    def chown(self, handle: Handle, uid: int, gid: int) -> None:
        os.fchown(handle.fd, uid, gid)

    def make_directory(self, path: str, mode: int = 0o700) -> None:
        os.mkdir(path, mode)

    def chown_path(self, path: str, uid: int, gid: int) -> None:
        os.chown(path, uid, gid, follow_symlinks=False)

    def names(self, handle: Handle) -> list[str]:
        """The names in an open directory, in no order."""
        return os.listdir(handle.fd)


def give_to(files: FileOps, what: Handle | str, uid: int, gid: int) -> None:
    """Make an open file, or a directory, somebody's, where that is allowed.

    Root in a container may have no right to, or know no such user. Then it stays root's.
    """
    try:
        if isinstance(what, str):
            files.chown_path(what, uid, gid)
        else:
            files.chown(what, uid, gid)
    except OSError as error:
        if error.errno not in _MAY_NOT:
            raise


def write_all(files: FileOps, handle: Handle, data: bytes) -> None:
    """Write every byte. A short write is continued; on an error a part may have been written."""
    written = files.write(handle, data)
    if written < len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[files.write(handle, rest) :]
