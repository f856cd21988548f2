"""Bytes of a transcript that are no entries, kept in ``<transcript>.torn``.

A write that was cut short leaves bytes without a newline, and after the next writer's newline a
damaged line. Nobody cuts them off, as that could be a superseded repairer cutting off its
successor's entries. They are copied aside, each ended by a newline, and never twice: who copies has
a lock on the copy until it is durable, and another doctor waits for that. Of NULs, as a power loss
leaves them, their number and place is kept.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Sequence

from ..backends.files.fileops import FileOps, Handle, give_to, write_all
from ..clock import Clock, SystemClock

SUFFIX = ".torn"
_COPY_BYTES_MAX = 256 * 1024 * 1024
# Seconds: how long another doctor's write is waited for, and how often it is looked.
_PATIENCE = 10.0
_PAUSE = 0.05


def to_keep(offset: int, raw: bytes, length: int | None = None) -> bytes:
    """What is kept of ``length`` bytes at ``offset`` that are no entry; ``raw`` has the first."""
    bare = raw.strip(b"\0")
    return bare or b"(%d NUL bytes at byte %d)" % (length or len(raw), offset)


class TornCopy:
    """The copy beside one transcript."""

    def __init__(self, files: FileOps, transcript: str, *, clock: Clock | None = None) -> None:
        self.path = transcript + SUFFIX
        self._files = files
        self._clock = clock or SystemClock()

    def missing(self, fragments: Sequence[bytes]) -> list[bytes]:
        """Those that the copy does not have. What is no regular file has none."""
        try:
            handle = self._files.open_quietly(self.path)
        except OSError:
            return list(dict.fromkeys(fragments))
        try:
            return _missing(self._read(handle), fragments)
        finally:
            handle.close()

    def keep(self, fragments: Sequence[bytes]) -> None:
        """Append those that are missing, durably. Raises OSError, also when another is at it for
        longer than 10 seconds.
        """
        handle = self._open()
        try:
            # Two doctors at once must not both find a fragment missing.
            self._lock(handle)
            content = self._read(handle)
            lines = [fragment + b"\n" for fragment in _missing(content, fragments)]
            if lines and content and not content.endswith(b"\n"):
                lines.insert(0, b"\n")
            if lines:
                write_all(self._files, handle, b"".join(lines))
                self._files.fsync(handle)
        finally:
            handle.close()

    def _lock(self, handle: Handle) -> None:
        deadline = self._clock.monotonic() + _PATIENCE
        while True:
            try:
                return self._files.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._clock.monotonic() >= deadline:
                    why = "another process is writing it"
                    raise BlockingIOError(errno.EAGAIN, why, self.path) from None
            self._clock.sleep(_PAUSE)

    def _open(self) -> Handle:
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            handle = self._files.open(self.path, flags)
        except FileNotFoundError:
            try:
                return self._make(flags)
            except FileExistsError:
                # Another doctor was first.
                handle = self._files.open(self.path, flags)
        if not stat.S_ISREG(self._files.stat_handle(handle).st_mode):
            handle.close()
            raise FileExistsError(0, "it is there and is not a regular file", self.path)
        return handle

    def _make(self, flags: int) -> Handle:
        handle = self._files.open(self.path, flags | os.O_CREAT | os.O_EXCL)
        directory = os.path.dirname(self.path)
        if os.geteuid() == 0:
            owner = self._files.stat_path(directory)
            give_to(self._files, handle, owner.st_uid, owner.st_gid)
        parent = self._files.open_directory(directory)
        try:
            self._files.fsync(parent)
        finally:
            parent.close()
        return handle

    def _read(self, handle: Handle) -> bytes:
        status = self._files.stat_handle(handle)
        if not stat.S_ISREG(status.st_mode):
            return b""
        return self._files.read_at(handle, 0, min(status.st_size, _COPY_BYTES_MAX))


def _missing(content: bytes, fragments: Sequence[bytes]) -> list[bytes]:
    # No fragment has a newline in it, and what is cut short itself at the end counts for nothing.
    lines = set(content.split(b"\n")[:-1])
    return [one for one in dict.fromkeys(fragments) if one not in lines]
