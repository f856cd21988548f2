"""Reading transcripts and listing what a layout has. Changes nothing, down to access times."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator

from ...clock import iso
from ...errors import TranscriptError
from ...session import SessionKey, is_part
from ...transcript.jsonl import Line, ReadAt, find_entry, read_lines
from ...transcript.tail import Tail, read_tail
from .. import STALE_AFTER, LockRecord, SessionRecord
from .fileops import FileOps, Handle
from .inspect import Inspector
from .layout import LOCK_SUFFIX, TRANSCRIPT_SUFFIX, Layout, is_transcript, list_names
from .line import count_in_line
from .storage import Storage

logger = logging.getLogger("turnlock")


class Listing:
    """The part of a files backend that only looks."""

    def __init__(self, layout: Layout, files: FileOps, inspector: Inspector) -> None:
        self.layout = layout
        self._files = files
        self._inspector = inspector

    def read(self, session: SessionKey, *, start: int = 0) -> Iterator[Line]:
        path = self.layout.place(session).transcript
        with Storage("read", path):
            handle = self._open_to_read(path)
        if handle is None:
            return
        try:
            yield from read_lines(self._reader(handle), start)
        except OSError as error:
            raise TranscriptError(path, f"it cannot be read: {error.strerror}") from error
        finally:
            handle.close()

    def find(self, session: SessionKey, identity: str) -> int | None:
        path = self.layout.place(session).transcript
        with Storage("read", path):
            handle = self._open_to_read(path)
            if handle is None:
                return None
            return find_entry(self._reader(handle), identity)

    def end(self, session: SessionKey, *, turns: int) -> Tail:
        path = self.layout.place(session).transcript
        with Storage("read", path):
            handle = self._open_to_read(path)
            if handle is None:
                return Tail()
            size = self._files.stat_handle(handle).st_size
            return read_tail(
                self._reader(handle),
                size,
                turns=turns,
                data_end=lambda: self._files.data_end(handle, size),
            )

    def _open_to_read(self, path: str) -> Handle | None:
        try:
            handle = self._files.open_quietly(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TranscriptError(path, f"it cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(self._files.stat_handle(handle).st_mode):
            raise TranscriptError(path, "it is not a regular file")
        return handle

    def _reader(self, handle: Handle) -> ReadAt:
        return lambda offset, length: self._files.read_at(handle, offset, length)

    def sessions(self, *, after: SessionKey | None = None) -> Iterator[SessionRecord]:
        for agent, directory in self._directories():
            if agent is None or (after is not None and agent < after.agent):
                continue
            # In the order of the files' names: "a.jsonl" comes after "a+b.jsonl".
            last = f"{after.name}{TRANSCRIPT_SUFFIX}" if after and after.agent == agent else ""
            for base in self._names(directory):
                name = base[: -len(TRANSCRIPT_SUFFIX)]
                if base <= last or not is_transcript(self._files, directory, base):
                    continue
                if is_part(name):
                    record = self.record(SessionKey(agent, name))
                    if record is not None:
                        yield record

    def record(self, session: SessionKey) -> SessionRecord | None:
        path = self.layout.place(session).transcript
        status = self._status(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            return None
        return SessionRecord(str(session), path, status.st_size, iso(status.st_mtime))

    def locks(
        self, *, stale_after: float = STALE_AFTER, session: SessionKey | None = None
    ) -> Iterator[LockRecord]:
        paths = self._lock_paths() if session is None else [self.layout.place(session).lock]
        self._inspector.prepare_sweep(paths)
        for path in paths:
            place = self.layout.place_of_lock(path)
            record = self._inspector.record(place, stale_after=stale_after)
            if record is not None:
                yield record

    def expired(self) -> Iterator[LockRecord]:
        return iter(())

    def in_line(self, sessions: Iterable[SessionKey]) -> dict[SessionKey, int]:
        paths = {session: self.layout.place(session).transcript for session in sessions}
        counted = count_in_line(paths.values()) if paths else {}
        return {session: counted.get(path, 0) for session, path in paths.items()}

    def _lock_paths(self) -> list[str]:
        return [
            f"{directory}/{base}"
            for _, directory in self._directories()
            for base in self._names(directory)
            if base.endswith(LOCK_SUFFIX)
        ]

    def _directories(self) -> Iterator[tuple[str | None, str]]:
        with Storage("list", self.layout.root):
            yield from self.layout.directories(self._files)

    def _names(self, directory: str) -> list[str]:
        """One directory that cannot be listed hides no other."""
        try:
            return list_names(self._files, directory)
        except OSError as error:
            logger.warning("directory left out: path=%s: %s", directory, error.strerror)
            return []

    def _status(self, path: str) -> os.stat_result | None:
        with Storage("look", path):
            try:
                return self._files.stat_path(path)
            except FileNotFoundError:
                return None
