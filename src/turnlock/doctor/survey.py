"""One walk over a state directory: which directories hold sessions, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..backends.files import StateDirectory
from ..backends.files.fileops import FileOps
from ..backends.files.layout import is_transcript
from ..session import is_part
from .looking import CannotLook


class SessionDirectory(NamedTuple):
    """``agent`` is None when the directory's name can be no part of a session key."""

    agent: str | None
    path: str
    names: frozenset[str]

    def transcripts(self, files: FileOps) -> list[str]:
        return sorted(name for name in self.names if is_transcript(files, self.path, name))


class Survey(NamedTuple):
    """``unreadable``: (path, why) of the directories that could not be listed."""

    root: str
    names: frozenset[str]
    directories: tuple[SessionDirectory, ...]
    unreadable: tuple[tuple[str, str], ...]


class SurveyedDirectory(StateDirectory):
    """A state directory without what could not be listed, so that the rest still can be."""

    def __init__(self, survey: Survey) -> None:
        super().__init__(survey.root)
        self._survey = survey

    def directories(self, files: FileOps) -> Iterator[tuple[str | None, str]]:
        for directory in self._survey.directories:
            yield directory.agent, directory.path


def take_survey(files: FileOps, root: str) -> Survey:
    """Walk the directory. Raises `CannotLook` when not even its agents can be listed."""
    found: list[SessionDirectory] = []
    unreadable: list[tuple[str, str]] = []
    try:
        names = _names(files, root)
        agents = _names(files, f"{root}/agents")
    except OSError as error:
        raise CannotLook(error.filename or root, error.strerror or str(error)) from error
    for agent in sorted(agents or ()):
        path = f"{root}/agents/{agent}/sessions"
        try:
            inside = _names(files, path)
        except OSError as error:
            unreadable.append((path, error.strerror or str(error)))
        else:
            if inside is not None:
                found.append(SessionDirectory(agent if is_part(agent) else None, path, inside))
    return Survey(root, names or frozenset(), tuple(found), tuple(unreadable))


def _names(files: FileOps, path: str) -> frozenset[str] | None:
    """The names in a directory; None when there is none."""
    try:
        handle = files.open_directory(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return frozenset(files.names(handle))
    finally:
        handle.close()
