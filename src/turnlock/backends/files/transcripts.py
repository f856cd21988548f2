"""Transcript files: opened, made, guarded, and their ends read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ...clock import Clock
from ...errors import TranscriptError
from ...transcript.entries import header
from ...transcript.ids import KnownIds
from ...transcript.jsonl import ReadAt, decode, encode
from ...transcript.tail import End, Tail, read_end, read_on
from .birth import Nursery
from .bounded import remember
from .fileops import FileOps, Handle
from .guard import Guard
from .inspect import FileId, file_id, named_file
from .layout import Place

# Kept open between turns of this process: a busy session is not opened anew.
_IDLE_MAX = 8
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_NO_FILE = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR})
_HEADER_BYTES_MAX = 4096

# (device, inode, size, mtime): what changes when anybody writes or replaces the file.
Fingerprint = tuple[int, int, int, int]


class Idle(NamedTuple):
    """A transcript that no lease uses, and what was known of it when the last one was released."""

    handle: Handle
    fingerprint: Fingerprint
    tail: Tail
    ids: KnownIds | None


class Transcripts:
    """The transcripts of one backend. Raises OSError as it comes, and `TranscriptError`."""

    def __init__(
        self,
        files: FileOps,
        clock: Clock,
        nursery: Nursery,
        *,
        root: str,
        durable: bool,
        guard_timeout: float,
    ) -> None:
        self._files = files
        self._clock = clock
        self._nursery = nursery
        self._root = root
        self._durable = durable
        self._guard_timeout = guard_timeout
        self._idle: dict[str, Idle] = {}
        self._durable_directories: set[str] = set()

    def guard(self, place: Place, transcript: Handle) -> Guard:
        return Guard(self._files, self._clock, transcript, place.transcript, self._guard_timeout)

    @contextmanager
    def guarded(self, place: Place, *, lenient: bool = False) -> Iterator[None]:
        """The guard of a session that may have no transcript, through a descriptor of its own.

        Where there is none, the directory stands in for it, and whoever makes the transcript needs
        that as well. So the two are one guard: each that has it looks whether it is still the one.
        ``lenient``: what nobody can write counts as none, and is no `TranscriptError`.
        """
        while True:
            seen = named_file(self._files, place.transcript)
            handle = self._open_to_guard(place) if lenient else self.open(place)
            if handle is not None:
                seen = file_id(self._files.stat_handle(handle))
            elif (handle := self._open_directory(place)) is None:
                # Somebody removed all of it; a lock path that names nothing needs no guard.
                yield
                return
            try:
                with self.guard(place, handle):
                    if named_file(self._files, place.transcript) == seen:
                        yield
                        return
            finally:
                # With it goes the guard, should a signal's handler have come in before.
                handle.close()

    def open(self, place: Place) -> Handle | None:
        """Open for appending; None when there is no file."""
        path = place.transcript
        try:
            return self._files.open(path, _FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _NO_FILE:
                raise TranscriptError(path, "it is not a regular file") from None
            if error.errno in (errno.EACCES, errno.EPERM):
                raise TranscriptError(path, "it cannot be opened: permission denied") from None
            raise

    def open_or_make(self, place: Place, *, with_header: bool) -> Handle:
        """As `open`; makes the file, durable but for its name, when there is none."""
        while (transcript := self.open(place)) is None:
            self._make(place, with_header=with_header)
        return transcript

    def _open_to_guard(self, place: Place) -> Handle | None:
        """The transcript, or None where nobody can write one."""
        try:
            return self.open(place)
        except TranscriptError:
            return None

    def _open_directory(self, place: Place) -> Handle | None:
        try:
            return self._files.open(place.directory, _DIRECTORY)
        except FileNotFoundError:
            return None

    def status(self, place: Place, transcript: Handle) -> os.stat_result:
        """Of an open transcript. Raises `TranscriptError` unless it is a regular file."""
        status = self._files.stat_handle(transcript)
        if not stat.S_ISREG(status.st_mode):
            transcript.close()
            raise TranscriptError(place.transcript, "it is not a regular file")
        return status

    def size(self, transcript: Handle) -> int:
        return self._files.stat_handle(transcript).st_size

    def tail(self, transcript: Handle, size: int, *, turns: int, known: Tail) -> Tail:
        """``known``: what was read of this very file a moment ago; `Tail()` when nothing was."""
        if size == 0:
            return Tail()
        return read_on(
            known,
            self.reader(transcript),
            size,
            turns=turns,
            data_end=lambda: self._files.data_end(transcript, size),
        )

    def end(self, transcript: Handle, size: int) -> End:
        return read_end(
            self.reader(transcript),
            size,
            data_end=lambda: self._files.data_end(transcript, size),
        )

    def reader(self, transcript: Handle) -> ReadAt:
        return lambda offset, length: self._files.read_at(transcript, offset, length)

    def header_line(self) -> bytes:
        bits = os.urandom(16).hex()
        identity = "-".join((bits[:8], bits[8:12], bits[12:16], bits[16:20], bits[20:]))
        return encode(header(identity, cwd=self._root, wall=self._clock.wall()))

    def header_id(self, transcript: Handle) -> str | None:
        first = self._files.read_at(transcript, 0, _HEADER_BYTES_MAX).partition(b"\n")[0]
        entry = decode(first)
        identity = entry.get("id") if entry and entry.get("type") == "session" else None
        return identity if isinstance(identity, str) else None

    # Between turns

    def fingerprint(self, path: str) -> Fingerprint | None:
        try:
            status = self._files.stat_path(path)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def keep(self, path: str, idle: Idle) -> None:
        remember(self._idle, path, idle, _IDLE_MAX)

    def kept(self, path: str) -> Idle | None:
        """What was kept, for one taker."""
        idle = self._idle.pop(path, None)
        # A fork closes every handle, these too.
        return idle if idle is not None and idle.handle.fd >= 0 else None

    def _make(self, place: Place, *, with_header: bool) -> None:
        content = self.header_line() if with_header else b""
        newborn = self._nursery.make(place.directory, place.transcript, content, flocked=False)
        directory: Handle | None = None
        try:
            directory = self._files.open(place.directory, _DIRECTORY)
            if self._durable:
                self._files.fsync(newborn.handle)
            with self.guard(place, directory):
                newborn.link(place.transcript)
        finally:
            newborn.discard()
            if directory is not None:
                directory.close()

    def make_name_durable(self, place: Place) -> None:
        """Make the transcript's name, and those of the directories from the root to it, durable.

        Not left to whoever made them: it may have died before it came to that. Done before the
        first entry of ours is written, so that every such entry says that it was done.
        """
        if not self._durable:
            return
        self._sync_directory(place.directory)
        if place.directory in self._durable_directories:
            return
        directory, above = place.directory, ""
        while above != self._root and directory != os.path.dirname(directory):
            above, directory = directory, os.path.dirname(directory)
            self._sync_directory(directory)
        # Not before all of them are: another thread would acknowledge too early.
        self._durable_directories.add(place.directory)

    def forget_name(self, place: Place) -> None:
        """Make it durable that a transcript has no name any more."""
        if self._durable:
            self._sync_directory(place.directory)

    def _sync_directory(self, path: str) -> None:
        try:
            directory = self._files.open(path, _DIRECTORY)
        except PermissionError:
            # One above the root that may be passed through and not be read. It was there before.
            return
        try:
            self._files.fsync(directory)
        finally:
            directory.close()


def file_of(fingerprint: Fingerprint) -> FileId:
    return fingerprint[:2]


def size_of(fingerprint: Fingerprint) -> int:
    return fingerprint[2]
