"""Which files a session has: the only place that joins a path out of a session key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ...session import SessionKey, is_part
from ...transcript.jsonl import decode
from .fileops import FileOps

TRANSCRIPT_SUFFIX = ".jsonl"
LOCK_SUFFIX = ".jsonl.lock"
# OpenClaw keeps a second file beside the transcript, `<id>.trajectory.jsonl`, that is none. A
# session may have such a name as well: its transcript begins with a header.
_TRAJECTORY_SUFFIX = ".trajectory.jsonl"
_HEADER_BYTES_MAX = 4096


class Place(NamedTuple):
    """The files of one session. ``label`` is its key, or the path when it has none."""

    label: str
    directory: str
    transcript: str
    lock: str


class Layout(Protocol):
    root: str

    def place(self, session: SessionKey) -> Place: ...
    def place_of_lock(self, lock: str) -> Place: ...
    def directories(self, files: FileOps) -> Iterator[tuple[str | None, str]]:
        """(agent, directory) of every directory that may hold sessions."""
        ...


class StateDirectory:
    """``agents/<agent>/sessions/<name>.jsonl`` below one root, as OpenClaw lays it out."""

    def __init__(self, root: str) -> None:
        # Two names of one directory must not be two locks for one session.
        self.root = os.path.realpath(root)

    def place(self, session: SessionKey) -> Place:
        directory = f"{self.root}/agents/{session.agent}/sessions"
        transcript = f"{directory}/{session.name}{TRANSCRIPT_SUFFIX}"
        return Place(str(session), directory, transcript, f"{transcript}.lock")

    def place_of_lock(self, lock: str) -> Place:
        directory, base = os.path.split(lock)
        transcript = lock[: -len(".lock")]
        agent = os.path.basename(os.path.dirname(directory))
        name = base[: -len(LOCK_SUFFIX)]
        key = f"{agent}/{name}" if is_part(agent) and is_part(name) else transcript
        return Place(key, directory, transcript, lock)

    def directories(self, files: FileOps) -> Iterator[tuple[str | None, str]]:
        agents = f"{self.root}/agents"
        for agent in list_names(files, agents):
            yield agent if is_part(agent) else None, f"{agents}/{agent}/sessions"


class OneFile:
    """A single transcript anywhere, for `SessionLock`."""

    def __init__(self, transcript: str) -> None:
        self._transcript = os.path.realpath(transcript)
        self.root = os.path.dirname(self._transcript)
        path = self._transcript
        self._place = Place(path, self.root, path, f"{path}.lock")

    def place(self, session: SessionKey) -> Place:
        return self._place

    def place_of_lock(self, lock: str) -> Place:
        return self._place

    def directories(self, files: FileOps) -> Iterator[tuple[str | None, str]]:
        return iter(())


def list_names(files: FileOps, directory: str) -> list[str]:
    """The sorted names in a directory; none when it is missing or no directory."""
    try:
        handle = files.open_directory(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return sorted(files.names(handle))
    finally:
        files.close(handle)


def is_transcript(files: FileOps, directory: str, name: str) -> bool:
    """Whether a file is one, by its name, and where that leaves it open by its first line."""
    if name.endswith(_TRAJECTORY_SUFFIX):
        return _has_header(files, f"{directory}/{name}")
    return name.endswith(TRANSCRIPT_SUFFIX)


def _has_header(files: FileOps, path: str) -> bool:
    try:
        handle = files.open_quietly(path)
    except OSError:
        return False
    try:
        first = files.read_at(handle, 0, _HEADER_BYTES_MAX).partition(b"\n")[0]
    except OSError:
        return False
    finally:
        handle.close()
    entry = decode(first)
    return entry is not None and entry.get("type") == "session"
